"""What is done beside the way of a notification: time-outs, dead letters, administration, retention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw
import msgspec

from restante import auth
from restante import changes as change
from restante.errors import (
    AlreadyExists,
    ClientNotFound,
    KeyNotFound,
    PaperChanged,
    QueueNotFound,
    RestanteError,
    SubscriptionNotFound,
    WebhookChanged,
    WebhookNotFound,
)
from restante.lifecycle import decide_redrive
from restante.model import Actor, Key, Queue, Role, Selection, State
from restante.papers import Paper
from restante.stores.sqlite import seals
from restante.stores.sqlite.books import Books, QueueBook
from restante.stores.sqlite.deliveries import Deliveries
from restante.stores.sqlite.ledger import Ledger
from restante.webhooks import Webhook

_encode = msgspec.json.Encoder().encode
_ENDS: Final = ("acked", "superseded", "expired", "discarded")
_ACTIVE: Final = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?)"


def selection_sql(selection: Selection) -> tuple[str, list[Any]]:
    """The condition on ``d`` (deliveries) and ``n`` (notifications) that picks the selected dead letters."""
    terms, values = ["d.state = 4"], list[Any]()
    if selection.seqs is not None:
        terms.append(f"d.seq IN ({', '.join('?' * len(selection.seqs))})")
        values += selection.seqs
    for column, operator, value in (
        ("d.reason", "=", selection.reason),
        ("n.topic", "=", selection.topic),
        ("d.dead_at", ">=", selection.since_ms),
        ("d.dead_at", "<", selection.until_ms),
    ):
        if value is not None:
            terms.append(f"{column} {operator} ?")
            values.append(value)
    return " AND ".join(terms), values


class Upkeep:
    """The rarer operations, over the same connection and books as the hot ones."""

    def __init__(
        self,
        connection: apsw.Connection,
        books: Books,
        deliveries: Deliveries,
        idempotency_retention_seconds: int,
    ) -> None:
        self._connection = connection
        self._execute: Callable[..., Any] = connection.execute
        self._ledger = Ledger(connection)
        self._books = books
        self._deliveries = deliveries
        self._idempotency_retention_seconds = idempotency_retention_seconds
        self._prune_after = 0

    # -- time-outs ------------------------------------------------------------------------------

    def overdue(self, limit: int) -> dict[str, int]:
        now = self._books.timeline.now_ms()
        touched: dict[str, int] = {}
        due = self._execute(
            "SELECT q.name, d.seq, d.state FROM deliveries d JOIN queues q ON q.id = d.queue"
            " WHERE d.state IN (0, 3) AND d.due <= ? ORDER BY d.due LIMIT ?",
            (now, limit),
        ).fetchall()
        expiring = self._execute(
            "SELECT q.name, d.seq FROM deliveries d JOIN queues q ON q.id = d.queue"
            " WHERE d.expires IS NOT NULL AND d.state IN (0, 1, 2) AND d.expires <= ? ORDER BY d.expires LIMIT ?",
            (now, limit),
        ).fetchall()
        for name, seq, state in due:
            book = self._books.queue(name)
            before = book.counts[State.READY]
            if state == State.LEASED:
                self._deliveries.lease_expired(book, self._deliveries.row(book, seq))
            else:
                self._execute(
                    "UPDATE deliveries SET state = 1, due = NULL WHERE queue = ? AND seq = ?",
                    (book.id, seq),
                )
                self._books.move(book, State.SCHEDULED, State.READY)
            touched[name] = touched.get(name, 0) + book.counts[State.READY] - before
        for name, seq in expiring:
            book = self._books.queue(name)
            before = book.counts[State.READY]
            row = self._deliveries.find(book, seq)
            # It may have ended above, within this very transaction.
            if row is not None and row.standing.state <= State.HELD:
                self._deliveries.expire(book, row)
                touched[name] = touched.get(name, 0) + book.counts[State.READY] - before
        return {name: max(1, ready) for name, ready in touched.items()}

    def next_due(self) -> float | None:
        """Of committed and uncommitted state alike: this runs on the writing connection."""
        found = self._execute(
            "SELECT min(at) FROM (SELECT min(due) AS at FROM deliveries WHERE state IN (0, 3)"
            " UNION ALL SELECT min(expires) FROM deliveries WHERE expires IS NOT NULL AND state IN (0, 1, 2))"
        ).fetchone()
        if found is None or found[0] is None:
            return None
        return float(max(0, found[0] - self._books.timeline.now_ms())) / 1_000

    # -- dead letters ---------------------------------------------------------------------------

    def redrive(
        self, queue: str, selection: Selection, actor: Actor, limit: int
    ) -> tuple[int, dict[str, int]]:
        book = self._books.queue(queue)
        before = book.counts[State.READY]
        seqs = self._selected(book, selection, limit)
        for seq in seqs:
            row = self._deliveries.row(book, seq)
            key = row.ordering_key
            if row.standing.parked:
                self._deliveries.unparked(book, row)
            held = key is not None and (
                self._deliveries.is_shut(book, key) or self._deliveries.is_behind(book, row)
            )
            self._deliveries.apply(book, row, decide_redrive(held=held), actor=actor)
        return len(seqs), {queue: book.counts[State.READY] - before} if seqs else {}

    def discard(
        self, queue: str, selection: Selection, actor: Actor, limit: int, reason: str
    ) -> tuple[int, dict[str, int]]:
        book = self._books.queue(queue)
        before = book.counts[State.READY]
        seqs = self._selected(book, selection, limit)
        for seq in seqs:
            self._deliveries.discard(book, self._deliveries.row(book, seq), actor, reason)
        return len(seqs), {queue: book.counts[State.READY] - before} if seqs else {}

    def _selected(self, book: QueueBook, selection: Selection, limit: int) -> list[int]:
        condition, values = selection_sql(selection)
        rows = self._execute(
            "SELECT d.seq FROM deliveries d JOIN notifications n ON n.n = d.notification"  # noqa: S608 (fixed terms)
            f" WHERE d.queue = ? AND {condition} ORDER BY d.seq LIMIT ?",
            (book.id, *values, limit),
        )
        return [seq for (seq,) in rows]

    # -- administration -------------------------------------------------------------------------

    def configure(self, changes: Sequence[change.Change]) -> None:
        # Written first, so that when a refusal undoes some changes the books can be read anew.
        self._books.flush()
        try:
            with self._connection:
                for item in changes:
                    self._change(item)
        except RestanteError:
            self._books.forget()
            raise

    def _change(self, item: change.Change) -> None:  # noqa: PLR0912 (a table of cases)
        match item:
            case change.AddClient(client):
                if self._exists("SELECT 1 FROM clients WHERE name = ?", client.name):
                    raise AlreadyExists(f"there is a client {client.name} already")
                self._execute(
                    "INSERT INTO clients VALUES (?, ?)", (client.name, client.created_at_ms)
                )
            case change.PutQueue(queue, must_be_new):
                self._put_queue(queue, must_be_new=must_be_new)
            case change.AddKey(key):
                self._add_key(key)
            case change.RevokeKey(key_id, at_ms):
                if not self._exists("SELECT 1 FROM keys WHERE id = ?", key_id):
                    raise KeyNotFound(f"there is no key {key_id}")
                self._execute(
                    "UPDATE keys SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?",
                    (at_ms, key_id),
                )
            case change.AddSubscription(added):
                if not self._exists("SELECT 1 FROM queues WHERE name = ?", added.queue):
                    raise QueueNotFound(f"there is no queue {added.queue} here")
                conditions = msgspec.json.encode(added.filter, order="sorted").decode()
                try:
                    self._execute(
                        "INSERT INTO subscriptions VALUES (?, ?, ?, ?)",
                        (added.id, added.pattern, added.queue, conditions),
                    )
                except apsw.ConstraintError as error:
                    raise AlreadyExists("there is such a subscription already") from error
            case change.DropSubscription(id):
                if not self._exists("SELECT 1 FROM subscriptions WHERE id = ?", id):
                    raise SubscriptionNotFound(f"there is no subscription {id}")
                self._execute("DELETE FROM subscriptions WHERE id = ?", (id,))
            case change.PutWebhook(webhook):
                self._put_webhook(webhook)
            case change.DropWebhook(queue):
                if not self._exists("SELECT 1 FROM webhooks WHERE queue = ?", queue):
                    raise WebhookNotFound(f"queue {queue} has no webhook")
                self._execute("DELETE FROM webhooks WHERE queue = ?", (queue,))
            case change.OpenOrderingKey(queue, ordering_key):
                self._deliveries.open_key(self._books.queue(queue), ordering_key)
            case change.PutPaper(paper):
                self._put_paper(paper)
            case change.DropPaper(kind, key):
                self._execute("DELETE FROM papers WHERE kind = ? AND key = ?", (kind.value, key))
            case change.AddSeals():
                seals.add(self._connection, item)

    def _put_queue(self, queue: Queue, *, must_be_new: bool) -> None:
        if not self._exists("SELECT 1 FROM clients WHERE name = ?", queue.owner):
            raise ClientNotFound(f"there is no client {queue.owner} to own the queue")
        there = self._exists("SELECT 1 FROM queues WHERE name = ?", queue.name)
        if there and must_be_new:
            raise AlreadyExists(f"there is a queue {queue.name} already")
        self._execute(
            "INSERT INTO queues (name, owner, settings) VALUES (?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, settings = excluded.settings",
            (queue.name, queue.owner, _encode(queue.settings).decode()),
        )
        if there:
            self._books.reload(queue.name)
            if queue.settings.after_dead == "continue":
                self._deliveries.unpark(self._books.queue(queue.name))

    def _put_webhook(self, webhook: Webhook) -> None:
        self._books.queue(webhook.queue)
        row = self._execute(
            "SELECT version FROM webhooks WHERE queue = ?", (webhook.queue,)
        ).fetchone()
        if webhook.version != (1 if row is None else row[0] + 1):
            raise WebhookChanged("the webhook was changed by another meanwhile")
        self._execute(
            "INSERT OR REPLACE INTO webhooks VALUES (?, ?, ?)",
            (webhook.queue, webhook.version, _encode(webhook)),
        )

    def _put_paper(self, paper: Paper) -> None:
        place = (paper.kind.value, paper.key)
        row = self._execute(
            "SELECT version FROM papers WHERE kind = ? AND key = ?", place
        ).fetchone()
        version = 1 if row is None else row[0] + 1
        if paper.version not in (0, version):
            raise PaperChanged("it was changed by another meanwhile")
        self._execute(
            "INSERT OR REPLACE INTO papers (kind, key, version, content, expires_at) VALUES (?, ?, ?, ?, ?)",
            (*place, version, paper.content, paper.expires_at_ms),
        )

    def _add_key(self, key: Key) -> None:
        if key.role is Role.CLIENT and not self._exists(
            "SELECT 1 FROM clients WHERE name = ?", key.name
        ):
            raise ClientNotFound(f"there is no client {key.name}")
        active = self._execute(
            f"SELECT count(*) FROM keys WHERE role = ? AND name = ? AND (certificate_san <> '') = ? AND {_ACTIVE}",  # noqa: S608 (fixed terms)
            (key.role.value, key.name, bool(key.certificate_san), key.created_at_ms),
        ).fetchone()
        if key.certificate_san:
            self._execute(
                f"DELETE FROM keys WHERE id = ? AND NOT ({_ACTIVE})",  # noqa: S608 (fixed terms)
                (key.id, key.created_at_ms),
            )
        taken = self._exists("SELECT 1 FROM keys WHERE id = ?", key.id)
        auth.check_new_key(key, active=active[0], taken=taken)
        self._execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key.id,
                key.role.value,
                key.name,
                key.secret_hash,
                key.created_at_ms,
                key.expires_at_ms,
                key.revoked_at_ms,
                key.label,
                key.certificate_san,
            ),
        )

    def _exists(self, sql: str, value: str) -> bool:
        return self._execute(sql, (value,)).fetchone() is not None

    # -- retention ------------------------------------------------------------------------------

    def prune(self, limit: int) -> int:
        """One small step: idempotency keys, papers, then queue after queue, bodies and receipts."""
        now = self._books.timeline.now_ms()
        self._execute(
            "DELETE FROM idempotency WHERE (publisher, key) IN"
            " (SELECT publisher, key FROM idempotency WHERE at < ? ORDER BY at LIMIT ?)",
            (now - self._idempotency_retention_seconds * 1_000, limit),
        )
        done = self._connection.changes()
        self._execute(
            "DELETE FROM papers WHERE (kind, key) IN"
            " (SELECT kind, key FROM papers WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
            (self._books.timeline.wall_ms(), max(0, limit - done)),
        )
        done += self._connection.changes()
        while done < limit:
            row = self._execute(
                "SELECT q.id, q.name, coalesce(p.bodies, 0), coalesce(p.receipts, 0)"
                " FROM queues q LEFT JOIN pruned p ON p.queue = q.id"
                " WHERE q.id > ? ORDER BY q.id LIMIT 1",
                (self._prune_after,),
            ).fetchone()
            if row is None:
                # Round the corner: the next step starts with the first queue again.
                self._prune_after = 0
                break
            id, name, bodies, receipts = row
            book = self._books.queue(name)
            bodies_to = self._prune_bodies(book, bodies, limit - done)
            receipts_to = self._prune_receipts(book, receipts, limit - done)
            if (bodies_to, receipts_to) != (bodies, receipts):
                self._execute(
                    "INSERT OR REPLACE INTO pruned VALUES (?, ?, ?)", (id, bodies_to, receipts_to)
                )
            done += bodies_to - bodies + receipts_to - receipts + 1
            if done < limit:
                self._prune_after = id
        return done

    def _prune_bodies(self, book: QueueBook, after: int, limit: int) -> int:
        """Drop bodies whose deliveries have all ended longer ago than their queues keep bodies.

        Returns the number of the receipt up to which that is done.
        """
        before = self._books.timeline.wall_ms() - book.settings.body_retention_seconds * 1_000
        seen = after
        rows = self._ledger.read(book.id, after + 1, min(after + limit, book.receipts))
        for number, n, _, outcome, _, at, _, _ in rows:
            if at > before:
                break
            seen = number
            if outcome in _ENDS and self._all_ended(n, self._books.timeline.wall_ms()):
                self._execute("UPDATE notifications SET body = NULL WHERE n = ?", (n,))
        return seen

    def _all_ended(self, n: int, wall_ms: int) -> bool:
        """Whether no queue needs the notification's body: each has ended it, and kept it for its own time since."""
        if self._deliveries.is_open_elsewhere(n):
            return False
        kept = self._execute(
            "SELECT 1 FROM receipts r JOIN queues q ON q.id = r.queue WHERE r.notification = ?"
            " AND r.outcome IN ('acked', 'superseded', 'expired', 'discarded')"
            " AND r.at > ? - 1000 * (q.settings ->> 'body_retention_seconds') LIMIT 1",
            (n, wall_ms),
        ).fetchone()
        return kept is None

    def _prune_receipts(self, book: QueueBook, after: int, limit: int) -> int:
        """Drop the oldest receipts past their time, from the ledger's beginning, up to the first still needed.

        Returns the number of the last one dropped.
        """
        before = self._books.timeline.wall_ms() - book.settings.receipt_retention_seconds * 1_000
        dropped = after
        rows = self._ledger.read(book.id, after + 1, min(after + limit, book.receipts))
        for number, n, seq, _, _, at, _, _ in rows:
            # The newest receipt stays, so that the ledger's end can always be seen; so does all that tells of a
            # delivery which has not ended.
            if (
                at > before
                or number == book.receipts
                or self._deliveries.find(book, seq) is not None
            ):
                break
            self._execute(
                "DELETE FROM receipts WHERE notification = ? AND queue = ? AND number = ?",
                (n, book.id, number),
            )
            dropped = number
            left = self._execute(
                "SELECT 1 FROM receipts WHERE notification = ? LIMIT 1", (n,)
            ).fetchone()
            if left is None:
                self._execute("DELETE FROM notifications WHERE n = ?", (n,))
        if dropped > after:
            self._execute("DELETE FROM shelves WHERE queue = ? AND number <= ?", (book.id, dropped))
        return dropped
