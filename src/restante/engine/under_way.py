"""Batches whose results are still being committed: begun at once, asked for later, or never."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from restante.errors import RestanteError

R = TypeVar("R")


class UnderWay(ABC, Generic[R]):
    """A result for each item of a batch, or why there is none. Ask once, in one of the three ways."""

    __slots__ = ("_futures", "_results")

    def __init__(self, count: int) -> None:
        self._results: list[R | RestanteError | None] = [None] * count
        self._futures: list[asyncio.Future[Any]] = []

    def refuse(self, index: int, error: RestanteError) -> None:
        """That item's result is this."""
        self._results[index] = error

    @abstractmethod
    def known(self) -> list[R | RestanteError]:
        """The results, once nothing is awaited any more."""

    async def results(self) -> list[R | RestanteError]:
        """As ``known``, when all of them are there."""
        for future in self._futures:
            try:
                await asyncio.shield(future)
            except RestanteError:
                continue  # `known` says what becomes of it
        return self.known()

    def when_known(self, callback: Callable[[], None]) -> None:
        """Call back when all of them are there: what needs no task to wait for it."""
        left = len(self._futures)
        if not left:
            callback()

        def one_done(_: asyncio.Future[Any]) -> None:
            nonlocal left
            left -= 1
            if not left:
                callback()

        for future in self._futures:
            future.add_done_callback(one_done)
