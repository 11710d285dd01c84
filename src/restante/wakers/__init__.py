"""Wakers: each module one, and here what those that reach over a network have in common.

A hint is never the only copy of anything, so what piles up may be thrown away: it costs others their poll interval.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, Final

from restante.logs import get_logger
from restante.ports import Clock

_log = get_logger(__name__)

HINTS: Final = 10_000
"""How many queues may be on their way out at once; hints of further ones are dropped."""
LINGER_SECONDS: Final = 2.0
"""How long a queue that nobody attends any longer stays subscribed: long-pollers mostly come back at once."""
ANSWER_SECONDS: Final = 5.0
"""How long a server may take to answer before it is taken for dead."""
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 2.0
_CANCEL_SECONDS: Final = 0.1


class Hints:
    """Names of queues, each once, taken all at once by whoever waits for them; at most ``limit``."""

    def __init__(self, limit: int | None = HINTS) -> None:
        self._names: set[str] = set()
        self._limit = limit
        self._some = asyncio.Event()

    def add(self, names: Collection[str]) -> None:
        if self._limit is None or len(self._names) < self._limit:
            self._names.update(names)
            # Who waits goes on in the loop's next turn: whatever is added until then leaves together.
            self._some.set()

    async def take(self) -> set[str]:
        """All of them, as soon as there are any."""
        await self._some.wait()
        self._some.clear()
        names, self._names = self._names, set()
        return names


class Attendance:
    """The queues that somebody on this node waits on: ``present``, and ``wanted`` with those just left.

    ``changed`` has those whose subscription is to be made or ended.
    """

    def __init__(self, clock: Clock) -> None:
        self.present: set[str] = set()
        self.wanted: set[str] = set()
        self.changed = Hints(None)
        self._clock = clock
        self._leaving: dict[str, Callable[[], None]] = {}

    def attend(self, queue: str) -> None:
        self.present.add(queue)
        cancel = self._leaving.pop(queue, None)
        if cancel is not None:
            cancel()
        elif queue not in self.wanted:
            self.wanted.add(queue)
            self.changed.add((queue,))

    def leave(self, queue: str) -> None:
        if queue in self.present:
            self.present.discard(queue)
            self._leaving[queue] = self._clock.call_later(LINGER_SECONDS, lambda: self._left(queue))

    def close(self) -> None:
        """Let no timer outlive the waker."""
        while self._leaving:
            _, cancel = self._leaving.popitem()
            cancel()

    def _left(self, queue: str) -> None:
        del self._leaving[queue]
        self.wanted.discard(queue)
        self.changed.add((queue,))


class Attempts:
    """Connecting again and again: how long to pause, and telling once that it is lost and once that it is back."""

    def __init__(self, waker: str, clock: Clock) -> None:
        self._waker = waker
        self._clock = clock
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._lost = False

    def succeeded(self) -> None:
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        if self._lost:
            self._lost = False
            _log.info("waker.back", waker=self._waker)

    async def failed(self, reason: str) -> None:
        """Pause before the next attempt. ``reason`` must be free of secrets: it is logged."""
        if not self._lost:
            self._lost = True
            _log.warning("waker.lost", waker=self._waker, reason=reason)
        # Jitter: nodes that lost the same server must not come back all at once.
        await self._clock.wait(self._pause_seconds * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
        self._pause_seconds = min(self._pause_seconds * 2, _LONGEST_PAUSE_SECONDS)


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Do all of it until one ends; then end the others, and raise what that one raised."""
    jobs = [asyncio.create_task(job) for job in work]
    try:
        # Not ``gather``: what a job raises because it was cancelled must not hide that we are.
        done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(jobs)
    for job in done:
        job.result()


async def end(jobs: Iterable[asyncio.Task[None]]) -> None:
    """Cancel them and wait until they are gone."""
    left = set(jobs)
    while left:
        for job in left:
            job.cancel()
        # Once is not always enough: libraries, and ``wait_for``, at times take a cancellation for themselves.
        done, left = await asyncio.wait(left, timeout=_CANCEL_SECONDS)
        for job in done:
            if not job.cancelled():
                job.exception()
