"""The hot operations on the file: append, lease, extend, settle. Each runs inside the committer's transaction.

An operation that refuses does so before it writes anything, so that its neighbours in the transaction stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw
import msgspec

from restante.errors import (
    DeadLetterNotFound,
    IdempotencyKeyReused,
    LeaseLost,
    RestanteError,
    StoreFull,
)
from restante.lifecycle import (
    decide_extend,
    decide_settle,
    entry_state,
)
from restante.model import (
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
from restante.stores.sqlite.books import Books, QueueBook
from restante.stores.sqlite.deliveries import Deliveries, Row
from restante.wire.client_signatures import check_subject
from restante.wire.receipts import Subject, decode_entry

_decode_attributes = msgspec.json.Decoder(dict[str, str]).decode
_encode = msgspec.json.Encoder().encode

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


class Writes:
    """The operations, over one connection and its books."""

    def __init__(
        self,
        connection: apsw.Connection,
        books: Books,
        deliveries: Deliveries,
        jitter: Callable[[], float],
    ) -> None:
        self._execute: Callable[..., Any] = connection.execute
        self._books = books
        self._deliveries = deliveries
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
        replaced = None
        if draft.replaces is not None:
            replaced = self._deliveries.find(books[0], draft.replaces)
            if replaced is None or replaced.standing.state is not State.DEAD:
                raise DeadLetterNotFound(
                    f"queue {books[0].name} has no dead letter {draft.replaces}"
                )
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
            state = self._deliver(book, draft, subject, wall, replaced)
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

    def _deliver(
        self, book: QueueBook, draft: Draft, subject: Subject, wall: int, replaced: Row | None
    ) -> State:
        now = self._books.timeline.now_ms()
        if draft.collapse_key:
            self._deliveries.supersede(book, draft.collapse_key)
        key = draft.ordering_key
        if replaced is not None and replaced.standing.parked:
            # In front of all that the dead letter held up, unless another holds them up as well.
            self._deliveries.unparked(book, replaced)
            held = bool(key) and self._deliveries.is_shut(book, key)
        else:
            held = bool(key) and self._deliveries.is_taken(book, key)
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
        if replaced is not None:
            self._deliveries.discard(book, replaced, draft.actor, f"replaced by {draft.id}")
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
                self._deliveries.bury_damaged(book, self._deliveries.row(book, seq))
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
        if out:
            again = len([one for one in out if one.attempt > 1])
            self._books.meter.leased((book.name, len(out), again))
        at_limit = len(out) == free
        return Leased(out, at_limit=at_limit, more=not at_limit and book.counts[State.READY] > 0)

    def extend(self, ref: LeaseRef, lease_seconds: float) -> Settled:
        book = self._books.queue(ref.queue)
        row = self._deliveries.row_of(book, ref)
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
        row = self._deliveries.row_of(book, ref)
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
        if asked.signature is not None:
            check_subject(asked.signature, row.subject)
        return self._deliveries.apply(
            book,
            row,
            decision,
            actor=asked.actor,
            reason=asked.reason,
            reply=asked.reply,
            reply_content_type=asked.reply_content_type,
            signature=asked.signature,
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
            if asked.signature is not None:
                check_subject(asked.signature, subject)
            row = self._deliveries.row_of(book, ref)
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
                signature=asked.signature,
            )
        raise LeaseLost("this lease is no longer the current one")

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
