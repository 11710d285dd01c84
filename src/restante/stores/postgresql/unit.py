"""One transaction: lock the queues' tallies, read what is needed, decide in memory, write what has changed.

The lock on a queue's row in ``tallies`` is what makes its sequence and its ledger dense, and what fences its leases:
nobody else, on whatever node, changes anything of the queue until this transaction ends. Locks are taken in the order
of the queues' numbers, so that two nodes never wait for one another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from restante.errors import QueueNotFound
from restante.metering import Meter
from restante.model import State
from restante.stores.postgresql import loading, writing
from restante.stores.postgresql.arrays import numbers
from restante.stores.postgresql.books import COUNTS, Pen, QueueBook, Registry, Written
from restante.stores.postgresql.clocks import JUMP_MS, Reading, SharedTimeline, Watch
from restante.stores.postgresql.connections import Connection
from restante.stores.postgresql.rows import WIDTH, Row, Rows
from restante.wire.receipts import Subject, decode_entry

REMEMBERED_SUBJECTS: Final = 50_000
BLOCK: Final = 1_000
"""How many numbers of notifications a node takes at a time: the sequence's increment."""


class Glance(NamedTuple):
    """How many deliveries of a queue are ready, and whether flow control forbids to lease any."""

    ready: int
    full: bool


class Evidence(NamedTuple):
    """By what a transaction whose commit is in doubt is recognised: a receipt of it, or a delivery it changed."""

    queue: int
    number: int
    digest: bytes
    seq: int
    fence: int
    due: int | None


class Numbers:
    """Numbers of notifications, taken from the database in blocks: what a node does not use of one is never used."""

    def __init__(self) -> None:
        self._free: deque[int] = deque()

    async def reserve(self, connection: Connection, count: int) -> None:
        """Have so many at hand."""
        while len(self._free) < count:
            first = await connection.fetchval("SELECT nextval('restante.notification_numbers')")
            self._free.extend(range(first, first + BLOCK))

    def take(self) -> int:
        return self._free.popleft()

    def forget(self) -> None:
        self._free.clear()


class Memory:
    """What a node remembers between transactions. None of it decides anything."""

    def __init__(self, timeline: SharedTimeline) -> None:
        self.timeline = timeline
        self.meter = Meter()
        """What was committed through this node."""
        self.registry = Registry()
        self.numbers = Numbers()
        self.reached_ms = 0
        self.watch = Watch()
        """What was last seen of the clock by a transaction that took place."""
        self.passed_over: set[str] = set()
        """Queues with something overdue that were locked by another when it was last seen to."""
        self._subjects: dict[int, Subject] = {}

    def forget(self) -> None:
        """The connection was lost: what was learned over it may not have outlived a crash, nor a change of servers.

        Numbers taken by one who crashed before it was on the disk are given to another.
        """
        self.registry.clear()
        self.numbers.forget()
        self._subjects.clear()

    def subject(self, n: int) -> Subject | None:
        return self._subjects.get(n)

    def remember(self, subject: Subject) -> None:
        """Whoever settles is mostly whoever was handed it here."""
        if len(self._subjects) >= REMEMBERED_SUBJECTS:
            self._subjects.pop(next(iter(self._subjects)))
        self._subjects[subject.n] = subject


class Unit:
    """One transaction's reading and writing, over a connection on which it was begun."""

    def __init__(
        self, connection: Connection, memory: Memory, watch: Watch, jitter: Callable[[], float]
    ) -> None:
        self.connection = connection
        self.memory = memory
        self.watch = watch
        self.jitter = jitter
        self.registry = memory.registry
        """A transaction that changes queues has one of its own: nobody else may learn what is not committed."""
        self.meter = Meter()
        """Counts for the node's, which hears of it once this is committed."""
        self.pen = Pen(self.meter)
        self.reading = Reading(0, 0)
        self.rows = Rows(self.reading, self.pen)
        self.books: dict[str, QueueBook] = {}
        self.by_id: dict[int, QueueBook] = {}
        self.published: list[tuple[Any, ...]] = []
        self.keys: list[tuple[Any, ...]] = []
        self.earlier: dict[tuple[str, str], tuple[bytes, str, str]] = {}
        """What idempotency keys were taken for: fingerprint, id and places."""
        self.candidates: dict[int, deque[Row]] = {}
        self.beyond: set[int] = set()
        """Queues that have more ready ones than were read: none that is published now may go before those."""
        self.handed_out: set[int] = set()
        """Queues of which something was leased."""
        self._read_ready: set[int] = set()
        self.written = False
        """Whether something was written beside what is kept here."""
        self.answers_earlier = False
        """Whether an answer repeats what an earlier transaction did, so that this one must be as durable as that."""
        self._before = (watch.steps, watch.last)
        self._told_before: dict[tuple[int, int], list[Written]] = {}
        self._subjects: dict[int, Subject] = {}

    # -- locking --------------------------------------------------------------------------------

    async def glance(self, names: Iterable[str]) -> dict[str, Glance]:
        """How queues stand, without locking them: as of some commit a moment ago."""
        known = loading.known_of(self.memory.registry, set(names))
        counts = await loading.glance(self.connection, [one.id for one in known])
        return {
            one.name: Glance(ready, full=leased >= one.settings.max_in_flight)
            for one in known
            if one.id in counts
            for ready, leased in [counts[one.id]]
        }

    async def lock(self, names: Iterable[str], *, skip: bool = False) -> None:
        """Lock the queues' tallies and read the clock. With ``skip`` those that are locked are left out."""
        registry = self.registry
        wanted = {name for name in names if name not in self.books}
        unknown = [name for name in wanted if registry.get(name) is None]
        if unknown:
            await loading.learn(self.connection, registry, unknown)
        known = {one.id: one for one in loading.known_of(registry, wanted)}
        timeline = self.memory.timeline
        asked = timeline.monotonic()
        rows = await self.connection.fetch(
            loading.LOCK_WHAT_IS_FREE if skip else loading.LOCK, numbers(sorted(known))
        )
        answered = timeline.monotonic()
        await self._read_clock(rows[-1], asked, answered)
        stale = [
            known[row[0]].name
            for row in rows
            if row[0] is not None and known[row[0]].version != row[1]
        ]
        if stale:
            await loading.learn(self.connection, registry, stale)
            known = {one.id: one for one in loading.known_of(registry, wanted)}
        start = loading.COUNTS_START
        for row in rows:
            if row[0] is not None:
                counts = list(row[start : start + len(COUNTS)])
                book = QueueBook(known[row[0]], row[2], row[3], row[4], counts)
                self.books[book.name] = book
                self.by_id[book.id] = book

    def book(self, name: str) -> QueueBook:
        """The queue of that name, which was asked for in ``lock``; or ``QueueNotFound``."""
        book = self.books.get(name)
        if book is None:
            raise QueueNotFound(f"there is no queue {name} here")
        return book

    async def _read_clock(self, row: Any, asked: float, answered: float) -> None:
        watch = self.watch
        offset, steps, reached, server_ms = (
            row["offset_ms"],
            row["steps"],
            row["reached_ms"],
            row["server_ms"],
        )
        wall = self.memory.timeline.wall_ms(server_ms)
        jumped = watch.jumped_ms(wall, asked, answered)
        if watch.steps != steps:
            # The first look, or another has corrected the timeline meanwhile: what has passed since the last look of
            # this node says nothing about it. Nobody may have looked while the clock was set back, though.
            first, watch.steps = watch.steps < 0, steps
            jumped = min(0, wall + offset - reached) if first else 0
        elif wall + offset - reached < jumped - JUMP_MS:
            jumped = (
                0  # others have come so far by the same clock: it was this machine that stood still
            )
        if jumped:
            offset = await self._correct(offset, steps, jumped)
        self.reading.wall_ms, self.reading.now_ms = wall, wall + offset

    async def _correct(self, offset: int, steps: int, jumped: int) -> int:
        corrected = await self.connection.fetchval(
            "UPDATE restante.timeline SET offset_ms = offset_ms - $1, steps = steps + 1 WHERE steps = $2"
            " RETURNING offset_ms",
            jumped,
            steps,
        )
        if corrected is None:
            row = await self.connection.fetchrow("SELECT offset_ms, steps FROM restante.timeline")
            if row is not None:
                offset, self.watch.steps = row[0], row[1]
            return offset
        self.watch.steps = steps + 1
        self.written = True
        return int(corrected)

    def undo(self) -> None:
        """The transaction did not take place: nor did what it saw of the clock."""
        self.watch.steps, self.watch.last = self._before

    # -- reading --------------------------------------------------------------------------------

    async def read_rows(self, places: Iterable[tuple[int, int]]) -> None:
        """Know the deliveries at ``(queue, seq)``, as far as they have not ended."""
        if wanted := sorted(set(places) - self.rows.by_place.keys()):
            self._add(await loading.rows(self.connection, wanted))

    async def read_ready(self, asked: list[tuple[int, int, int]]) -> None:
        """Know the first ready ones of each ``(queue, number, bytes of bodies)`` wanted, with all to hand out."""
        if not asked:
            return
        for fields in await loading.ready(self.connection, asked, self.reading.now_ms):
            row = self._add_whole(fields)
            self.candidates.setdefault(row.book.id, deque()).append(row)
        for queue, _, _ in asked:
            self._read_ready.add(queue)
            if len(self.candidates.get(queue, ())) < self.by_id[queue].counts[State.READY]:
                self.beyond.add(queue)

    def was_read(self, book: QueueBook) -> bool:
        """Whether the first ready ones of the queue are known."""
        return book.id in self._read_ready

    async def read_held(self, asked: list[tuple[int, str, int, int]]) -> None:
        """Know what is leased in ``(queue, to consumer, after seq, bytes of bodies wanted)``, with all to hand out."""
        for fields in await loading.held(self.connection, asked):
            self._add_whole(fields)

    async def read_collapsing(self, keys: Iterable[tuple[int, str]]) -> None:
        if wanted := sorted(set(keys)):
            self._add(await loading.collapsing(self.connection, wanted))

    async def read_neighbours(self, keys: Iterable[tuple[int, str]], ends: int) -> None:
        """Know of the ordering keys asked for, and of all rows known, what ``ends`` ends of deliveries may open."""
        of_rows = {
            (row.book.id, row.ordering_key)
            for row in self.rows.by_place.values()
            if row.ordering_key is not None
        }
        if wanted := sorted({*keys, *of_rows}):
            # An end lets one go, which may be past its expiry itself and let the next go.
            held = 2 * (ends + len(self.rows.by_place)) + 2
            self._add(await loading.ordered(self.connection, wanted, held))

    async def read_subjects(self, numbers: Iterable[int] = ()) -> None:
        """Know what receipts say of the notifications of all rows known, and of those numbered."""
        wanted: dict[int, int] = {}
        for row in self.rows.by_place.values():
            if row.subject is None:
                row.subject = self._subjects.get(row.n) or self.memory.subject(row.n)
                if row.subject is None:
                    wanted[row.n] = row.published_at
        if wanted:
            for subject in await loading.subjects(self.connection, list(wanted.items())):
                self._keep(subject)
            for row in self.rows.by_place.values():
                row.subject = row.subject or self._subjects.get(row.n)
        if others := [n for n in numbers if n not in self._subjects]:
            for subject in await loading.subjects_by_number(self.connection, others):
                self._subjects[subject.n] = subject

    async def read_told(self, asked: list[tuple[int, int, int]]) -> None:
        """Know the receipts of the deliveries ``(n, queue, seq)``."""
        if asked:
            for queue, seq, number, outcome, fence, entry in await loading.told(
                self.connection, asked
            ):
                written = Written(number, outcome, decode_entry(entry).state, fence)
                self._told_before.setdefault((queue, seq), []).append(written)

    def told(self, queue: int, seq: int) -> list[Written]:
        """What the ledger tells of a delivery, rising: as far as it was read, and what this transaction adds."""
        return self._told_before.get((queue, seq), []) + self.pen.told.get((queue, seq), [])

    def subject(self, n: int) -> Subject | None:
        return self._subjects.get(n) or self.memory.subject(n)

    def _keep(self, subject: Subject) -> Subject:
        self._subjects[subject.n] = subject
        self.memory.remember(subject)
        return subject

    def _add_whole(self, fields: Any) -> Row:
        row = self.rows.add(Row.read(self.by_id[fields[0]], fields))
        if fields[WIDTH] is not None:
            row.subject = self._keep(Subject(*fields[WIDTH : WIDTH + 5]))
            row.content = loading.content(fields[WIDTH + 5 : WIDTH + 9])
        return row

    def _add(self, found: Iterable[Any]) -> None:
        for fields in found:
            self.rows.add(Row.read(self.by_id[fields[0]], fields))

    # -- writing --------------------------------------------------------------------------------

    async def write(self) -> bool:
        """Write all that has changed; whether anything has, or must be committed durably all the same."""
        rows = self.rows.by_place.values()
        new = [row for row in rows if row.was is None and not row.gone]
        changed = [row for row in rows if row.changed and row.was is not None and not row.gone]
        ended = [row for row in rows if row.was is not None and row.gone]
        books = [book for book in self.books.values() if book.dirty]
        if not (self.published or self.pen.lines or new or changed or ended or books):
            if self.answers_earlier and not self.written:
                await self.connection.execute(
                    "SELECT pg_logical_emit_message(true, 'restante', '')"
                )
            return self.answers_earlier or self.written
        await writing.write(
            self.connection,
            published=self.published,
            new=new,
            receipts=self.pen.lines,
            keys=self.keys,
            changed=changed,
            ended=ended,
            books=books,
        )
        discarded = {
            (row.n, row.published_at) for row in ended if row.standing.state is State.DISCARDED
        }
        if discarded:
            await writing.drop_bodies(self.connection, sorted(discarded))
        return True

    def evidence(self) -> Evidence | None:
        """By what this transaction, once written, can be recognised; None where nothing would show."""
        if self.pen.lines:
            queue, number, _, _, seq, _, fence, _, digest = self.pen.lines[0]
            return Evidence(queue, number, digest, seq, fence, None)
        # A lease before all: nobody else can have come by its fence. What has not moved proves nothing.
        moved = [
            row
            for row in self.rows.by_place.values()
            if row.changed and (row.standing.fence, row.due) != (row.was, row.was_due)
        ]
        row = max(moved, key=lambda row: row.standing.fence != row.was, default=None)
        if row is None:
            return None
        return Evidence(row.book.id, 0, b"", row.seq, row.standing.fence, row.due)
