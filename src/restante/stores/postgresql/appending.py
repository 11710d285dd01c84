"""Publishing: a notification once, a delivery and a receipt for each queue, its idempotency key."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from restante.errors import DeadLetterNotFound, IdempotencyKeyReused, RestanteError
from restante.lifecycle import Decision, entry_state
from restante.model import Appended, Draft, Outcome, Place, State
from restante.stores.postgresql.books import QueueBook
from restante.stores.postgresql.operations import Needs, Operation
from restante.stores.postgresql.rows import Content, Row
from restante.stores.postgresql.unit import Unit
from restante.wire.receipts import Subject

_encode = msgspec.json.Encoder().encode
_decode_places = msgspec.json.Decoder(list[Place]).decode


class Append(Operation):
    def __init__(self, drafts: Sequence[Draft]) -> None:
        self.drafts = drafts
        self.queues = tuple({name for draft in drafts for name in draft.queues})
        self.size = sum(len(draft.body) for draft in drafts)

    def ask(self, unit: Unit, needs: Needs) -> None:
        for draft in self.drafts:
            needs.notifications += 1
            if draft.idempotency is not None:
                needs.idempotency_keys.append((draft.idempotency.publisher, draft.idempotency.key))
            if not (draft.collapse_key or draft.ordering_key or draft.replaces):
                continue
            for name in draft.queues:
                book = unit.books.get(name)
                if book is not None and draft.replaces is not None:
                    needs.places.append((book.id, draft.replaces))
                if book is not None and draft.collapse_key:
                    needs.collapse_keys.append((book.id, draft.collapse_key))
                if book is not None and draft.ordering_key:
                    needs.ordering_keys.append((book.id, draft.ordering_key))

    def run(self, unit: Unit) -> list[Appended | RestanteError]:
        results: list[Appended | RestanteError] = []
        for draft in self.drafts:
            try:
                results.append(append(unit, draft))
            except RestanteError as error:
                results.append(error)
        return results


def append(unit: Unit, draft: Draft) -> Appended:
    """Keep a draft, or answer with what its idempotency key made before. Raises what ``Store.append`` names."""
    key = draft.idempotency
    if key is not None and (earlier := unit.earlier.get((key.publisher, key.key))) is not None:
        if earlier[0] != key.fingerprint:
            raise IdempotencyKeyReused("this idempotency key was used for another request")
        unit.answers_earlier = True
        return Appended(earlier[1], _decode_places(earlier[2]), replayed=True)
    books = [unit.book(name) for name in draft.queues]
    replaced = None
    if draft.replaces is not None:
        replaced = unit.rows.find(books[0], draft.replaces)
        if replaced is None or replaced.standing.state is not State.DEAD:
            raise DeadLetterNotFound(f"queue {books[0].name} has no dead letter {draft.replaces}")
    reading = unit.reading
    n = unit.memory.numbers.take()
    subject = Subject(n, draft.id, reading.wall_ms, draft.body_sha256, len(draft.body))
    body = bytes(draft.body) if books else None  # nobody will ever ask for it
    attributes = _encode(draft.attributes) if draft.attributes else None
    unit.published.append(
        (
            *(n, reading.wall_ms, draft.id, draft.topic, draft.content_type, attributes),
            *(draft.actor.name, draft.body_sha256, len(draft.body), body),
        )
    )
    unit.memory.remember(subject)
    places: list[Place] = []
    ready: dict[str, int] = {}
    for book in books:
        before = book.counts[State.READY]
        row = _deliver(unit, book, draft, subject, replaced)
        places.append(Place(book.name, row.seq))
        # What a superseded one held back is ready now, too.
        count = max(book.counts[State.READY] - before, int(row.standing.state is State.READY))
        if count:
            ready[book.name] = count
    if key is not None:
        told = _encode(places).decode()
        unit.earlier[key.publisher, key.key] = (key.fingerprint, draft.id, told)
        unit.keys.append(
            (key.publisher, key.key, key.fingerprint, n, draft.id, told, reading.now_ms)
        )
    return Appended(draft.id, places, ready)


def _deliver(
    unit: Unit, book: QueueBook, draft: Draft, subject: Subject, replaced: Row | None
) -> Row:
    now = unit.reading.now_ms
    if draft.collapse_key:
        unit.rows.supersede(book, draft.collapse_key)
    key = draft.ordering_key
    if replaced is not None and replaced.standing.parked:
        # In front of all that the dead letter held up, unless another holds them up as well.
        replaced.standing.parked = False
        replaced.changed = True
        held = bool(key) and unit.rows.is_shut(book, key)
    else:
        held = bool(key) and unit.rows.is_taken(book, key)
    delay, expires = draft.deliver_after_seconds, draft.expires_after_seconds
    book.seq += 1
    row = Row(book, book.seq, subject.n, subject.published_at_ms, subject.body_bytes)
    row.standing.state = entry_state(delay_seconds=delay, held=held)
    row.due = now + int(delay * 1_000) if delay else None
    row.ordering_key = draft.ordering_key or None
    row.collapse_key = draft.collapse_key or None
    row.expires = None if expires is None else now + int(expires * 1_000)
    row.subject = subject
    row.content = Content(draft.topic, draft.content_type, draft.attributes, bytes(draft.body))
    unit.rows.add(row)
    state = row.standing.state
    book.move(None, state)
    unit.pen.write(
        book,
        subject,
        row.seq,
        Outcome.PUBLISHED,
        state,
        actor=draft.actor,
        at_ms=unit.reading.wall_ms,
    )
    if replaced is not None:
        decision = Decision(Outcome.DISCARDED, State.DISCARDED, replaced.standing.attempt)
        unit.rows.apply(replaced, decision, actor=draft.actor, reason=f"replaced by {draft.id}")
    if state is State.READY and book.id not in unit.beyond:
        unit.candidates.setdefault(book.id, deque()).append(row)
    return row
