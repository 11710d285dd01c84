"""Group commit: many operations, one transaction, one fsync; futures resolved only after it.

Operations run on the event loop's thread: their statements work in SQLite's page cache and take microseconds, where
handing the interpreter's lock to and fro for each statement would take more than the statement. Only the COMMIT,
which waits for the disk, runs in the committer's own thread; what arrives meanwhile forms the next transaction.

A transaction that fails is rolled back, and its operations run again one by one, each in a transaction of its own,
so that one bad operation fails alone. An I/O error ends it all: what is on the disk is no longer known, a second
fsync may report success for pages that the kernel dropped (fsyncgate), so nothing more is accepted.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import apsw

from restante.errors import (
    OutcomeUnknown,
    RestanteError,
    ShuttingDown,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from restante.logs import get_logger

T = TypeVar("T")
_log = get_logger(__name__)

BATCH_OPERATIONS: Final = 256
PENDING_OPERATIONS: Final = 20_000

_BROKEN: Final = (
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
)


class Books(Protocol):
    """What is kept in memory beside the file, and must follow its transactions."""

    def flush(self) -> None:
        """Write what has changed, before the COMMIT."""

    def committed(self) -> None:
        """The transaction took place."""

    def undone(self) -> None:
        """Drop what was read or changed, after a ROLLBACK."""

    def make_room(self) -> None:
        """The disk is full: give back what can be given back."""

    @property
    def checkpoint_pages(self) -> int:
        """How long the log may grow before it is moved into the file."""


class Operation:
    """A piece of work and the future of its result. Runs again after a rollback: it must depend on the file alone."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future


class Committer:
    """Owns the writing connection. All methods are called on the event loop's thread."""

    def __init__(self, connection: apsw.Connection, books: Books) -> None:
        self._connection = connection
        self._books = books
        self._loop = asyncio.get_running_loop()
        self._pending: deque[Operation] = deque()
        self._retry: deque[Operation] = deque()
        self._running = False
        self._closing = False
        self._idle: asyncio.Future[None] | None = None
        self._log_pages = 0
        # In place of SQLite's own checkpoints, which pass over a failing fsync and try again at the next commit.
        connection.set_wal_hook(self._log_grew)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "restante-commit")
        self.failed: asyncio.Future[None] = self._loop.create_future()

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have ``work`` done in the next transaction; the future is resolved after its COMMIT."""
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closing or self.failed.done() or len(self._pending) >= PENDING_OPERATIONS:
            future.set_exception(self._refusal())
            return future
        self._pending.append(Operation(work, future))
        if not self._running:
            self._running = True
            # One turn of the loop later: all that arrived in this turn shares the transaction.
            self._loop.call_soon(self._next)
        return future

    async def close(self) -> None:
        """Commit what was submitted, accept no more, and end the thread."""
        self._closing = True
        if self._running:
            self._idle = self._loop.create_future()
            await self._idle
        self._thread.shutdown()

    def _refusal(self) -> StoreError:
        if self.failed.done():
            return StoreUnavailable("the store has failed; see the server's log")
        if self._closing:
            return ShuttingDown("the store is closing")
        return StoreUnavailable("too much is waiting to be written; try again")

    def _next(self) -> None:
        """Run the next transaction's operations and have it committed."""
        if self._retry:
            batch = [self._retry.popleft()]
        else:
            batch = [
                self._pending.popleft() for _ in range(min(len(self._pending), BATCH_OPERATIONS))
            ]
        if not batch:
            self._running = False
            if self._idle is not None:
                self._idle.set_result(None)
            return
        results: list[Any] = []
        try:
            before = self._connection.total_changes()
            self._connection.execute("BEGIN IMMEDIATE")
            for operation in batch:
                results.append(_run(operation))
            self._books.flush()
            if self._connection.total_changes() == before:
                # Nothing was written: there is nothing to wait for.
                self._connection.execute("COMMIT")
                self._resolve(batch, results)
                self._loop.call_soon(self._next)
                return
        except Exception as error:  # noqa: BLE001 (whatever it is: roll back, and tell the callers)
            self._roll_back(batch, error)
            return
        commit = self._loop.run_in_executor(self._thread, self._commit)
        commit.add_done_callback(lambda done: self._committed(batch, results, done))

    def _commit(self) -> apsw.Error | None:
        """In the committer's thread: make it durable; then, if the log is long, move it into the file.

        Returns what went wrong with the second, which takes nothing from the first.
        """
        self._connection.execute("COMMIT")
        if self._log_pages >= self._books.checkpoint_pages:
            try:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except (apsw.BusyError, apsw.FullError):
                # The log goes on growing until a later checkpoint finds the lock, or the room.
                return None
            except apsw.Error as error:
                return error
        return None

    def _log_grew(self, connection: apsw.Connection, database: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _committed(
        self,
        batch: list[Operation],
        results: list[Any],
        done: asyncio.Future[apsw.Error | None],
    ) -> None:
        error = done.exception()
        if error is None:
            self._resolve(batch, results)
            checkpoint_error = done.result()
            if checkpoint_error is not None:
                self._panic([], checkpoint_error, OutcomeUnknown("the disk failed"))
            else:
                self._next()
        elif isinstance(error, (apsw.FullError, apsw.BusyError)):
            # Known to be undone: the commit record was not written whole.
            self._roll_back(batch, error)
        else:
            self._panic(batch, error, OutcomeUnknown("the disk failed during the commit"))

    def _resolve(self, batch: list[Operation], results: list[Any]) -> None:
        self._books.committed()
        for operation, result in zip(batch, results, strict=True):
            if operation.future.done():
                continue
            if isinstance(result, Refused):
                operation.future.set_exception(result.error)
            else:
                operation.future.set_result(result)

    def _roll_back(self, batch: list[Operation], error: BaseException) -> None:
        if isinstance(error, _BROKEN):
            self._panic(batch, error, StoreUnavailable("the disk failed; nothing was stored"))
            return
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error as second:
            self._panic(batch, second, OutcomeUnknown("the disk failed during a rollback"))
            return
        self._books.undone()
        if isinstance(error, apsw.FullError):
            try:
                self._books.make_room()
            except apsw.Error as second:
                self._panic(batch, second, StoreUnavailable("the disk failed; nothing was stored"))
                return
        if len(batch) > 1:
            self._retry.extend(batch)
        elif not batch[0].future.done():
            match error:
                case apsw.FullError():
                    error = StoreFull("the disk is full")
                case apsw.BusyError():
                    error = StoreUnavailable("another program has locked the store; try again")
                case _:
                    _log.error("store.operation_failed", exc_info=error)
            batch[0].future.set_exception(error)
        self._loop.call_soon(self._next)

    def _panic(self, batch: list[Operation], error: BaseException, answer: StoreError) -> None:
        _log.critical("store.failed", error=str(error))
        self._books.undone()
        if not self.failed.done():
            self.failed.set_result(None)
        for operation in batch:
            if not operation.future.done():
                operation.future.set_exception(answer)
        for operation in (*self._retry, *self._pending):
            if not operation.future.done():
                operation.future.set_exception(self._refusal())
        self._retry.clear()
        self._pending.clear()
        self._running = False
        if self._idle is not None:
            self._idle.set_result(None)


class Refused:
    """An operation's own refusal: it wrote nothing, and fails alone."""

    __slots__ = ("error",)

    def __init__(self, error: RestanteError) -> None:
        self.error = error


def _run(operation: Operation) -> Any:
    try:
        return operation.work()
    except RestanteError as error:
        return Refused(error)
