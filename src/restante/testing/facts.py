"""A history, indexed: who published what, which leases were seen, what the ledgers say. The checker
reads this.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from restante.model import Settings
from restante.testing.history import (
    Configure,
    DeadLetters,
    History,
    Lease,
    Mark,
    Operation,
    Place,
    Publish,
    ReceiptPage,
    Receive,
    Settle,
)

SECOND: Final = 1_000_000_000
SLACK: Final = 20_000_000
"""Nanoseconds by which a server that counts in milliseconds may seem early."""
NEVER: Final = 2**63

ENDS: Final = frozenset({"acked", "superseded", "expired", "discarded"})
"""States a delivery never leaves."""
LEASE_OUTCOMES: Final = frozenset({"acked", "nacked", "rejected", "released", "lease_expired"})
"""Ledger outcomes that end a lease."""

_DEFAULTS: Final[dict[str, Any]] = msgspec.to_builtins(Settings())


class Violation(msgspec.Struct, frozen=True):
    """An invariant that does not hold, and the operations or receipts that show it."""

    invariant: str
    message: str
    evidence: list[Any] = []

    def __str__(self) -> str:
        shown = b"\n    ".join(msgspec.json.encode(item) for item in self.evidence).decode()
        return f"{self.invariant}: {self.message}" + (f"\n    {shown}" if shown else "")


class Findings:
    """What a check found, and how many facts it looked at for each invariant."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.judged: Counter[str] = Counter()

    def add(self, invariant: str, message: str, *evidence: Any) -> None:
        self.violations.append(Violation(invariant, message, list(evidence)))


class Entry(msgspec.Struct, frozen=True):
    """What the checker reads of a receipt."""

    number: int
    queue: str
    notification: str
    seq: int
    outcome: str
    state: str
    attempt: int = 0
    fence: int = 0
    body_sha256: str = ""
    digest: str = ""
    transport: str = ""

    @property
    def place(self) -> Place:
        return Place(self.queue, self.seq)


class Ledger:
    """One reading of a queue's ledger. ``complete`` when it began at the first receipt and reached
    the last.
    """

    def __init__(self, queue: str, pages: list[ReceiptPage]) -> None:
        self.queue = queue
        self.start = pages[0].start
        self.who, self.role = pages[0].who, pages[0].role
        self.complete = pages[0].after == 0 and pages[-1].last
        self.raw: list[msgspec.Raw] = [receipt for page in pages for receipt in page.receipts]
        self.entries: list[Entry] = [_decode_entry(receipt) for receipt in self.raw]
        self.by_seq: dict[int, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            self.by_seq[entry.seq].append(entry)
        self.by_number: dict[int, Entry] = {entry.number: entry for entry in self.entries}


class Seen(NamedTuple):
    """A lease, and the call that handed it out."""

    lease: Lease
    call: Receive

    @property
    def place(self) -> Place:
        return Place(self.lease.queue, self.lease.seq)


class Facts:
    """Indexes over one history."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.publishes = list(history.of(Publish))
        self.receives = list(history.of(Receive))
        self._index_publishes()
        self._index_leases()
        self._index_what_was_done(history)
        self._index_readings(history)

    def _index_publishes(self) -> None:
        self.by_digest: dict[str, list[Publish]] = defaultdict(list)
        self.by_notification: dict[str, list[Publish]] = defaultdict(list)
        self.publish_at: dict[Place, Publish] = {}
        self.ordering_key: dict[Place, str] = {}
        for publish in self.publishes:
            self.by_digest[publish.body_sha256].append(publish)
            if publish.outcome == "ok" and publish.notification is not None:
                self.by_notification[publish.notification].append(publish)
            for place in publish.deliveries:
                self.publish_at.setdefault(place, publish)
                if publish.ordering_key is not None:
                    self.ordering_key[place] = publish.ordering_key

    def _index_leases(self) -> None:
        self.seen: dict[Place, list[Seen]] = defaultdict(list)
        self.by_token: dict[str, Seen] = {}
        self.unheard: dict[str, list[Receive]] = defaultdict(list)
        """Receives whose answer never came: they may have leased what nobody saw."""
        for call in self.receives:
            if call.outcome == "unknown":
                self.unheard[call.queue].append(call)
            for lease in call.leases:
                one = Seen(lease, call)
                self.seen[one.place].append(one)
                self.by_token.setdefault(lease.lease, one)
        for place, sightings in self.seen.items():
            sightings.sort(key=lambda one: ended(one.call))
            if sightings[0].lease.ordering_key is not None:
                self.ordering_key[place] = sightings[0].lease.ordering_key

    def _index_what_was_done(self, history: History) -> None:
        self.settles: dict[str, list[Settle]] = defaultdict(list)
        for settle in history.of(Settle):
            self.settles[settle.lease].append(settle)
        self.owner: dict[str, str] = {}
        self._settings: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for change in history.of(Configure):
            if change.outcome == "ok":
                self.owner[change.queue] = change.owner
                self._settings[change.queue].append(change.settings)
        self.redriven: frozenset[str] = frozenset(
            call.queue for call in history.of(DeadLetters) if call.outcome != "refused"
        )
        self.disconnected: dict[str, list[Mark]] = defaultdict(list)
        self.drained: dict[str, int] = {}
        self.healed: int | None = None
        for mark in history.of(Mark):
            if mark.what == "healed":
                self.healed = mark.start
            elif mark.queue is not None and mark.what == "disconnected":
                self.disconnected[mark.queue].append(mark)
            elif mark.queue is not None and mark.what == "drained":
                self.drained[mark.queue] = mark.start

    def _index_readings(self, history: History) -> None:
        self.readings: dict[str, list[Ledger]] = defaultdict(list)
        for queue, ledger in _readings(history):
            self.readings[queue].append(ledger)
        self.ledgers: dict[str, Ledger] = {
            queue: complete[-1]
            for queue, readings in self.readings.items()
            if (complete := [reading for reading in readings if reading.complete])
        }

    def settings(self, queue: str, name: str) -> list[Any]:
        """Every value the setting had, the default where it was not given."""
        given = self._settings.get(queue) or [{}]
        return sorted({settings.get(name, _DEFAULTS[name]) for settings in given})

    def placed(self) -> Iterator[tuple[Place, Publish]]:
        """Every delivery of an acknowledged publish."""
        for publish in self.publishes:
            if publish.outcome == "ok":
                for place in publish.deliveries:
                    yield place, publish

    def endings(self, token: str) -> list[Settle]:
        """Calls that ended this lease, or may have."""
        return [
            settle
            for settle in self.settles.get(token, ())
            if settle.action != "extend" and settle.outcome != "refused"
        ]

    def runs_out(self, one: Seen) -> int:
        """The earliest instant at which this lease can have run out."""
        given = one.lease.lease_seconds
        # An extension that does not say how long: for what the queue's setting is, or was.
        default = min(given, *self.settings(one.lease.queue, "lease_seconds"))

        def until(extension: Settle) -> int:
            seconds = default if extension.lease_seconds is None else extension.lease_seconds
            return extension.start + round(seconds * SECOND)

        extensions = [
            settle
            for settle in self.settles.get(one.lease.lease, ())
            if settle.action == "extend" and settle.outcome != "refused"
        ]
        granted = [extension for extension in extensions if extension.outcome == "ok"]
        possible = [until(extension) for extension in extensions if extension.outcome == "unknown"]
        if granted:
            # Which of several concurrent extensions counted last is unknown; the shortest of them
            # may have.
            last = max(extension.start for extension in granted)
            possible += [until(extension) for extension in granted if ended(extension) > last]
        else:
            possible.append(one.call.start + round(given * SECOND))
        return min(possible)

    def earliest_end(self, one: Seen) -> int:
        """The earliest instant at which this lease can have ended, in whatever way."""
        instants = [settle.start for settle in self.endings(one.lease.lease)]
        instants += [
            mark.start
            for mark in self.disconnected.get(one.lease.queue, ())
            if mark.start >= one.call.start
        ]
        return min([self.runs_out(one), *instants])


def ended(operation: Operation) -> int:
    """When an operation was over; never, for one without an answer."""
    return NEVER if operation.end is None else operation.end


def _readings(history: History) -> Iterator[tuple[str, Ledger]]:
    pages = sorted(
        (page for page in history.of(ReceiptPage) if page.outcome == "ok"),
        key=lambda page: (page.reading, page.queue, page.start),
    )
    grouped = itertools.groupby(pages, key=lambda page: (page.reading, page.queue))
    ledgers = [Ledger(queue, list(group)) for (_, queue), group in grouped]
    for ledger in sorted(ledgers, key=lambda ledger: ledger.start):
        yield ledger.queue, ledger


_decode_entry: Final = msgspec.json.Decoder(Entry).decode
