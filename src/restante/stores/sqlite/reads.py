"""The answers to ``queries.py``, from what is committed, over the reading connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw
import msgspec

from restante import queries as query
from restante.model import (
    Actor,
    Client,
    Delivery,
    Figures,
    Key,
    LeaseRef,
    Queue,
    Role,
    Settings,
    State,
    Subscription,
)
from restante.stores.sqlite.ledger import Ledger
from restante.stores.sqlite.papers import PaperReads
from restante.stores.sqlite.seals import SealReads
from restante.stores.sqlite.upkeep import selection_sql
from restante.timeline import Timeline
from restante.webhooks import Webhook

SCANNED_RECEIPTS: Final = 10_000
_decode_settings = msgspec.json.Decoder(Settings).decode
_decode_filter = msgspec.json.Decoder(dict[str, list[str]]).decode
_decode_attributes = msgspec.json.Decoder(dict[str, str]).decode
_decode_actor = msgspec.json.Decoder(Actor).decode
_decode_webhook = msgspec.json.Decoder(Webhook).decode
_STATES: Final = tuple(state.label for state in State)
# The oldest of each state that has not ended: four steps into one index, whatever the backlog.
_FIGURES: Final = (
    "SELECT q.name, q.owner, q.settings, t.seq, t.scheduled, t.ready, t.held, t.leased, t.dead, t.acked, t.superseded,"
    " t.expired, t.discarded, CASE WHEN t.scheduled + t.ready + t.held + t.leased > 0 THEN ("
    "  SELECT min(n.published_at) FROM (SELECT 0 AS state UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3) s"
    "  JOIN deliveries d ON d.queue = q.id AND d.seq ="
    "   (SELECT seq FROM deliveries WHERE queue = q.id AND state = s.state ORDER BY seq LIMIT 1)"
    "  JOIN notifications n ON n.n = d.notification) END"
    " FROM queues q LEFT JOIN tallies t ON t.queue = q.id"
)
_KEY: Final = (
    "SELECT id, role, name, secret_hash, created_at, expires_at, revoked_at, label, certificate_san"
    " FROM keys"
)
_FIRST_DEAD: Final = (
    "(SELECT * FROM deliveries WHERE queue = ? AND state = 4 AND seq > ? ORDER BY seq LIMIT ?) d"
    " JOIN notifications n ON n.n = d.notification"
)


class Reads:
    """One method a question; ``answer`` finds it."""

    def __init__(self, connection: apsw.Connection, timeline: Timeline) -> None:
        self._execute: Callable[..., Any] = connection.execute
        self._ledger = Ledger(connection)
        self._papers = PaperReads(connection)
        self._seals = SealReads(connection)
        self._timeline = timeline

    def answer(self, asked: query.Query[Any]) -> Any:  # noqa: PLR0912 (a table of cases)
        match asked:
            case query.QueueByName(name):
                return self._queue(name)
            case query.Queues():
                return self._queues(asked)
            case query.FiguresOf(name):
                return self._figures(name)
            case query.FiguresOfQueues():
                return self._figures_of_queues(asked)
            case query.ClientByName(name):
                row = self._execute("SELECT * FROM clients WHERE name = ?", (name,)).fetchone()
                return None if row is None else Client(*row)
            case query.Clients(after, limit):
                rows = self._execute(
                    "SELECT * FROM clients WHERE name > ? ORDER BY name LIMIT ?", (after, limit)
                )
                return [Client(*row) for row in rows]
            case query.KeyById(id):
                row = self._execute(f"{_KEY} WHERE id = ?", (id,)).fetchone()
                return None if row is None else _key(row)
            case query.Keys(after, limit):
                rows = self._execute(f"{_KEY} WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
                return [_key(row) for row in rows]
            case query.KeysOf(role, name, limit):
                rows = self._execute(
                    f"{_KEY} WHERE role = ? AND name = ? ORDER BY created_at DESC, id LIMIT ?",
                    (role, name, limit),
                )
                return [_key(row) for row in rows]
            case query.Subscriptions():
                return [
                    Subscription(id, pattern, queue, _decode_filter(conditions))
                    for id, pattern, queue, conditions in self._execute(
                        "SELECT id, pattern, queue, filter FROM subscriptions ORDER BY id"
                    )
                ]
            case query.WebhookOf(queue):
                row = self._execute(
                    "SELECT webhook FROM webhooks WHERE queue = ?", (queue,)
                ).fetchone()
                return None if row is None else _decode_webhook(row[0])
            case query.Webhooks(after, limit):
                rows = self._execute(
                    "SELECT webhook FROM webhooks WHERE queue > ? ORDER BY queue LIMIT ?",
                    (after, limit),
                )
                return [_decode_webhook(webhook) for (webhook,) in rows]
            case query.NotificationById():
                return self._notification(asked)
            case query.PublishedWith(publisher, key):
                row = self._execute(
                    "SELECT n.id FROM idempotency i JOIN notifications n ON n.n = i.notification"
                    " WHERE i.publisher = ? AND i.key = ?",
                    (publisher, key),
                ).fetchone()
                return None if row is None else row[0]
            case query.BodyOf(id, owner):
                return self._body(id, owner)
            case query.ReceiptCounts(ids):
                return self._receipt_counts(ids)
            case query.ReceiptsOf():
                return self._receipts_of(asked)
            case query.OpenDeliveries():
                return self._open_deliveries(asked)
            case query.DeadReasons():
                return self._dead_reasons(asked)
            case query.DeadLetters():
                return self._dead(asked)
            case query.Now():
                return self._timeline.now_ms()
            case query.LeasedTo():
                return self._leased_to(asked)
            case query.CountDead():
                return self._count_dead(asked)
            case query.DeadSeqs():
                return self._dead_seqs(asked)
            case query.ReceiptByNumber(queue, number):
                return self._receipt(queue, number)
            case query.Receipts():
                return self._receipts(asked)
            case query.PaperOf(kind, key):
                return self._papers.one(kind, key)
            case query.PaperVersions(kind, keys):
                return self._papers.versions(kind, keys)
            case query.CountPapers():
                return self._papers.count(asked)
            case query.Papers():
                return self._papers.page(asked)
            case query.LogLag():
                return self._seals.lag(asked)
            case query.Unsealed():
                return self._seals.unsealed(asked)
            case query.LedgerSpan(name):
                ledger = self._id(name)
                return query.Span(self._ledger.pruned_to(ledger), self._ledger.end(ledger))
            case query.Seals():
                return self._seals.seals(asked)
            case _:
                raise AssertionError(f"no answer to {type(asked).__name__}")

    def _queue(self, name: str) -> Queue | None:
        row = self._execute(
            "SELECT name, owner, settings FROM queues WHERE name = ?", (name,)
        ).fetchone()
        return None if row is None else Queue(row[0], row[1], _decode_settings(row[2]))

    def _queues(self, asked: query.Queues) -> list[Queue]:
        mine = "" if asked.owner is None else "AND owner = ?"
        owner = () if asked.owner is None else (asked.owner,)
        rows = self._execute(
            f"SELECT name, owner, settings FROM queues WHERE name > ? {mine} ORDER BY name LIMIT ?",  # noqa: S608 (fixed terms)
            (asked.after, *owner, asked.limit),
        )
        return [Queue(name, owner_, _decode_settings(text)) for name, owner_, text in rows]

    def _leased_to(self, asked: query.LeasedTo) -> list[Delivery]:
        rows = self._execute(
            "SELECT d.seq, d.attempt, d.fence, d.due, d.ordering_key, n.n, n.id, n.topic, n.content_type, n.attributes,"
            " n.published_at, n.body FROM queues q JOIN deliveries d ON d.queue = q.id AND d.state = 3"
            " JOIN notifications n ON n.n = d.notification"
            " WHERE q.name = ? AND d.holder ->> 'consumer' = ? AND d.seq > ? ORDER BY d.seq",
            (asked.queue, asked.consumer, asked.after),
        )
        ahead = self._timeline.wall_ms() - self._timeline.now_ms()
        found: list[Delivery] = []
        room = asked.max_bytes
        for (
            seq,
            attempt,
            fence,
            due,
            ordering_key,
            n,
            id,
            topic,
            content_type,
            attributes,
            at,
            body,
        ) in rows:
            room -= len(body)
            if found and room < 0:
                break
            found.append(
                Delivery(
                    id=id,
                    ref=LeaseRef(asked.queue, seq, fence, n),
                    attempt=attempt,
                    topic=topic,
                    content_type=content_type,
                    body=body,
                    attributes=_decode_attributes(attributes) if attributes else {},
                    ordering_key=ordering_key or "",
                    published_at_ms=at,
                    lease_until_ms=due + ahead,
                )
            )
        return found

    def _figures(self, name: str) -> Figures | None:
        row = self._execute(f"{_FIGURES} WHERE q.name = ?", (name,)).fetchone()
        return None if row is None else self._figures_in(row)

    def _figures_of_queues(self, asked: query.FiguresOfQueues) -> list[query.QueueFigures]:
        chosen = ""
        names: tuple[str, ...] = ()
        if asked.names is not None:
            chosen, names = "AND q.name IN (SELECT value FROM json_each(?))", (_names(asked.names),)
        rows = self._execute(
            f"{_FIGURES} WHERE q.name > ? {chosen} ORDER BY q.name LIMIT ?",
            (asked.after, *names, asked.limit),
        )
        return [
            query.QueueFigures(
                Queue(row[0], row[1], _decode_settings(row[2])), self._figures_in(row)
            )
            for row in rows
        ]

    def _figures_in(self, row: tuple[Any, ...]) -> Figures:
        if row[3] is None:
            return Figures()
        published, *counts, oldest = row[3:]
        age = None if oldest is None else max(0, self._timeline.wall_ms() - oldest) / 1_000
        return Figures(
            published=published,
            oldest_age_seconds=age,
            **dict(zip(_STATES, counts, strict=True)),
        )

    def _notification(self, asked: query.NotificationById) -> query.NotificationRecord | None:
        row = self._execute(
            "SELECT n, id, topic, content_type, body_bytes, body_sha256, published_at, publisher, attributes"
            " FROM notifications WHERE id = ?",
            (asked.id,),
        ).fetchone()
        if row is None:
            return None
        mine = "" if asked.owner is None else "AND q.owner = ?"
        owner = () if asked.owner is None else (asked.owner,)
        deliveries = []
        for name, seq, state, attempt, number, entry, digest, last_state in self._execute(
            "SELECT q.name, p.seq, d.state, d.attempt, l.number, l.entry, l.digest, l.entry ->> 'state'"  # noqa: S608 (fixed terms)
            " FROM receipts p JOIN queues q ON q.id = p.queue"
            " LEFT JOIN deliveries d ON d.queue = p.queue AND d.seq = p.seq"
            " LEFT JOIN receipts l ON l.r = (SELECT max(r) FROM receipts"
            "  WHERE notification = p.notification AND queue = p.queue AND outcome <> 'late_ack')"
            f" WHERE p.notification = ? AND p.outcome = 'published' {mine} ORDER BY q.name",
            (row[0], *owner),
        ):
            last = query.StoredReceipt(name, number, entry, digest)
            stands = State(state) if state is not None else State[last_state.upper()]
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

    def _body(self, id: str, owner: str | None) -> query.Body | None:
        row = self._execute(
            "SELECT n, content_type, body FROM notifications WHERE id = ?", (id,)
        ).fetchone()
        if row is None:
            return None
        mine = (
            owner is None
            or self._execute(
                "SELECT 1 FROM receipts r JOIN queues q ON q.id = r.queue"
                " WHERE r.notification = ? AND r.outcome = 'published' AND q.owner = ? LIMIT 1",
                (row[0], owner),
            ).fetchone()
        )
        return query.Body(row[1], row[2]) if mine else None

    def _receipts_of(self, asked: query.ReceiptsOf) -> list[query.StoredReceipt]:
        mine = "" if asked.owner is None else "AND q.owner = ?"
        owner = () if asked.owner is None else (asked.owner,)
        rows = self._execute(
            "SELECT q.name, r.number, r.entry, r.digest FROM receipts r JOIN queues q ON q.id = r.queue"  # noqa: S608 (fixed terms)
            f" WHERE r.notification = (SELECT n FROM notifications WHERE id = ?) {mine}"
            " ORDER BY q.name, r.number LIMIT ?",
            (asked.id, *owner, asked.limit),
        )
        return [query.StoredReceipt(*row) for row in rows]

    def _receipt_counts(self, ids: tuple[str, ...]) -> dict[str, int]:
        rows = self._execute(
            "SELECT n.id, count(*) FROM notifications n JOIN receipts r ON r.notification = n.n"
            " WHERE n.id IN (SELECT value FROM json_each(?)) GROUP BY n.id",
            (msgspec.json.encode(ids).decode(),),
        )
        return dict(rows)

    def _open_deliveries(self, asked: query.OpenDeliveries) -> list[query.OpenDelivery]:
        rows = self._execute(
            "SELECT d.seq, d.attempt, d.due, d.expires, d.ordering_key, d.collapse_key, d.leased_at, d.holder, n.id,"
            " n.topic, n.content_type, n.body_bytes, n.published_at"
            " FROM deliveries d JOIN notifications n ON n.n = d.notification"
            " WHERE d.queue = ? AND d.state = ? AND d.seq > ? ORDER BY d.seq LIMIT ?",
            (self._id(asked.queue), asked.state, asked.after, asked.limit),
        )
        waits = asked.state in (State.SCHEDULED, State.LEASED)
        return [
            query.OpenDelivery(
                id=id,
                seq=seq,
                state=asked.state,
                attempt=attempt,
                topic=topic,
                content_type=content_type,
                body_bytes=body_bytes,
                published_at_ms=published_at,
                ordering_key=ordering_key or "",
                collapse_key=collapse_key or "",
                due_in_seconds=self._until(due) if waits else None,
                expires_in_seconds=self._until(expires),
                leased_at_ms=leased_at,
                holder=_decode_actor(holder) if holder else None,
            )
            for (
                seq,
                attempt,
                due,
                expires,
                ordering_key,
                collapse_key,
                leased_at,
                holder,
                id,
                topic,
                content_type,
                body_bytes,
                published_at,
            ) in rows
        ]

    def _until(self, at_ms: int | None) -> float | None:
        return None if at_ms is None else max(0, at_ms - self._timeline.now_ms()) / 1_000

    def _dead_reasons(self, asked: query.DeadReasons) -> list[query.ReasonCount]:
        rows = self._execute(
            "SELECT reason, count(*), max(dead_at) FROM (SELECT reason, dead_at FROM deliveries"
            " WHERE queue = ? AND state = 4 ORDER BY seq LIMIT ?)"
            " GROUP BY reason ORDER BY 2 DESC, 1 LIMIT ?",
            (self._id(asked.queue), asked.scanned, asked.limit),
        )
        return [query.ReasonCount(*row) for row in rows]

    def _dead(self, asked: query.DeadLetters) -> list[query.DeadLetter]:
        condition, values = selection_sql(asked.selection)
        found = []
        rows = self._execute(
            "SELECT d.queue, d.seq, d.attempt, d.dead_at, d.reason, d.ordering_key, d.parked, n.n, n.id, n.topic,"  # noqa: S608 (fixed terms)
            " n.content_type, n.published_at FROM deliveries d JOIN notifications n ON n.n = d.notification"
            " WHERE d.queue = (SELECT id FROM queues WHERE name = ?) AND d.seq > ? AND"
            f" {condition} ORDER BY d.seq LIMIT ?",
            (asked.queue, asked.after, *values, asked.limit),
        ).fetchall()
        for queue, seq, attempt, dead_at, reason, key, parked, n, id, topic, media, at in rows:
            history = self._execute(
                "SELECT number, entry, digest FROM receipts WHERE notification = ? AND queue = ? ORDER BY r",
                (n, queue),
            )
            found.append(
                query.DeadLetter(
                    id=id,
                    seq=seq,
                    attempt=attempt,
                    topic=topic,
                    content_type=media,
                    published_at_ms=at,
                    dead_at_ms=dead_at,
                    reason=reason,
                    ordering_key=key or "",
                    parked=bool(parked) and key is not None,
                    history=[query.StoredReceipt(asked.queue, *receipt) for receipt in history],
                )
            )
        return found

    def _count_dead(self, asked: query.CountDead) -> int:
        condition, values = selection_sql(asked.selection)
        if asked.selection.seqs is None:
            row = self._execute(
                f"SELECT count(*) FROM {_FIRST_DEAD} WHERE {condition}",  # noqa: S608 (fixed terms)
                (self._id(asked.queue), 0, asked.scanned, *values),
            ).fetchone()
        else:
            # Named ones are found by their numbers, however many are before them.
            row = self._execute(
                "SELECT count(*) FROM deliveries d JOIN notifications n ON n.n = d.notification"  # noqa: S608 (fixed terms)
                f" WHERE d.queue = ? AND {condition}",
                (self._id(asked.queue), *values),
            ).fetchone()
        return 0 if row is None else int(row[0])

    def _dead_seqs(self, asked: query.DeadSeqs) -> query.SeqPage:
        queue = self._id(asked.queue)
        condition, values = selection_sql(asked.selection)
        seqs = [
            seq
            for (seq,) in self._execute(
                f"SELECT d.seq FROM {_FIRST_DEAD}"  # noqa: S608 (fixed terms)
                f" WHERE {condition} ORDER BY d.seq LIMIT ?",
                (queue, asked.after, asked.scanned, *values, asked.limit),
            )
        ]
        if len(seqs) == asked.limit:
            return query.SeqPage(seqs, seqs[-1])
        last = self._execute(
            "SELECT seq FROM deliveries WHERE queue = ? AND state = 4 AND seq > ? ORDER BY seq LIMIT 1 OFFSET ?",
            (queue, asked.after, asked.scanned - 1),
        ).fetchone()
        return query.SeqPage(seqs, None if last is None else last[0])

    def _receipt(self, queue: str, number: int) -> query.StoredReceipt | None:
        for *_, entry, digest in self._ledger.read(self._id(queue), number, number):
            return query.StoredReceipt(queue, number, entry, digest)
        return None

    def _receipts(self, asked: query.Receipts) -> query.ReceiptPage:
        queue = self._id(asked.queue)
        if asked.newest_first:
            rows = self._ledger.falling(queue, 2**62 if asked.after is None else asked.after)
        else:
            rows = self._ledger.rising(queue, asked.after or 0)
        found: list[query.StoredReceipt] = []
        for looked, (number, _, _, outcome, _, at, entry, digest) in enumerate(rows, 1):
            if (
                (asked.outcome is None or outcome == asked.outcome)
                and (asked.since_ms is None or at >= asked.since_ms)
                and (asked.until_ms is None or at < asked.until_ms)
            ):
                found.append(query.StoredReceipt(asked.queue, number, entry, digest))
            if len(found) >= asked.limit or looked >= SCANNED_RECEIPTS:
                return query.ReceiptPage(found, number)
        return query.ReceiptPage(found, None)

    def _id(self, queue: str) -> int:
        row = self._execute("SELECT id FROM queues WHERE name = ?", (queue,)).fetchone()
        return 0 if row is None else int(row[0])


def _names(names: Sequence[str]) -> str:
    return msgspec.json.encode(names).decode()


def _key(row: tuple[Any, ...]) -> Key:
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
