"""A store in memory: for tests of what is built on Restante. What it holds ends with the process."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from restante.changes import Change
from restante.errors import RestanteError, ShuttingDown
from restante.metering import Meter
from restante.model import (
    Actor,
    Appended,
    Draft,
    Leased,
    LeaseRef,
    LeaseRequest,
    Selection,
    Settled,
    Settlement,
)
from restante.ports import Clock
from restante.queries import Answer, Query
from restante.stores.memory.administration import Administration
from restante.stores.memory.answers import Answers
from restante.stores.memory.deliveries import Deliveries
from restante.stores.memory.tables import Tables
from restante.stores.memory.writes import Writes

DURABLE: Final = False
"""For the conformance suite: what is written is not there when the store is opened again."""
IDEMPOTENCY_RETENTION_SECONDS: Final = 7 * 86_400
T = TypeVar("T")


class MemoryStore:
    """``async with MemoryStore(clock) as store``: every rule of the durable stores, at once and without a disk.

    Each call is done before it returns; its future is there for the port's sake.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        idempotency_retention_seconds: int = IDEMPOTENCY_RETENTION_SECONDS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._idempotency_retention_seconds = idempotency_retention_seconds
        tables = self._tables = Tables(clock)
        deliveries = Deliveries(tables)
        self._writes = Writes(tables, deliveries, jitter)
        self._administration = Administration(
            tables,
            deliveries.unpark,
            deliveries.open_key,
            idempotency_retention_seconds,
        )
        self._answers = Answers(tables)
        self._token_secret = secrets.token_bytes(32)
        self._failed: asyncio.Future[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def token_secret(self) -> bytes:
        return self._token_secret

    @property
    def idempotency_retention_seconds(self) -> int:
        return self._idempotency_retention_seconds

    @property
    def failed(self) -> asyncio.Future[None]:
        """Never resolves: memory does not fail."""
        if self._failed is None:
            self._failed = asyncio.get_running_loop().create_future()
        return self._failed

    @property
    def available(self) -> bool:
        return not self.failed.done()

    @property
    def meter(self) -> Meter:
        return self._tables.meter

    @property
    def nodes(self) -> None:
        return None

    @property
    def outbox(self) -> None:
        return None

    def configure(self, changes: Sequence[Change]) -> asyncio.Future[None]:
        return self._done(self._administration.configure, changes)

    def append(self, drafts: Sequence[Draft]) -> asyncio.Future[list[Appended | RestanteError]]:
        return self._done(self._writes.append, drafts)

    def lease(self, request: LeaseRequest) -> asyncio.Future[Leased]:
        return self._done(self._writes.lease, request)

    def extend(self, ref: LeaseRef, lease_seconds: float) -> asyncio.Future[Settled]:
        return self._done(self._writes.extend, ref, lease_seconds)

    def settle(
        self, settlements: Sequence[Settlement]
    ) -> asyncio.Future[list[Settled | RestanteError]]:
        return self._done(self._writes.settle, settlements)

    def overdue(self, limit: int) -> asyncio.Future[dict[str, int]]:
        return self._done(self._writes.overdue, limit)

    def next_due(self) -> asyncio.Future[float | None]:
        return self._done(self._writes.next_due)

    def redrive(
        self, queue: str, selection: Selection, actor: Actor, limit: int
    ) -> asyncio.Future[tuple[int, dict[str, int]]]:
        return self._done(self._writes.redrive, queue, selection, actor, limit)

    def discard(
        self, queue: str, selection: Selection, actor: Actor, limit: int, reason: str
    ) -> asyncio.Future[tuple[int, dict[str, int]]]:
        return self._done(self._writes.discard, queue, selection, actor, limit, reason)

    def browse(self, query: Query[Answer]) -> asyncio.Future[Answer]:
        answer: asyncio.Future[Answer] = self._done(self._answers.answer, query)
        return answer

    def prune(self, limit: int) -> asyncio.Future[int]:
        return self._done(self._administration.prune, limit)

    async def close(self) -> None:
        self._closed = True

    def _done(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            if self._closed:
                raise ShuttingDown("the store is closed")
            future.set_result(work(*arguments))
        except RestanteError as error:
            future.set_exception(error)
        self._tables.meter.committed()
        return future


def open_for_tests(folder: Path, clock: Clock, jitter: Callable[[], float]) -> MemoryStore:
    """How the conformance suite opens this store."""
    return MemoryStore(clock, jitter=jitter)
