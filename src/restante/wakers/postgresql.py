"""NOTIFY and LISTEN: nodes that share a PostgreSQL need nothing else to wake one another.

One channel for all queues, whose names are the payload: a node hears of queues that it has nobody for, and passes
over them, but coming and going of consumers costs the database nothing. A transaction with a NOTIFY takes a lock of
the whole server while it commits, so notifications never travel with others' transactions, and all that came up since
the last one leave as one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from restante.errors import ConfigurationError
from restante.ports import Clock, OnWake
from restante.wakers import ANSWER_SECONDS, Attempts, Hints, end

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any]
else:
    Connection = asyncpg.Connection

CHANNEL: Final = "restante_wake"
PAYLOAD_BYTES: Final = 7_900
"""A payload must be shorter than 8,000 bytes."""
_NOTIFY: Final = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload"
_LOST: Final = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_HOPELESS: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ClientConfigurationError,
)


class PostgresqlWaker:
    """A connection to listen on and one to notify on, both its own, at the database that ``url`` names."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._hints = Hints()
        self._attended: set[str] = set()

    @contextlib.asynccontextmanager
    async def listening(self, on_wake: OnWake) -> AsyncIterator[None]:
        try:
            first = await self._connect()
        except _HOPELESS as error:
            raise ConfigurationError(
                f"the waker's PostgreSQL refuses this node ({type(error).__name__}):"
                " give --waker a URL whose user, password and database it accepts"
            ) from error
        except ValueError as error:
            raise ConfigurationError(
                "the waker's URL cannot be read: say postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
            ) from error
        except _LOST:
            first = None
        if first is not None:
            await self._refuse_pooler(first)
        jobs = [
            asyncio.create_task(self._listen(on_wake, first)),
            asyncio.create_task(self._notify()),
        ]
        try:
            yield
        finally:
            await end(jobs)

    def wake(self, queues: Collection[str]) -> None:
        self._hints.add(queues)

    def attend(self, queue: str) -> None:
        self._attended.add(queue)

    def leave(self, queue: str) -> None:
        self._attended.discard(queue)

    async def _connect(self) -> Connection:
        connection: Connection = await asyncpg.connect(
            self._url,
            timeout=ANSWER_SECONDS,
            command_timeout=ANSWER_SECONDS,
            statement_cache_size=0,
            server_settings={"application_name": "restante waker"},
        )
        return connection

    async def _refuse_pooler(self, connection: Connection) -> None:
        try:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
        except _LOST:
            return
        if pid != connection.get_server_pid():
            connection.terminate()
            raise ConfigurationError(
                "there is a pooler such as PgBouncer between this node and PostgreSQL, and LISTEN does not work"
                " through it: name a direct connection with --waker, postgresql://... or redis:// or nats://"
            )

    async def _listen(self, on_wake: OnWake, connection: Connection | None) -> None:
        """Until cancelled: listen, and again after each loss. Starts with the connection there is, if any."""
        attempts = Attempts("postgresql", self._clock)

        def heard(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            queues = [queue for queue in str(payload).split(",") if queue in self._attended]
            if queues:
                on_wake(queues)

        while True:
            try:
                if connection is None:
                    connection = await self._connect()
                try:
                    await connection.add_listener(CHANNEL, heard)
                    attempts.succeeded()
                    on_wake(None)
                    await self._hold(connection)
                finally:
                    connection.terminate()
                    connection = None
            except (*_LOST, ValueError) as error:
                await attempts.failed(type(error).__name__)

    async def _hold(self, connection: Connection) -> None:
        """Until it is lost: see now and then whether there still is an answer."""
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        while not connection.is_closed():
            cancel = self._clock.call_later(ANSWER_SECONDS, ended.set)
            await ended.wait()
            cancel()
            ended.clear()
            await connection.execute("SELECT 1")
        raise ConnectionResetError("the connection has ended")

    async def _notify(self) -> None:
        attempts = Attempts("postgresql", self._clock)
        while True:
            try:
                connection = await self._connect()
                try:
                    notify = await connection.prepare(_NOTIFY)
                    while not connection.is_closed():
                        payloads = list(payloads_of(await self._hints.take()))
                        await notify.fetch(CHANNEL, payloads)
                        attempts.succeeded()
                finally:
                    connection.terminate()
            except (*_LOST, ValueError) as error:
                await attempts.failed(type(error).__name__)


def payloads_of(queues: Iterable[str]) -> Iterable[str]:
    """The names with commas between them, in pieces that a notification can carry."""
    piece = ""
    for queue in queues:
        if piece and len(piece) + 1 + len(queue) > PAYLOAD_BYTES:
            yield piece
            piece = ""
        piece = f"{piece},{queue}" if piece else queue
    if piece:
        yield piece
