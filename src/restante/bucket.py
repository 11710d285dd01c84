"""A token bucket: so many calls a second, with some seconds' worth at once. Pure: the time is handed in."""

from __future__ import annotations

from typing import Final

_ROUNDING: Final = 1e-9
"""Who waited for a token until its time is not told that a billionth of it is missing."""


class Bucket:
    """``now`` is monotonic seconds. What is taken beyond what is there is owed, and paid off before the next."""

    __slots__ = ("_at", "_most", "_rate", "_tokens")

    def __init__(self, rate_per_second: float, now: float, burst_seconds: float = 1.0) -> None:
        self._rate = rate_per_second
        self._most = max(1.0, rate_per_second * burst_seconds)
        self._tokens = self._most
        self._at = now

    def available(self, now: float) -> int:
        """How many calls may be begun now."""
        self._fill(now)
        return max(0, int(self._tokens + _ROUNDING))

    def take(self, count: int, now: float) -> None:
        """So many were begun."""
        self._fill(now)
        self._tokens -= count

    def wait_seconds(self, now: float) -> float:
        """How long until one may be begun."""
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def full(self, now: float) -> bool:
        """Whether it is as good as new."""
        return self._tokens + (now - self._at) * self._rate >= self._most

    def _fill(self, now: float) -> None:
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
        self._at = now
