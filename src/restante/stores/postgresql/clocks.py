"""The time of a store that many nodes share: the database's, made never to jump.

Deadlines are told in milliseconds of a timeline that all nodes share: the database's clock plus an offset that is
kept in the database. A node that sees the database's clock run otherwise than its own did in the same span knows
that it was set (or that another server took over), and moves the offset by as much, once, for all: no lease ends
early by it and none late. A node whose own clock stood still, with its machine, is told from that by how far the
others have come meanwhile.
"""

from __future__ import annotations

import time
from typing import Final

from restante.ports import Clock

JUMP_MS: Final = 2_000
"""Differences up to this are drift, delay, or a standby's clock: they are let be."""


class Reading:
    """What one look at the database's clock said: ``wall_ms`` for people, ``now_ms`` on the shared timeline."""

    __slots__ = ("now_ms", "wall_ms")

    def __init__(self, wall_ms: int, now_ms: int) -> None:
        self.wall_ms = wall_ms
        self.now_ms = now_ms


class SharedTimeline:
    """The two clocks that are compared. ``clock`` takes the place of both in tests."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        """Seconds of this machine, those of its sleep included."""
        if self._clock is not None:
            return self._clock.monotonic()
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall_ms(self, server_ms: int) -> int:
        """The wall clock that counts: the database's, which has just been read."""
        return server_ms if self._clock is None else self._clock.wall_ms()


class Watch:
    """Watches over the database's clock, for transactions that follow one another.

    Those that run side by side have one each: what one has seen and corrected, the other cannot see before the COMMIT.
    """

    def __init__(self) -> None:
        self.steps = -1
        """How often the timeline had been corrected when it was last looked at; -1 before the first look."""
        self.last: tuple[int, float, float] | None = None
        """The last look: what it said, and when it was asked and answered."""

    def learn_from(self, other: Watch) -> None:
        """Begin with what ``other`` has seen, where this one has seen nothing yet."""
        if self.steps < 0:
            self.steps, self.last = other.steps, other.last

    def jumped_ms(self, wall_ms: int, asked: float, answered: float) -> int:
        """By how much the clock jumped since the last look, 0 for not.

        It was read between ``asked`` and ``answered``, by ``monotonic``. What a slow answer could explain is no jump.
        """
        last, self.last = self.last, (wall_ms, asked, answered)
        if last is None:
            return 0
        passed_ms = wall_ms - last[0]
        at_most = passed_ms - 1_000 * (asked - last[2])
        at_least = passed_ms - 1_000 * (answered - last[1])
        if at_least > JUMP_MS:
            return int(at_least)
        if at_most < -JUMP_MS:
            return int(at_most)
        return 0
