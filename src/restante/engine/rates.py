"""How often a client may ask: a token bucket for each client, on this node.

A request beyond it is refused before anything is read for it. What comes on a stream is held back instead: refused, a
settlement would be lost, and each try of a redelivery counts.
"""

from __future__ import annotations

from typing import Final

from restante.bucket import Bucket
from restante.errors import TooManyRequests
from restante.model import Actor, Role
from restante.ports import Clock

CLIENT_REQUESTS_PER_SECOND: Final = 5_000.0
BURST_SECONDS: Final = 2.0
_SWEEP: Final = 1_000
"""Clients remembered before those are forgotten who have not asked for a while."""


class Rates:
    """``per_second`` is for each client, with two seconds' worth at once; 0 sets no limit.

    Publishers and administrators have none: they are the operator's own.
    """

    def __init__(self, clock: Clock, per_second: float) -> None:
        self._clock = clock
        self._per_second = per_second
        self._buckets: dict[str, Bucket] = {}
        self._sweep_at = _SWEEP

    def admit(self, actor: Actor) -> None:
        """Count a request. Raises ``TooManyRequests``, and then it does not count."""
        if actor.role is not Role.CLIENT or not self._per_second:
            return
        now = self._clock.monotonic()
        bucket = self._bucket(actor.name, now)
        if not bucket.available(now):
            raise TooManyRequests(actor.name, self._per_second, bucket.wait_seconds(now))
        bucket.take(1, now)

    def wait_seconds(self, actor: Actor) -> float:
        """Count what came on a stream; for how long it has to wait before it is carried out, and the next is read."""
        if actor.role is not Role.CLIENT or not self._per_second:
            return 0.0
        now = self._clock.monotonic()
        bucket = self._bucket(actor.name, now)
        wait_seconds = bucket.wait_seconds(now)
        bucket.take(1, now)
        return wait_seconds

    def _bucket(self, name: str, now: float) -> Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= self._sweep_at:
                self._buckets = {
                    other: one for other, one in self._buckets.items() if not one.full(now)
                }
                self._sweep_at = max(_SWEEP, 2 * len(self._buckets))
            bucket = self._buckets[name] = Bucket(self._per_second, now, BURST_SECONDS)
        return bucket
