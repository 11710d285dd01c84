"""What is done beside the way of a notification: time-outs and dead letters."""

from __future__ import annotations

from typing import Any, Final

from restante.errors import QueueNotFound
from restante.lifecycle import Decision, decide_redrive
from restante.model import Actor, Outcome, Selection, State
from restante.stores.postgresql.books import QueueBook
from restante.stores.postgresql.rows import Row
from restante.stores.postgresql.unit import Unit

_REACHED_MS: Final = 5_000
_DUE: Final = (
    "SELECT q.name, d.queue, d.seq FROM ("
    " SELECT queue, seq FROM restante.deliveries WHERE state IN (0, 3) AND due <= $1 ORDER BY due LIMIT $2) d"
    " JOIN restante.queues q ON q.id = d.queue"
)
_EXPIRING: Final = (
    "SELECT q.name, d.queue, d.seq FROM ("
    " SELECT queue, seq FROM restante.deliveries WHERE expires IS NOT NULL AND state IN (0, 1, 2) AND expires <= $1"
    " ORDER BY expires LIMIT $2) d JOIN restante.queues q ON q.id = d.queue"
)
_NEXT: Final = (
    "SELECT least((SELECT min(due) FROM restante.deliveries WHERE state IN (0, 3)),"
    " (SELECT min(expires) FROM restante.deliveries WHERE expires IS NOT NULL AND state IN (0, 1, 2)))"
)


async def overdue(unit: Unit, limit: int) -> dict[str, int]:
    """As ``Store.overdue``. Queues that somebody is busy with are left to the next time, or to another node."""
    await unit.lock(())
    reading = unit.reading
    due = await unit.connection.fetch(_DUE, reading.now_ms, limit)
    expiring = await unit.connection.fetch(_EXPIRING, reading.now_ms, limit)
    names = dict.fromkeys(row[0] for row in (*due, *expiring))
    passed_over = unit.memory.passed_over
    # A queue that always is busy would never be found free: one that was passed over before is waited for, not long,
    # and while nothing else is held.
    if again := [name for name in names if name in passed_over]:
        passed_over.clear()
        await unit.connection.execute("SET LOCAL lock_timeout = 1000")
        await unit.lock(again[:1])
    await unit.lock(names, skip=True)
    passed_over.clear()
    passed_over.update(name for name in names if name not in unit.books)
    await _persist(unit)
    if not names:
        return {}
    places = [(queue, seq) for _, queue, seq in (*due, *expiring) if queue in unit.by_id]
    await unit.read_rows(places)
    await unit.read_neighbours((), len(places))
    await unit.read_subjects()
    touched: dict[str, int] = {}
    for _, queue, seq in due:
        row = _found(unit, queue, seq)
        # It may have been settled before its queue was locked.
        if row is None or row.due is None or row.due > reading.now_ms:
            continue
        before = row.book.counts[State.READY]
        if row.standing.state is State.LEASED:
            unit.rows.lease_expired(row)
        elif row.standing.state is State.SCHEDULED:
            unit.rows.let_go(row, State.READY)
        else:
            continue
        _count(touched, row.book, before)
    for _, queue, seq in expiring:
        row = _found(unit, queue, seq)
        if row is not None and row.standing.state <= State.HELD:
            before = row.book.counts[State.READY]
            unit.rows.end(row, State.EXPIRED)
            _count(touched, row.book, before)
    return {name: max(1, ready) for name, ready in touched.items()}


async def next_due(unit: Unit) -> float | None:
    """As ``Store.next_due``."""
    await unit.lock(())
    at: int | None = await unit.connection.fetchval(_NEXT)
    return None if at is None else max(0, at - unit.reading.now_ms) / 1_000


async def redrive(
    unit: Unit, queue: str, selection: Selection, actor: Actor, limit: int
) -> tuple[int, dict[str, int]]:
    """As ``Store.redrive``."""
    book, rows = await _selected(unit, queue, selection, limit)
    before = book.counts[State.READY]
    for row in rows:
        row.standing.parked = False
        key = row.ordering_key
        held = key is not None and (unit.rows.is_shut(book, key) or unit.rows.is_behind(row))
        unit.rows.apply(row, decide_redrive(held=held), actor=actor)
    return len(rows), {queue: book.counts[State.READY] - before} if rows else {}


async def discard(
    unit: Unit, queue: str, selection: Selection, actor: Actor, limit: int, reason: str
) -> tuple[int, dict[str, int]]:
    """As ``Store.discard``."""
    book, rows = await _selected(unit, queue, selection, limit)
    before = book.counts[State.READY]
    for row in rows:
        decision = Decision(Outcome.DISCARDED, State.DISCARDED, row.standing.attempt)
        unit.rows.apply(row, decision, actor=actor, reason=reason)
    return len(rows), {queue: book.counts[State.READY] - before} if rows else {}


async def unpark(unit: Unit, queue: str, ordering_key: str | None = None) -> None:
    """Open the ordering keys that dead letters keep shut: that one, or all, where the queue no longer parks."""
    book = unit.book(queue)
    found = await unit.connection.fetch(
        "SELECT seq FROM restante.deliveries WHERE queue = $1 AND state = 4 AND parked AND ordering_key IS NOT NULL"
        " AND ordering_key = coalesce($2, ordering_key)",
        book.id,
        ordering_key,
    )
    await unit.read_rows((book.id, seq) for (seq,) in found)
    await unit.read_neighbours((), len(found))
    await unit.read_subjects()
    keys: dict[str, None] = {}
    for row in list(unit.rows.by_place.values()):
        if row.standing.parked and row.ordering_key is not None:
            row.standing.parked = False
            row.changed = True
            keys[row.ordering_key] = None
    for key in keys:
        unit.rows.open(book, key)


def selection_sql(selection: Selection, first: int) -> tuple[str, list[Any]]:
    """The condition on ``d`` (deliveries) and ``n`` (notifications) that picks the selected dead letters.

    Its arguments are numbered from ``first``.
    """
    terms, values = ["d.state = 4"], list[Any]()
    for term, value in (
        ("d.seq = ANY(${}::bigint[])", None if selection.seqs is None else list(selection.seqs)),
        ("d.reason = ${}", None if selection.reason is None else selection.reason.encode()),
        ("n.topic = ${}", selection.topic),
        ("d.dead_at >= ${}", selection.since_ms),
        ("d.dead_at < ${}", selection.until_ms),
    ):
        if value is not None:
            terms.append(term.format(first + len(values)))
            values.append(value)
    return " AND ".join(terms), values


async def _selected(
    unit: Unit, queue: str, selection: Selection, limit: int
) -> tuple[QueueBook, list[Row]]:
    await unit.lock([queue])
    if queue not in unit.books:
        raise QueueNotFound(f"there is no queue {queue} here")
    book = unit.book(queue)
    condition, values = selection_sql(selection, 3)
    found = await unit.connection.fetch(
        "SELECT d.seq FROM restante.deliveries d"  # noqa: S608 (fixed terms)
        " JOIN restante.notifications n ON n.n = d.notification AND n.published_at = d.published_at"
        f" WHERE d.queue = $1 AND {condition} ORDER BY d.seq LIMIT $2",
        book.id,
        limit,
        *values,
    )
    await unit.read_rows((book.id, seq) for (seq,) in found)
    await unit.read_neighbours((), len(found))
    await unit.read_subjects()
    return book, [unit.rows.by_place[book.id, seq] for (seq,) in found]


async def _persist(unit: Unit) -> None:
    """Note how far the timeline has come, for a start after the database's clock was set back."""
    now = unit.reading.now_ms
    if now - unit.memory.reached_ms >= _REACHED_MS:
        unit.memory.reached_ms = now
        await unit.connection.execute(
            "UPDATE restante.timeline SET reached_ms = $1 WHERE reached_ms < $1", now
        )
        unit.written = True


def _found(unit: Unit, queue: int, seq: int) -> Row | None:
    row = unit.rows.by_place.get((queue, seq))
    return None if row is None or row.gone else row


def _count(touched: dict[str, int], book: QueueBook, before: int) -> None:
    touched[book.name] = touched.get(book.name, 0) + book.counts[State.READY] - before
