"""Group commit: many operations, one transaction, one wait for the disk; futures resolved only after it.

Operations are gathered while the transaction before is under way, and reach the database together, each kind of
statement once, with arrays. Those of one queue take effect in the order in which they were submitted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from restante.errors import RestanteError, ShuttingDown, StoreUnavailable
from restante.logs import get_logger
from restante.stores.postgresql.connections import CommitUnknown, Hindered, Lost, refusal
from restante.stores.postgresql.operations import LookAgain, Operation, play
from restante.stores.postgresql.transactor import Transactor

_log = get_logger(__name__)

BATCH_OPERATIONS: Final = 256
BATCH_BYTES: Final = 32 * 1024 * 1024
PENDING_OPERATIONS: Final = 20_000
GATHER_SECONDS: Final = 0.005
"""How long, at most, the next transaction waits for those whom the last one answered, where they were several."""


class _Pending:
    __slots__ = ("future", "operation")

    def __init__(self, operation: Operation, future: asyncio.Future[Any]) -> None:
        self.operation = operation
        self.future = future


class Committer:
    """Does operations in transactions, one after the other. All methods are called on the event loop's thread."""

    def __init__(self, transactor: Transactor) -> None:
        self._transactor = transactor
        self._loop = asyncio.get_running_loop()
        self._pending: deque[_Pending] = deque()
        self._running: asyncio.Task[None] | None = None
        self._closing = False

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        """Have it done in the next transaction; the future is resolved after its COMMIT."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._closing:
            future.set_exception(ShuttingDown("the store is closing"))
        elif len(self._pending) >= PENDING_OPERATIONS:
            future.set_exception(StoreUnavailable("too much is waiting to be written; try again"))
        else:
            self._pending.append(_Pending(operation, future))
            if self._running is None:
                # It begins one turn of the loop later: all that arrives in this turn shares the transaction.
                self._running = self._loop.create_task(self._run())
        return future

    async def close(self) -> None:
        """Do what was submitted, and accept no more."""
        self._closing = True
        if self._running is not None:
            await self._running
        self._transactor.close()

    async def _run(self) -> None:
        pause = 0.0
        while True:
            if pause and len(self._pending) < BATCH_OPERATIONS:
                await asyncio.sleep(pause)
            if not self._pending:
                break
            batch = self._next_batch()
            began = self._loop.time()
            try:
                results = await self._transact([pending.operation for pending in batch])
            except Exception as error:  # noqa: BLE001 (whatever it is: tell those who wait)
                await self._one_by_one(batch, error)
            else:
                self._resolve(batch, results)
            # Whoever was answered mostly asks again at once. Without a pause it would be too late for the transaction
            # that comes next: half of all would wait for one while half is in the other, and each costs the same
            # locks, statements and commit for half as much. Who asks alone is never kept waiting.
            took = self._loop.time() - began
            pause = min(took, GATHER_SECONDS) if len(batch) > 1 else 0.0
        self._running = None

    def _next_batch(self) -> list[_Pending]:
        batch: list[_Pending] = []
        size = 0
        while self._pending and len(batch) < BATCH_OPERATIONS:
            size += self._pending[0].operation.size
            if batch and size > BATCH_BYTES:
                break
            batch.append(self._pending.popleft())
        return batch

    async def _one_by_one(self, batch: list[_Pending], error: Exception) -> None:
        """A transaction failed as a whole: what its connection is not to blame for fails alone."""
        if isinstance(error, (Lost, CommitUnknown)) or len(batch) == 1:
            answer = refusal(error)
            if answer is None:
                _log.error("store.operation_failed", exc_info=error)
            if isinstance(error, (Lost, CommitUnknown)) and not isinstance(error, Hindered):
                self._give_up()
            for pending in batch:
                if not pending.future.done():
                    pending.future.set_exception(answer or error)
            return
        for pending in batch:
            try:
                results = await self._transact([pending.operation])
            except Exception as second:  # noqa: BLE001 (as above)
                await self._one_by_one([pending], second)
            else:
                self._resolve([pending], results)

    def _give_up(self) -> None:
        """The database is away: what waits behind need not find that out again, one transaction after the other."""
        waiting, self._pending = self._pending, deque()
        for pending in waiting:
            if not pending.future.done():
                pending.future.set_exception(
                    StoreUnavailable("the database cannot be reached; try again")
                )

    def _resolve(self, batch: Sequence[_Pending], results: Sequence[Any]) -> None:
        again: list[_Pending] = []
        for pending, result in zip(batch, results, strict=True):
            if isinstance(result, LookAgain):
                again.append(pending)
            elif not pending.future.done():
                if isinstance(result, RestanteError):
                    pending.future.set_exception(result)
                else:
                    pending.future.set_result(result)
        self._pending.extendleft(reversed(again))

    async def _transact(self, operations: Sequence[Operation]) -> list[Any]:
        return await self._transactor.run(lambda unit: play(unit, operations))
