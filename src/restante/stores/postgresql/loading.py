"""What a transaction reads before it decides: each kind of row for all that ask, in one statement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from restante.stores.postgresql.arrays import columns, numbers
from restante.stores.postgresql.books import COUNTS, TALLY, Known, Registry
from restante.stores.postgresql.connections import Connection
from restante.stores.postgresql.rows import COLUMNS, Content
from restante.wire.receipts import Subject

_decode_attributes = msgspec.json.Decoder(dict[str, str]).decode

QUEUES: Final = (
    "SELECT q.id, q.name, q.owner, q.settings, t.version FROM restante.queues q"
    " JOIN restante.tallies t ON t.queue = q.id WHERE q.name = ANY($1::text[])"
)
_LOCK: Final = (
    # The clock is read outside of the locked rows, so that its last reading comes after the last lock.
    f"WITH t AS MATERIALIZED (SELECT queue, {TALLY} FROM restante.tallies"  # noqa: S608 (fixed terms)
    " WHERE queue = ANY($1::text::bigint[]) ORDER BY queue FOR UPDATE {skip})"
    f" SELECT t.queue, {', '.join(f't.{name}' for name in TALLY.split(', '))}, c.offset_ms, c.steps, c.reached_ms,"
    " (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS server_ms"
    " FROM restante.timeline c LEFT JOIN t ON true"
)
LOCK: Final = _LOCK.format(skip="")
LOCK_WHAT_IS_FREE: Final = _LOCK.format(skip="SKIP LOCKED")
COUNTS_START: Final = 1 + TALLY.split(", ").index(COUNTS[0])

_GLANCE: Final = (
    "SELECT t.queue, t.ready, t.leased FROM unnest($1::text::bigint[]) AS asked (queue)"
    " JOIN restante.tallies t ON t.queue = asked.queue"
)

_SUBJECT: Final = "n.n, n.id, n.published_at, n.body_sha256, n.body_bytes"
_ROWS: Final = (
    f"SELECT {COLUMNS} FROM unnest($1::text::bigint[], $2::text::bigint[]) AS asked (queue, seq)"  # noqa: S608 (fixed terms)
    " JOIN restante.deliveries d ON d.queue = asked.queue AND d.seq = asked.seq"
)
_WHOLE: Final = f"{COLUMNS}, {_SUBJECT}, n.topic, n.content_type, n.attributes, n.body"
_JOINED: Final = (
    " LEFT JOIN restante.notifications n ON n.n = d.notification AND n.published_at = d.published_at"
    " ORDER BY d.queue, d.seq"
)
_READY: Final = (
    f"SELECT {_WHOLE}"  # noqa: S608 (fixed terms)
    " FROM unnest($1::text::bigint[], $2::text::bigint[], $3::text::bigint[]) AS asked (queue, wanted, room)"
    " CROSS JOIN LATERAL (SELECT * FROM ("
    "  SELECT r.*, sum(r.body_bytes) OVER (ORDER BY r.seq) AS total, row_number() OVER (ORDER BY r.seq) AS place"
    "  FROM (SELECT * FROM restante.deliveries d WHERE d.queue = asked.queue AND d.state = 1"
    "   AND (d.expires IS NULL OR d.expires > $4) ORDER BY d.seq LIMIT asked.wanted) r"
    f" ) r WHERE r.place = 1 OR r.total <= asked.room) d{_JOINED}"
)
_HELD: Final = (
    f"SELECT {_WHOLE}"  # noqa: S608 (fixed terms)
    " FROM unnest($1::text::bigint[], $2::text[], $3::text::bigint[], $4::text::bigint[])"
    " AS asked (queue, consumer, after, room)"
    " CROSS JOIN LATERAL (SELECT * FROM ("
    "  SELECT r.*, sum(r.body_bytes) OVER (ORDER BY r.seq) AS total, row_number() OVER (ORDER BY r.seq) AS place"
    "  FROM restante.deliveries r WHERE r.queue = asked.queue AND r.state = 3 AND r.consumer = asked.consumer"
    "   AND r.seq > asked.after"
    f" ) r WHERE r.place = 1 OR r.total <= asked.room) d{_JOINED}"
)
_SUBJECTS: Final = (
    f"SELECT {_SUBJECT} FROM unnest($1::text::bigint[], $2::text::bigint[]) AS asked (n, at)"  # noqa: S608 (fixed terms)
    " JOIN restante.notifications n ON n.n = asked.n AND n.published_at = asked.at"
)
_SUBJECTS_BY_NUMBER: Final = (
    f"SELECT {_SUBJECT} FROM restante.notifications n WHERE n.n = ANY($1::text::bigint[])"  # noqa: S608 (fixed terms)
    f" UNION ALL SELECT {_SUBJECT} FROM restante.archive n WHERE n.n = ANY($1::text::bigint[])"
)
_COLLAPSING: Final = (
    f"SELECT {COLUMNS} FROM unnest($1::text::bigint[], $2::text[]) AS asked (queue, key)"  # noqa: S608 (fixed terms)
    " JOIN restante.deliveries d ON d.queue = asked.queue AND d.collapse_key = asked.key AND d.state <= 3"
)
_ORDERED: Final = (
    f"SELECT {COLUMNS} FROM unnest($1::text::bigint[], $2::text[]) AS asked (queue, key)"  # noqa: S608 (fixed terms)
    " CROSS JOIN LATERAL ("
    "  SELECT * FROM restante.deliveries o WHERE o.queue = asked.queue AND o.ordering_key = asked.key"
    "   AND (o.state IN (0, 1, 3) OR (o.state = 4 AND o.parked))"
    "  UNION ALL (SELECT * FROM restante.deliveries o WHERE o.queue = asked.queue AND o.ordering_key = asked.key"
    "   AND o.state = 2 ORDER BY o.seq LIMIT $3)"
    " ) d"
)
_TOLD: Final = (
    "SELECT r.queue, r.seq, r.number, r.outcome, r.fence, r.entry"
    " FROM unnest($1::text::bigint[], $2::text::bigint[], $3::text::bigint[]) AS asked (n, queue, seq)"
    " JOIN restante.receipts r ON r.notification = asked.n AND r.queue = asked.queue AND r.seq = asked.seq"
    " ORDER BY r.number"
)
_EARLIER: Final = (
    "SELECT i.publisher, i.key, i.fingerprint, i.id, i.places"
    " FROM unnest($1::text[], $2::text[]) AS asked (publisher, key)"
    " JOIN restante.idempotency i ON i.publisher = asked.publisher AND i.key = asked.key"
)


async def learn(connection: Connection, registry: Registry, names: Iterable[str]) -> None:
    """Have the registry know those of the queues that there are."""
    for row in await connection.fetch(QUEUES, list(names)):
        registry.put(*row)


async def glance(connection: Connection, queues: Sequence[int]) -> dict[int, tuple[int, int]]:
    """How many are ready and leased, by queue."""
    found = await connection.fetch(_GLANCE, numbers(queues))
    return {queue: (ready, leased) for queue, ready, leased in found}


async def rows(connection: Connection, places: Sequence[tuple[int, int]]) -> list[Any]:
    """The deliveries at ``(queue, seq)`` that have not ended."""
    return await connection.fetch(_ROWS, *columns(places, ["bigint"] * 2))


async def ready(
    connection: Connection, asked: Sequence[tuple[int, int, int]], now_ms: int
) -> list[Any]:
    """For each ``(queue, number wanted, bytes of bodies wanted)`` the first ready deliveries, with all to hand out."""
    return await connection.fetch(_READY, *columns(asked, ["bigint"] * 3), now_ms)


async def held(connection: Connection, asked: Sequence[tuple[int, str, int, int]]) -> list[Any]:
    """For each ``(queue, consumer, after, bytes of bodies wanted)`` what is leased to it, with all to hand out."""
    return await connection.fetch(_HELD, *columns(asked, ["bigint", "text", "bigint", "bigint"]))


async def subjects(connection: Connection, asked: Sequence[tuple[int, int]]) -> list[Subject]:
    """Of the notifications ``(n, published_at)``."""
    return [
        Subject(*row) for row in await connection.fetch(_SUBJECTS, *columns(asked, ["bigint"] * 2))
    ]


async def subjects_by_number(connection: Connection, wanted: Sequence[int]) -> list[Subject]:
    return [Subject(*row) for row in await connection.fetch(_SUBJECTS_BY_NUMBER, numbers(wanted))]


async def collapsing(connection: Connection, keys: Sequence[tuple[int, str]]) -> list[Any]:
    """Those that wait or are leased, of each ``(queue, collapse key)``."""
    return await connection.fetch(_COLLAPSING, *columns(keys, ["bigint", "text"]))


async def ordered(connection: Connection, keys: Sequence[tuple[int, str]], held: int) -> list[Any]:
    """Of each ``(queue, ordering key)`` those that keep it shut, and the first ``held`` that wait behind."""
    return await connection.fetch(_ORDERED, *columns(keys, ["bigint", "text"]), held)


async def told(connection: Connection, asked: Sequence[tuple[int, int, int]]) -> list[Any]:
    """Receipts of the deliveries ``(n, queue, seq)``: ``(queue, seq, number, outcome, fence, entry)``, rising."""
    return await connection.fetch(_TOLD, *columns(asked, ["bigint"] * 3))


async def earlier(connection: Connection, keys: Sequence[tuple[str, str]]) -> list[Any]:
    """What idempotency keys were taken for: ``(publisher, key, fingerprint, id, places)``."""
    return await connection.fetch(_EARLIER, *columns(keys, ["text"] * 2))


def content(fields: Sequence[Any]) -> Content:
    """Of ``(topic, content_type, attributes, body)``."""
    topic, content_type, attributes, body = fields
    return Content(topic, content_type, _decode_attributes(attributes) if attributes else {}, body)


def known_of(registry: Registry, names: Iterable[str]) -> list[Known]:
    """Those of the queues that the registry knows."""
    return [known for name in names if (known := registry.get(name)) is not None]
