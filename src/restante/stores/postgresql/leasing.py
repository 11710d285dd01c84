"""Leases: giving them out, prolonging them, and telling a consumer which it holds."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping

import msgspec

from restante.errors import LeaseLost
from restante.lifecycle import decide_extend
from restante.model import Delivery, Leased, LeaseRef, LeaseRequest, Settled, State
from restante.queries import LeasedTo
from restante.stores.postgresql.operations import LookAgain, Needs, Operation
from restante.stores.postgresql.rows import Row, is_full
from restante.stores.postgresql.unit import Glance, Unit

_encode = msgspec.json.Encoder().encode


class Lease(Operation):
    looks = True

    def __init__(self, request: LeaseRequest) -> None:
        self.request = request
        self.queues = (request.queue,)

    def idle(self, glances: Mapping[str, Glance]) -> Leased | None:
        glance = glances.get(self.request.queue)
        return Leased([], at_limit=glance.full) if glance is not None and not glance.ready else None

    def ask(self, unit: Unit, needs: Needs) -> None:
        book = unit.books.get(self.request.queue)
        # Most looks find nothing: the tally knows that without asking the table.
        if book is None or not book.counts[State.READY]:
            return
        if is_full(book):
            unit.beyond.add(book.id)  # those go first, should a settle before this one make room
            return
        free = book.settings.max_in_flight - book.counts[State.LEASED]
        wanted, room = needs.ready.get(book.id, (0, 0))
        request = self.request
        needs.ready[book.id] = (wanted + min(request.max, free), room + request.max_bytes)

    def run(self, unit: Unit) -> Leased:
        request = self.request
        book = unit.book(request.queue)
        free = book.settings.max_in_flight - book.counts[State.LEASED]
        candidates = unit.candidates.get(book.id, deque())
        room = request.max_bytes
        out: list[Delivery] = []
        damaged = False
        came_back = unit.rows.came_back.get(book.id)
        while candidates and len(out) < min(request.max, free):
            row = candidates[0]
            if came_back is not None and came_back < row.seq:
                break  # an earlier one has become ready meanwhile, which was not read
            if row.standing.state is State.READY and not _is_expired(row, unit.reading.now_ms):
                if out and row.body_bytes > room:
                    break
                if _is_damaged(row):
                    damaged = True
                    unit.rows.bury_damaged(row)
                else:
                    room -= row.body_bytes
                    out.append(self._hand_out(unit, row))
            candidates.popleft()
        if out:
            again = len([one for one in out if one.attempt > 1])
            unit.meter.leased((book.name, len(out), again))
        elif free > 0 and book.counts[State.READY]:
            # Not where nothing has happened since it was read: then what is ready is past its expiry.
            unread = book.id in unit.beyond and (
                book.id in unit.handed_out or not unit.was_read(book)
            )
            if damaged or came_back is not None or unread:
                raise LookAgain
        at_limit = len(out) >= free
        return Leased(out, at_limit=at_limit, more=not at_limit and book.counts[State.READY] > 0)

    def _hand_out(self, unit: Unit, row: Row) -> Delivery:
        actor, reading, standing = self.request.actor, unit.reading, row.standing
        lease_ms = int(self.request.lease_seconds * 1_000)
        row.book.move(State.READY, State.LEASED)
        unit.handed_out.add(row.book.id)
        standing.state = State.LEASED
        standing.attempt += 1
        standing.fence += 1
        standing.forgiving = False
        row.due = reading.now_ms + lease_ms
        row.leased_at = reading.wall_ms
        row.consumer = actor.consumer
        row.holder = _encode(actor)
        row.changed = True
        return delivery(row, reading.wall_ms + lease_ms)


def delivery(row: Row, lease_until_ms: int) -> Delivery:
    """A leased row as it is handed out."""
    content, subject = row.content, row.subject
    if content is None or subject is None or content.body is None:
        raise AssertionError(f"delivery {row.seq} of queue {row.book.name} has nothing to hand out")
    return Delivery(
        id=subject.id,
        ref=LeaseRef(row.book.name, row.seq, row.standing.fence, row.n),
        attempt=row.standing.attempt,
        topic=content.topic,
        content_type=content.content_type,
        body=content.body,
        attributes=content.attributes,
        ordering_key=row.ordering_key or "",
        published_at_ms=row.published_at,
        lease_until_ms=lease_until_ms,
    )


def _is_expired(row: Row, now_ms: int) -> bool:
    return row.expires is not None and row.expires <= now_ms


def _is_damaged(row: Row) -> bool:
    if row.was is None:
        return False  # it is what has just been published
    content, subject = row.content, row.subject
    if content is None or content.body is None or subject is None:
        return True
    return hashlib.sha256(content.body).digest() != subject.body_sha256


class Extend(Operation):
    def __init__(self, ref: LeaseRef, lease_seconds: float) -> None:
        self.ref = ref
        self.lease_ms = int(lease_seconds * 1_000)
        self.queues = (ref.queue,)

    def ask(self, unit: Unit, needs: Needs) -> None:
        if (book := unit.books.get(self.ref.queue)) is not None:
            needs.places.append((book.id, self.ref.seq))

    def run(self, unit: Unit) -> Settled:
        row = unit.rows.row_of(unit.book(self.ref.queue), self.ref)
        if row is None:
            raise LeaseLost("the delivery has been settled")
        decide_extend(row.standing, self.ref.fence)
        row.due = unit.reading.now_ms + self.lease_ms
        row.changed = True
        return Settled(
            "extended", State.LEASED, lease_until_ms=unit.reading.wall_ms + self.lease_ms
        )


class Held(Operation):
    """The answer to ``LeasedTo``, which has its place among what changes the queue."""

    def __init__(self, asked: LeasedTo) -> None:
        self.asked = asked
        self.queues = (asked.queue,)

    def ask(self, unit: Unit, needs: Needs) -> None:
        if (book := unit.books.get(self.asked.queue)) is not None:
            asked = self.asked
            needs.held.append((book.id, asked.consumer, asked.after, asked.max_bytes))

    def run(self, unit: Unit) -> list[Delivery]:
        asked, reading = self.asked, unit.reading
        book = unit.books.get(asked.queue)
        rows = [
            row
            for row in unit.rows.by_place.values()
            if row.book is book
            and row.standing.state is State.LEASED
            and row.consumer == asked.consumer
            and row.seq > asked.after
            and row.content is not None
        ]
        out: list[Delivery] = []
        room = asked.max_bytes
        for row in sorted(rows, key=lambda row: row.seq):
            room -= row.body_bytes
            if out and room < 0:
                break
            out.append(delivery(row, (row.due or 0) + reading.wall_ms - reading.now_ms))
        return out
