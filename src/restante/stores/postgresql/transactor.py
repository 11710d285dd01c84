"""Transactions that are tried until they took place.

Where a connection is lost before the COMMIT was sent, nothing has happened, and the same is tried again on another.
Where it is lost after, the ledger tells: if a receipt of the transaction is there, it took place. Only where the
database does not come back in time is the outcome told to be unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

import asyncpg

from restante.logs import get_logger
from restante.stores.postgresql.clocks import Watch
from restante.stores.postgresql.connections import (
    READING,
    CommitUnknown,
    Connection,
    Database,
    Hindered,
    Lost,
    Slot,
)
from restante.stores.postgresql.unit import Evidence, Memory, Unit

T = TypeVar("T")
_log = get_logger(__name__)

PATIENCE_SECONDS: Final = 10.0
"""How long operations wait for a database that has just gone away."""
SHORT_PATIENCE_SECONDS: Final = 1.0
"""How long they wait for one that has been away before."""
_PAUSES_SECONDS: Final = (0.02, 0.1, 0.25, 0.5, 1.0)
_RACES: Final = 3


class Reach:
    """Whether the database could be reached when it was last asked."""

    def __init__(self) -> None:
        self.up = True
        self._failures = 0

    def told(self, error: BaseException | None) -> None:
        if isinstance(error, Hindered):
            return
        if error is None and not self.up:
            _log.info("store.reached_again")
        elif error is not None:
            self._failures += 1
            if self.up:
                _log.warning("store.unreachable", error=str(error))
        self.up = error is None

    @contextlib.asynccontextmanager
    async def turn(self, lock: asyncio.Lock | asyncio.Semaphore) -> AsyncIterator[None]:
        """Wait for one's turn. Raises ``Lost`` where the database has gone away meanwhile.

        Whoever stood in line while it was found to be away need not find out again, one after the other.
        """
        failures = self._failures
        async with lock:
            if not self.up and self._failures != failures:
                raise Lost("the database went away")
            yield


class Transactor:
    """Runs one transaction at a time over a connection of its own."""

    def __init__(
        self, database: Database, memory: Memory, reach: Reach, jitter: Callable[[], float]
    ) -> None:
        self._slot = Slot(database)
        self._memory = memory
        self._watch = Watch()
        self._reach = reach
        self._jitter = jitter
        self._turn = asyncio.Lock()

    def close(self) -> None:
        self._slot.drop()

    async def run(self, work: Callable[[Unit], Awaitable[T]], *, repeatable: bool = True) -> T:
        """What ``work`` returns, once what it did is committed durably.

        It may be run again, and must depend on the database alone. ``repeatable`` says that doing it twice does no
        harm, should nothing tell whether it took place. Raises ``Lost`` and ``CommitUnknown`` when time is up.
        """
        async with self._reach.turn(self._turn):
            return await self._run(work, repeatable=repeatable)

    async def _run(self, work: Callable[[Unit], Awaitable[T]], *, repeatable: bool) -> T:
        began = time.monotonic()
        until = began + (PATIENCE_SECONDS if self._reach.up else SHORT_PATIENCE_SECONDS)
        races = tries = 0
        while True:
            try:
                return await self._once(work, began + 2 * PATIENCE_SECONDS, repeatable=repeatable)
            except Lost as error:
                last = time.monotonic() >= until
                # A connection may have gone stale while nobody asked: that says nothing of the database yet.
                if last or tries:
                    self._reach.told(error)
                if last:
                    raise
                await asyncio.sleep(_PAUSES_SECONDS[min(tries, len(_PAUSES_SECONDS) - 1)])
                tries += 1
            except asyncpg.UniqueViolationError:
                # Another node has just taken the same idempotency key: now it is there to be seen.
                races += 1
                if races > _RACES:
                    raise

    async def _once(
        self, work: Callable[[Unit], Awaitable[T]], until: float, *, repeatable: bool
    ) -> T:
        """One try. ``Lost`` where it did not take place; ``CommitUnknown`` where that is not known ``until`` then."""
        self._watch.learn_from(self._memory.watch)
        unit: Unit | None = None
        evidence: Evidence | None = None
        done: list[tuple[Unit, T]] = []
        try:
            async with self._slot.transaction() as connection:
                unit = Unit(connection, self._memory, self._watch, self._jitter)
                done.append((unit, await work(unit)))
                if await unit.write():
                    evidence = unit.evidence()
                    await self._slot.commit(connection)
        except CommitUnknown as error:
            self._memory.forget()
            try:
                if not repeatable and (evidence is None or not evidence.number):
                    self._reach.told(error)
                    raise
                if not await self._took_place(evidence, until):
                    raise Lost(str(error)) from error
            except BaseException:
                if unit is not None:
                    unit.undo()
                raise
        except BaseException as error:
            if isinstance(error, Lost) and not isinstance(error, Hindered):
                self._memory.forget()
            if unit is not None:
                unit.undo()
            raise
        self._reach.told(None)
        self._memory.watch = copy.copy(self._watch)
        unit, result = done[0]
        self._memory.meter.take_over(unit.meter)
        return result

    async def _took_place(self, evidence: Evidence | None, until: float) -> bool:
        """Whether the transaction of that evidence was committed, durably. Raises ``CommitUnknown`` when time is up."""
        tries = 0
        while True:
            try:
                async with self._slot.transaction() as connection:
                    found = evidence is not None and await _is_there(connection, evidence)
                    # Something to commit, so that what was found is as durable as this commit: the log is one.
                    await connection.execute("SELECT pg_logical_emit_message(true, 'restante', '')")
                    await self._slot.commit(connection)
                self._reach.told(None)
                return found
            except (Lost, CommitUnknown) as error:
                self._reach.told(error)
                if time.monotonic() >= until:
                    raise CommitUnknown(str(error)) from error
                await asyncio.sleep(_PAUSES_SECONDS[min(tries, len(_PAUSES_SECONDS) - 1)])
                tries += 1


READERS: Final = 2


class Reader:
    """Asks without changing anything, over connections of its own, so that no long answer holds up a commit."""

    def __init__(self, database: Database, reach: Reach) -> None:
        self._reach = reach
        self._slots = [Slot(database, READING) for _ in range(READERS)]
        self._free = list(self._slots)
        self._turn = asyncio.Semaphore(READERS)

    def close(self) -> None:
        for slot in self._slots:
            slot.drop()

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What ``work`` returns. Tried once more over a new connection; raises ``Lost``."""
        async with self._reach.turn(self._turn):
            slot = self._free.pop()
            try:
                try:
                    answer = await self._once(slot, work)
                except Lost:
                    # It may have gone stale while nobody asked, by a restart of the database.
                    answer = await self._once(slot, work)
            except Lost as error:
                self._reach.told(error)
                raise
            finally:
                self._free.append(slot)
            self._reach.told(None)
            return answer

    async def _once(self, slot: Slot, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with slot.transaction() as connection:
            return await work(connection)


async def _is_there(connection: Connection, evidence: Evidence) -> bool:
    # The lock waits for the transaction in doubt, should it still be under way.
    await connection.execute(
        "SELECT 1 FROM restante.tallies WHERE queue = $1 FOR UPDATE", evidence.queue
    )
    if evidence.number:
        found = await connection.fetchval(
            "SELECT 1 FROM restante.receipts WHERE queue = $1 AND number = $2 AND digest = $3",
            evidence.queue,
            evidence.number,
            evidence.digest,
        )
    else:
        found = await connection.fetchval(
            "SELECT 1 FROM restante.deliveries WHERE queue = $1 AND seq = $2 AND fence = $3"
            " AND due IS NOT DISTINCT FROM $4",
            evidence.queue,
            evidence.seq,
            evidence.fence,
            evidence.due,
        )
    return found is not None
