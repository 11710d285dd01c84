"""The way of a delivery through memory: append, lease, extend, settle, and what time and operators do to it.

``lifecycle.py`` decides; here its decisions are kept, with their receipts.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

from restante.errors import DeadLetterNotFound, IdempotencyKeyReused, LeaseLost, RestanteError
from restante.lifecycle import (
    ENDED,
    WAITING,
    Decision,
    Standing,
    check_transition,
    decide_extend,
    decide_lease_expired,
    decide_redrive,
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
    Selection,
    Settled,
    Settlement,
    Signature,
    State,
    Verb,
)
from restante.stores.memory.tables import Entry, Notification, Row, Table, Tables
from restante.wire.client_signatures import check_subject

A = TypeVar("A")
T = TypeVar("T")

_Pending = tuple[int, int, int, Table, Row]
"""The time, the queue and the ``seq`` by which to sort, and what it is about."""

_OUTCOMES = {
    Verb.ACK: Outcome.ACKED,
    Verb.NACK: Outcome.NACKED,
    Verb.REJECT: Outcome.REJECTED,
    Verb.RELEASE: Outcome.RELEASED,
}


def selected(
    table: Table, selection: Selection, after: int = 0, scanned: int | None = None
) -> list[Row]:
    """The dead letters an operator means, by ``seq``: of the first ``scanned`` beyond ``after``."""
    dead = (
        row for row in table.rows.values() if row.standing.state is State.DEAD and row.seq > after
    )
    return [
        row
        for row in itertools.islice(dead, scanned)
        if (selection.seqs is None or row.seq in selection.seqs)
        and (selection.reason is None or row.reason == selection.reason)
        and (selection.topic is None or row.notification.topic == selection.topic)
        and (selection.since_ms is None or row.dead_at_wall_ms >= selection.since_ms)
        and (selection.until_ms is None or row.dead_at_wall_ms < selection.until_ms)
    ]


class Deliveries:
    """The operations, over the tables. One that refuses has changed nothing."""

    def __init__(self, tables: Tables, jitter: Callable[[], float]) -> None:
        self._tables = tables
        self._timeline = tables.timeline
        self._jitter = jitter

    # -- append ---------------------------------------------------------------------------------

    def append(self, drafts: Sequence[Draft]) -> list[Appended | RestanteError]:
        return [_or_error(self._append, draft) for draft in drafts]

    def _append(self, draft: Draft) -> Appended:
        key = None
        if draft.idempotency is not None:
            key = (draft.idempotency.publisher, draft.idempotency.key)
            if key in self._tables.idempotency:
                return self._earlier(draft, key)
        tables = [self._tables.queue(name) for name in draft.queues]
        replaced = None
        if draft.replaces is not None:
            replaced = _dead(tables[0], draft.replaces)
        self._tables.last_number += 1
        notification = Notification(
            n=self._tables.last_number,
            id=draft.id,
            topic=draft.topic,
            content_type=draft.content_type,
            attributes=draft.attributes,
            published_at_ms=self._timeline.wall_ms(),
            publisher=draft.actor.name,
            body_sha256=draft.body_sha256,
            body_bytes=len(draft.body),
            body=bytes(draft.body) if tables else None,
            places=[],
        )
        self._tables.notifications[draft.id] = notification
        self._tables.by_number[notification.n] = notification
        if key is not None and draft.idempotency is not None:
            kept = (draft.idempotency.fingerprint, notification, self._timeline.now_ms())
            self._tables.idempotency[key] = kept
        ready: dict[str, int] = {}
        for table in tables:
            before = table.counts[State.READY]
            state = self._deliver(table, draft, notification, replaced)
            # What a superseded one held back is ready now, too.
            count = max(table.counts[State.READY] - before, int(state is State.READY))
            if count:
                ready[table.queue.name] = count
        return Appended(draft.id, [Place(*place) for place in notification.places], ready)

    def _earlier(self, draft: Draft, key: tuple[str, str]) -> Appended:
        """What the draft's idempotency key made before."""
        fingerprint, notification, _ = self._tables.idempotency[key]
        if draft.idempotency is not None and draft.idempotency.fingerprint != fingerprint:
            raise IdempotencyKeyReused("this idempotency key was used for another request")
        places = [
            Place(name, seq)
            for name, seq in sorted(notification.places)
            if self._tables.queue(name).is_told_from_start(seq)
        ]
        return Appended(notification.id, places, replayed=True)

    def _deliver(
        self, table: Table, draft: Draft, notification: Notification, replaced: Row | None
    ) -> State:
        if draft.collapse_key:
            self._supersede(table, draft.collapse_key)
        ordered = table.ordered(draft.ordering_key) if draft.ordering_key else []
        if replaced is not None and replaced.standing.parked:
            # In front of all that the dead letter held up, unless another holds them up as well.
            replaced.standing.parked = False
            held = _is_shut(ordered)
        else:
            # Behind all of its key that wait or are out, and behind a dead letter that keeps the key shut.
            held = any(
                row.standing.state is not State.DEAD or row.standing.parked for row in ordered
            )
        delay, expires = draft.deliver_after_seconds, draft.expires_after_seconds
        now = self._timeline.now_ms()
        table.seq += 1
        row = Row(
            seq=table.seq,
            notification=notification,
            standing=Standing(entry_state(delay_seconds=delay, held=held)),
            ordering_key=draft.ordering_key,
            collapse_key=draft.collapse_key,
            due_ms=now + int(delay * 1_000) if delay else None,
            expires_ms=None if expires is None else now + int(expires * 1_000),
        )
        state = row.standing.state
        table.insert(row)
        table.counts[state] += 1
        notification.places.append((table.queue.name, row.seq))
        self._tables.write(table, row, Outcome.PUBLISHED, state, actor=draft.actor)
        if replaced is not None:
            self._discard(table, replaced, draft.actor, f"replaced by {draft.id}")
        return state

    # -- lease ----------------------------------------------------------------------------------

    def lease(self, request: LeaseRequest) -> Leased:
        table = self._tables.queue(request.queue)
        free = table.queue.settings.max_in_flight - table.counts[State.LEASED]
        if free <= 0:
            return Leased([], at_limit=True)
        out: list[Delivery] = []
        while not out:
            rows = self._next_ready(table, min(request.max, free), request.max_bytes)
            if not rows:
                break
            for row in rows:
                body = row.notification.body
                if body is None or hashlib.sha256(body).digest() != row.notification.body_sha256:
                    self._bury_damaged(table, row)
                else:
                    out.append(self._hand_out(table, row, body, request))
        if out:
            again = len([one for one in out if one.attempt > 1])
            self._tables.meter.leased((request.queue, len(out), again))
        at_limit = len(out) == free
        return Leased(out, at_limit=at_limit, more=not at_limit and table.counts[State.READY] > 0)

    def _next_ready(self, table: Table, count: int, room: int) -> list[Row]:
        now = self._timeline.now_ms()
        rows: list[Row] = []
        if table.counts[State.READY]:
            for row in table.rows.values():
                expired = row.expires_ms is not None and row.expires_ms <= now
                if row.standing.state is not State.READY or expired:
                    continue
                if len(rows) == count or (rows and row.notification.body_bytes > room):
                    break
                room -= row.notification.body_bytes
                rows.append(row)
        return rows

    def _hand_out(self, table: Table, row: Row, body: bytes, request: LeaseRequest) -> Delivery:
        wall, lease_ms = self._timeline.wall_ms(), int(request.lease_seconds * 1_000)
        table.move(row, State.LEASED)
        standing = row.standing
        standing.attempt += 1
        standing.fence += 1
        standing.forgiving = False
        row.due_ms = self._timeline.now_ms() + lease_ms
        row.leased_at_wall_ms = wall
        row.holder = request.actor
        return delivery(table, row, body, wall + lease_ms)

    def extend(self, ref: LeaseRef, lease_seconds: float) -> Settled:
        row = self._row_of(self._tables.queue(ref.queue), ref)
        if row is None:
            raise LeaseLost("the delivery has been settled")
        decide_extend(row.standing, ref.fence)
        lease_ms = int(lease_seconds * 1_000)
        row.due_ms = self._timeline.now_ms() + lease_ms
        until = self._timeline.wall_ms() + lease_ms
        return Settled("extended", State.LEASED, lease_until_ms=until)

    # -- settle ---------------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[Settled | RestanteError]:
        return [_or_error(self._settle, asked) for asked in settlements]

    def _settle(self, asked: Settlement) -> Settled:
        table = self._tables.queue(asked.ref.queue)
        row = self._row_of(table, asked.ref)
        try:
            if row is None:
                raise LeaseLost("the delivery has been settled")
            decision = decide_settle(
                row.standing,
                asked.ref.fence,
                asked.verb,
                table.queue.settings,
                retry_after_seconds=asked.retry_after_seconds,
                jitter=self._jitter(),
            )
        except LeaseLost:
            return self._repeated(table, asked)
        if asked.signature is not None:
            check_subject(asked.signature, row.notification.subject)
        return self._apply(
            table,
            row,
            decision,
            actor=asked.actor,
            reason=asked.reason,
            reply=asked.reply,
            reply_content_type=asked.reply_content_type,
            signature=asked.signature,
        )

    def _repeated(self, table: Table, asked: Settlement) -> Settled:
        """Answer as the first did; else keep a late ack as evidence, once, and raise ``LeaseLost``."""
        ref, wanted = asked.ref, _OUTCOMES[asked.verb]
        told = [e for e in table.history.get(ref.seq, ()) if e.notification.n == ref.notification]
        of_lease = [entry for entry in told if entry.fence == ref.fence]
        for entry in of_lease:
            if entry.outcome is wanted:
                return Settled(wanted.value, entry.state, entry.stored.number, repeated=True)
        evident = any(entry.outcome is Outcome.LATE_ACK for entry in of_lease)
        notification = self._tables.by_number.get(ref.notification)
        if asked.verb is Verb.ACK and notification is not None and not evident:
            if asked.signature is not None:
                check_subject(asked.signature, notification.subject)
            self._keep_evidence(table, notification, told, asked)
        raise LeaseLost("this lease is no longer the current one")

    def _keep_evidence(
        self, table: Table, notification: Notification, told: list[Entry], asked: Settlement
    ) -> None:
        row = self._row_of(table, asked.ref)
        events = [entry.state for entry in told if entry.outcome is not Outcome.LATE_ACK]
        # Where its receipts have been pruned, it was acked as far as anybody knows.
        state = row.standing.state if row is not None else [State.ACKED, *events][-1]
        evidence = Row(
            seq=asked.ref.seq,
            notification=notification,
            standing=Standing(state, fence=asked.ref.fence),
            ordering_key="",
            collapse_key="",
            due_ms=None,
            expires_ms=None,
        )
        self._tables.write(
            table,
            evidence,
            Outcome.LATE_ACK,
            state,
            actor=asked.actor,
            reply=asked.reply,
            reply_content_type=asked.reply_content_type,
            signature=asked.signature,
        )

    def _apply(
        self,
        table: Table,
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
        state, ready_before = decision.state, table.counts[State.READY]
        check_transition(decision.outcome, row.standing.state, state)
        number = self._tables.write(
            table,
            row,
            decision.outcome,
            state,
            actor=actor,
            reason=reason,
            reply=reply,
            reply_content_type=reply_content_type,
            signature=signature,
        )
        table.move(row, state)
        row.standing.attempt = decision.attempt
        row.standing.forgiving = decision.forgiving
        row.standing.parked = decision.parked
        row.due_ms = None
        if state is State.SCHEDULED:
            row.due_ms = self._timeline.now_ms() + int(decision.delay_seconds * 1_000)
        elif state is State.DEAD:
            row.dead_at_wall_ms = self._timeline.wall_ms()
            row.reason = reason or decision.outcome.value
        if state in ENDED:
            table.delete(row)
        if state in WAITING:
            self._check_waiting(table, row)
        if row.ordering_key:
            self._open(table, row.ordering_key)
        return Settled(
            decision.outcome.value,
            state,
            number,
            ready=max(0, table.counts[State.READY] - ready_before),
            due_in_seconds=decision.delay_seconds if state is State.SCHEDULED else None,
        )

    # -- neighbours -----------------------------------------------------------------------------

    def unpark(self, table: Table) -> None:
        """The queue no longer parks: open every ordering key that a dead letter keeps shut."""
        self._let_go(table, [row for row in table.rows.values() if row.standing.parked])

    def open_key(self, table: Table, ordering_key: str) -> None:
        """Open one ordering key that a dead letter keeps shut."""
        self._let_go(table, [row for row in table.ordered(ordering_key) if row.standing.parked])

    def _let_go(self, table: Table, parked: Sequence[Row]) -> None:
        for row in parked:
            row.standing.parked = False
        for row in parked:
            self._open(table, row.ordering_key)

    def _open(self, table: Table, ordering_key: str) -> None:
        """Let the first held one of the key go, unless another of it is on its way or parked."""
        rows = table.ordered(ordering_key)
        held = [row for row in rows if row.standing.state is State.HELD]
        if not held or _is_shut(rows):
            return
        due = held[0].due_ms
        waits = due is not None and due > self._timeline.now_ms()
        table.move(held[0], State.SCHEDULED if waits else State.READY)

    def _supersede(self, table: Table, collapse_key: str) -> None:
        """A newer state arrived. From the newest down, or one that ends would let the next go meanwhile."""
        for row in reversed(table.collapsing(collapse_key)):
            if row.standing.state is State.LEASED:
                row.overtaken = True
            elif row.standing.state in WAITING:
                self._end(table, row, State.SUPERSEDED)

    def _check_waiting(self, table: Table, row: Row) -> None:
        """It has come back: what happened while it was out may end it now."""
        if row.overtaken:
            self._end(table, row, State.SUPERSEDED)
        elif row.expires_ms is not None and row.expires_ms <= self._timeline.now_ms():
            self._end(table, row, State.EXPIRED)

    def _end(self, table: Table, row: Row, state: State) -> None:
        decision = Decision(Outcome(state.label), state, row.standing.attempt)
        self._apply(table, row, decision, actor=SYSTEM)

    def _bury_damaged(self, table: Table, row: Row) -> None:
        decision = Decision(Outcome.REJECTED, State.DEAD, row.standing.attempt)
        self._apply(table, row, decision, actor=SYSTEM, reason="the stored body is damaged")

    def _row_of(self, table: Table, ref: LeaseRef) -> Row | None:
        row = table.rows.get(ref.seq)
        return row if row is not None and row.notification.n == ref.notification else None

    # -- time-outs ------------------------------------------------------------------------------

    def overdue(self, limit: int) -> dict[str, int]:
        now = self._timeline.now_ms()
        ready_before: dict[str, int] = {}
        due, expiring = self._pending()
        for at, _, _, table, row in sorted(due, key=lambda item: item[:3])[:limit]:
            if at > now:
                break
            ready_before.setdefault(table.queue.name, table.counts[State.READY])
            if row.standing.state is State.LEASED:
                decision = decide_lease_expired(row.standing, table.queue.settings)
                holder = row.holder or SYSTEM
                self._apply(table, row, decision, actor=holder, reason="the lease ran out")
            else:
                row.due_ms = None
                table.move(row, State.READY)
        for at, _, _, table, row in sorted(expiring, key=lambda item: item[:3])[:limit]:
            if at > now:
                break
            # It may have ended above.
            if row.standing.state in WAITING:
                ready_before.setdefault(table.queue.name, table.counts[State.READY])
                self._end(table, row, State.EXPIRED)
        return {
            name: max(1, self._tables.queue(name).counts[State.READY] - before)
            for name, before in ready_before.items()
        }

    def next_due(self) -> float | None:
        due, expiring = self._pending()
        times = [item[0] for item in (*due, *expiring)]
        return max(0, min(times) - self._timeline.now_ms()) / 1_000 if times else None

    def _pending(self) -> tuple[list[_Pending], list[_Pending]]:
        """What has a time to be let go or taken back, and what has a time to expire."""
        due: list[_Pending] = []
        expiring: list[_Pending] = []
        for table in self._tables.queues.values():
            for row in table.rows.values():
                state = row.standing.state
                if row.due_ms is not None and state in (State.SCHEDULED, State.LEASED):
                    due.append((row.due_ms, table.id, row.seq, table, row))
                if row.expires_ms is not None and state in WAITING:
                    expiring.append((row.expires_ms, table.id, row.seq, table, row))
        return due, expiring

    # -- dead letters ---------------------------------------------------------------------------

    def redrive(
        self, queue: str, selection: Selection, actor: Actor, limit: int
    ) -> tuple[int, dict[str, int]]:
        table = self._tables.queue(queue)
        before = table.counts[State.READY]
        rows = selected(table, selection)[:limit]
        for row in rows:
            row.standing.parked = False
            key = row.ordering_key
            # An earlier one that is held goes first, even where this one alone kept the key shut.
            others = table.ordered(key) if key else []
            held = _is_shut(others) or any(
                other.seq < row.seq and other.standing.state is State.HELD for other in others
            )
            self._apply(table, row, decide_redrive(held=held), actor=actor)
        return len(rows), {queue: table.counts[State.READY] - before} if rows else {}

    def discard(
        self, queue: str, selection: Selection, actor: Actor, limit: int, reason: str
    ) -> tuple[int, dict[str, int]]:
        table = self._tables.queue(queue)
        before = table.counts[State.READY]
        rows = selected(table, selection)[:limit]
        for row in rows:
            self._discard(table, row, actor, reason)
        return len(rows), {queue: table.counts[State.READY] - before} if rows else {}

    def _discard(self, table: Table, row: Row, actor: Actor, reason: str) -> None:
        decision = Decision(Outcome.DISCARDED, State.DISCARDED, row.standing.attempt)
        self._apply(table, row, decision, actor=actor, reason=reason)
        if not any(seq in self._tables.queue(name).rows for name, seq in row.notification.places):
            row.notification.body = None


def _dead(table: Table, seq: int) -> Row:
    row = table.rows.get(seq)
    if row is None or row.standing.state is not State.DEAD:
        raise DeadLetterNotFound(f"queue {table.queue.name} has no dead letter {seq}")
    return row


def _is_shut(rows: Sequence[Row]) -> bool:
    """Whether one of them, all of one ordering key, is on its way, or parked."""
    on_its_way = (State.SCHEDULED, State.READY, State.LEASED)
    return any(row.standing.parked or row.standing.state in on_its_way for row in rows)


def _or_error(work: Callable[[A], T], asked: A) -> T | RestanteError:
    try:
        return work(asked)
    except RestanteError as error:
        return error


def delivery(table: Table, row: Row, body: bytes, lease_until_ms: int) -> Delivery:
    """A leased row as it is handed out."""
    notification = row.notification
    return Delivery(
        id=notification.id,
        ref=LeaseRef(table.queue.name, row.seq, row.standing.fence, notification.n),
        attempt=row.standing.attempt,
        topic=notification.topic,
        content_type=notification.content_type,
        body=body,
        attributes=dict(notification.attributes),
        ordering_key=row.ordering_key,
        published_at_ms=notification.published_at_ms,
        lease_until_ms=lease_until_ms,
    )
