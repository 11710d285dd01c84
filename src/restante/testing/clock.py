"""A clock that stands still until a test turns it."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Final

START_WALL_MS: Final = 1_767_225_600_000
"""2026-01-01T00:00:00.000Z."""


class FakeClock:
    """The ``Clock`` of tests: ``advance`` is the only thing that makes time pass, and nothing ever sleeps.

    It counts whole microseconds, so that a thousand small steps come out where one large step does.
    """

    def __init__(self, wall_ms: int = START_WALL_MS) -> None:
        self._now_us = 0
        self._wall_ms = wall_ms
        self._count = 0
        self._timers: list[tuple[int, int]] = []
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._watchers: list[tuple[int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self._now_us / 1_000_000

    def wall_ms(self) -> int:
        return self._wall_ms + self._now_us // 1_000

    async def wait(self, seconds: float) -> None:
        """Return once the clock has been advanced by ``seconds`` (0: at once)."""
        if seconds <= 0:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        cancel = self.call_later(seconds, lambda: _resolve(future))
        try:
            await future
        finally:
            cancel()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once within the ``advance`` that reaches that time."""
        self._count += 1
        number = self._count
        self._callbacks[number] = callback
        heapq.heappush(self._timers, (self._now_us + _us(max(0.0, seconds)), number))
        for timers, future in self._watchers:
            if len(self._callbacks) >= timers:
                _resolve(future)
        return lambda: _drop(self._callbacks, number)

    # -- what only a test may do ----------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass: what falls due meanwhile is called in the order of its time, each at its time.

        What it sets going in other tasks runs once the test awaits something.
        """
        target = self._now_us + _us(seconds)
        while self._timers and self._timers[0][0] <= target:
            at, number = heapq.heappop(self._timers)
            callback = self._callbacks.pop(number, None)
            if callback is not None:
                self._now_us = max(self._now_us, at)
                callback()
        self._now_us = target

    def jump_wall(self, seconds: float) -> None:
        """Move the wall clock alone, to and fro: what an operator or a time server does."""
        self._wall_ms += round(seconds * 1_000)

    @property
    def timers(self) -> int:
        """How many calls and waits are pending."""
        return len(self._callbacks)

    @property
    def next_in_seconds(self) -> float | None:
        """How long until the next pending call or wait; None when there is none."""
        while self._timers and self._timers[0][1] not in self._callbacks:
            heapq.heappop(self._timers)
        return (self._timers[0][0] - self._now_us) / 1_000_000 if self._timers else None

    async def until_armed(self, timers: int = 1) -> None:
        """Return once at least so many calls and waits are pending: somebody has begun to wait."""
        if len(self._callbacks) >= timers:
            return
        watcher = (timers, asyncio.get_running_loop().create_future())
        self._watchers.append(watcher)
        try:
            await watcher[1]
        finally:
            self._watchers.remove(watcher)


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _drop(callbacks: dict[int, Callable[[], None]], number: int) -> None:
    callbacks.pop(number, None)
