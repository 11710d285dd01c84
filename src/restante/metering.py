"""Counting what happens: pure, fed by a store with what it has committed, drained by whoever watches.

Every receipt and every lease is counted once, by the node that wrote it, so that the sums over all nodes agree with
the ledger. What is counted costs the way of a notification about a microsecond a step, and nothing grows with a
backlog. Nothing here is durable: the watcher keeps what it drains.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Final

import msgspec

from restante.model import Outcome, State

ACK_BOUNDS_SECONDS: Final = (
    0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_600.0, 21_600.0, 86_400.0,
)  # fmt: skip
"""Upper bounds of the histogram of the time from publish to ack; one more class is for what took longer."""
REASONS: Final = 20
"""How many different reasons of failures are told apart, by queue; all others are counted as ``OTHER``."""
REASON_CHARACTERS: Final = 200
OTHER: Final = "other reasons"
_BOUNDS_MS: Final = tuple(round(seconds * 1_000) for seconds in ACK_BOUNDS_SECONDS)
TOGETHER: Final = 1_000
"""So many receipts are counted together, at most: about a millisecond's worth."""
_QUEUE_AND_OUTCOME: Final = itemgetter(0, 1)
FAILURES: Final = frozenset({Outcome.NACKED, Outcome.REJECTED, Outcome.LEASE_EXPIRED})
"""The outcomes that say that a client could not do its part."""


class Tally(msgspec.Struct, omit_defaults=True, gc=False):
    """What happened in one queue, or in all, over some time.

    ``delivered`` counts leases, ``redelivered`` those of them that were not a delivery's first attempt; ``died`` the
    dead letters, whatever they died of. ``ack_classes`` is the histogram over ``ACK_BOUNDS_SECONDS`` (None: no ack),
    ``ack_ms`` the sum of all times from publish to ack. ``reasons`` are those of ``FAILURES``.
    """

    published: int = 0
    delivered: int = 0
    redelivered: int = 0
    acked: int = 0
    nacked: int = 0
    rejected: int = 0
    released: int = 0
    lease_expired: int = 0
    superseded: int = 0
    expired: int = 0
    redriven: int = 0
    discarded: int = 0
    late_ack: int = 0
    died: int = 0
    ack_ms: int = 0
    ack_classes: list[int] | None = None
    reasons: dict[str, int] = {}

    @property
    def failed(self) -> int:
        """Attempts that did not end in an ack: nacked, rejected, or run out of time."""
        return self.nacked + self.rejected + self.lease_expired

    @property
    def error_rate(self) -> float | None:
        """The share of failures among the attempts that ended; None where none did."""
        ended = self.failed + self.acked
        return self.failed / ended if ended else None

    def count_ack(self, milliseconds: int) -> None:
        """Count how long one ack took from its publish."""
        if not self.ack_classes:
            self.ack_classes = [0] * (len(_BOUNDS_MS) + 1)
        self.ack_classes[bisect_left(_BOUNDS_MS, milliseconds)] += 1
        self.ack_ms += milliseconds

    def count_reason(self, reason: str, count: int = 1) -> None:
        """Count a failure's reason; one too many is counted as ``OTHER``."""
        reason = reason[:REASON_CHARACTERS]
        if reason not in self.reasons and len(self.reasons) >= REASONS:
            reason = OTHER
        self.reasons[reason] = self.reasons.get(reason, 0) + count

    def add(self, other: Tally) -> None:
        """Add what another has counted."""
        # Spelled out: this is done several times a second for each queue in which something happens.
        self.published += other.published
        self.delivered += other.delivered
        self.redelivered += other.redelivered
        self.acked += other.acked
        self.nacked += other.nacked
        self.rejected += other.rejected
        self.released += other.released
        self.lease_expired += other.lease_expired
        self.superseded += other.superseded
        self.expired += other.expired
        self.redriven += other.redriven
        self.discarded += other.discarded
        self.late_ack += other.late_ack
        self.died += other.died
        self.ack_ms += other.ack_ms
        if other.ack_classes:
            classes = self.ack_classes or [0] * len(other.ack_classes)
            self.ack_classes = [a + b for a, b in zip(classes, other.ack_classes, strict=True)]
        for reason, count in other.reasons.items():
            self.count_reason(reason, count)

    def take(self, other: Tally) -> None:
        """Take away what another has counted, which was added before."""
        self.published -= other.published
        self.delivered -= other.delivered
        self.redelivered -= other.redelivered
        self.acked -= other.acked
        self.nacked -= other.nacked
        self.rejected -= other.rejected
        self.released -= other.released
        self.lease_expired -= other.lease_expired
        self.superseded -= other.superseded
        self.expired -= other.expired
        self.redriven -= other.redriven
        self.discarded -= other.discarded
        self.late_ack -= other.late_ack
        self.died -= other.died
        self.ack_ms -= other.ack_ms
        if other.ack_classes:
            classes = self.ack_classes or [0] * len(other.ack_classes)
            self.ack_classes = [a - b for a, b in zip(classes, other.ack_classes, strict=True)]
        for reason, count in other.reasons.items():
            # One that there was no room for when it was added was counted under another name.
            name = reason if reason in self.reasons else OTHER
            left = self.reasons.get(name, 0) - count
            if left > 0:
                self.reasons[name] = left
            else:
                self.reasons.pop(name, None)

    def ack_seconds(self, share: float) -> float | None:
        """The time within which that share (0 to 1) of the acks came, interpolated within its class; None: no ack.

        What took longer than every bound is told as the last bound.
        """
        classes = self.ack_classes or []
        total = sum(classes)
        if not total:
            return None
        wanted, below = share * total, 0
        for index, count in enumerate(classes):
            if count and below + count >= wanted:
                if index == len(ACK_BOUNDS_SECONDS):
                    break
                low = ACK_BOUNDS_SECONDS[index - 1] if index else 0.0
                high = ACK_BOUNDS_SECONDS[index]
                return low + (high - low) * max(0.0, wanted - below) / count
            below += count
        return ACK_BOUNDS_SECONDS[-1]


COUNTS: Final = tuple(
    name for name in Tally.__struct_fields__ if name not in ("ack_ms", "ack_classes", "reasons")
)
"""The fields that are plain counts, in their order."""


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of some."""
    sum_of_all = Tally()
    for tally in tallies:
        sum_of_all.add(tally)
    return sum_of_all


Event = tuple[str, Outcome, State, int, str, int, int, str, str]
"""A receipt that was written: the queue, the outcome, the delivery's state after it, its age in milliseconds since it
was published, the reason; the receipt's number, the delivery's ``seq``, the notification's id, and who did it.
"""


class Meter:
    """A store's counter: told within a transaction, counting once that is committed.

    ``receipt`` is told each receipt as it is written, and ``leased`` the queue, how many deliveries were leased, and
    how many of them not for the first time; then ``committed`` or ``undone`` says what became of them. ``journal`` is
    handed what was committed, and so is ``listener`` as long as somebody waits for something. That is counted together
    when it is drained, or when there is much of it: it costs the way of a notification a third of counting each.
    """

    __slots__ = (
        "_committed",
        "_events",
        "_leases",
        "_tallies",
        "journal",
        "leased",
        "listener",
        "receipt",
    )

    def __init__(self) -> None:
        self.journal: Callable[[Sequence[Event]], None] | None = None
        self.listener: Callable[[Sequence[Event]], None] | None = None
        self._events: list[Event] = []
        self._leases: list[tuple[str, int, int]] = []
        # The lists' own, since a call of ours would cost more than what it does.
        self.receipt: Final = self._events.append
        self.leased: Final = self._leases.append
        self._committed: list[Event] = []
        self._tallies: dict[str, Tally] = {}

    def take_over(self, other: Meter) -> None:
        """What another was told took place: it counts here."""
        self._events += other._events
        self._leases += other._leases
        other.undone()
        self.committed()

    def undone(self) -> None:
        """What was told since the last commit did not take place."""
        self._events.clear()
        self._leases.clear()

    def committed(self) -> None:
        """What was told since the last commit took place."""
        if self._events:
            if self.journal is not None:
                self.journal(self._events)
            if self.listener is not None:
                self.listener(self._events)
            self._committed += self._events
            self._events.clear()
            if len(self._committed) > TOGETHER:
                self._count()
        if self._leases:
            for queue, count, again in self._leases:
                tally = self._tallies.get(queue) or self._tally(queue)
                tally.delivered += count
                tally.redelivered += again
            self._leases.clear()

    def drain(self) -> dict[str, Tally]:
        """What happened since this was last asked, by queue."""
        self._count()
        tallies, self._tallies = self._tallies, {}
        return tallies

    def _count(self) -> None:
        told, self._committed = self._committed, []
        for (queue, outcome), count in Counter(map(_QUEUE_AND_OUTCOME, told)).items():
            tally, field = self._tally(queue), outcome.value
            setattr(tally, field, getattr(tally, field) + count)
        for event in told:
            outcome = event[1]
            if outcome is Outcome.PUBLISHED:
                continue
            tally = self._tallies[event[0]]
            if outcome is Outcome.ACKED:
                tally.count_ack(event[3])
                continue
            if outcome in FAILURES:
                tally.count_reason(event[4] or outcome.value)
            if event[2] is State.DEAD and outcome is not Outcome.LATE_ACK:
                tally.died += 1

    def _tally(self, queue: str) -> Tally:
        tally = self._tallies.get(queue)
        if tally is None:
            tally = self._tallies[queue] = Tally()
        return tally
