"""What happened over the last minutes: running sums of buckets of some seconds; old buckets are taken away again."""

from __future__ import annotations

from collections import deque
from typing import Final

from restante.metering import Tally
from restante.watching import MINUTE_SECONDS, RECENT_SECONDS

BUCKET_SECONDS: Final = 10
_MINUTE: Final = MINUTE_SECONDS // BUCKET_SECONDS
_RECENT: Final = RECENT_SECONDS // BUCKET_SECONDS


class Window:
    """The last ``RECENT_SECONDS`` of one queue. Buckets are told by their number: seconds // ``BUCKET_SECONDS``.

    ``minute`` and ``recent`` are sums over the buckets of that time, as of the last ``add`` or ``forget``.
    """

    __slots__ = ("_buckets", "_in_minute", "minute", "recent")

    def __init__(self) -> None:
        self.minute = Tally()
        self.recent = Tally()
        self._buckets: deque[tuple[int, Tally]] = deque()
        self._in_minute: deque[tuple[int, Tally]] = deque()

    def add(self, bucket: int, tally: Tally) -> None:
        """Count what happened in that bucket, which is the newest."""
        self.forget(bucket)
        if not self._buckets or self._buckets[-1][0] < bucket:
            newest = (bucket, Tally())
            self._buckets.append(newest)
            self._in_minute.append(newest)
        self._buckets[-1][1].add(tally)
        self.minute.add(tally)
        self.recent.add(tally)

    def forget(self, bucket: int) -> bool:
        """Take away what is too old as of that bucket; whether anything is left."""
        while self._in_minute and self._in_minute[0][0] <= bucket - _MINUTE:
            self.minute.take(self._in_minute.popleft()[1])
        while self._buckets and self._buckets[0][0] <= bucket - _RECENT:
            self.recent.take(self._buckets.popleft()[1])
        return bool(self._buckets)
