"""The timeline of a store that lives in one process."""

from __future__ import annotations

from restante.ports import Clock


class Timeline:
    """Milliseconds that never jump, for deadlines that outlive the process.

    It starts at the wall clock, or where it last stood if the wall clock went back meanwhile, and from then on runs
    with the monotonic clock alone. A wall clock that jumps while the process runs ends no lease early and none late.
    """

    def __init__(self, clock: Clock, last_ms: int = 0) -> None:
        self._clock = clock
        self._base_ms = max(clock.wall_ms(), last_ms)
        self._started = clock.monotonic()

    def now_ms(self) -> int:
        return self._base_ms + int((self._clock.monotonic() - self._started) * 1_000)

    def wall_ms(self) -> int:
        """The wall clock, for what people read."""
        return self._clock.wall_ms()
