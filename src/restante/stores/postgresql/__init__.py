"""The store that many nodes share: one PostgreSQL, 15 or later. No extension is needed."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

import asyncpg

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
from restante.queries import Answer, LeasedTo, Now, Query
from restante.stores.postgresql import administration, papers, retention, server, upkeep
from restante.stores.postgresql.appending import Append
from restante.stores.postgresql.clocks import SharedTimeline
from restante.stores.postgresql.committer import Committer
from restante.stores.postgresql.connections import Database, refusal
from restante.stores.postgresql.leasing import Extend, Held, Lease
from restante.stores.postgresql.nodes import SharedNodes
from restante.stores.postgresql.now import SharedNow
from restante.stores.postgresql.outbox import PostgresqlOutbox
from restante.stores.postgresql.reads import Reads
from restante.stores.postgresql.settling import Settle
from restante.stores.postgresql.transactor import Reach, Reader, Transactor
from restante.stores.postgresql.unit import Memory, Unit

DURABLE: Final = True
"""For the conformance suite: what is written is there when the store is opened again."""
IDEMPOTENCY_RETENTION_SECONDS: Final = 7 * 86_400
TEST_URL: Final = "RESTANTE_TEST_POSTGRESQL"
"""The environment variable with the database for the conformance suite, which empties it."""
T = TypeVar("T")


class PostgresqlStore:
    """``async with PostgresqlStore(url) as store`` opens the database, and makes its tables or brings them up to date.

    Raises ``ConfigurationError`` where the database cannot be used as it is, ``StoreRefused`` where it cannot be
    trusted. ``clock`` takes the place of the database's, in tests.
    """

    def __init__(
        self,
        url: str,
        *,
        idempotency_retention_seconds: int = IDEMPOTENCY_RETENTION_SECONDS,
        jitter: Callable[[], float] = random.random,
        clock: Clock | None = None,
    ) -> None:
        self._url = url
        self._idempotency_retention_seconds = idempotency_retention_seconds
        self._jitter = jitter
        self._timeline = SharedTimeline(clock)
        self._reach = Reach()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        database = Database(self._url)
        self._token_secret = await server.prepare(
            database, self._url, self._timeline.wall_ms(time.time_ns() // 1_000_000)
        )
        self._memory = memory = Memory(self._timeline)
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._committer = Committer(Transactor(database, memory, self._reach, self._jitter))
        self._upkeep = Transactor(database, memory, self._reach, self._jitter)
        # Apart, since a partition takes long: leases must run out meanwhile.
        self._pruning = Transactor(database, memory, self._reach, self._jitter)
        # Many papers at once hold up nobody's lease, and nothing long holds them up.
        self._papers = Transactor(database, memory, self._reach, self._jitter)
        self._now = SharedNow(self._start, self._papers)
        self._beats = Transactor(database, memory, self._reach, self._jitter)
        self._nodes = SharedNodes(self._start, self._beats)
        self._reader = Reader(database, self._reach)
        self._intake = Transactor(database, memory, self._reach, self._jitter)
        self._outbox = PostgresqlOutbox(database, self._intake, self._start)
        self._retention = retention.Retention(self._idempotency_retention_seconds)
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
        """Never resolves: what became of a transaction is known, or told to be unknown, whatever fails."""
        return self._failed

    @property
    def available(self) -> bool:
        return self._reach.up

    @property
    def meter(self) -> Meter:
        return self._memory.meter

    @property
    def nodes(self) -> SharedNodes:
        return self._nodes

    @property
    def outbox(self) -> PostgresqlOutbox:
        return self._outbox

    def configure(self, changes: Sequence[Change]) -> asyncio.Future[None]:
        of_papers = [item for item in changes if isinstance(item, papers.PaperChange)]
        if len(of_papers) == len(changes):
            return self._start(
                self._papers.run(
                    lambda unit: papers.put(unit, of_papers),
                    repeatable=papers.is_repeatable(of_papers),
                )
            )
        return self._keep_up(lambda unit: administration.configure(unit, changes), repeatable=False)

    def append(self, drafts: Sequence[Draft]) -> asyncio.Future[list[Appended | RestanteError]]:
        return self._committer.submit(Append(drafts))

    def lease(self, request: LeaseRequest) -> asyncio.Future[Leased]:
        return self._committer.submit(Lease(request))

    def extend(self, ref: LeaseRef, lease_seconds: float) -> asyncio.Future[Settled]:
        return self._committer.submit(Extend(ref, lease_seconds))

    def settle(
        self, settlements: Sequence[Settlement]
    ) -> asyncio.Future[list[Settled | RestanteError]]:
        return self._committer.submit(Settle(settlements))

    def overdue(self, limit: int) -> asyncio.Future[dict[str, int]]:
        return self._keep_up(lambda unit: upkeep.overdue(unit, limit))

    def next_due(self) -> asyncio.Future[float | None]:
        return self._keep_up(upkeep.next_due)

    def redrive(
        self, queue: str, selection: Selection, actor: Actor, limit: int
    ) -> asyncio.Future[tuple[int, dict[str, int]]]:
        return self._keep_up(lambda unit: upkeep.redrive(unit, queue, selection, actor, limit))

    def discard(
        self, queue: str, selection: Selection, actor: Actor, limit: int, reason: str
    ) -> asyncio.Future[tuple[int, dict[str, int]]]:
        return self._keep_up(
            lambda unit: upkeep.discard(unit, queue, selection, actor, limit, reason)
        )

    def browse(self, query: Query[Answer]) -> asyncio.Future[Answer]:
        answer: asyncio.Future[Any]
        if isinstance(query, LeasedTo):
            answer = self._committer.submit(Held(query))
        elif isinstance(query, Now):
            answer = cast("asyncio.Future[Any]", self._now.ask())
        else:
            answer = self._start(self._reader.run(lambda c: Reads(c, self._timeline).answer(query)))
        return answer

    def prune(self, limit: int) -> asyncio.Future[int]:
        return self._start(self._pruning.run(lambda unit: self._retention.prune(unit, limit)))

    async def close(self) -> None:
        self._closed = True
        await self._committer.close()
        while self._under_way:
            await asyncio.wait(self._under_way)
        self._upkeep.close()
        self._pruning.close()
        self._papers.close()
        self._beats.close()
        self._intake.close()
        self._reader.close()

    def _keep_up(
        self, work: Callable[[Unit], Awaitable[T]], *, repeatable: bool = True
    ) -> asyncio.Future[T]:
        return self._start(self._upkeep.run(work, repeatable=repeatable))

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Begin it now; the future is its result, and cancelling that does not stop it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._closed:
            work.close()
            future.set_exception(ShuttingDown("the store is closed"))
            return future
        task = loop.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(lambda done: self._done(done, future))
        return future

    def _done(self, task: asyncio.Task[T], future: asyncio.Future[T]) -> None:
        self._under_way.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if future.done():
            return
        if error is None:
            future.set_result(task.result())
        else:
            future.set_exception(refusal(error) or error)


def open_for_tests(folder: Path, clock: Clock, jitter: Callable[[], float]) -> PostgresqlStore:
    """How the conformance suite opens this store: in the database of ``TEST_URL``, emptied for each new folder."""
    return _TestStore(os.environ[TEST_URL], folder, clock, jitter)


class _TestStore(PostgresqlStore):
    def __init__(self, url: str, folder: Path, clock: Clock, jitter: Callable[[], float]) -> None:
        super().__init__(url, clock=clock, jitter=jitter)
        self._marker = folder / "postgresql"

    async def __aenter__(self) -> Self:
        if not self._marker.exists():
            await _empty(self._url)
            self._marker.touch()
        return await super().__aenter__()


async def _empty(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("DROP SCHEMA IF EXISTS restante CASCADE")
    finally:
        await connection.close()
