"""Deliveries that have not ended, as one transaction knows them, and keeping what ``lifecycle`` decides of them.

Everything is done in memory, under the locks on the queues' tallies; ``unit.py`` reads beforehand what may be needed
and writes afterwards what has changed, each in as few statements as there are tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from restante.lifecycle import (
    ENDED,
    WAITING,
    Decision,
    Standing,
    check_transition,
    decide_lease_expired,
)
from restante.model import SYSTEM, Actor, LeaseRef, Outcome, Settled, Signature, State
from restante.stores.postgresql.books import Pen, QueueBook
from restante.stores.postgresql.clocks import Reading
from restante.wire.receipts import Subject

_decode_actor = msgspec.json.Decoder(Actor).decode

COLUMNS: Final = (
    "d.queue, d.seq, d.notification, d.published_at, d.body_bytes, d.state, d.due, d.attempt, d.fence, d.forgiving,"
    " d.parked, d.overtaken, d.ordering_key, d.collapse_key, d.expires, d.leased_at, d.holder, d.dead_at, d.reason,"
    " d.consumer"
)
WIDTH: Final = 20
"""How many columns these are."""
_ON_ITS_WAY: Final = (State.SCHEDULED, State.READY, State.LEASED)


class Content(msgspec.Struct, frozen=True, gc=False):
    """What is handed out. ``body`` is None where it is gone."""

    topic: str
    content_type: str
    attributes: dict[str, str]
    body: bytes | None


class Row:
    """One delivery. ``was`` and ``was_due`` are the fence and time that the table has of it: None for a new one."""

    __slots__ = (
        "body_bytes",
        "book",
        "changed",
        "collapse_key",
        "consumer",
        "content",
        "dead_at",
        "due",
        "expires",
        "holder",
        "leased_at",
        "n",
        "ordering_key",
        "overtaken",
        "published_at",
        "reason",
        "seq",
        "standing",
        "subject",
        "was",
        "was_due",
    )

    def __init__(
        self, book: QueueBook, seq: int, n: int, published_at: int, body_bytes: int
    ) -> None:
        self.book = book
        self.seq = seq
        self.n = n
        self.published_at = published_at
        self.body_bytes = body_bytes
        self.standing = Standing(State.READY)
        self.due: int | None = None
        self.overtaken = False
        self.ordering_key: str | None = None
        self.collapse_key: str | None = None
        self.expires: int | None = None
        self.leased_at: int | None = None
        self.consumer: str | None = None
        self.holder: bytes | None = None
        self.dead_at: int | None = None
        self.reason: str | None = None
        self.subject: Subject | None = None
        self.content: Content | None = None
        self.was: int | None = None
        self.was_due: int | None = None
        self.changed = False

    @classmethod
    def read(cls, book: QueueBook, fields: Any) -> Row:
        """A row of the table, its columns being ``COLUMNS``."""
        row = cls(book, fields[1], fields[2], fields[3], fields[4])
        row.standing = Standing(State(fields[5]), fields[7], fields[8], fields[9], fields[10])
        row.due = fields[6]
        row.overtaken = fields[11]
        row.ordering_key = fields[12]
        row.collapse_key = fields[13]
        row.expires = fields[14]
        row.leased_at = fields[15]
        row.holder = fields[16]
        row.dead_at = fields[17]
        row.reason = None if fields[18] is None else fields[18].decode()
        row.consumer = fields[19]
        row.was, row.was_due = fields[8], fields[6]
        return row

    @property
    def gone(self) -> bool:
        return self.standing.state in ENDED


class Rows:
    """The rows that one transaction has read or made."""

    def __init__(self, reading: Reading, pen: Pen) -> None:
        self._reading = reading
        self._pen = pen
        self.by_place: dict[tuple[int, int], Row] = {}
        self._ordered: dict[tuple[int, str], dict[int, Row]] = {}
        self._collapsing: dict[tuple[int, str], dict[int, Row]] = {}
        self.came_back: dict[int, int] = {}
        """Queues of which one became ready whose content is not at hand: the next transaction can hand it out."""

    def add(self, row: Row) -> Row:
        """Know of a row; the one known already, if it is."""
        known = self.by_place.setdefault((row.book.id, row.seq), row)
        if known is row:
            if row.ordering_key is not None:
                self._ordered.setdefault((row.book.id, row.ordering_key), {})[row.seq] = row
            if row.collapse_key is not None:
                self._collapsing.setdefault((row.book.id, row.collapse_key), {})[row.seq] = row
        return known

    def find(self, book: QueueBook, seq: int) -> Row | None:
        row = self.by_place.get((book.id, seq))
        return None if row is None or row.gone else row

    def row_of(self, book: QueueBook, ref: LeaseRef) -> Row | None:
        """The row that a lease token names."""
        row = self.find(book, ref.seq)
        return None if row is None or row.n != ref.notification else row

    # -- decisions ------------------------------------------------------------------------------

    def apply(
        self,
        row: Row,
        decision: Decision,
        *,
        actor: Actor,
        reason: str = "",
        reply: bytes | None = None,
        reply_content_type: str = "",
        signature: Signature | None = None,
    ) -> Settled:
        """Keep a decision with its receipt, and see to what follows for its neighbours."""
        book, standing = row.book, row.standing
        before, after = standing.state, decision.state
        check_transition(decision.outcome, before, after)
        ready_before, full = book.counts[State.READY], is_full(book)
        leased = before is State.LEASED or standing.forgiving
        number = self._pen.write(
            book,
            subject_of(row),
            row.seq,
            decision.outcome,
            after,
            actor=actor,
            at_ms=self._reading.wall_ms,
            attempt=standing.attempt,
            fence=standing.fence,
            leased_at_ms=row.leased_at if leased else None,
            reason=reason,
            reply=reply,
            reply_content_type=reply_content_type,
            signature=signature,
        )
        row.changed = True
        standing.state = after
        standing.attempt = decision.attempt
        standing.forgiving = decision.forgiving
        standing.parked = decision.parked
        row.due = None
        row.dead_at, row.reason = None, None
        if after is State.SCHEDULED:
            row.due = self._reading.now_ms + int(decision.delay_seconds * 1_000)
        elif after is State.DEAD:
            row.dead_at = self._reading.wall_ms
            row.reason = reason or decision.outcome.value
        book.move(before, after)
        if after in WAITING:
            self._check_waiting(row)
        self._note(row)
        on_its_way = after in (State.READY, State.SCHEDULED)
        if row.ordering_key is not None and not on_its_way and not decision.parked:
            self.open(book, row.ordering_key)
        ready = max(0, book.counts[State.READY] - ready_before)
        if full and not ready and not is_full(book) and book.counts[State.READY]:
            ready = 1  # flow control lets one go that was ready before
        return Settled(
            decision.outcome.value,
            after,
            number,
            ready=ready,
            due_in_seconds=decision.delay_seconds if after is State.SCHEDULED else None,
        )

    def lease_expired(self, row: Row) -> None:
        """Take back a lease that ran out."""
        holder = _decode_actor(row.holder) if row.holder else SYSTEM
        decision = decide_lease_expired(row.standing, row.book.settings)
        self.apply(row, decision, actor=holder, reason="the lease ran out")

    def bury_damaged(self, row: Row) -> None:
        """The body is not what was published: never hand it out; an operator has to see it."""
        decision = Decision(Outcome.REJECTED, State.DEAD, row.standing.attempt)
        self.apply(row, decision, actor=SYSTEM, reason="the stored body is damaged")

    def end(self, row: Row, state: State) -> None:
        """End a waiting delivery that was superseded, or is past its expiry."""
        decision = Decision(Outcome(state.label), state, row.standing.attempt)
        self.apply(row, decision, actor=SYSTEM)

    def let_go(self, row: Row, state: State) -> None:
        """A scheduled or held delivery becomes ``state``, which no receipt tells of."""
        row.book.move(row.standing.state, state)
        row.standing.state = state
        row.changed = True
        if state is State.READY:
            row.due = None
        self._note(row)

    def _note(self, row: Row) -> None:
        if row.standing.state is State.READY and row.content is None:
            earliest = self.came_back.get(row.book.id, row.seq)
            self.came_back[row.book.id] = min(earliest, row.seq)

    # -- neighbours -----------------------------------------------------------------------------

    def is_shut(self, book: QueueBook, ordering_key: str) -> bool:
        """Whether a delivery of the key is on its way, or parked: others of the key must wait."""
        return any(
            row.standing.parked or row.standing.state in _ON_ITS_WAY
            for row in self._of_key(book, ordering_key)
        )

    def is_taken(self, book: QueueBook, ordering_key: str) -> bool:
        """``is_shut``, for one that comes last: it waits behind those that are held too."""
        return any(
            row.standing.parked or row.standing.state is not State.DEAD
            for row in self._of_key(book, ordering_key)
        )

    def is_behind(self, row: Row) -> bool:
        """Whether an earlier one of its key is held, which goes first even where this one alone kept the key shut."""
        return row.ordering_key is not None and any(
            other.seq < row.seq and other.standing.state is State.HELD
            for other in self._of_key(row.book, row.ordering_key)
        )

    def open(self, book: QueueBook, ordering_key: str) -> None:
        """Let the next held delivery of the key go, unless another of the key is on its way or parked."""
        if self.is_shut(book, ordering_key):
            return
        held = [r for r in self._of_key(book, ordering_key) if r.standing.state is State.HELD]
        if held:
            first = min(held, key=lambda row: row.seq)
            waits = first.due is not None and first.due > self._reading.now_ms
            self.let_go(first, State.SCHEDULED if waits else State.READY)

    def supersede(self, book: QueueBook, collapse_key: str) -> None:
        """A newer state arrived. From the newest down, or one that ends would let the next go meanwhile."""
        older = self._collapsing.get((book.id, collapse_key), {})
        for seq in sorted(older, reverse=True):
            row = older[seq]
            if row.standing.state is State.LEASED:
                row.overtaken = True
                row.changed = True
            elif row.standing.state in WAITING:
                self.end(row, State.SUPERSEDED)

    def _of_key(self, book: QueueBook, ordering_key: str) -> Iterable[Row]:
        rows = self._ordered.get((book.id, ordering_key), {})
        return [row for row in rows.values() if not row.gone]

    def _check_waiting(self, row: Row) -> None:
        """It has come back: what happened while it was out may end it now."""
        if row.overtaken:
            self.end(row, State.SUPERSEDED)
        elif row.expires is not None and row.expires <= self._reading.now_ms:
            self.end(row, State.EXPIRED)


def is_full(book: QueueBook) -> bool:
    """Whether flow control forbids another lease."""
    return book.counts[State.LEASED] >= book.settings.max_in_flight


def subject_of(row: Row) -> Subject:
    """What receipts say of the row's notification, which must have been read."""
    if row.subject is None:
        raise AssertionError(f"notification {row.n} of queue {row.book.name} was not read")
    return row.subject
