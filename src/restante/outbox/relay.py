"""Carrying an outbox over to a server: published first, deleted after the answer, each under its own key.

Killed at any point, it begins again with what is still there: what was published already is recognised by its
idempotency key, the row's id, and nothing comes of it twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from restante.client import Client
from restante.client.http import UnexpectedAnswer, Unreachable
from restante.errors import (
    InvalidInput,
    NotFound,
    RestanteError,
    StoreError,
    TooManyConnections,
    TooSlow,
)
from restante.logs import get_logger
from restante.model import Publication
from restante.written import Written, check_written

_log = get_logger(__name__)

BATCH: Final = 200
BATCH_BYTES: Final = 4 * 1024 * 1024
SHORTEST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0


class Source(Protocol):
    """The rows that wait. Both wait for their database, and are called in a thread."""

    def waiting(self, limit: int) -> list[Written]:
        """The first rows, in their order."""

    def settle(self, published: Sequence[str], refused: dict[str, str]) -> None:
        """Delete those, and mark these with why."""


class Carried(msgspec.Struct):
    """What a relay has done so far."""

    published: int = 0
    refused: int = 0


class Relay:
    """``run`` carries over until ``stop`` is set, or with ``once`` until nothing waits.

    Raises what no waiting will mend: ``Unauthenticated``, ``Forbidden``. A server or a database that is away is
    asked again, after pauses of half a second to half a minute.
    """

    def __init__(
        self, source: Source, client: Client, *, look_seconds: float, stop: asyncio.Event
    ) -> None:
        self.carried = Carried()
        self._source = source
        self._client = client
        self._look_seconds = look_seconds
        self._stop = stop

    async def run(self, *, once: bool = False) -> Carried:
        """See the class."""
        pause = SHORTEST_PAUSE_SECONDS
        while not self._stop.is_set():
            try:
                found = await self._carry()
            except RestanteError as error:
                if not _passes(error):
                    raise
                _log.warning("relay.waits", seconds=pause, reason=error.detail)
                await self._wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            pause = SHORTEST_PAUSE_SECONDS
            if not found:
                if once:
                    break
                await self._wait(self._look_seconds)
        return self.carried

    async def _carry(self) -> bool:
        """Carry some over; whether there was anything. Raises what the server answers that concerns all of it."""
        rows = _first(await asyncio.to_thread(self._source.waiting, BATCH))
        if not rows:
            return False
        refused: dict[str, str] = {}
        asked: list[tuple[Written, Publication]] = []
        for written in rows:
            try:
                publication = check_written(written)
            except InvalidInput as error:
                refused[written.id] = error.detail
            else:
                key = msgspec.structs.replace(publication, idempotency_key=written.id)
                asked.append((written, key))
        published: list[str] = []
        failure: RestanteError | None = None
        results = await self._publish([publication for _, publication in asked])
        for (written, _), result in zip(asked, results, strict=True):
            if not isinstance(result, RestanteError):
                published.append(written.id)
            elif isinstance(result, InvalidInput | NotFound):
                refused[written.id] = result.detail
            else:
                failure = failure or result
        await asyncio.to_thread(self._source.settle, published, refused)
        self.carried.published += len(published)
        self.carried.refused += len(refused)
        for written in rows:
            if written.id in refused:
                target = {"queue": written.queue} if written.queue else {"topic": written.topic}
                _log.warning("relay.refused", id=written.id, **target, reason=refused[written.id])
        if failure is not None:
            raise failure
        return True

    async def _publish(self, publications: list[Publication]) -> Sequence[object]:
        if len(publications) > 1:
            return await self._client.publish_batch(publications)
        results: list[object] = []
        for publication in publications:  # one, whose body may be too large for a batch, or none
            try:
                results.append(await self._client.publish_one(publication))
            except (InvalidInput, NotFound) as error:
                results.append(error)
        return results

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return


def _first(rows: list[Written]) -> list[Written]:
    """As many as go into one request, one at least."""
    size = 0
    for count, written in enumerate(rows):
        size += len(written.body)
        if count and size > BATCH_BYTES:
            return rows[:count]
    return rows


def _passes(error: RestanteError) -> bool:
    """Whether waiting may mend it."""
    if isinstance(error, UnexpectedAnswer):
        return error.answered >= 500 or error.answered == 429  # a proxy's, whose server is away
    return isinstance(error, StoreError | Unreachable | TooManyConnections | TooSlow)
