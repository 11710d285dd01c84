"""W1's loop, the same for every system: publishers that await their confirm, consumers that ack.

A lane is one publisher, one queue and one consumer. Its two connections are the system's own
business; what they share is here: when the publisher may publish, and what is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from restante.bench.processes import cpu_seconds, machine_busy_seconds
from restante.bench.stats import percentile

# A publisher that runs ahead of its consumer by this many waits. Otherwise a system that
# confirms faster than it delivers would spend the window on a backlog that nobody collects.
LANE_BACKLOG = 100


class LoadFailed(Exception):
    """A server answered with an error, or something that was not asked for."""


class Tally:
    """The counters of one run, and the first error of any connection."""

    def __init__(self) -> None:
        self.published = 0
        self.completed = 0
        self.running = True
        self.paused = False
        """Consumers wait meanwhile, and nobody publishes."""
        self.confirm_seconds: list[float] = []
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, reason: str) -> None:
        """Note why the run is worth nothing; the first reason stays. Ignored once it is over."""
        if self.running and not self.failure.done():
            self.running = False
            self.failure.set_exception(LoadFailed(reason))


class Lane:
    """The turn-taking of one publisher and one consumer."""

    __slots__ = ("_open", "_parked", "_sent_at", "publish", "tally")

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.publish: Callable[[], None] = _no_publisher
        self._open = 0
        self._parked = False
        self._sent_at = 0.0

    def begin(self) -> None:
        """Publish; from here on each confirm brings the next."""
        self._open += 1
        self._sent_at = time.perf_counter()
        self.publish()

    def go_on(self) -> None:
        """Publish again after a pause."""
        if self._parked:
            self._parked = False
            self.begin()

    def confirmed(self) -> None:
        """The publisher's connection has the confirm in hand."""
        tally = self.tally
        tally.published += 1
        tally.confirm_seconds.append(time.perf_counter() - self._sent_at)
        if not tally.running:
            return
        if self._open < LANE_BACKLOG and not tally.paused:
            self.begin()
        else:
            self._parked = True

    def completed(self) -> None:
        """The consumer's connection knows that one notification is acked."""
        self.tally.completed += 1
        self._open -= 1
        if self._parked and self.tally.running and not self.tally.paused:
            self._parked = False
            self.begin()


def _no_publisher() -> None:
    raise LoadFailed("a lane began before its publisher was connected")


class LaneFigures(msgspec.Struct):
    """What one window of W1 measured.

    `other_cpu_seconds` is what the rest of the machine used meanwhile: other programs, and kernel
    threads. Where it is much, the window says little. `store_cpu_seconds` and `waker_cpu_seconds` are
    what a database and a backplane had of `server_cpu_seconds`.
    """

    seconds: float
    published: int
    completed: int
    server_cpu_seconds: float
    generator_cpu_seconds: float
    other_cpu_seconds: float
    confirm_p50_seconds: float
    confirm_p99_seconds: float
    store_cpu_seconds: float = 0.0
    waker_cpu_seconds: float = 0.0


async def measure(
    tally: Tally,
    server_pids: list[int],
    *,
    warmup_seconds: float,
    seconds: float,
    store_pids: Sequence[int] = (),
    waker_pids: Sequence[int] = (),
) -> LaneFigures:
    """Watch running lanes for one window after a warm-up. Raises LoadFailed if any lane failed.

    `store_pids` and `waker_pids` are those of `server_pids` whose processor time is told apart too.
    """
    await _pass(tally, warmup_seconds)
    tally.confirm_seconds.clear()
    published, completed = tally.published, tally.completed
    busy = machine_busy_seconds()
    store_cpu, waker_cpu = cpu_seconds(store_pids), cpu_seconds(waker_pids)
    server_cpu, own_cpu = cpu_seconds(server_pids), time.process_time()
    began = time.perf_counter()
    await _pass(tally, seconds)
    took = time.perf_counter() - began
    own_cpu = time.process_time() - own_cpu
    server_cpu = cpu_seconds(server_pids) - server_cpu
    store_cpu, waker_cpu = cpu_seconds(store_pids) - store_cpu, cpu_seconds(waker_pids) - waker_cpu
    busy = machine_busy_seconds() - busy
    figures = LaneFigures(
        seconds=took,
        published=tally.published - published,
        completed=tally.completed - completed,
        server_cpu_seconds=server_cpu,
        generator_cpu_seconds=own_cpu,
        other_cpu_seconds=max(busy - server_cpu - own_cpu, 0.0),
        confirm_p50_seconds=percentile(tally.confirm_seconds or [0.0], 50),
        confirm_p99_seconds=percentile(tally.confirm_seconds or [0.0], 99),
        store_cpu_seconds=store_cpu,
        waker_cpu_seconds=waker_cpu,
    )
    tally.running = False
    if not figures.completed:
        raise LoadFailed("not one lifecycle was completed in the window")
    return figures


async def _pass(tally: Tally, seconds: float) -> None:
    done, _ = await asyncio.wait([tally.failure], timeout=seconds)
    for future in done:
        future.result()
