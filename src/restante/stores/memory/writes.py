"""The way of a delivery through memory: append, lease, extend, settle, and what time and operators do to it.

``lifecycle.py`` decides; ``deliveries.py`` keeps its decisions, with their receipts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from restante.errors import DeadLetterNotFound, IdempotencyKeyReused, LeaseLost, RestanteError
from restante.lifecycle import (
    WAITING,
    Standing,
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
    State,
    Verb,
)
from restante.stores.memory.deliveries import Deliveries, delivery, is_shut, selected
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


class Writes:
    """The operations, over the tables. One that refuses has changed nothing."""

    def __init__(self, tables: Tables, deliveries: Deliveries, jitter: Callable[[], float]) -> None:
        self._tables = tables
        self._timeline = tables.timeline
        self._deliveries = deliveries
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
            self._deliveries.supersede(table, draft.collapse_key)
        ordered = table.ordered(draft.ordering_key) if draft.ordering_key else []
        if replaced is not None and replaced.standing.parked:
            # In front of all that the dead letter held up, unless another holds them up as well.
            replaced.standing.parked = False
            held = is_shut(ordered)
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
            self._deliveries.discard(table, replaced, draft.actor, f"replaced by {draft.id}")
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
                    self._deliveries.bury_damaged(table, row)
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
        row = self._deliveries.row_of(self._tables.queue(ref.queue), ref)
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
        row = self._deliveries.row_of(table, asked.ref)
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
        return self._deliveries.apply(
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
        row = self._deliveries.row_of(table, asked.ref)
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
                self._deliveries.apply(
                    table, row, decision, actor=holder, reason="the lease ran out"
                )
            else:
                row.due_ms = None
                table.move(row, State.READY)
        for at, _, _, table, row in sorted(expiring, key=lambda item: item[:3])[:limit]:
            if at > now:
                break
            # It may have ended above.
            if row.standing.state in WAITING:
                ready_before.setdefault(table.queue.name, table.counts[State.READY])
                self._deliveries.end(table, row, State.EXPIRED)
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
            held = is_shut(others) or any(
                other.seq < row.seq and other.standing.state is State.HELD for other in others
            )
            self._deliveries.apply(table, row, decide_redrive(held=held), actor=actor)
        return len(rows), {queue: table.counts[State.READY] - before} if rows else {}

    def discard(
        self, queue: str, selection: Selection, actor: Actor, limit: int, reason: str
    ) -> tuple[int, dict[str, int]]:
        table = self._tables.queue(queue)
        before = table.counts[State.READY]
        rows = selected(table, selection)[:limit]
        for row in rows:
            self._deliveries.discard(table, row, actor, reason)
        return len(rows), {queue: table.counts[State.READY] - before} if rows else {}


def _dead(table: Table, seq: int) -> Row:
    row = table.rows.get(seq)
    if row is None or row.standing.state is not State.DEAD:
        raise DeadLetterNotFound(f"queue {table.queue.name} has no dead letter {seq}")
    return row


def _or_error(work: Callable[[A], T], asked: A) -> T | RestanteError:
    try:
        return work(asked)
    except RestanteError as error:
        return error
