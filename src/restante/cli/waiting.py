"""Waiting for what others do: long polls, one behind the other, for as long as somebody wants to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from restante.cli import output
from restante.errors import RestanteError, StoreError
from restante.model import WAIT_SECONDS_MAXIMUM

T = TypeVar("T")
_PAUSE_SECONDS: Final = 1.0
_PROXY_STATUSES: Final = (502, 503, 504)
"""What a proxy answers while no server is behind it."""


async def wait_for(
    look: Callable[[float], Awaitable[T]], is_over: Callable[[T], bool], seconds: float
) -> T:
    """What ``look`` finds as soon as that is over, or when ``seconds`` have passed.

    It is told for how many seconds (0 to 60) the server is to hold its answer back. A server that is away meanwhile, to
    be restarted perhaps, is asked again: its error is raised only where the time is up.
    """
    now = asyncio.get_running_loop().time
    until = now() + seconds
    is_away = False
    while True:
        begun = now()
        held = min(max(until - begun, 0.0), WAIT_SECONDS_MAXIMUM)
        try:
            found = await look(held)
        except RestanteError as error:
            if not _is_passing(error) or now() >= until:
                raise
            if not is_away:
                output.note(f"{error.detail}: waiting for it")
            is_away = True
        else:
            is_away = False
            if is_over(found) or now() >= until:
                return found
        if now() - begun < held:
            # A server that is about to stop holds nothing back.
            await asyncio.sleep(min(_PAUSE_SECONDS, max(until - now(), 0.0)))


def _is_passing(error: RestanteError) -> bool:
    """Whether the server, its store or what is behind a proxy is away: for a while, as far as anybody knows."""
    from restante.client import UnexpectedAnswer, Unreachable

    if isinstance(error, UnexpectedAnswer):
        return error.answered in _PROXY_STATUSES
    return isinstance(error, Unreachable | StoreError)
