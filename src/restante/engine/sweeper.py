"""Time's hand: ends leases that ran out, lets scheduled deliveries go, prunes what is past its retention."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from restante.engine.wakeups import Wakeups
from restante.errors import ShuttingDown, StoreError
from restante.logs import get_logger
from restante.ports import Clock, Store

_log = get_logger(__name__)

SWEEP_ROWS: Final = 500
PRUNE_ROWS: Final = 200
PRUNE_PAUSE_SECONDS: Final = 0.02
"""Between two small steps of pruning: the notifications on their way come first."""
SHORTEST_PAUSE_SECONDS: Final = 0.005


class Sweeper:
    """Two endless jobs, ``sweep`` and ``retain``. ``arm`` tells the first of something that falls due soon."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        wakeups: Wakeups,
        wake: Callable[[dict[str, int]], None],
        *,
        poll_interval_seconds: float,
        retention_interval_seconds: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._wakeups = wakeups
        self._wake = wake
        self._poll_interval_seconds = poll_interval_seconds
        self._retention_interval_seconds = retention_interval_seconds
        self._target = 0.0
        self._alarm: asyncio.Future[None] | None = None

    def arm(self, due_in_seconds: float) -> None:
        """Something falls due in that time: be there."""
        at = self._clock.monotonic() + due_in_seconds
        if at < self._target:
            self._target = at
            if self._alarm is not None and not self._alarm.done():
                self._alarm.set_result(None)

    async def sweep(self) -> None:
        """Until cancelled: do what is overdue, sleep until the next is, at most the poll interval."""
        last_poll = self._clock.monotonic()
        while True:
            try:
                # From here on ``arm`` is heard: what is committed after the look below sets a nearer target.
                self._target = self._clock.monotonic() + self._poll_interval_seconds
                ready = await self._store.overdue(SWEEP_ROWS)
                if ready:
                    self._wake(ready)
                    continue
                due = await self._store.next_due()
                if due is not None:
                    self._target = min(self._target, self._clock.monotonic() + due)
            except ShuttingDown:
                return
            except StoreError as error:
                _log.warning("sweeper.store_error", error=str(error))
            except Exception:  # noqa: BLE001 (logged; time must not stand still for one defect)
                _log.exception("sweeper.failed")
            if self._clock.monotonic() - last_poll >= self._poll_interval_seconds:
                last_poll = self._clock.monotonic()
                for queue in self._wakeups.attended():
                    self._wakeups.wake(queue)
            await self._sleep()

    async def _sleep(self) -> None:
        """Until the target, which ``arm`` may bring nearer."""
        while True:
            left = self._target - self._clock.monotonic()
            if left <= 0:
                return
            self._alarm = asyncio.get_running_loop().create_future()
            cancel = self._clock.call_later(max(left, SHORTEST_PAUSE_SECONDS), self._ring)
            try:
                await self._alarm
            finally:
                cancel()
                self._alarm = None

    def _ring(self) -> None:
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    async def retain(self) -> None:
        """Until cancelled: prune in small steps, now and then."""
        while True:
            await self._clock.wait(self._retention_interval_seconds)
            try:
                while await self._store.prune(PRUNE_ROWS) >= PRUNE_ROWS:
                    await self._clock.wait(PRUNE_PAUSE_SECONDS)
            except ShuttingDown:
                return
            except StoreError as error:
                _log.warning("retention.store_error", error=str(error))
            except Exception:  # noqa: BLE001 (logged; the next round may succeed)
                _log.exception("retention.failed")
