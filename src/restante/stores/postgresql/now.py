"""The time on the timeline, asked for by many at once and looked at once for them.

Each look is a transaction, behind others that are waiting for their turn: were there one for each who asks, a node that
takes up a thousand groups would keep everybody else from that turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from restante.stores.postgresql.transactor import Transactor
from restante.stores.postgresql.unit import Unit


class SharedNow:
    """The answers to ``Now``; ``start`` is what begins the store's work.

    A look is shared by all who ask before it has begun, so that nobody is told of a time before the question.
    """

    def __init__(
        self, start: Callable[[Coroutine[Any, Any, int]], asyncio.Future[int]], to: Transactor
    ) -> None:
        self._start = start
        self._transactor = to
        self._next: asyncio.Future[int] | None = None

    def ask(self) -> asyncio.Future[int]:
        """A future of one's own: cancelling it takes the answer from nobody else."""
        shared = self._next
        if shared is None:
            shared = self._next = self._start(self._transactor.run(self._look))
            shared.add_done_callback(self._over)
        return asyncio.shield(shared)

    async def _look(self, unit: Unit) -> int:
        self._next = None
        # By a look that sees whether the database's clock was set.
        await unit.lock(())
        return unit.reading.now_ms

    def _over(self, done: asyncio.Future[int]) -> None:
        """It may have failed before it began."""
        if self._next is done:
            self._next = None
