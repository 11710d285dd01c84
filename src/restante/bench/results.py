"""What a run found: results.json as it is written, and the figures the report derives from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from restante.bench.machine import MachineFacts
from restante.bench.specs import (
    IdleFigures,
    LaneFigures,
    ProbeFigures,
    SteadyFigures,
    Took,
    WakeFigures,
    WireFigures,
)
from restante.bench.stats import median


class LaneResult(msgspec.Struct):
    """W1 for one system, of which Restante has several ways: a window for each round."""

    system: str
    title: str
    version: str
    settings: str
    way: str = ""
    windows: list[LaneFigures] = []

    def of(self, figure: Callable[[LaneFigures], float]) -> float:
        """The median over the rounds."""
        return median([figure(window) for window in self.windows])

    @property
    def lifecycles_per_second(self) -> float:
        return self.of(lambda window: window.completed / window.seconds)

    @property
    def server_cpu_seconds_each(self) -> float:
        return self.of(lambda window: window.server_cpu_seconds / window.completed)

    @property
    def store_cpu_seconds_each(self) -> float:
        """What a database had of the server's."""
        return self.of(lambda window: window.store_cpu_seconds / window.completed)

    @property
    def waker_cpu_seconds_each(self) -> float:
        """What a backplane had of the server's."""
        return self.of(lambda window: window.waker_cpu_seconds / window.completed)

    @property
    def generator_cpu_seconds_each(self) -> float:
        return self.of(lambda window: window.generator_cpu_seconds / window.completed)

    @property
    def generator_utilisation(self) -> float:
        """The share of one core that the generator used; near 1 it was the limit."""
        return self.of(lambda window: window.generator_cpu_seconds / window.seconds)

    @property
    def other_utilisation(self) -> float:
        """The share of one core that the rest of the machine used meanwhile."""
        return self.of(lambda window: window.other_cpu_seconds / window.seconds)


class Backlog(msgspec.Struct):
    """W4 for one shape of backlog: the same probes before and after it was there."""

    queues: int
    notifications: int
    fill: Took
    empty: list[ProbeFigures]
    full: list[ProbeFigures]
    ready_empty_seconds: float
    ready_full_seconds: float
    store_bytes: int

    def both(self, figure: Callable[[ProbeFigures], float]) -> tuple[float, float]:
        """The median of a figure on the empty store and on the full one."""
        empty = median([figure(probe) for probe in self.empty])
        return empty, median([figure(probe) for probe in self.full])


class FanOutResult(msgspec.Struct):
    """W6: each publish of one body to all queues, and what the store grew by over them all."""

    queues: int
    body_bytes: int
    publishes: list[Took]
    grown_bytes: int


class TransportResult(msgspec.Struct):
    """One transport, compared with the others: see `workloads.transports`."""

    way: str
    title: str
    requests: str
    alone: WakeFigures
    steady: SteadyFigures
    wire: WireFigures
    idle: IdleFigures | None
    """None where no consumer waits."""

    @property
    def cpu_seconds_each(self) -> float:
        """The server's processor time for each notification, its publish over HTTP included."""
        return self.steady.server_cpu_seconds / max(self.steady.delivered, 1)

    @property
    def wire_bytes_each(self) -> float:
        """Bytes both ways for each notification with its ack."""
        return (self.wire.up_bytes + self.wire.down_bytes) / self.wire.notifications

    @property
    def idle_bytes_each(self) -> float | None:
        """The server's memory for each idle consumer; None where no consumer waits."""
        if self.idle is None:
            return None
        return (self.idle.rss_after_bytes - self.idle.rss_before_bytes) / self.idle.idle


class Neighbours(msgspec.Struct):
    """W7: the same steady load, alone and beside consumers that never read."""

    never_reading: int
    alone: SteadyFigures
    beside: SteadyFigures


class Results(msgspec.Struct):
    """One run. A workload that was not asked for, or failed, is None or empty; `wakes` and `idles` are by way.

    `setup` tells what Restante ran on, where that is more than one process with a file.
    """

    started_at: str
    seconds: float
    rounds: int
    scale: float
    machine: MachineFacts
    setup: str = ""
    lanes: list[LaneResult] = []
    missing_peers: list[str] = []
    wakes: dict[str, WakeFigures] = {}
    idles: dict[str, IdleFigures] = {}
    backlogs: list[Backlog] = []
    neighbours: dict[str, Neighbours] = {}
    transports: list[TransportResult] = []
    drain: Took | None = None
    fan_out: FanOutResult | None = None
    failures: list[str] = []


def per_operation(took: Took) -> float:
    """Seconds for each operation, with as many in flight as the workload keeps."""
    return took.seconds / took.operations


def cpu_per_operation(took: Took) -> float:
    """The server's processor time for each operation."""
    return took.server_cpu_seconds / took.operations


def median_took(all_took: Sequence[Took]) -> float:
    """The median of the seconds."""
    return median([took.seconds for took in all_took])
