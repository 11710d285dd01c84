"""Rows that publishers wrote in transactions of their own: becoming notifications, and hearing of new ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final

import asyncpg

from restante.errors import RestanteError
from restante.model import Appended, Draft
from restante.stores.postgresql.appending import Append
from restante.stores.postgresql.connections import Connection, Database
from restante.stores.postgresql.operations import play
from restante.stores.postgresql.transactor import Transactor
from restante.stores.postgresql.unit import Unit
from restante.written import Moved, Refused, Written

CHANNEL: Final = "restante_outbox"
MOVE_BYTES: Final = 16 * 1024 * 1024
"""Bodies moved by one transaction stop here; the first is always moved."""
RECONNECT_SECONDS: Final = 1.0
_LOCK: Final = 0x5253544F
_WAITING: Final = (
    "SELECT id, publisher, content_type, body, queue, topic, attributes, ordering_key, collapse_key,"
    " deliver_after_seconds, expires_after_seconds,"
    " extract(epoch FROM clock_timestamp() - written_at)::double precision AS waited"
    " FROM restante.outbox WHERE position IN ("
    "  SELECT position FROM ("
    "   SELECT position, sum(octet_length(body)) OVER (ORDER BY position) - octet_length(body) AS before FROM ("
    "    SELECT position, body FROM restante.outbox WHERE refused IS NULL ORDER BY position LIMIT $1) w) f"
    "  WHERE before < $2)"
    " ORDER BY position FOR UPDATE SKIP LOCKED"
)
_DELETE: Final = "DELETE FROM restante.outbox WHERE id = ANY ($1::text[])"
_REFUSE: Final = (
    "UPDATE restante.outbox o SET refused = u.reason"
    " FROM unnest($1::text[], $2::text[]) AS u (id, reason) WHERE o.id = u.id"
)

DraftsOf = Callable[[Sequence[Written]], Sequence[Draft | RestanteError]]


class PostgresqlOutbox:
    """The table ``outbox``. ``start`` begins something whose result is the future's, come what may."""

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
        """As ``Outbox.move``. Tried again after a commit in doubt, it finds the rows gone or moves them."""
        return self._start(self._transactor.run(lambda unit: _move(unit, limit, drafts_of)))

    @contextlib.asynccontextmanager
    async def listening(self, on_written: Callable[[], None]) -> AsyncIterator[None]:
        """As ``Outbox.listening``. Behind a pooler nothing can be heard: there rows are found by looking."""
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
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._listen_once(on_written)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen_once(self, on_written: Callable[[], None]) -> None:
        """Until the connection ends."""
        ended = asyncio.Event()
        connection = await self._database.connect()
        try:
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(CHANNEL, lambda *_: on_written())
            on_written()
            await ended.wait()
        finally:
            connection.terminate()


async def _move(unit: Unit, limit: int, drafts_of: DraftsOf) -> Moved:
    connection = unit.connection
    if not await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({_LOCK})"):
        return Moved()
    rows = await _waiting(connection, limit)
    if not rows:
        return Moved()
    answers = drafts_of(rows)
    asked = list(zip(rows, answers, strict=False))
    drafts = [answer for _, answer in asked if isinstance(answer, Draft)]
    (appended,) = await play(unit, [Append(drafts)])
    results = iter(appended)
    moved: list[str] = []
    refused: list[Refused] = []
    ready: dict[str, int] = {}
    for written, answer in asked:
        result: Appended | RestanteError = next(results) if isinstance(answer, Draft) else answer
        if isinstance(result, RestanteError):
            refused.append(Refused(written, result))
            continue
        moved.append(written.id)
        for queue, count in result.ready.items():
            ready[queue] = ready.get(queue, 0) + count
    if moved:
        await connection.execute(_DELETE, moved)
    if refused:
        reasons = [one.error.detail for one in refused]
        await connection.execute(_REFUSE, [one.written.id for one in refused], reasons)
    unit.written = bool(asked)
    return Moved(len(moved), ready, refused, more=bool(asked))


async def _waiting(connection: Connection, limit: int) -> list[Written]:
    return [
        Written(
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
        for row in await connection.fetch(_WAITING, limit, MOVE_BYTES)
    ]
