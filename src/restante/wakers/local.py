"""The waker of a node that is alone: there is nobody else to tell."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection

from restante.ports import OnWake


class LocalWaker:
    """Does nothing, for there is nothing to do."""

    @contextlib.asynccontextmanager
    async def listening(self, on_wake: OnWake) -> AsyncIterator[None]:
        yield

    def wake(self, queues: Collection[str]) -> None:
        pass

    def attend(self, queue: str) -> None:
        pass

    def leave(self, queue: str) -> None:
        pass
