"""Sharded pub/sub of Redis (7 and later) and Valkey, on one server or on a cluster.

One channel for each queue, subscribed while somebody on this node waits on it. A server that is no cluster's takes
the same commands, so there is one way for both: everything is first asked of the server that the URL names, and where
a cluster answers MOVED, that slot's channels go to the server it tells of. A cluster that reshards ends subscriptions
by itself; asking again finds out where they live now. So no map of the cluster is ever fetched, or out of date.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    AuthenticationError,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from restante.errors import ConfigurationError
from restante.ports import Clock, OnWake
from restante.wakers import ANSWER_SECONDS, Attempts, Attendance, Hints, end, together

PREFIX: Final = b"restante:"
_PROBE: Final = b"restante::"
_LOST: Final = (OSError, RedisError)


class _Address(NamedTuple):
    host: str
    port: int


def channel_of(queue: str) -> bytes:
    return PREFIX + queue.encode()


def _queue_of(channel: bytes) -> str:
    return channel[len(PREFIX) :].decode(errors="replace")


def _slot_of(queue: str) -> int:
    return key_slot(channel_of(queue))


class RedisWaker:
    """``url`` is ``redis://`` or, with TLS, ``rediss://``, and names one server: any of a cluster's will do."""

    def __init__(self, url: str, clock: Clock) -> None:
        try:
            given: dict[str, Any] = dict(parse_url(url))
        except ValueError as error:
            raise _unreadable() from error
        self._kind: type[Connection] = given.pop("connection_class", Connection)
        self._home = _Address(given.pop("host", "localhost"), given.pop("port", 6379))
        self._seed = self._home
        """Who is asked for what is not known to have moved."""
        # Channels belong to the whole server, and a cluster has no second database.
        given.pop("db", None)
        self._options = given
        self._clock = clock
        self._hints = Hints()
        self._attendance = Attendance(clock)
        self._slots: dict[int, _Address] = {}
        self._servers: dict[_Address, _Server] = {}
        self._on_wake: OnWake = _nobody

    @contextlib.asynccontextmanager
    async def listening(self, on_wake: OnWake) -> AsyncIterator[None]:
        self._on_wake = on_wake
        await self._probe()
        self.server(self._home)
        jobs = [asyncio.create_task(job) for job in (self._follow(), self._send())]
        try:
            yield
        finally:
            for server in self._servers.values():
                jobs.extend(server.jobs)
            await end(jobs)
            self._servers.clear()
            self._slots.clear()
            self._attendance.close()
            self._on_wake = _nobody

    def wake(self, queues: Collection[str]) -> None:
        self._hints.add(queues)

    def attend(self, queue: str) -> None:
        self._attendance.attend(queue)

    def leave(self, queue: str) -> None:
        self._attendance.leave(queue)

    # -- which server has what ------------------------------------------------------------------

    def server(self, address: _Address) -> _Server:
        found = self._servers.get(address)
        if found is None:
            found = self._servers[address] = _Server(self, address, self._clock)
            found.start()
        return found

    def _server_of(self, queue: str) -> _Server:
        return self.server(self._slots.get(_slot_of(queue), self._seed))

    def moved(self, server: _Server, error: MovedError, hints: Collection[str] = ()) -> None:
        """That server does not have the slot: what it was asked to do, the one it names shall do."""
        # A cluster that does not know its own address leaves the host out: it is the one that was asked.
        address = _Address(error.host or server.address.host, error.port)
        self._slots[error.slot_id] = address
        to = self.server(address)
        queues = {queue for queue in server.queues if _slot_of(queue) == error.slot_id}
        server.queues -= queues
        to.subscribe(queues)
        to.hints.add(hints)

    def lost(self, server: _Server) -> None:
        """That server does not answer: in a cluster, another knows who has taken its slots."""
        others = [address for address in self._servers if address != server.address]
        self._slots = {
            slot: address for slot, address in self._slots.items() if address != server.address
        }
        if not others:
            return
        other = self.server(others[0])
        if server.address == self._seed:
            self._seed = other.address
        queues, server.queues = server.queues, set()
        other.subscribe(queues)
        if server.address == self._home:
            return  # The one address that was given is tried for ever.
        del self._servers[server.address]
        for job in server.jobs:
            job.cancel()

    async def _follow(self) -> None:
        while True:
            for queue in await self._attendance.changed.take():
                server = self._server_of(queue)
                if queue in self._attendance.wanted:
                    server.subscribe((queue,))
                else:
                    server.unsubscribe(queue)

    async def _send(self) -> None:
        while True:
            for queue in await self._hints.take():
                self._server_of(queue).hints.add((queue,))

    # -- what servers hear ----------------------------------------------------------------------

    def heard(self, queue: str) -> None:
        if queue in self._attendance.present:
            self._on_wake((queue,))

    def confirmed(self, queue: str) -> None:
        """What was committed before the server knew of the subscription was told to nobody."""
        self._on_wake((queue,))

    def connected(self) -> None:
        self._on_wake(None)

    # -- connecting -----------------------------------------------------------------------------

    async def connect(self, address: _Address) -> Connection:
        """Connect and authenticate, once. Raises what ``_LOST`` lists."""
        connection = self._kind(
            **self._options,
            host=address.host,
            port=address.port,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
        )
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            if not connection.is_connected:
                # What the library makes of a cancellation.
                raise ConnectionResetError("not connected")
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _probe(self) -> None:
        """See that nothing is in the way that no waiting will mend."""
        try:
            connection = await self.connect(self._seed)
            try:
                for command in (b"SPUBLISH", _PROBE, b""), (b"SSUBSCRIBE", _PROBE):
                    await connection.send_command(*command)
                    with contextlib.suppress(MovedError):
                        await connection.read_response()
            finally:
                await connection.disconnect(nowait=True)
        except NoPermissionError as error:
            raise ConfigurationError(
                "Redis does not let this user use the channels restante:*: grant it"
                " ACL SETUSER ... resetchannels &restante:* +spublish +ssubscribe +sunsubscribe +ping"
            ) from error
        except AuthenticationError as error:
            raise ConfigurationError(
                "Redis refuses the user or password in the waker's URL, or wants one:"
                " redis://:PASSWORD@HOST:PORT or redis://USER:PASSWORD@HOST:PORT"
            ) from error
        except TypeError as error:
            raise _unreadable() from error
        except ResponseError as error:
            if "unknown command" in str(error).lower():
                raise ConfigurationError(
                    "this Redis knows no sharded pub/sub: Redis 7 or later, or Valkey, is needed to wake"
                ) from error
        except _LOST as error:
            await self._refuse_tls(error)

    async def _refuse_tls(self, error: BaseException) -> None:
        causes = list(_causes(error))
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
            raise ConfigurationError(
                "the certificate of Redis is not trusted, or not for that host: name the authority's file,"
                " rediss://HOST:PORT?ssl_ca_certs=FILE, and the host as its certificate does"
            ) from error
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            raise ConfigurationError(
                "Redis and the waker's URL do not agree on TLS: say rediss:// where it is spoken, else redis://"
            ) from error
        if self._kind is Connection and await self._speaks_tls():
            raise ConfigurationError(
                "Redis speaks TLS on that port: say rediss:// in the waker's URL"
            ) from error
        if self._kind is not Connection and await self._speaks_plainly():
            raise ConfigurationError(
                "Redis speaks no TLS on that port: say redis:// in the waker's URL"
            ) from error

    async def _speaks_tls(self) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Nothing is told to it: only whether it answers as TLS does is asked.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                _, writer = await asyncio.open_connection(*self._seed, ssl=context)
        except ssl.SSLError as error:
            # One that asks for a certificate of ours speaks it too.
            return "alert" in str(error).lower()
        except OSError:
            return False
        writer.close()
        return True

    async def _speaks_plainly(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_connection(*self._seed)
                try:
                    writer.write(b"PING\r\n")
                    return (await reader.read(1)) in (b"+", b"-")
                finally:
                    writer.close()
        except OSError:
            return False


class _Server:
    """One server: a connection that listens and one that publishes, made anew whenever they are lost."""

    def __init__(self, waker: RedisWaker, address: _Address, clock: Clock) -> None:
        self.address = address
        self.queues: set[str] = set()
        """Those whose channels it is believed to have."""
        self.hints = Hints()
        self.jobs: list[asyncio.Task[None]] = []
        self._waker = waker
        self._clock = clock
        self._changed = Hints(None)
        self._subscribed: set[str] = set()

    def start(self) -> None:
        self.jobs = [asyncio.create_task(job) for job in (self._listen(), self._publish())]

    def subscribe(self, queues: Collection[str]) -> None:
        self.queues.update(queues)
        self._changed.add(queues)

    def unsubscribe(self, queue: str) -> None:
        self.queues.discard(queue)
        self._changed.add((queue,))

    # -- listening ------------------------------------------------------------------------------

    async def _listen(self) -> None:
        attempts = Attempts(f"redis at {self.address.host}:{self.address.port}", self._clock)
        while True:
            try:
                connection = await self._waker.connect(self.address)
                try:
                    self._subscribed.clear()
                    self._changed.add(self.queues)
                    attempts.succeeded()
                    await together(
                        self._follow(connection), self._read(connection), self._ping(connection)
                    )
                finally:
                    await connection.disconnect(nowait=True)
            except _LOST as error:
                await attempts.failed(type(error).__name__)
                self._waker.lost(self)

    async def _follow(self, connection: Connection) -> None:
        while True:
            commands = []
            for queue in await self._changed.take():
                channel = channel_of(queue)
                if queue in self.queues:
                    commands.append((b"SSUBSCRIBE", channel))
                elif queue in self._subscribed:
                    commands.append((b"SUNSUBSCRIBE", channel))
            if commands:
                packed = connection.pack_commands(commands)
                await connection.send_packed_command(packed, check_health=False)

    async def _ping(self, connection: Connection) -> None:
        """Have something to read now and then, so that silence means that it is lost."""
        while True:
            await connection.send_command(b"PING", check_health=False)
            await self._clock.wait(ANSWER_SECONDS / 2)

    async def _read(self, connection: Connection) -> None:
        # All that was waited for is subscribed again once these are confirmed, or gone elsewhere.
        awaited = set(self.queues)
        told = False
        while True:
            try:
                answer = await connection.read_response(timeout=ANSWER_SECONDS)
            except MovedError as error:
                self._waker.moved(self, error)
                awaited &= self.queues
            else:
                if isinstance(answer, list):
                    self._take(answer, awaited)
            awaited -= self._subscribed
            if not told and not awaited:
                told = True
                self._waker.connected()

    def _take(self, answer: Sequence[Any], awaited: Collection[str]) -> None:
        kind, queue = answer[0], _queue_of(answer[1])
        if kind == b"smessage":
            self._waker.heard(queue)
        elif kind == b"ssubscribe":
            self._subscribed.add(queue)
            if queue not in self.queues:
                self._changed.add((queue,))
            elif queue not in awaited:
                self._waker.confirmed(queue)
        elif kind == b"sunsubscribe":
            self._subscribed.discard(queue)
            if queue in self.queues:
                # The slot has left this server, which says where to when it is asked.
                self._changed.add((queue,))

    # -- publishing -----------------------------------------------------------------------------

    async def _publish(self) -> None:
        attempts = Attempts(f"redis at {self.address.host}:{self.address.port}", self._clock)
        while True:
            queues = await self.hints.take()
            try:
                connection = await self._waker.connect(self.address)
                try:
                    while True:
                        await self._spublish(connection, queues)
                        attempts.succeeded()
                        queues = await self.hints.take()
                finally:
                    await connection.disconnect(nowait=True)
            except _LOST as error:
                await attempts.failed(type(error).__name__)

    async def _spublish(self, connection: Connection, queues: Collection[str]) -> None:
        commands = [(b"SPUBLISH", channel_of(queue), b"") for queue in queues]
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        # Read before more is sent: what comes up meanwhile is gathered, not queued.
        for queue in queues:
            try:
                await connection.read_response()
            except MovedError as error:
                self._waker.moved(self, error, (queue,))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _nobody(queues: Collection[str] | None) -> None:
    """Told while nobody listens."""


def _unreadable() -> ConfigurationError:
    return ConfigurationError(
        "the waker's URL cannot be read: say redis://USER:PASSWORD@HOST:PORT, or rediss://... for TLS"
    )
