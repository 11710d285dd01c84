"""What is sent out unasked goes to each destination from one node at a time, and again later where it was not taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from restante.errors import PaperChanged, ShuttingDown, StoreError
from restante.logs import get_logger
from restante.ports import Clock

_log = get_logger(__name__)

LOOK_SECONDS: Final = 15.0
"""How often to look for what another node has put down and not sent."""
CLAIM_SECONDS: Final = 60
"""How long a node may take that was cut off or has died, before another takes its place."""
RETRY_SECONDS: Final = 5
CLOCKS_APART_MS: Final = 300_000
"""Nodes' clocks are no further apart; what is further ahead was put by a clock that has been set back since."""


def retry_seconds(tries: int, most: int) -> int:
    """How long to wait after so many tries (from 1) that failed: twice as long each time, at most so long."""
    seconds: int = RETRY_SECONDS * 2 ** min(tries - 1, 20)
    return min(most, seconds)


def ahead_ms(at_ms: int, now_ms: int, most_seconds: int) -> int:
    """How far off a time is; 0 where it is past, or further off than any node's clock can have put it."""
    ahead = at_ms - now_ms
    return ahead if 0 < ahead <= most_seconds * 1_000 + CLOCKS_APART_MS else 0


async def deliver(
    what: str,
    destination: str,
    clock: Clock,
    told: asyncio.Event,
    send_due: Callable[[], Awaitable[float]],
) -> None:
    """Until cancelled: have sent what is due, then wait until something is, or may be.

    ``send_due`` sends what may be sent and returns the seconds until there may be more; ``told`` is set when there is.
    """
    while True:
        told.clear()
        pause = LOOK_SECONDS
        try:
            pause = await send_due()
        except PaperChanged:
            continue  # another node was faster: look at what it did
        except ShuttingDown:
            return
        except StoreError as error:
            _log.warning(f"{what}.store_error", to=destination, error=str(error))
        except Exception:  # noqa: BLE001 (logged; the next may be sent)
            _log.exception(f"{what}.failed", to=destination)
        cancel = clock.call_later(pause, told.set)
        try:
            await told.wait()
        finally:
            cancel()
