"""One delivery that has not ended: reading it, writing what ``lifecycle`` decided of it, and what follows for others.

Everything that changes a delivery's state after it was published passes through ``apply``, except the hot UPDATE of a
lease and the promotion of what fell due.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import apsw
import msgspec

from restante.lifecycle import (
    ENDED,
    WAITING,
    Decision,
    Standing,
    check_transition,
    decide_lease_expired,
)
from restante.logs import get_logger
from restante.model import SYSTEM, Actor, LeaseRef, Outcome, Settled, Signature, State
from restante.stores.sqlite.books import Books, QueueBook
from restante.wire.receipts import Subject

_log = get_logger(__name__)
_decode_actor = msgspec.json.Decoder(Actor).decode

SELECT_ROW: Final = (
    "SELECT d.state, d.attempt, d.fence, d.forgiving, d.parked, d.ordering_key, d.overtaken, d.expires,"
    " d.due, d.leased_at, d.holder, n.n, n.id, n.published_at, n.body_sha256, n.body_bytes"
    " FROM deliveries d JOIN notifications n ON n.n = d.notification WHERE d.queue = ? AND d.seq = ?"
)


class Row:
    """One delivery that has not ended, read for a decision."""

    __slots__ = (
        "due",
        "expires",
        "holder",
        "leased_at",
        "ordering_key",
        "overtaken",
        "seq",
        "standing",
        "subject",
    )

    def __init__(self, seq: int, fields: tuple[Any, ...]) -> None:
        self.seq = seq
        self.standing = Standing(
            State(fields[0]), fields[1], fields[2], bool(fields[3]), bool(fields[4])
        )
        self.ordering_key: str | None = fields[5]
        self.overtaken = bool(fields[6])
        self.expires: int | None = fields[7]
        self.due: int | None = fields[8]
        self.leased_at: int | None = fields[9]
        self.holder: bytes | None = fields[10]
        self.subject = Subject(*fields[11:])


class Deliveries:
    """The deliveries of all queues, over one connection and its books."""

    def __init__(self, connection: apsw.Connection, books: Books) -> None:
        self._execute: Callable[..., Any] = connection.execute
        self._books = books

    def apply(
        self,
        book: QueueBook,
        row: Row,
        decision: Decision,
        *,
        actor: Actor,
        reason: str = "",
        reply: bytes | None = None,
        reply_content_type: str = "",
        signature: Signature | None = None,
    ) -> Settled:
        """Write a decision: the delivery's new state and the receipt, and what follows for its neighbours."""
        timeline = self._books.timeline
        before, after = row.standing.state, decision.state
        check_transition(decision.outcome, before, after)
        ready_before = book.counts[State.READY]
        if after in ENDED:
            self._execute("DELETE FROM deliveries WHERE queue = ? AND seq = ?", (book.id, row.seq))
        else:
            due = None
            if after is State.SCHEDULED:
                due = timeline.now_ms() + int(decision.delay_seconds * 1_000)
            self._execute(
                "UPDATE deliveries SET state = ?, due = ?, attempt = ?, forgiving = ?, parked = ?, dead_at = ?,"
                " reason = ? WHERE queue = ? AND seq = ?",
                (
                    after,
                    due,
                    decision.attempt,
                    decision.forgiving,
                    decision.parked,
                    timeline.wall_ms() if after is State.DEAD else None,
                    (reason or decision.outcome.value) if after is State.DEAD else None,
                    book.id,
                    row.seq,
                ),
            )
        self._books.move(book, before, after)
        number = self._books.write(
            book,
            row.subject,
            row.seq,
            decision.outcome,
            after,
            actor=actor,
            at_ms=timeline.wall_ms(),
            attempt=row.standing.attempt,
            fence=row.standing.fence,
            leased_at_ms=row.leased_at
            if before is State.LEASED or row.standing.forgiving
            else None,
            reason=reason,
            reply=reply,
            reply_content_type=reply_content_type,
            signature=signature,
        )
        if after in WAITING:
            self._check_waiting(book, row)
        on_its_way = after in (State.READY, State.SCHEDULED)
        if row.ordering_key is not None and not on_its_way and not decision.parked:
            self._open(book, row.ordering_key)
        return Settled(
            decision.outcome.value,
            after,
            number,
            ready=max(0, book.counts[State.READY] - ready_before),
            due_in_seconds=decision.delay_seconds if after is State.SCHEDULED else None,
        )

    def find(self, book: QueueBook, seq: int) -> Row | None:
        """The delivery, if it has not ended."""
        fields = self._execute(SELECT_ROW, (book.id, seq)).fetchone()
        return None if fields is None else Row(seq, fields)

    def row(self, book: QueueBook, seq: int) -> Row:
        """A delivery that is known not to have ended."""
        row = self.find(book, seq)
        if row is None:
            raise AssertionError(f"delivery {seq} of queue {book.name} is gone")
        return row

    def unpark(self, book: QueueBook) -> None:
        """The queue no longer parks: open every ordering key that a dead letter keeps shut."""
        keys = self._execute(
            "SELECT DISTINCT ordering_key FROM deliveries"
            " WHERE queue = ? AND ordering_key IS NOT NULL AND state = 4 AND parked",
            (book.id,),
        ).fetchall()
        for (ordering_key,) in keys:
            self.open_key(book, ordering_key)

    def open_key(self, book: QueueBook, ordering_key: str) -> None:
        """Open one ordering key that a dead letter keeps shut."""
        self._execute(
            "UPDATE deliveries SET parked = 0 WHERE queue = ? AND ordering_key = ? AND state = 4",
            (book.id, ordering_key),
        )
        self._open(book, ordering_key)

    def discard(self, book: QueueBook, row: Row, actor: Actor, reason: str) -> None:
        """End a dead letter, and forget its body unless another queue has yet to hand it out."""
        decision = Decision(Outcome.DISCARDED, State.DISCARDED, row.standing.attempt)
        self.apply(book, row, decision, actor=actor, reason=reason)
        if not self.is_open_elsewhere(row.subject.n):
            self._execute("UPDATE notifications SET body = NULL WHERE n = ?", (row.subject.n,))

    def is_open_elsewhere(self, n: int) -> bool:
        """Whether a delivery of the notification has not ended, in whatever queue."""
        found = self._execute(
            "SELECT 1 FROM receipts r JOIN deliveries d ON d.queue = r.queue AND d.seq = r.seq"
            " WHERE r.notification = ? AND r.outcome = 'published' LIMIT 1",
            (n,),
        ).fetchone()
        return found is not None

    def unparked(self, book: QueueBook, row: Row) -> None:
        """The dead letter no longer keeps its ordering key shut; nothing is let go by that yet."""
        row.standing.parked = False
        self._execute(
            "UPDATE deliveries SET parked = 0 WHERE queue = ? AND seq = ?", (book.id, row.seq)
        )

    def expire(self, book: QueueBook, row: Row) -> None:
        """End a waiting delivery that is past its expiry."""
        self._end(book, row, State.EXPIRED)

    def lease_expired(self, book: QueueBook, row: Row) -> None:
        """Take back a lease that ran out."""
        holder = _decode_actor(row.holder) if row.holder else SYSTEM
        decision = decide_lease_expired(row.standing, book.settings)
        self.apply(book, row, decision, actor=holder, reason="the lease ran out")

    def is_shut(self, book: QueueBook, ordering_key: str) -> bool:
        """Whether a delivery of the key is on its way, or parked: others of the key must wait."""
        found = self._execute(
            "SELECT 1 FROM deliveries WHERE queue = ? AND ordering_key = ?"
            " AND (state IN (0, 1, 3) OR (state = 4 AND parked)) LIMIT 1",
            (book.id, ordering_key),
        ).fetchone()
        return found is not None

    def is_behind(self, book: QueueBook, row: Row) -> bool:
        """Whether an earlier one of its key is held, which goes first even where this one alone kept the key shut."""
        found = self._execute(
            "SELECT 1 FROM deliveries WHERE queue = ? AND ordering_key = ? AND state = 2 AND seq < ? LIMIT 1",
            (book.id, row.ordering_key, row.seq),
        ).fetchone()
        return found is not None

    def is_taken(self, book: QueueBook, ordering_key: str) -> bool:
        """``is_shut``, for one that comes last: it waits behind those that are held too."""
        found = self._execute(
            "SELECT 1 FROM deliveries WHERE queue = ? AND ordering_key = ? AND (state <> 4 OR parked) LIMIT 1",
            (book.id, ordering_key),
        ).fetchone()
        return found is not None

    def _open(self, book: QueueBook, ordering_key: str) -> None:
        """Let the next held delivery of the key go, unless another of the key is on its way or parked."""
        if self.is_shut(book, ordering_key):
            return
        found = self._execute(
            "SELECT seq, due FROM deliveries WHERE queue = ? AND ordering_key = ? AND state = 2 ORDER BY seq LIMIT 1",
            (book.id, ordering_key),
        ).fetchone()
        if found is None:
            return
        seq, due = found
        waits = due is not None and due > self._books.timeline.now_ms()
        state = State.SCHEDULED if waits else State.READY
        self._execute(
            "UPDATE deliveries SET state = ? WHERE queue = ? AND seq = ?", (state, book.id, seq)
        )
        self._books.move(book, State.HELD, state)

    def supersede(self, book: QueueBook, collapse_key: str) -> None:
        """A newer state arrived: end those of the key that wait, and mark the leased, not to wait again."""
        older = self._execute(
            "SELECT seq, state FROM deliveries WHERE queue = ? AND collapse_key = ? AND state <= 3 ORDER BY seq DESC",
            (book.id, collapse_key),
        ).fetchall()
        for seq, state in older:
            if state == State.LEASED:
                self._execute(
                    "UPDATE deliveries SET overtaken = 1 WHERE queue = ? AND seq = ?",
                    (book.id, seq),
                )
            else:
                self._end(book, self.row(book, seq), State.SUPERSEDED)

    def _check_waiting(self, book: QueueBook, row: Row) -> None:
        """A delivery has come back: what happened while it was out may end it now."""
        if row.overtaken:
            self._end(book, self.row(book, row.seq), State.SUPERSEDED)
        elif row.expires is not None and row.expires <= self._books.timeline.now_ms():
            self._end(book, self.row(book, row.seq), State.EXPIRED)

    def _end(self, book: QueueBook, row: Row, state: State) -> None:
        decision = Decision(Outcome(state.label), state, row.standing.attempt)
        self.apply(book, row, decision, actor=SYSTEM)

    def bury_damaged(self, book: QueueBook, row: Row) -> None:
        """The body is not what was published: never hand it out; an operator has to see it."""
        _log.critical("store.body_damaged", queue=book.name, seq=row.seq, id=row.subject.id)
        decision = Decision(Outcome.REJECTED, State.DEAD, row.standing.attempt)
        self.apply(book, row, decision, actor=SYSTEM, reason="the stored body is damaged")

    def row_of(self, book: QueueBook, ref: LeaseRef) -> Row | None:
        fields = self._execute(SELECT_ROW, (book.id, ref.seq)).fetchone()
        return None if fields is None or fields[11] != ref.notification else Row(ref.seq, fields)
