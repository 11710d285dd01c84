"""The answers to ``queries.py``, from what is committed, over the reading connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import apsw
import msgspec

from restante import queries as query
from restante.model import (
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
from restante.stores.sqlite.upkeep import selection_sql
from restante.timeline import Timeline
from restante.webhooks import Webhook

SCANNED_RECEIPTS: Final = 10_000
_decode_settings = msgspec.json.Decoder(Settings).decode
_decode_filter = msgspec.json.Decoder(dict[str, list[str]]).decode
_decode_attributes = msgspec.json.Decoder(dict[str, str]).decode
_decode_webhook = msgspec.json.Decoder(Webhook).decode
_KEY: Final = (
    "SELECT id, role, name, secret_hash, created_at, expires_at, revoked_at, label, certificate_san"
    " FROM keys"
)


class Reads:
    """One method a question; ``answer`` finds it."""

    def __init__(self, connection: apsw.Connection, timeline: Timeline) -> None:
        self._execute: Callable[..., Any] = connection.execute
        self._ledger = Ledger(connection)
        self._timeline = timeline

    def answer(self, asked: query.Query[Any]) -> Any:  # noqa: PLR0912 (a table of cases)
        match asked:
            case query.QueueByName(name):
                return self._queue(name)
            case query.Queues():
                return self._queues(asked)
            case query.FiguresOf(name):
                return self._figures(name)
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
            case query.DeadLetters():
                return self._dead(asked)
            case query.LeasedTo():
                return self._leased_to(asked)
            case query.CountDead():
                return self._count_dead(asked)
            case query.ReceiptByNumber(queue, number):
                return self._receipt(queue, number)
            case query.Receipts():
                return self._receipts(asked)
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
        row = self._execute(
            "SELECT q.id, t.seq, t.scheduled, t.ready, t.held, t.leased, t.dead, t.acked, t.superseded, t.expired,"
            " t.discarded FROM queues q LEFT JOIN tallies t ON t.queue = q.id WHERE q.name = ?",
            (name,),
        ).fetchone()
        if row is None:
            return None
        if row[1] is None:
            return Figures()
        # The oldest of each state that has not ended: four steps into one index, whatever the backlog.
        oldest = self._execute(
            "WITH s(state) AS (VALUES (0), (1), (2), (3)) SELECT min(n.published_at) FROM s"
            " JOIN deliveries d ON d.queue = ?1 AND d.seq ="
            " (SELECT seq FROM deliveries WHERE queue = ?1 AND state = s.state ORDER BY seq LIMIT 1)"
            " JOIN notifications n ON n.n = d.notification",
            (row[0],),
        ).fetchone()
        age = None
        if oldest is not None and oldest[0] is not None:
            age = max(0, self._timeline.wall_ms() - oldest[0]) / 1_000
        _, published, scheduled, ready, held, leased, dead, acked, superseded, expired, gone = row
        return Figures(
            published=published,
            ready=ready,
            scheduled=scheduled,
            held=held,
            leased=leased,
            dead=dead,
            acked=acked,
            superseded=superseded,
            expired=expired,
            discarded=gone,
            oldest_age_seconds=age,
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
        row = self._execute(
            "SELECT count(*) FROM deliveries d JOIN notifications n ON n.n = d.notification"  # noqa: S608 (fixed terms)
            f" WHERE d.queue = (SELECT id FROM queues WHERE name = ?) AND {condition}",
            (asked.queue, *values),
        ).fetchone()
        return 0 if row is None else int(row[0])

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
