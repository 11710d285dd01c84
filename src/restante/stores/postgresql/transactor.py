"""Transactions that are tried until they took place.

Where a connection is lost before the COMMIT was sent, nothing has happened, and the same is tried again on another.
Where it is lost after, the ledger tells: if a receipt of the transaction is there, it took place. Only where the
database does not come back in time is the outcome told to be unknown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import asyncpg
import structlog

from restante.stores.postgresql.connections import (
    READING,
    CommitUnknown,
    Connection,
    Database,
    Lost,
    Slot,
)
from restante.stores.postgresql.unit import Evidence, Memory, Unit

T = TypeVar("T")
_log = structlog.get_logger(__name__)

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

    def told(self, error: BaseException | None) -> None:
        if error is None and not self.up:
            _log.info("store.reached_again")
        elif error is not None and self.up:
            _log.warning("store.unreachable", error=str(error))
        self.up = error is None


class Transactor:
    """Runs one transaction at a time over a connection of its own."""

    def __init__(
        self, database: Database, memory: Memory, reach: Reach, jitter: Callable[[], float]
    ) -> None:
        self._slot = Slot(database)
        self._memory = memory
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
        async with self._turn:
            return await self._run(work, repeatable=repeatable)

    async def _run(self, work: Callable[[Unit], Awaitable[T]], *, repeatable: bool) -> T:
        began = time.monotonic()
        until = began + (PATIENCE_SECONDS if self._reach.up else SHORT_PATIENCE_SECONDS)
        races = tries = 0
        while True:
            try:
                return await self._once(work, began + 2 * PATIENCE_SECONDS, repeatable=repeatable)
            except Lost as error:
                self._reach.told(error)
                if time.monotonic() >= until:
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
        unit: Unit | None = None
        evidence: Evidence | None = None
        results: list[T] = []
        try:
            async with self._slot.transaction() as connection:
                unit = Unit(connection, self._memory, self._jitter)
                results.append(await work(unit))
                if await unit.write():
                    evidence = unit.evidence()
                    await self._slot.commit(connection)
        except CommitUnknown as error:
            self._reach.told(error)
            if evidence is None and not repeatable:
                raise
            if not await self._took_place(evidence, until):
                raise Lost(str(error)) from error
        except BaseException:
            if unit is not None:
                unit.undo()
            raise
        self._reach.told(None)
        return results[0]

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
        self._free: asyncio.LifoQueue[Slot] = asyncio.LifoQueue()
        for slot in self._slots:
            self._free.put_nowait(slot)

    def close(self) -> None:
        for slot in self._slots:
            slot.drop()

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What ``work`` returns. Tried once more over a new connection; raises ``Lost``."""
        slot = await self._free.get()
        try:
            try:
                return await self._once(slot, work)
            except Lost:
                # It may have gone stale while nobody asked, by a restart of the database.
                return await self._once(slot, work)
        except Lost as error:
            self._reach.told(error)
            raise
        finally:
            self._free.put_nowait(slot)

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
