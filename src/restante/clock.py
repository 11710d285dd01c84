"""The real clock: time as the machine tells it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class SystemClock:
    """The ``Clock`` of a running program."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        return asyncio.get_running_loop().call_later(seconds, callback).cancel
