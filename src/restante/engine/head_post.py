"""Sending heads of the log to one place: the newest only, one at a time, and never in the way of sealing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

_log = structlog.get_logger(__name__)

SEND_SECONDS: Final = 30.0
Tell = Callable[[str], Awaitable[None]]
"""Sends a signed head off this machine."""


class HeadPost:
    """A head that could not be sent is logged: the next one says all that it would have said."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._next: str | None = None
        self._work: asyncio.Task[None] | None = None

    def send(self, checkpoint: str) -> None:
        """Have this head sent, once the one that is under way is."""
        self._next = checkpoint
        if self._work is None:
            self._work = asyncio.create_task(self._send())

    async def close(self) -> None:
        """Send no more."""
        self._next = None
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def _send(self) -> None:
        try:
            while self._next is not None:
                checkpoint, self._next = self._next, None
                try:
                    async with asyncio.timeout(SEND_SECONDS):
                        await self._tell(checkpoint)
                except Exception as error:  # noqa: BLE001 (whatever it is: logged)
                    why = str(error) or type(error).__name__
                    _log.warning("log.head_not_sent", error=why)
        finally:
            self._work = None
