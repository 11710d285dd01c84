"""When an endpoint is left alone, and when it is tried again. Pure: the time and chance are handed in."""

from __future__ import annotations

from typing import Final

from restante.webhooks import Circuit

FAILURES: Final = 5
"""So many in a row, and the endpoint is left alone for a while."""
COOL_DOWN_SECONDS: Final = 1.0
COOL_DOWN_MAXIMUM_SECONDS: Final = 60.0
PAUSE_MAXIMUM_SECONDS: Final = 3_600.0
"""The longest that an endpoint may ask for by Retry-After."""


class Breaker:
    """The circuit of one endpoint. ``now`` is monotonic seconds, ``jitter`` in [0, 1).

        CLOSED --- 5 failures in a row, or "not now" (429, 503, ...) ---> OPEN
        OPEN ----- the cool-down is over -------------------------------> HALF_OPEN
        HALF_OPEN  the one probe fails ---------------------------------> OPEN, for longer
        any ------ success ---------------------------------------------> CLOSED

    What was under way when it opened still comes in: a success closes it, a failure has been counted already.
    """

    __slots__ = ("_failures", "_openings", "_until")

    def __init__(self) -> None:
        self._failures = 0
        self._openings = 0
        self._until = 0.0

    def state(self, now: float) -> Circuit:
        if not self._openings:
            return Circuit.CLOSED
        return Circuit.OPEN if now < self._until else Circuit.HALF_OPEN

    def wait_seconds(self, now: float) -> float:
        """How long it stays open."""
        return max(0.0, self._until - now) if self._openings else 0.0

    def succeeded(self) -> None:
        self._failures = self._openings = 0

    def failed(self, now: float, jitter: float) -> None:
        match self.state(now):
            case Circuit.CLOSED:
                self._failures += 1
                if self._failures >= FAILURES:
                    self._open(now, jitter)
            case Circuit.HALF_OPEN:
                self._open(now, jitter)
            case Circuit.OPEN:
                pass

    def throttled(self, now: float, jitter: float, retry_after_seconds: float = 0.0) -> float:
        """It takes no more for now: open for as long as it asks, at least for the cool-down; how long that is."""
        if self.state(now) is not Circuit.OPEN:
            self._open(now, jitter)
        asked = min(retry_after_seconds, PAUSE_MAXIMUM_SECONDS)
        self._until = max(self._until, now + asked)
        return self._until - now

    def _open(self, now: float, jitter: float) -> None:
        # Half of it is chance, so that endpoints which failed together are not tried together.
        longest = min(COOL_DOWN_SECONDS * 2**self._openings, COOL_DOWN_MAXIMUM_SECONDS)
        self._openings = min(self._openings + 1, 16)
        self._until = now + longest * (1 + jitter) / 2
