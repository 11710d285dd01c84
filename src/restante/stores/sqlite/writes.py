"""The hot operations on the file: append, lease, extend, settle. Each runs inside the committer's transaction.

An operation that refuses does so before it writes anything, so that its neighbours in the transaction stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw
import msgspec
import structlog

from restante.errors import (
    IdempotencyKeyReused,
    LeaseLost,
    RestanteError,
    StoreFull,
)
from restante.lifecycle import (
    ENDED,
    WAITING,
    Decision,
    Standing,
    check_transition,
    decide_extend,
    decide_lease_expired,
    decide_settle,
    entry_state,
)
from restante.model import (
    SYSTEM,
    Actor,
    Appended,
    Delivery,
    Draft,
    Leased,
    LeaseRef,
    LeaseRequest,
    Outcome,
    Place,
    Settled,
    Settlement,
    State,
    Verb,
)
from restante.stores.sqlite.books import Books, QueueBook, Subject
from restante.wire.receipts import decode_entry

_log = structlog.get_logger(__name__)
_decode_attributes = msgspec.json.Decoder(dict[str, str]).decode
_encode = msgspec.json.Encoder().encode
_decode_actor = msgspec.json.Decoder(Actor).decode

_VERB_OUTCOME: Final = {
    Verb.ACK: Outcome.ACKED,
    Verb.NACK: Outcome.NACKED,
    Verb.REJECT: Outcome.REJECTED,
    Verb.RELEASE: Outcome.RELEASED,
}

SELECT_READY: Final = (
    "SELECT d.seq, d.attempt, d.fence, d.ordering_key, n.n, n.id, n.topic, n.content_type,"
    " n.attributes, n.published_at, n.body_sha256, n.body_bytes, n.body"
    " FROM deliveries d JOIN notifications n ON n.n = d.notification"
    " WHERE d.queue = ? AND d.state = 1 AND (d.expires IS NULL OR d.expires > ?) ORDER BY d.seq LIMIT ?"
)
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


class Writes:
    """The operations, over one connection and its books."""

    def __init__(
        self, connection: apsw.Connection, books: Books, jitter: Callable[[], float]
    ) -> None:
        self._execute: Callable[..., Any] = connection.execute
        self._books = books
        self._jitter = jitter

    # -- append ---------------------------------------------------------------------------------

    def append(self, drafts: Sequence[Draft]) -> list[Appended | RestanteError]:
        results: list[Appended | RestanteError] = []
        for draft in drafts:
            try:
                results.append(self._append(draft))
            except RestanteError as error:
                results.append(error)
        return results

    def _append(self, draft: Draft) -> Appended:
        earlier = self._earlier(draft)
        if earlier is not None:
            return earlier
        books = [self._books.queue(name) for name in draft.queues]
        if not self._books.has_room():
            raise StoreFull("the disk is nearly full: publishing waits, collecting goes on")
        wall = self._books.timeline.wall_ms()
        self._execute(
            "INSERT INTO notifications (id, topic, content_type, attributes, published_at, publisher, body_sha256,"
            " body_bytes, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                draft.id,
                draft.topic,
                draft.content_type,
                _encode(draft.attributes) if draft.attributes else None,
                wall,
                draft.actor.name,
                draft.body_sha256,
                len(draft.body),
                draft.body if books else None,  # nobody will ever ask for it
            ),
        )
        n = self._books.connection.last_insert_rowid()
        if draft.idempotency is not None:
            key = draft.idempotency
            self._execute(
                # An older row whose notification has been pruned may still be there.
                "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?)",
                (key.publisher, key.key, key.fingerprint, n, self._books.timeline.now_ms()),
            )
        subject = Subject(n, draft.id, wall, draft.body_sha256, len(draft.body))
        places: list[Place] = []
        ready: dict[str, int] = {}
        for book in books:
            before = book.counts[State.READY]
            state = self._deliver(book, draft, subject, wall)
            places.append(Place(book.name, book.seq))
            # What a superseded one held back is ready now, too.
            count = max(book.counts[State.READY] - before, int(state is State.READY))
            if count:
                ready[book.name] = count
        return Appended(draft.id, places, ready)

    def _earlier(self, draft: Draft) -> Appended | None:
        """What the draft's idempotency key made before, if it did."""
        key = draft.idempotency
        if key is None:
            return None
        row = self._execute(
            "SELECT i.fingerprint, n.n, n.id FROM idempotency i JOIN notifications n ON n.n = i.notification"
            " WHERE i.publisher = ? AND i.key = ?",
            (key.publisher, key.key),
        ).fetchone()
        if row is None:
            return None
        if row[0] != key.fingerprint:
            raise IdempotencyKeyReused("this idempotency key was used for another request")
        places = self._execute(
            "SELECT q.name, r.seq FROM receipts r JOIN queues q ON q.id = r.queue"
            " WHERE r.notification = ? AND r.outcome = 'published' ORDER BY q.name",
            (row[1],),
        )
        return Appended(row[2], [Place(*place) for place in places], replayed=True)

    def _deliver(self, book: QueueBook, draft: Draft, subject: Subject, wall: int) -> State:
        now = self._books.timeline.now_ms()
        if draft.collapse_key:
            self._supersede(book, draft.collapse_key)
        held = bool(draft.ordering_key) and self._is_shut(book, draft.ordering_key)
        delay = draft.deliver_after_seconds
        state = entry_state(delay_seconds=delay, held=held)
        book.seq += 1
        expires = draft.expires_after_seconds
        self._execute(
            "INSERT INTO deliveries (queue, seq, notification, state, due, ordering_key, collapse_key, expires)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                book.id,
                book.seq,
                subject.n,
                state,
                now + int(delay * 1_000) if delay else None,
                draft.ordering_key or None,
                draft.collapse_key or None,
                None if expires is None else now + int(expires * 1_000),
            ),
        )
        self._books.move(book, None, state)
        self._books.write(
            book, subject, book.seq, Outcome.PUBLISHED, state, actor=draft.actor, at_ms=wall
        )
        return state

    # -- lease ----------------------------------------------------------------------------------

    def lease(self, request: LeaseRequest) -> Leased:
        book = self._books.queue(request.queue)
        free = book.settings.max_in_flight - book.counts[State.LEASED]
        wanted = min(request.max, free)
        # Most looks find nothing: the tally knows that without asking the file.
        if not book.counts[State.READY] or wanted <= 0:
            return Leased([], at_limit=free <= 0)
        timeline = self._books.timeline
        now, wall = timeline.now_ms(), timeline.wall_ms()
        lease_ms = int(request.lease_seconds * 1_000)
        holder = _encode(request.actor)
        out: list[Delivery] = []
        room = request.max_bytes
        rows: list[tuple[Any, ...]] = []
        for row in self._execute(SELECT_READY, (book.id, now, wanted)):
            if rows and row[11] > room:
                break
            room -= row[11]
            rows.append(row)
        for (
            seq,
            attempt,
            fence,
            ordering_key,
            n,
            id,
            topic,
            content_type,
            attributes,
            published_at,
            digest,
            _,
            body,
        ) in rows:
            if body is None or hashlib.sha256(body).digest() != digest:
                self._bury_damaged(book, self.row(book, seq))
                continue
            self._execute(
                "UPDATE deliveries SET state = 3, due = ?, attempt = ?, fence = ?, forgiving = 0, leased_at = ?,"
                " holder = ? WHERE queue = ? AND seq = ?",
                (now + lease_ms, attempt + 1, fence + 1, wall, holder, book.id, seq),
            )
            self._books.move(book, State.READY, State.LEASED)
            out.append(
                Delivery(
                    id=id,
                    ref=LeaseRef(book.name, seq, fence + 1, n),
                    attempt=attempt + 1,
                    topic=topic,
                    content_type=content_type,
                    body=body,
                    attributes=_decode_attributes(attributes) if attributes else {},
                    ordering_key=ordering_key or "",
                    published_at_ms=published_at,
                    lease_until_ms=wall + lease_ms,
                )
            )
        if rows and not out:
            # Damaged, every one of them, and buried now: look at what is behind them.
            return self.lease(request)
        return Leased(out, at_limit=len(out) == free)

    def extend(self, ref: LeaseRef, lease_seconds: float) -> Settled:
        book = self._books.queue(ref.queue)
        row = self._row_of(book, ref)
        if row is None:
            raise LeaseLost("the delivery has been settled")
        decide_extend(row.standing, ref.fence)
        timeline = self._books.timeline
        self._execute(
            "UPDATE deliveries SET due = ? WHERE queue = ? AND seq = ?",
            (timeline.now_ms() + int(lease_seconds * 1_000), book.id, ref.seq),
        )
        until = timeline.wall_ms() + int(lease_seconds * 1_000)
        return Settled("extended", State.LEASED, lease_until_ms=until)

    # -- settle ---------------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled | RestanteError]:
        results: list[Settled | RestanteError] = []
        for settlement in settlements:
            try:
                results.append(self._settle(settlement))
            except RestanteError as error:
                results.append(error)
        return results

    def _settle(self, asked: Settlement) -> Settled:
        ref = asked.ref
        book = self._books.queue(ref.queue)
        row = self._row_of(book, ref)
        try:
            if row is None:
                raise LeaseLost("the delivery has been settled")
            decision = decide_settle(
                row.standing,
                ref.fence,
                asked.verb,
                book.settings,
                retry_after_seconds=asked.retry_after_seconds,
                jitter=self._jitter(),
            )
        except LeaseLost:
            return self._repeat(book, asked)
        return self.apply(
            book,
            row,
            decision,
            actor=asked.actor,
            reason=asked.reason,
            reply=asked.reply,
            reply_content_type=asked.reply_content_type,
        )

    def _repeat(self, book: QueueBook, asked: Settlement) -> Settled:
        """Answer a repeated settle as the first; else record a late ack as evidence, once, and raise ``LeaseLost``."""
        ref = asked.ref
        wanted = _VERB_OUTCOME[asked.verb].value
        recorded = False
        for number, outcome, entry in self._execute(
            "SELECT number, outcome, entry FROM receipts"
            " WHERE notification = ? AND queue = ? AND seq = ? AND fence = ? AND outcome IN (?, 'late_ack')",
            (ref.notification, book.id, ref.seq, ref.fence, wanted),
        ):
            if outcome == wanted:
                state = State[decode_entry(entry).state.upper()]
                return Settled(outcome, state, number, repeated=True)
            recorded = True
        subject = self._subject(ref.notification)
        if asked.verb is Verb.ACK and not recorded and subject is not None:
            row = self._row_of(book, ref)
            self._books.write(
                book,
                subject,
                ref.seq,
                Outcome.LATE_ACK,
                row.standing.state if row is not None else self._end_state(book, ref),
                actor=asked.actor,
                at_ms=self._books.timeline.wall_ms(),
                fence=ref.fence,
                reply=asked.reply,
                reply_content_type=asked.reply_content_type,
            )
        raise LeaseLost("this lease is no longer the current one")

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

    # -- neighbours -----------------------------------------------------------------------------

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
            self._execute(
                "UPDATE deliveries SET parked = 0 WHERE queue = ? AND ordering_key = ? AND state = 4",
                (book.id, ordering_key),
            )
            self._open(book, ordering_key)

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

    def _is_shut(self, book: QueueBook, ordering_key: str) -> bool:
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

    def _supersede(self, book: QueueBook, collapse_key: str) -> None:
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

    def _bury_damaged(self, book: QueueBook, row: Row) -> None:
        """The body is not what was published: never hand it out; an operator has to see it."""
        _log.critical("store.body_damaged", queue=book.name, seq=row.seq, id=row.subject.id)
        decision = Decision(Outcome.REJECTED, State.DEAD, row.standing.attempt)
        self.apply(book, row, decision, actor=SYSTEM, reason="the stored body is damaged")

    def _row_of(self, book: QueueBook, ref: LeaseRef) -> Row | None:
        fields = self._execute(SELECT_ROW, (book.id, ref.seq)).fetchone()
        return None if fields is None or fields[11] != ref.notification else Row(ref.seq, fields)

    def _subject(self, n: int) -> Subject | None:
        found = self._execute(
            "SELECT n, id, published_at, body_sha256, body_bytes FROM notifications WHERE n = ?",
            (n,),
        ).fetchone()
        return None if found is None else Subject(*found)

    def _end_state(self, book: QueueBook, ref: LeaseRef) -> State:
        found = self._execute(
            "SELECT entry FROM receipts WHERE notification = ? AND queue = ? AND seq = ? AND outcome <> 'late_ack'"
            " ORDER BY r DESC LIMIT 1",
            (ref.notification, book.id, ref.seq),
        ).fetchone()
        return State.ACKED if found is None else State[decode_entry(found[0]).state.upper()]
