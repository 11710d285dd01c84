"""Publishing batches: what of them is refused at once, and what is being stored."""

from __future__ import annotations

import asyncio

from restante.engine.under_way import UnderWay
from restante.errors import RestanteError
from restante.model import Appended


class Publishing(UnderWay[Appended]):
    """Notifications that are being stored. Not asking for the results undoes nothing."""

    __slots__ = ("_places", "_stored")

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._places: list[int] = []
        self._stored: asyncio.Future[list[Appended | RestanteError]] | None = None

    def stores(
        self, places: list[int], future: asyncio.Future[list[Appended | RestanteError]]
    ) -> None:
        """The results of the items at those places will be the future's, in that order."""
        self._places = places
        self._stored = future
        self._futures.append(future)

    def known(self) -> list[Appended | RestanteError]:
        """For each item its result, or why it is not stored. Raises what the store says of all it could not do."""
        results = self._results
        if self._stored is not None:
            for index, result in zip(self._places, self._stored.result(), strict=True):
                results[index] = result
        return [result for result in results if result is not None]
