"""Waiting for what others do: long polls, one behind the other, for as long as somebody wants to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from restante.model import WAIT_SECONDS_MAXIMUM

T = TypeVar("T")
_PAUSE_SECONDS: Final = 1.0


async def wait_for(
    look: Callable[[float], Awaitable[T]], is_over: Callable[[T], bool], seconds: float
) -> T:
    """What ``look`` finds as soon as that is over, or when ``seconds`` have passed.

    It is told for how many seconds (0 to 60) the server is to hold its answer back.
    """
    now = asyncio.get_running_loop().time
    until = now() + seconds
    while True:
        begun = now()
        held = min(max(until - begun, 0.0), WAIT_SECONDS_MAXIMUM)
        found = await look(held)
        if is_over(found) or now() >= until:
            return found
        if now() - begun < held:
            # A server that is about to stop holds nothing back.
            await asyncio.sleep(min(_PAUSE_SECONDS, max(until - now(), 0.0)))
