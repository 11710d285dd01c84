"""How often somebody may fail to sign in: by address and by name, within bounded memory."""

from __future__ import annotations

import ipaddress
from typing import Final

from restante.bucket import Bucket
from restante.errors import TooManySignIns
from restante.ports import Clock

WINDOW_SECONDS: Final = 300.0
BY_ADDRESS: Final = 10
"""Failures within the window from one address; of IPv6 from one network of 64 bits, which one host may have whole."""
BY_NAME: Final = 30
"""More, since it shuts out the person too whose name it is."""
REMEMBERED: Final = 10_000


class Attempts:
    """An attempt counts before it is made, so that many at once are counted too; one that succeeds is given back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._addresses = _Buckets(BY_ADDRESS)
        self._names = _Buckets(BY_NAME)

    def begin(self, address: str, name: str) -> None:
        """Count an attempt. Raises ``TooManySignIns``, and then it does not count."""
        now = self._clock.monotonic()
        buckets = self._addresses.of(_network(address), now), self._names.of(name, now)
        if not all(bucket.available(now) for bucket in buckets):
            wait = max(bucket.wait_seconds(now) for bucket in buckets)
            raise TooManySignIns(f"too many attempts: wait {max(1, round(wait))} s")
        for bucket in buckets:
            bucket.take(1, now)

    def succeeded(self, address: str, name: str) -> None:
        """The attempt was no failure."""
        now = self._clock.monotonic()
        self._addresses.of(_network(address), now).take(-1, now)
        self._names.of(name, now).take(-1, now)


class _Buckets:
    def __init__(self, failures: int) -> None:
        self._failures = failures
        self._all: dict[str, Bucket] = {}

    def of(self, name: str, now: float) -> Bucket:
        bucket = self._all.get(name)
        if bucket is None:
            if len(self._all) >= REMEMBERED:
                kept = {other: one for other, one in self._all.items() if not one.full(now)}
                if len(kept) >= REMEMBERED:
                    del kept[next(iter(kept))]
                self._all = kept
            rate = self._failures / WINDOW_SECONDS
            bucket = self._all[name] = Bucket(rate, now, WINDOW_SECONDS)
        return bucket


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
