"""NATS core: one subject for each queue, subscribed while somebody on this node waits on the queue."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Collection
from typing import Final
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from restante.errors import ConfigurationError
from restante.ports import Clock, OnWake
from restante.wakers import ANSWER_SECONDS, Attempts, Attendance, Hints, end, together

PREFIX: Final = "restante."
_LOST: Final = (OSError, nats.errors.Error, asyncio.TimeoutError)
_PERMISSIONS: Final = "permissions violation"


def subject_of(queue: str) -> str:
    """A dot parts the tokens of a subject, and a tilde is in no queue's name."""
    return PREFIX + queue.replace(".", "~")


def queue_of(subject: str) -> str:
    return subject.removeprefix(PREFIX).replace("~", ".")


class _Refused(Exception):
    """The server will not have this node, however often it tries."""


class _Client(Client):
    """As the library's, but with ``tls`` it tells a server that speaks none nothing, and least of all a secret."""

    def __init__(self, *, tls: bool) -> None:
        super().__init__()
        self._wants_tls = tls

    def _connect_command(self) -> bytes:
        if self._wants_tls and not self._server_info.get("tls_required"):
            raise nats.errors.SecureConnWantedError
        return super()._connect_command()


class NatsWaker:
    """One connection to the server that ``url`` names: ``nats://`` or ``tls://``, a user or a token before ``@``."""

    def __init__(self, url: str, clock: Clock) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise _unreadable() from error
        if not host or parts.scheme not in ("nats", "tls"):
            raise _unreadable()
        self._url = url
        self._tls = ssl.create_default_context() if parts.scheme == "tls" else None
        self._clock = clock
        self._hints = Hints()
        self._attendance = Attendance(clock)

    @contextlib.asynccontextmanager
    async def listening(self, on_wake: OnWake) -> AsyncIterator[None]:
        first: _Session | None = None
        try:
            first = await self._connect(on_wake)
        except _Refused as error:
            raise ConfigurationError(str(error)) from error
        except _LOST:
            pass
        job = asyncio.create_task(self._run(on_wake, first))
        try:
            yield
        finally:
            await end([job])
            self._attendance.close()

    def wake(self, queues: Collection[str]) -> None:
        self._hints.add(queues)

    def attend(self, queue: str) -> None:
        self._attendance.attend(queue)

    def leave(self, queue: str) -> None:
        self._attendance.leave(queue)

    async def _connect(self, on_wake: OnWake) -> _Session:
        session = _Session(self._hints, self._attendance, on_wake, self._tls)
        await session.connect(self._url)
        return session

    async def _run(self, on_wake: OnWake, session: _Session | None) -> None:
        attempts = Attempts("nats", self._clock)
        while True:
            try:
                if session is None:
                    session = await self._connect(on_wake)
                try:
                    await session.subscribe_all()
                    attempts.succeeded()
                    on_wake(None)
                    await session.last()
                finally:
                    await session.close()
                    session = None
            except _Refused as error:
                await attempts.failed(str(error))
            except _LOST as error:
                await attempts.failed(type(error).__name__)


class _Session:
    """One connection, from its making to its loss."""

    def __init__(
        self,
        hints: Hints,
        attendance: Attendance,
        on_wake: OnWake,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._hints = hints
        self._attendance = attendance
        self._on_wake = on_wake
        self._tls = tls
        self._client = _Client(tls=tls is not None)
        self._subscriptions: dict[str, Subscription] = {}
        self._ended = asyncio.Event()
        self._error: Exception | None = None

    async def connect(self, url: str) -> None:
        """Connect once, and see whether hints may be sent and heard. Raises ``_Refused`` and what ``_LOST`` lists."""

        async def failed(error: Exception) -> None:
            self._error = error

        async def closed() -> None:
            self._ended.set()

        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._client.connect(
                    url,
                    name="restante",
                    tls=self._tls,
                    error_cb=failed,
                    closed_cb=closed,
                    disconnected_cb=closed,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=int(ANSWER_SECONDS),
                    ping_interval=int(ANSWER_SECONDS),
                    max_outstanding_pings=1,
                )
                await self._client.publish(PREFIX + "~")
                await self._client.subscribe(PREFIX + "~", cb=self._heard)
                await self._heeded()
        except _LOST as error:
            await self.close()
            # Either may say why: who is refused is told so and cut off, and the cut can be noticed last.
            for told in (error, self._error):
                if told is not None:
                    self._refuse(told)
            raise
        if self._error is not None:
            await self.close()
            self._refuse(self._error)
            raise ConnectionResetError("not connected")

    def _refuse(self, error: Exception) -> None:
        text = str(error).lower()
        if _PERMISSIONS in text:
            raise _Refused(
                f"NATS does not let this user publish and subscribe to {PREFIX}*: grant it both"
            ) from error
        if isinstance(error, nats.errors.AuthorizationError) or "authorization" in text:
            raise _Refused(
                "NATS refuses the user, password or token in the waker's URL: give those it knows,"
                " nats://USER:PASSWORD@HOST:PORT or nats://TOKEN@HOST:PORT"
            ) from error
        if isinstance(error, ssl.SSLCertVerificationError):
            raise _Refused(
                "the certificate of NATS is not trusted, or not for that host: name the authority's file"
                " in SSL_CERT_FILE, and the host as its certificate does"
            ) from error
        if isinstance(
            error,
            nats.errors.SecureConnRequiredError | nats.errors.SecureConnWantedError | ssl.SSLError,
        ):
            raise _Refused(
                "NATS and the waker's URL do not agree on TLS: say tls:// where it is spoken, else nats://"
            ) from error

    async def subscribe_all(self) -> None:
        for queue in list(self._attendance.wanted):
            await self._subscribe(queue)
        await self._heeded()

    async def last(self) -> None:
        """Send hints and follow the attendance until the connection is lost."""
        await together(self._send(), self._follow(), self._watch())

    async def close(self) -> None:
        with contextlib.suppress(*_LOST):
            await asyncio.wait_for(self._client.close(), 1.0)

    async def _watch(self) -> None:
        await self._ended.wait()
        raise ConnectionResetError("the connection has ended")

    async def _send(self) -> None:
        while True:
            for queue in await self._hints.take():
                await self._client.publish(subject_of(queue))
            # Until the server has them: what comes up meanwhile is gathered, not queued.
            await self._client.flush(int(ANSWER_SECONDS))

    async def _follow(self) -> None:
        while True:
            added = []
            for queue in await self._attendance.changed.take():
                if queue in self._attendance.wanted:
                    if queue not in self._subscriptions:
                        await self._subscribe(queue)
                        added.append(queue)
                elif (subscription := self._subscriptions.pop(queue, None)) is not None:
                    await subscription.unsubscribe()
            if added:
                await self._heeded()
                # What was committed before the server knew of it was told to nobody.
                self._on_wake(added)

    async def _heeded(self) -> None:
        """Until the server has heeded all that it was told before, and has refused what it refuses.

        The library writes its PING at once and what was told before a turn later: the second PING comes after it.
        """
        for _ in range(2):
            await self._client.flush(int(ANSWER_SECONDS))

    async def _subscribe(self, queue: str) -> None:
        subject = subject_of(queue)
        self._subscriptions[queue] = await self._client.subscribe(subject, cb=self._heard)

    async def _heard(self, message: Msg) -> None:
        queue = queue_of(message.subject)
        if queue in self._attendance.present:
            self._on_wake((queue,))


def _unreadable() -> ConfigurationError:
    return ConfigurationError(
        "the waker's URL cannot be read: say nats://USER:PASSWORD@HOST:PORT, nats://TOKEN@HOST:PORT or tls://..."
    )
