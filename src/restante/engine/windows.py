"""What happened over the last minutes: pure sums in buckets of some seconds, of which the old ones are forgotten."""

from __future__ import annotations

from collections import deque
from typing import Final

from restante.metering import Tally, total
from restante.watching import MINUTE_SECONDS, RECENT_SECONDS

BUCKET_SECONDS: Final = 10
_MINUTE: Final = MINUTE_SECONDS // BUCKET_SECONDS
_RECENT: Final = RECENT_SECONDS // BUCKET_SECONDS


class Window:
    """The last ``RECENT_SECONDS`` of one queue. Buckets are told by their number: seconds // ``BUCKET_SECONDS``."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, Tally]] = deque()

    def add(self, bucket: int, tally: Tally) -> None:
        """Count what happened in that bucket, which is the newest."""
        if not self._buckets or self._buckets[-1][0] < bucket:
            self._buckets.append((bucket, Tally()))
        self._buckets[-1][1].add(tally)

    def forget(self, bucket: int) -> bool:
        """Drop what is too old as of that bucket; whether anything is left."""
        while self._buckets and self._buckets[0][0] <= bucket - _RECENT:
            self._buckets.popleft()
        return bool(self._buckets)

    def minute(self, bucket: int) -> Tally:
        """The sum over the last ``MINUTE_SECONDS``, up to and with that bucket."""
        return total(tally for at, tally in self._buckets if at > bucket - _MINUTE)

    def recent(self, bucket: int) -> Tally:
        """The sum over the last ``RECENT_SECONDS``, up to and with that bucket."""
        return total(tally for at, tally in self._buckets if at > bucket - _RECENT)
