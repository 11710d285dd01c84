"""The answers to ``queries.py``, from what is committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from restante import queries as query
from restante.model import Client, Key, Queue, Role, Settings, State, Subscription
from restante.stores.postgresql import papers, seals
from restante.stores.postgresql.clocks import SharedTimeline
from restante.stores.postgresql.connections import Connection
from restante.stores.postgresql.upkeep import selection_sql
from restante.stores.postgresql.watching import KEPT, Watching
from restante.webhooks import Webhook
from restante.wire.receipts import decode_entry

SCANNED_RECEIPTS: Final = 10_000
_decode_settings = msgspec.json.Decoder(Settings).decode
_decode_filter = msgspec.json.Decoder(dict[str, list[str]]).decode
_decode_attributes = msgspec.json.Decoder(dict[str, str]).decode
_decode_webhook = msgspec.json.Decoder(Webhook).decode
_KEY: Final = (
    "SELECT id, role, name, secret_hash, created_at, expires_at, revoked_at, label, certificate_san"
    " FROM restante.keys"
)
_NOTIFICATION: Final = (
    "SELECT n, id, topic, content_type, body_bytes, body_sha256, published_at, publisher, attributes"
    " FROM restante.{} WHERE id = $1"
)
_FIRST_DEAD: Final = (
    "(SELECT * FROM restante.deliveries WHERE queue = (SELECT id FROM restante.queues WHERE name = $1) AND state = 4"
    " AND seq > $2 {} ORDER BY seq LIMIT $3) d"
    " JOIN restante.notifications n ON n.n = d.notification AND n.published_at = d.published_at"
)


class Reads:
    """Answers over one connection; ``answer`` finds the method for a question."""

    def __init__(self, connection: Connection, timeline: SharedTimeline) -> None:
        self._connection = connection
        self._watching = Watching(connection, timeline)

    async def answer(self, asked: query.Query[Any]) -> Any:  # noqa: PLR0912 (a table of cases)
        fetch, first = self._connection.fetch, self._connection.fetchrow
        watching = self._watching
        match asked:
            case query.QueueByName(name):
                row = await first(
                    "SELECT name, owner, settings FROM restante.queues WHERE name = $1", name
                )
                return None if row is None else _queue(row)
            case query.Queues(after, limit, owner):
                rows = await fetch(
                    "SELECT name, owner, settings FROM restante.queues"
                    " WHERE name > $1 AND ($3::text IS NULL OR owner = $3) ORDER BY name LIMIT $2",
                    *(after, limit, owner),
                )
                return [_queue(row) for row in rows]
            case query.FiguresOf(name):
                return await watching.figures(name)
            case query.FiguresOfQueues():
                return await watching.figures_of_queues(asked)
            case query.ClientByName(name):
                row = await first("SELECT * FROM restante.clients WHERE name = $1", name)
                return None if row is None else Client(*row)
            case query.Clients(after, limit):
                rows = await fetch(
                    "SELECT * FROM restante.clients WHERE name > $1 ORDER BY name LIMIT $2",
                    after,
                    limit,
                )
                return [Client(*row) for row in rows]
            case query.KeyById(id):
                row = await first(f"{_KEY} WHERE id = $1", id)
                return None if row is None else _key(row)
            case query.Keys(after, limit):
                rows = await fetch(f"{_KEY} WHERE id > $1 ORDER BY id LIMIT $2", after, limit)
                return [_key(row) for row in rows]
            case query.KeysOf(role, name, limit):
                rows = await fetch(
                    f"{_KEY} WHERE role = $1 AND name = $2 ORDER BY created_at DESC, id LIMIT $3",
                    *(role, name, limit),
                )
                return [_key(row) for row in rows]
            case query.Subscriptions():
                rows = await fetch(
                    'SELECT id, pattern, queue, filter FROM restante.subscriptions ORDER BY id COLLATE "C"'
                )
                return [
                    Subscription(row[0], row[1], row[2], _decode_filter(row[3])) for row in rows
                ]
            case query.WebhookOf(queue):
                row = await first("SELECT webhook FROM restante.webhooks WHERE queue = $1", queue)
                return None if row is None else _decode_webhook(row[0])
            case query.Webhooks(after, limit):
                rows = await fetch(
                    "SELECT webhook FROM restante.webhooks WHERE queue > $1 ORDER BY queue LIMIT $2",
                    *(after, limit),
                )
                return [_decode_webhook(row[0]) for row in rows]
            case query.NotificationById():
                return await self._notification(asked)
            case query.PublishedWith(publisher, key):
                row = await first(
                    "SELECT id FROM restante.idempotency WHERE publisher = $1 AND key = $2",
                    *(publisher, key),
                )
                return None if row is None else row[0]
            case query.BodyOf():
                return await watching.body(asked)
            case query.ReceiptCounts(ids):
                return await watching.receipt_counts(ids)
            case query.ReceiptsOf():
                return await watching.receipts_of(asked)
            case query.OpenDeliveries():
                return await watching.open_deliveries(asked)
            case query.DeadReasons():
                return await watching.dead_reasons(asked)
            case query.DeadLetters():
                return await self._dead(asked)
            case query.CountDead():
                return await self._count_dead(asked)
            case query.DeadSeqs():
                return await self._dead_seqs(asked)
            case query.ReceiptByNumber(queue, number):
                return await self._receipt(queue, number)
            case query.Receipts():
                return await self._receipts(asked)
            case query.PaperOf(kind, key):
                return await papers.one(self._connection, kind, key)
            case query.PaperVersions(kind, keys):
                return await papers.versions(self._connection, kind, keys)
            case query.CountPapers():
                return await papers.count(self._connection, asked)
            case query.Papers():
                return await papers.page(self._connection, asked)
            case query.LogLag():
                return await seals.lag(self._connection, asked)
            case query.Unsealed():
                return await seals.unsealed(self._connection, asked)
            case query.LedgerSpan(queue):
                row = await first(
                    "SELECT coalesce(p.receipts, 0), t.receipts"
                    " FROM restante.queues q JOIN restante.tallies t ON t.queue = q.id"
                    " LEFT JOIN restante.pruned p ON p.queue = q.id WHERE q.name = $1",
                    queue,
                )
                return query.Span() if row is None else query.Span(*row)
            case query.Seals():
                return await seals.seals(self._connection, asked)
            case _:
                raise AssertionError(f"no answer to {type(asked).__name__}")

    async def _notification(self, asked: query.NotificationById) -> query.NotificationRecord | None:
        row = await self._connection.fetchrow(
            _NOTIFICATION.format("notifications"), asked.id
        ) or await self._connection.fetchrow(_NOTIFICATION.format("archive"), asked.id)
        if row is None:
            return None
        told = await self._connection.fetch(
            "SELECT r.queue, q.name, q.owner, r.seq, r.number, r.outcome, r.entry, r.digest, d.state, d.attempt"  # noqa: S608 (fixed terms)
            " FROM restante.receipts r JOIN restante.queues q ON q.id = r.queue"
            " LEFT JOIN restante.deliveries d ON d.queue = r.queue AND d.seq = r.seq"
            f" WHERE r.notification = $1 AND {KEPT} ORDER BY q.name, r.number",
            row[0],
        )
        # A notification to no queue has no receipts, and is known as long as it is kept.
        if not told and not await self._watching.went_nowhere(row[0]):
            return None
        by_queue: dict[int, list[Any]] = {}
        for line in told:
            if asked.owner is None or line[2] == asked.owner:
                by_queue.setdefault(line[0], []).append(line)
        deliveries = []
        for lines in by_queue.values():
            if not any(line["outcome"] == "published" for line in lines):
                continue
            _, name, _, seq, _, _, _, _, state, attempt = lines[0]
            events = [line for line in lines if line["outcome"] != "late_ack"]
            last = query.StoredReceipt(
                name, events[-1]["number"], events[-1]["entry"], events[-1]["digest"]
            )
            stands = (
                State[decode_entry(last.entry).state.upper()] if state is None else State(state)
            )
            deliveries.append(query.DeliveryRecord(name, seq, stands, attempt or 0, last))
        return query.NotificationRecord(
            id=row[1],
            topic=row[2],
            content_type=row[3],
            body_bytes=row[4],
            body_sha256=row[5],
            published_at_ms=row[6],
            publisher=row[7],
            attributes=_decode_attributes(row[8]) if row[8] else {},
            deliveries=deliveries,
        )

    async def _dead(self, asked: query.DeadLetters) -> list[query.DeadLetter]:
        condition, values = selection_sql(asked.selection, 4)
        rows = await self._connection.fetch(
            "SELECT d.queue, d.seq, d.attempt, d.dead_at, d.reason, d.ordering_key, d.parked, n.n, n.id, n.topic,"  # noqa: S608 (fixed terms)
            " n.content_type, n.published_at FROM restante.deliveries d"
            " JOIN restante.notifications n ON n.n = d.notification AND n.published_at = d.published_at"
            " WHERE d.queue = (SELECT id FROM restante.queues WHERE name = $1) AND d.seq > $2 AND"
            f" {condition} ORDER BY d.seq LIMIT $3",
            *(asked.queue, asked.after, asked.limit, *values),
        )
        histories = await self._histories([(row[7], row[0]) for row in rows], asked.queue)
        return [
            query.DeadLetter(
                id=id,
                seq=seq,
                attempt=attempt,
                topic=topic,
                content_type=media,
                published_at_ms=at,
                dead_at_ms=dead_at,
                reason=reason.decode(),
                ordering_key=key or "",
                parked=parked and key is not None,
                history=histories.get(n, []),
            )
            for _, seq, attempt, dead_at, reason, key, parked, n, id, topic, media, at in rows
        ]

    async def _histories(
        self, asked: Sequence[tuple[int, int]], queue: str
    ) -> dict[int, list[query.StoredReceipt]]:
        found: dict[int, list[query.StoredReceipt]] = {}
        if asked:
            lines = await self._connection.fetch(
                "SELECT r.notification, r.number, r.entry, r.digest"  # noqa: S608 (fixed terms)
                " FROM unnest($1::bigint[], $2::bigint[]) AS asked (n, queue)"
                " JOIN restante.receipts r ON r.notification = asked.n AND r.queue = asked.queue"
                f" WHERE {KEPT} ORDER BY r.number",
                *(list(column) for column in zip(*asked, strict=True)),
            )
            for n, number, entry, digest in lines:
                found.setdefault(n, []).append(query.StoredReceipt(queue, number, entry, digest))
        return found

    async def _count_dead(self, asked: query.CountDead) -> int:
        condition, values = selection_sql(asked.selection, 4)
        # Named ones are found by their numbers, however many are before them.
        seqs = asked.selection.seqs
        named = "" if seqs is None else "AND seq = ANY($4::bigint[])"
        looks = asked.scanned if seqs is None else len(seqs)
        found: int = await self._connection.fetchval(
            f"SELECT count(*) FROM {_FIRST_DEAD.format(named)} WHERE {condition}",  # noqa: S608 (fixed terms)
            *(asked.queue, 0, looks, *values),
        )
        return found

    async def _dead_seqs(self, asked: query.DeadSeqs) -> query.SeqPage:
        condition, values = selection_sql(asked.selection, 5)
        rows = await self._connection.fetch(
            f"SELECT d.seq FROM {_FIRST_DEAD.format('')} WHERE {condition} ORDER BY d.seq LIMIT $4",  # noqa: S608 (fixed terms)
            *(asked.queue, asked.after, asked.scanned, asked.limit, *values),
        )
        seqs = [row[0] for row in rows]
        if len(seqs) == asked.limit:
            return query.SeqPage(seqs, seqs[-1])
        last = await self._connection.fetchval(
            "SELECT seq FROM restante.deliveries WHERE queue = (SELECT id FROM restante.queues WHERE name = $1)"
            " AND state = 4 AND seq > $2 ORDER BY seq LIMIT 1 OFFSET $3",
            *(asked.queue, asked.after, asked.scanned - 1),
        )
        return query.SeqPage(seqs, last)

    async def _receipt(self, queue: str, number: int) -> query.StoredReceipt | None:
        row = await self._connection.fetchrow(
            "SELECT r.number, r.entry, r.digest FROM restante.receipts r"  # noqa: S608 (fixed terms)
            f" WHERE r.queue = (SELECT id FROM restante.queues WHERE name = $1) AND r.number = $2 AND {KEPT}",
            *(queue, number),
        )
        return None if row is None else query.StoredReceipt(queue, *row)

    async def _receipts(self, asked: query.Receipts) -> query.ReceiptPage:
        order, beyond, last = ("DESC", "<", "min") if asked.newest_first else ("ASC", ">", "max")
        start = asked.after
        if start is None:
            start = 2**62 if asked.newest_first else 0
        filtered = (asked.outcome, asked.since_ms, asked.until_ms) != (None, None, None)
        looks = SCANNED_RECEIPTS if filtered else asked.limit
        rows = await self._connection.fetch(
            "WITH looked AS MATERIALIZED (SELECT r.number, r.entry, r.digest, ($3::text IS NULL OR r.outcome = $3)"  # noqa: S608 (fixed terms)
            "  AND ($4::bigint IS NULL OR r.at >= $4) AND ($5::bigint IS NULL OR r.at < $5) AS wanted"
            "  FROM restante.receipts r WHERE r.queue = (SELECT id FROM restante.queues WHERE name = $1)"
            f"  AND r.number {beyond} $2 AND {KEPT} ORDER BY r.number {order} LIMIT $6),"
            f" found AS (SELECT number, entry, digest FROM looked WHERE wanted ORDER BY number {order} LIMIT $7)"
            f" SELECT f.number, f.entry, f.digest, s.looked, s.last FROM (SELECT count(*) AS looked, {last}(number)"
            f" AS last FROM looked) s LEFT JOIN found f ON true ORDER BY f.number {order}",
            *(
                asked.queue,
                start,
                asked.outcome,
                asked.since_ms,
                asked.until_ms,
                looks,
                asked.limit,
            ),
        )
        found = [
            query.StoredReceipt(asked.queue, number, entry, digest)
            for number, entry, digest, _, _ in rows
            if number is not None
        ]
        if len(found) >= asked.limit:
            return query.ReceiptPage(found, found[-1].number)
        _, _, _, looked, last_looked_at = rows[0]
        return query.ReceiptPage(found, last_looked_at if looked >= looks else None)


def _queue(row: Any) -> Queue:
    return Queue(row[0], row[1], _decode_settings(row[2]))


def _key(row: Any) -> Key:
    id, role, name, secret_hash, created_at, expires_at, revoked_at, label, san = row
    return Key(
        id=id,
        role=Role(role),
        name=name,
        secret_hash=secret_hash,
        created_at_ms=created_at,
        expires_at_ms=expires_at,
        revoked_at_ms=revoked_at,
        label=label,
        certificate_san=san,
    )
