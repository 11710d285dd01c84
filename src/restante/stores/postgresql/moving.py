"""The database as one end of a copy: giving out all rows of a store, or taking in another store's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

import asyncpg
import msgspec

from restante import moving
from restante.errors import StoreFull, StoreInUse, StoreRefused, StoreUnavailable
from restante.model import Actor, Place, State
from restante.moving import Key, Part, Progress, Row
from restante.nodes import CLAIM_SECONDS
from restante.ports import Clock
from restante.redaction import shown
from restante.stores.postgresql.connections import Connection, Database
from restante.stores.postgresql.schema import SCHEMA
from restante.stores.postgresql.server import COPYING, TOKEN_SECRET, prepare
from restante.wire.receipts import GENESIS

_STATEMENT_SECONDS: Final = 3_600.0
"""One that goes through a whole table may take its time."""
COPIED: Final = "copied"
"""In ``meta``: how far the copy had come that was finished here, which is to its end."""
_NUMBERS_AHEAD: Final = 1_000
"""Nodes take numbers of notifications in blocks: the first block begins beyond every number that was copied."""
COUNTS: Final = tuple(state.label for state in State)
_PREFETCH: Final = 500
_PREFETCH_BODIES: Final = 50
_HOLDS: Final = ("clients", "queues", "keys", "subscriptions", "papers", "notifications", "archive")

_actor_of = msgspec.json.Decoder(Actor).decode
_places_of = msgspec.json.Decoder(list[Place]).decode
_encode = msgspec.json.Encoder().encode

_NOTIFICATION: Final = (
    "n, id, topic, content_type, attributes, published_at, publisher, body_sha256, body_bytes"
)
_RECEIPT: Final = "queue, number, at, notification, seq, outcome, fence, entry, digest"
_DELIVERY: Final = (
    "queue, seq, notification, published_at, body_bytes, state, due, attempt, fence, forgiving, parked, overtaken,"
    " ordering_key, collapse_key, expires, leased_at, holder, dead_at, reason"
)
_KEY: Final = (
    "id, role, name, secret_hash, created_at, expires_at, revoked_at, label, certificate_san"
)
_TOLD_OF: Final = (
    # A receipt that is past its time stays in the table until its partition goes.
    "EXISTS (SELECT 1 FROM restante.receipts r LEFT JOIN restante.pruned p ON p.queue = r.queue"
    " WHERE r.notification = x.n AND r.number > coalesce(p.receipts, 0))"
)
_KEPT: Final = (
    f"({_TOLD_OF} OR (x.body IS NULL AND"  # noqa: S608 (fixed terms)
    " NOT EXISTS (SELECT 1 FROM restante.receipts r WHERE r.notification = x.n)))"
)
"""Whether a notification is one still: some receipt tells of it, or it went to no queue."""
_KNOWN: Final = (
    f"EXISTS (SELECT 1 FROM restante.notifications x WHERE x.n = i.notification AND {_KEPT})"  # noqa: S608 (fixed terms)
    f" OR EXISTS (SELECT 1 FROM restante.archive x WHERE x.n = i.notification AND {_TOLD_OF})"
)
_PAPER: Final = "kind, key, version, content, expires_at"
_SELECT: Final = {
    Part.CLIENTS: "SELECT name, created_at FROM restante.clients WHERE name > $1 ORDER BY name",
    Part.QUEUES: (
        "SELECT q.id, q.name, q.owner, q.settings, t.seq, t.receipts, t.chain, p.receipts,"  # noqa: S608 (fixed names)
        f" {', '.join(f't.{name}' for name in COUNTS)} FROM restante.queues q"
        " LEFT JOIN restante.tallies t ON t.queue = q.id LEFT JOIN restante.pruned p ON p.queue = q.id"
        " WHERE q.id > $1 ORDER BY q.id"
    ),
    Part.KEYS: f"SELECT {_KEY} FROM restante.keys WHERE id > $1 ORDER BY id",  # noqa: S608 (fixed names)
    Part.SUBSCRIPTIONS: (
        "SELECT id, pattern, queue, filter FROM restante.subscriptions WHERE id > $1 ORDER BY id"
    ),
    Part.WEBHOOKS: "SELECT queue, version, webhook FROM restante.webhooks WHERE queue > $1 ORDER BY queue",
    Part.PAPERS: f"SELECT {_PAPER} FROM restante.papers WHERE (kind, key) > ($1, $2) ORDER BY kind, key",  # noqa: S608 (fixed names)
    Part.NOTIFICATIONS: (
        f"SELECT {_NOTIFICATION}, body FROM restante.notifications x WHERE n > $1 AND {_KEPT}"  # noqa: S608 (fixed terms)
        f" UNION ALL SELECT {_NOTIFICATION}, NULL FROM restante.archive x WHERE n > $1 AND {_TOLD_OF} ORDER BY n"
    ),
    Part.RECEIPTS: (
        f"SELECT {_RECEIPT} FROM restante.receipts r WHERE (queue, number) > ($1, $2) AND number >"  # noqa: S608 (fixed terms)
        " coalesce((SELECT p.receipts FROM restante.pruned p WHERE p.queue = r.queue), 0) ORDER BY queue, number"
    ),
    Part.SEALS: (
        "SELECT queue, first, count, place FROM restante.seals WHERE (queue, first) > ($1, $2) ORDER BY queue, first"
    ),
    Part.DELIVERIES: (
        f"SELECT {_DELIVERY} FROM restante.deliveries WHERE (queue, seq) > ($1, $2) ORDER BY queue, seq"  # noqa: S608 (fixed names)
    ),
    Part.IDEMPOTENCY: (
        "SELECT publisher, key, fingerprint, notification, id, at, places FROM restante.idempotency i"  # noqa: S608 (fixed names)
        f" WHERE (publisher, key) > ($1, $2) AND ({_KNOWN}) ORDER BY publisher, key"
    ),
}
_START: Final[dict[Part, Key]] = {
    Part.CLIENTS: ("",),
    Part.QUEUES: (0,),
    Part.KEYS: ("",),
    Part.SUBSCRIPTIONS: ("",),
    Part.WEBHOOKS: ("",),
    Part.PAPERS: ("", ""),
    Part.NOTIFICATIONS: (0,),
    Part.RECEIPTS: (0, 0),
    Part.SEALS: (0, 0),
    Part.DELIVERIES: (0, 0),
    Part.IDEMPOTENCY: ("", ""),
}


def _queue(fields: Sequence[Any]) -> Row:
    id, name, owner, settings, seq, receipts, chain, pruned, *counts = fields
    return moving.QueueRow(
        id=id,
        name=name,
        owner=owner,
        settings=settings,
        seq=seq or 0,
        receipts=receipts or 0,
        chain=chain or GENESIS,
        counts=tuple(count or 0 for count in counts),
        pruned=pruned or 0,
    )


def _idempotency(fields: Sequence[Any]) -> Row:
    *before, places = fields
    return moving.IdempotencyRow._make(
        (*before, tuple((place.queue, place.seq) for place in _places_of(places)))
    )


def _delivery(fields: Sequence[Any]) -> Row:
    *before, reason = fields
    return moving.DeliveryRow._make((*before, None if reason is None else reason.decode()))


_MAKE: Final[dict[Part, Callable[[Sequence[Any]], Row]]] = {
    Part.CLIENTS: moving.ClientRow._make,
    Part.QUEUES: _queue,
    Part.KEYS: moving.KeyRow._make,
    Part.SUBSCRIPTIONS: moving.SubscriptionRow._make,
    Part.WEBHOOKS: moving.WebhookRow._make,
    Part.PAPERS: moving.PaperRow._make,
    Part.NOTIFICATIONS: moving.NotificationRow._make,
    Part.RECEIPTS: moving.ReceiptRow._make,
    Part.SEALS: moving.SealRow._make,
    Part.DELIVERIES: _delivery,
    Part.IDEMPOTENCY: _idempotency,
}


class PostgresqlEnd:
    """A database, over one connection, as source and as target of a copy. ``clock`` is for tests: None is its own."""

    def __init__(self, url: str, connection: Connection, clock: Clock | None) -> None:
        self._url = url
        self._connection = connection
        self._clock = clock

    # -- giving out -----------------------------------------------------------------------------

    async def now_ms(self) -> int:
        row = await self._connection.fetchrow(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, offset_ms, reached_ms"
            " FROM restante.timeline"
        )
        if row is None:
            raise StoreRefused(f"{shown(self._url)} does not tell where its timeline stands")
        wall_ms = row[0] if self._clock is None else self._clock.wall_ms()
        return int(max(wall_ms + row[1], row[2]))

    async def token_secret(self) -> bytes:
        secret = await self._meta(TOKEN_SECRET)
        if secret is None:
            raise StoreRefused(f"{shown(self._url)} was never served: there is nothing to copy")
        return secret

    async def counts(self) -> dict[Part, int]:
        with _told(self._url):
            found = {
                part: await self._connection.fetchval(
                    f"SELECT count(*) FROM {SCHEMA}.{part.value}"  # noqa: S608 (fixed names)
                )
                for part in Part
            }
            found[Part.NOTIFICATIONS] += await self._connection.fetchval(
                "SELECT count(*) FROM restante.archive"
            )
        return found

    async def rows(self, part: Part, after: Key = ()) -> AsyncIterator[list[Row]]:
        make = _MAKE[part]
        prefetch = _PREFETCH_BODIES if part is Part.NOTIFICATIONS else _PREFETCH
        with _told(self._url):
            async with self._connection.transaction(readonly=True):
                batch: list[Row] = []
                size = 0
                async for record in self._connection.cursor(
                    _SELECT[part], *(after or _START[part]), prefetch=prefetch
                ):
                    row = make(tuple(record))
                    weight = moving.weight_of(row)
                    if batch and moving.is_full(len(batch), size + weight):
                        yield batch
                        batch, size = [], 0
                    batch.append(row)
                    size += weight
                if batch:
                    yield batch

    # -- taking in ------------------------------------------------------------------------------

    async def progress(self) -> Progress | None:
        with _told(self._url):
            mark = await self._meta(COPYING)
            if mark is not None:
                return moving.decode_progress(mark)
            if await self._meta(COPIED) is None:
                await self._check_empty()
        return None

    async def _check_empty(self) -> None:
        for table in _HOLDS:
            if await self._connection.fetchval(f"SELECT 1 FROM {SCHEMA}.{table} LIMIT 1"):  # noqa: S608 (fixed names)
                raise StoreRefused(
                    f"{shown(self._url)} holds a store already ({table}): name an empty database"
                )

    async def finished(self) -> Progress | None:
        mark = await self._meta(COPIED)
        return None if mark is None else moving.decode_progress(mark)

    async def begin(self, progress: Progress, token_secret: bytes) -> None:
        with _told(self._url):
            async with self._connection.transaction():
                await self._check_empty()
                await self._put_meta(TOKEN_SECRET, token_secret)
                begun = await self._connection.execute(
                    "INSERT INTO restante.meta VALUES ($1, $2) ON CONFLICT DO NOTHING",
                    COPYING,
                    moving.encode_progress(progress),
                )
                if begun != "INSERT 0 1":
                    raise self._in_use()

    async def put(self, rows: Sequence[Row], before: Progress, now: Progress) -> None:
        with _told(self._url):
            async with self._connection.transaction():
                await self._advance(before, now)
                await self._insert(now.part, [moving.without_nul(row) for row in rows])

    async def _advance(self, before: Progress, now: Progress) -> None:
        moved = await self._connection.execute(
            "UPDATE restante.meta SET value = $3 WHERE name = $1 AND value = $2",
            COPYING,
            moving.encode_progress(before),
            moving.encode_progress(now),
        )
        if moved != "UPDATE 1":
            raise self._in_use()

    def _in_use(self) -> StoreInUse:
        return StoreInUse(f"another 'restante copy' is writing to {shown(self._url)}")

    async def finish(self, progress: Progress) -> None:
        with _told(self._url):
            now_ms = await self.now_ms()
            async with self._connection.transaction():
                await self._advance(progress, progress)
                await self._connection.execute(
                    "SELECT setval('restante.notification_numbers', greatest(0, (SELECT max(n) FROM"
                    " (SELECT n FROM restante.notifications UNION ALL SELECT n FROM restante.archive) x)) + $1)",
                    _NUMBERS_AHEAD,
                )
                await self._connection.execute(
                    "SELECT setval(pg_get_serial_sequence('restante.queues', 'id'),"
                    " (SELECT max(id) FROM restante.queues)) WHERE EXISTS (SELECT 1 FROM restante.queues)"
                )
                await self._connection.execute(
                    "INSERT INTO restante.sealed (queue, receipts)"
                    " SELECT queue, max(first + count - 1) FROM restante.seals GROUP BY queue"
                )
                # A clock that goes back before the first start lets no deadline wait the longer.
                await self._connection.execute(
                    "UPDATE restante.timeline SET reached_ms = $1", now_ms
                )
                await self._put_meta(COPIED, moving.encode_progress(progress))
                await self._connection.execute("DELETE FROM restante.meta WHERE name = $1", COPYING)
            await self._connection.execute("ANALYZE")

    async def _insert(self, part: Part, rows: Sequence[Row]) -> None:
        match part:
            case Part.CLIENTS:
                await self._copy("clients", "name, created_at", rows)
            case Part.QUEUES:
                await self._insert_queues(rows)
            case Part.KEYS:
                await self._copy("keys", _KEY, rows)
            case Part.SUBSCRIPTIONS:
                await self._copy("subscriptions", "id, pattern, queue, filter", rows)
            case Part.WEBHOOKS:
                await self._copy("webhooks", "queue, version, webhook", rows)
            case Part.PAPERS:
                await self._copy("papers", _PAPER, rows)
            case Part.NOTIFICATIONS:
                await self._copy("notifications", f"{_NOTIFICATION}, body", rows)
            case Part.RECEIPTS:
                await self._copy("receipts", _RECEIPT, rows)
            case Part.SEALS:
                await self._copy("seals", "queue, first, count, place", rows)
            case Part.DELIVERIES:
                await self._copy(
                    "deliveries",
                    f"{_DELIVERY}, consumer",
                    [_line(row) for row in rows],
                )
            case Part.IDEMPOTENCY:
                await self._copy(
                    "idempotency",
                    "publisher, key, fingerprint, notification, id, at, places",
                    [(*row[:-1], _places_text(row)) for row in rows],
                )

    async def _insert_queues(self, rows: Sequence[Row]) -> None:
        queues = [row for row in rows if isinstance(row, moving.QueueRow)]
        await self._copy("queues", "id, name, owner, settings", [row[:4] for row in queues])
        await self._copy(
            "tallies",
            f"queue, seq, receipts, chain, {', '.join(COUNTS)}",
            [(row.id, row.seq, row.receipts, row.chain, *row.counts) for row in queues],
        )
        await self._copy(
            "pruned", "queue, receipts", [(row.id, row.pruned) for row in queues if row.pruned]
        )

    async def _copy(self, table: str, columns: str, records: Sequence[tuple[Any, ...]]) -> None:
        await self._connection.copy_records_to_table(
            table, schema_name=SCHEMA, columns=columns.split(", "), records=records
        )

    async def _meta(self, name: str) -> bytes | None:
        value = await self._connection.fetchval(
            "SELECT value FROM restante.meta WHERE name = $1", name
        )
        return None if value is None else bytes(value)

    async def _put_meta(self, name: str, value: bytes) -> None:
        await self._connection.execute(
            "INSERT INTO restante.meta VALUES ($1, $2)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            name,
            value,
        )

    async def check_unserved(self) -> None:
        """Raise ``StoreInUse`` while a node says that it lives."""
        names = await self._connection.fetch(
            "SELECT name FROM restante.nodes WHERE beat_at > clock_timestamp() - make_interval(secs => $1)"
            " ORDER BY name",
            CLAIM_SECONDS,
        )
        if names:
            listed = ", ".join(name for (name,) in names)
            raise StoreInUse(
                f"{shown(self._url)} is served by {listed}: stop every node. One that was killed is"
                f" taken for dead after {CLAIM_SECONDS:.0f} seconds"
            )


def _line(row: Row) -> tuple[Any, ...]:
    """A delivery's columns; the last is the stream that holds the lease, which ``LeasedTo`` asks for."""
    if not isinstance(row, moving.DeliveryRow):
        raise AssertionError(f"{type(row).__name__} is no delivery")
    consumer = None
    if row.state == State.LEASED and row.holder is not None:
        consumer = _actor_of(row.holder).consumer or None
    reason = None if row.reason is None else row.reason.encode()
    return (*row[:-1], reason, consumer)


def _places_text(row: Row) -> str:
    if not isinstance(row, moving.IdempotencyRow):
        raise AssertionError(f"{type(row).__name__} is no idempotency key")
    return _encode([Place(*place) for place in row.places]).decode()


@contextlib.asynccontextmanager
async def copy_source(url: str, clock: Clock | None = None) -> AsyncIterator[PostgresqlEnd]:
    """The store in the database, to be copied.

    Raises ``StoreInUse`` while nodes serve it, ``StoreRefused`` for half a copy and for what ``prepare`` refuses.
    """
    async with _opened(url, clock, half_copied=False) as end:
        yield end


@contextlib.asynccontextmanager
async def copy_target(url: str, clock: Clock | None = None) -> AsyncIterator[PostgresqlEnd]:
    """A store to be made in the database, or to be gone on with. Raises as ``copy_source`` does."""
    async with _opened(url, clock, half_copied=True) as end:
        yield end


@contextlib.asynccontextmanager
async def _opened(
    url: str, clock: Clock | None, *, half_copied: bool
) -> AsyncIterator[PostgresqlEnd]:
    database = Database(url)
    wall_ms = time.time_ns() // 1_000_000 if clock is None else clock.wall_ms()
    await prepare(database, url, wall_ms, half_copied=half_copied)
    with _told(url):
        connection = await database.connect(statement_seconds=_STATEMENT_SECONDS)
    try:
        end = PostgresqlEnd(url, connection, clock)
        await end.check_unserved()
        yield end
    finally:
        connection.terminate()


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """The database's errors in words of ours."""
    try:
        yield
    except asyncpg.DiskFullError as error:
        raise StoreFull(f"the disk of {shown(url)} is full") from error
    except (
        asyncpg.PostgresConnectionError,
        asyncpg.InterfaceError,
        asyncpg.OperatorInterventionError,
        OSError,
        TimeoutError,
    ) as error:
        if isinstance(error, ValueError):
            raise  # a value that cannot be sent is no fault of the connection's
        raise StoreUnavailable(
            f"{shown(url)} went away ({error}): the same command goes on where this one stopped"
        ) from error
