"""Taking in what publishers wrote into the table ``outbox``, each in a transaction of theirs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import asyncpg

from restante.errors import RestanteError, StoreError
from restante.logs import get_logger
from restante.model import Appended, Draft
from restante.stores.postgresql.appending import Append
from restante.stores.postgresql.arrays import numbers
from restante.stores.postgresql.connections import Database
from restante.stores.postgresql.operations import play
from restante.stores.postgresql.transactor import Transactor
from restante.stores.postgresql.unit import Unit
from restante.written import Moved, Refused, Written

T = TypeVar("T")
_log = get_logger(__name__)

CHANNEL: Final = "restante_outbox"
MOVE_BYTES: Final = 16 * 1024 * 1024
"""Bodies moved by one transaction end here; the first is always moved, whatever its size."""
_OUTBOX_LOCK: Final = 0x52535447
_PAUSE_SECONDS: Final = 2.0
_LOST: Final = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of a connection that is told of its end between two statements
    ValueError,
)
_WAITING: Final = (
    "SELECT * FROM (SELECT position, id, publisher, content_type, body, queue, topic, attributes, ordering_key,"
    " collapse_key, deliver_after_seconds, expires_after_seconds,"
    " CASE WHEN isfinite(written_at) THEN extract(epoch FROM clock_timestamp() - written_at)::float8"
    " ELSE 'NaN' END AS waited,"
    " sum(length(body)) OVER (ORDER BY position) AS total, row_number() OVER (ORDER BY position) AS place"
    " FROM (SELECT * FROM restante.outbox WHERE refused IS NULL ORDER BY position LIMIT $1) o) o"
    " WHERE place = 1 OR total <= $2 ORDER BY position"
)

DraftsOf = Callable[[Sequence[Written]], Sequence[Draft | RestanteError]]


async def move(unit: Unit, limit: int, drafts_of: DraftsOf) -> Moved:
    """As ``Outbox.move``, within a transaction."""
    connection = unit.connection
    if not await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({_OUTBOX_LOCK})"):
        return Moved()
    rows = await connection.fetch(_WAITING, limit, MOVE_BYTES)
    if not rows:
        return Moved()
    waiting = [_written(row) for row in rows]
    drafts = drafts_of(waiting)
    append = Append([draft for draft in drafts if isinstance(draft, Draft)])
    (results,) = await play(unit, [append]) if append.drafts else ([],)
    appended = iter(results)
    moved: list[int] = []
    refused: list[tuple[int, Refused]] = []
    ready: dict[str, int] = {}
    for row, written, draft in zip(rows, waiting, drafts, strict=False):
        outcome: Appended | RestanteError = next(appended) if isinstance(draft, Draft) else draft
        if isinstance(outcome, StoreError):
            raise outcome
        if isinstance(outcome, RestanteError):
            refused.append((row["position"], Refused(written, outcome)))
        else:
            moved.append(row["position"])
            for queue, count in outcome.ready.items():
                ready[queue] = ready.get(queue, 0) + count
    await connection.execute(
        "DELETE FROM restante.outbox WHERE position = ANY($1::text::bigint[])", numbers(moved)
    )
    if refused:
        await connection.execute(
            "UPDATE restante.outbox o SET refused = u.reason FROM unnest($1::text::bigint[], $2::text[])"
            " AS u (position, reason) WHERE o.position = u.position",
            numbers(position for position, _ in refused),
            [one.error.detail for _, one in refused],
        )
    unit.written = unit.written or bool(moved or refused)
    left_over = len(drafts) < len(rows) or len(rows) == limit or _ended_by_bytes(rows)
    return Moved(len(moved), ready, [one for _, one in refused], more=left_over)


class PostgresqlOutbox:
    """The ``Outbox`` of a store. ``start`` begins a piece of work, and gives the future of its result."""

    def __init__(
        self,
        database: Database,
        transactor: Transactor,
        start: Callable[[Coroutine[Any, Any, Moved]], asyncio.Future[Moved]],
    ) -> None:
        self._database = database
        self._transactor = transactor
        self._start = start

    def move(self, limit: int, drafts_of: DraftsOf) -> asyncio.Future[Moved]:
        return self._start(self._transactor.run(lambda unit: move(unit, limit, drafts_of)))

    @contextlib.asynccontextmanager
    async def listening(self, on_written: Callable[[], None]) -> AsyncIterator[None]:
        """Through a pooler nobody can listen: then the looks alone find what was written."""
        if self._database.pooled:
            yield
            return
        listening = asyncio.create_task(self._listen(on_written))
        try:
            yield
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, on_written: Callable[[], None]) -> None:
        while True:
            try:
                connection = await self._database.connect()
            except _LOST:
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            ended = asyncio.Event()
            try:
                connection.add_termination_listener(lambda _, ended=ended: ended.set())
                await connection.add_listener(CHANNEL, lambda *_: on_written())
                on_written()
                await ended.wait()
            except _LOST as error:
                _log.debug("outbox.not_listening", error=str(error))
            finally:
                connection.terminate()
            await asyncio.sleep(_PAUSE_SECONDS)


def _written(row: Any) -> Written:
    return Written(
        id=row["id"],
        publisher=row["publisher"],
        content_type=row["content_type"],
        body=row["body"],
        queue=row["queue"],
        topic=row["topic"],
        attributes=row["attributes"],
        ordering_key=row["ordering_key"],
        collapse_key=row["collapse_key"],
        deliver_after_seconds=row["deliver_after_seconds"],
        expires_after_seconds=row["expires_after_seconds"],
        waited_seconds=max(row["waited"], 0.0),
    )


def _ended_by_bytes(rows: Sequence[Any]) -> bool:
    return len(rows) > 1 and rows[-1]["total"] > MOVE_BYTES // 2
