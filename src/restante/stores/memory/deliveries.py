"""Deliveries in memory: how a decision about one is kept, with its receipt, and what follows for its neighbours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from restante.lifecycle import (
    ENDED,
    WAITING,
    Decision,
    check_transition,
)
from restante.model import (
    SYSTEM,
    Actor,
    Delivery,
    LeaseRef,
    Outcome,
    Selection,
    Settled,
    Signature,
    State,
)
from restante.stores.memory.tables import Row, Table, Tables


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
    """What stands in the tables, and how it is moved on."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._timeline = tables.timeline

    def apply(
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

    def discard(self, table: Table, row: Row, actor: Actor, reason: str) -> None:
        """End a dead letter for good, and let go of its body where nobody else has it."""
        decision = Decision(Outcome.DISCARDED, State.DISCARDED, row.standing.attempt)
        self.apply(table, row, decision, actor=actor, reason=reason)
        if not any(seq in self._tables.queue(name).rows for name, seq in row.notification.places):
            row.notification.body = None

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
        if not held or is_shut(rows):
            return
        due = held[0].due_ms
        waits = due is not None and due > self._timeline.now_ms()
        table.move(held[0], State.SCHEDULED if waits else State.READY)

    def supersede(self, table: Table, collapse_key: str) -> None:
        """A newer state arrived. From the newest down, or one that ends would let the next go meanwhile."""
        for row in reversed(table.collapsing(collapse_key)):
            if row.standing.state is State.LEASED:
                row.overtaken = True
            elif row.standing.state in WAITING:
                self.end(table, row, State.SUPERSEDED)

    def _check_waiting(self, table: Table, row: Row) -> None:
        """It has come back: what happened while it was out may end it now."""
        if row.overtaken:
            self.end(table, row, State.SUPERSEDED)
        elif row.expires_ms is not None and row.expires_ms <= self._timeline.now_ms():
            self.end(table, row, State.EXPIRED)

    def end(self, table: Table, row: Row, state: State) -> None:
        """It is superseded or has expired."""
        decision = Decision(Outcome(state.label), state, row.standing.attempt)
        self.apply(table, row, decision, actor=SYSTEM)

    def bury_damaged(self, table: Table, row: Row) -> None:
        """Put one aside whose stored body is not what was published."""
        decision = Decision(Outcome.REJECTED, State.DEAD, row.standing.attempt)
        self.apply(table, row, decision, actor=SYSTEM, reason="the stored body is damaged")

    def row_of(self, table: Table, ref: LeaseRef) -> Row | None:
        """What a lease is of; None where that is over."""
        row = table.rows.get(ref.seq)
        return row if row is not None and row.notification.n == ref.notification else None


def is_shut(rows: Sequence[Row]) -> bool:
    """Whether one of them, all of one ordering key, is on its way, or parked."""
    on_its_way = (State.SCHEDULED, State.READY, State.LEASED)
    return any(row.standing.parked or row.standing.state in on_its_way for row in rows)


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
