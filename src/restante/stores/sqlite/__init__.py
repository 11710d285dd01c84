"""The embedded store: one SQLite file, one process that owns it, group commit, every COMMIT fsynced."""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from restante.changes import Change
from restante.errors import RestanteError, ShuttingDown, StoreRefused
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
from restante.queries import Answer, LeasedTo, Query, Unsealed
from restante.stores.sqlite import schema
from restante.stores.sqlite.books import RESERVE_BYTES, Books
from restante.stores.sqlite.committer import Committer
from restante.stores.sqlite.deliveries import Deliveries
from restante.stores.sqlite.folder import FILE_NAME, lock
from restante.stores.sqlite.reads import Reads
from restante.stores.sqlite.upkeep import Upkeep
from restante.stores.sqlite.writes import Writes
from restante.timeline import Timeline

DURABLE: Final = True
"""For the conformance suite: what is written is there when the store is opened again."""
IDEMPOTENCY_RETENTION_SECONDS = 7 * 86_400
T = TypeVar("T")


class SqliteStore:
    """``async with SqliteStore(folder, clock) as store`` opens or makes ``folder/restante.db``.

    Raises ``StoreInUse`` when another process has it open and ``StoreRefused`` when the file cannot be trusted.
    ``reserve_bytes`` of the disk are kept free of new notifications, so that acks find room on a full one.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *,
        idempotency_retention_seconds: int = IDEMPOTENCY_RETENTION_SECONDS,
        reserve_bytes: int = RESERVE_BYTES,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._idempotency_retention_seconds = idempotency_retention_seconds
        self._reserve_bytes = reserve_bytes
        self._jitter = jitter
        self._closed = False

    async def __aenter__(self) -> Self:
        self._lock = lock(self._folder)
        try:
            self._open()
        except BaseException:
            self._lock.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _open(self) -> None:
        path = self._folder / FILE_NAME
        self._connection = schema.open_file(path)
        meta: dict[str, bytes] = dict(self._connection.execute("SELECT name, value FROM meta"))
        if "token_secret" not in meta:
            meta["token_secret"] = secrets.token_bytes(32)
            self._connection.execute(
                "INSERT INTO meta VALUES ('token_secret', ?)", (meta["token_secret"],)
            )
        self._token_secret = meta["token_secret"]
        timeline = Timeline(self._clock, int(meta.get("timeline", b"0")))
        books = self._books = Books(self._connection, timeline, path, self._reserve_bytes)
        deliveries = Deliveries(self._connection, books)
        self._writes = Writes(self._connection, books, deliveries, self._jitter)
        self._upkeep = Upkeep(
            self._connection, books, deliveries, self._idempotency_retention_seconds
        )
        self._committer = Committer(self._connection, books)
        self._reader = schema.open_reader(path)
        self._reads = Reads(self._reader, timeline)
        # Over the writing connection: what it answers has its place among the writes.
        self._ordered_reads = Reads(self._connection, timeline)
        self._reading = concurrent.futures.ThreadPoolExecutor(1, "restante-read")

    @property
    def token_secret(self) -> bytes:
        return self._token_secret

    @property
    def idempotency_retention_seconds(self) -> int:
        return self._idempotency_retention_seconds

    @property
    def failed(self) -> asyncio.Future[None]:
        return self._committer.failed

    @property
    def available(self) -> bool:
        return not self.failed.done()

    @property
    def meter(self) -> Meter:
        return self._books.meter

    @property
    def nodes(self) -> None:
        return None

    @property
    def outbox(self) -> None:
        return None

    def configure(self, changes: Sequence[Change]) -> asyncio.Future[None]:
        return self._submit(lambda: self._upkeep.configure(changes))

    def append(self, drafts: Sequence[Draft]) -> asyncio.Future[list[Appended | RestanteError]]:
        return self._submit(lambda: self._writes.append(drafts))

    def lease(self, request: LeaseRequest) -> asyncio.Future[Leased]:
        return self._submit(lambda: self._writes.lease(request))

    def extend(self, ref: LeaseRef, lease_seconds: float) -> asyncio.Future[Settled]:
        return self._submit(lambda: self._writes.extend(ref, lease_seconds))

    def settle(
        self, settlements: Sequence[Settlement]
    ) -> asyncio.Future[list[Settled | RestanteError]]:
        return self._submit(lambda: self._writes.settle(settlements))

    def overdue(self, limit: int) -> asyncio.Future[dict[str, int]]:
        return self._submit(lambda: self._upkeep.overdue(limit))

    def next_due(self) -> asyncio.Future[float | None]:
        return self._submit(self._upkeep.next_due)

    def redrive(
        self, queue: str, selection: Selection, actor: Actor, limit: int
    ) -> asyncio.Future[tuple[int, dict[str, int]]]:
        return self._submit(lambda: self._upkeep.redrive(queue, selection, actor, limit))

    def discard(
        self, queue: str, selection: Selection, actor: Actor, limit: int, reason: str
    ) -> asyncio.Future[tuple[int, dict[str, int]]]:
        return self._submit(lambda: self._upkeep.discard(queue, selection, actor, limit, reason))

    def browse(self, query: Query[Answer]) -> asyncio.Future[Answer]:
        if isinstance(query, LeasedTo | Unsealed):
            # What is not sealed may be thousands of rows, and another thread would fight for the lock at each of them.
            return self._submit(lambda: self._ordered_reads.answer(query))
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any]
        if self._closed:
            answer = loop.create_future()
            answer.set_exception(ShuttingDown("the store is closed"))
        else:
            answer = loop.run_in_executor(self._reading, self._reads.answer, query)
        return answer

    def prune(self, limit: int) -> asyncio.Future[int]:
        return self._submit(lambda: self._upkeep.prune(limit))

    async def close(self) -> None:
        await self._committer.close()
        self._closed = True
        self._reading.shutdown()
        self._reader.close()
        if not self._committer.failed.done():
            self._connection.close()
        self._lock.close()

    def _submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return self._committer.submit(work)


def open_for_tests(folder: Path, clock: Clock, jitter: Callable[[], float]) -> SqliteStore:
    """How the conformance suite opens this store."""
    return SqliteStore(folder, clock, jitter=jitter)


def check_file(folder: Path, *, full: bool = True) -> list[str]:
    """What is wrong with the store of ``folder``; empty when all is well.

    It is what SQLite's check finds, the full one or the quick, and with the full one what does not add up.

    Raises ``StoreInUse`` while a process has it open, ``StoreRefused`` when it cannot even be opened.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise StoreRefused(f"there is no store in {folder}")
    with lock(folder):
        connection = schema.open_file(path)
        try:
            problems = schema.check(connection, full=full)
            return problems or (schema.miscounted(connection) if full else [])
        finally:
            connection.close()
