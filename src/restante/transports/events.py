"""Server-sent events (WHATWG HTML, section 9.2): deliveries as events, signed for by the settle calls of HTTP.

No more are unsettled than the credit given in the query, so that a stream which cannot be answered has flow control
all the same. The id of each event names the stream: a client that comes back with it as ``Last-Event-ID`` is sent what
it had been sent and has not settled, under the same leases, and then goes on.
"""

from __future__ import annotations

import re
from typing import Final

from restante import auth
from restante.engine.attachments import Ending
from restante.engine.broker import Broker
from restante.engine.session import Session
from restante.engine.stream import (
    CREDIT_BYTES,
    CREDIT_BYTES_MAXIMUM,
    CREDIT_MESSAGES,
    CREDIT_MESSAGES_MAXIMUM,
    Stream,
)
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.http.delivering import to_notification
from restante.http.events import (
    HEADERS,
    HEARTBEAT,
    HEARTBEAT_SECONDS,
    RETRY_MS,
    data_of,
    drain,
)
from restante.http.once import Once
from restante.http.request import Request, SendMessage
from restante.model import Delivery, Role
from restante.wire import cookies

NAME: Final = "sse"
_ID: Final = re.compile(r"([A-Za-z0-9_-]{16,64})(?:\.[0-9]{1,12})?", re.ASCII)


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the transport."""
    transport = Events(broker)
    routes.add("GET", "/v1/queues/{queue}/events", transport.events, NAME, by_cookie=True)
    routes.add("POST", "/v1/cookie", transport.cookie, once=Once.BY_ITSELF)


class Events:
    """The stream, and the cookie by which a browser may open it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def events(self, request: Request) -> EventStream:
        messages = request.integer("credit", CREDIT_MESSAGES, 1, CREDIT_MESSAGES_MAXIMUM)
        size = request.integer("credit_bytes", CREDIT_BYTES, 1, CREDIT_BYTES_MAXIMUM)
        stream = await self._broker.stream(
            request.parameters["queue"],
            request.actor,
            lease_seconds=request.number("lease", None),
            consumer=_stream_id(request),
        )
        stream.grant(messages, size)
        # Once the answer has begun it is too late to refuse.
        self._broker.attachments.admit(request.actor)
        return EventStream(self._broker, request, stream)

    async def cookie(self, request: Request) -> Answer:
        """Answer a key with a cookie that opens the events of its client's queues for an hour."""
        auth.require(request.actor, Role.CLIENT)
        now = self._broker.clock.wall_ms() // 1_000
        value = cookies.seal(
            self._broker.store.token_secret, request.actor.key_id, now + cookies.LIFE_SECONDS
        )
        secure = "; Secure" if request.scope.get("scheme") == "https" else ""
        cookie = (
            f"{cookies.NAME}={value}; Path=/; Max-Age={cookies.LIFE_SECONDS}; HttpOnly;"
            f" SameSite=Strict{secure}"
        )
        return Answer(204, headers=((b"set-cookie", cookie.encode()),))


class EventStream:
    """One answer that does not end before its connection, its key or the service does."""

    def __init__(self, broker: Broker, request: Request, stream: Stream) -> None:
        self._broker = broker
        self._request = request
        self._stream = stream
        self._sent = 0

    async def send(self, send: SendMessage) -> None:
        stream = self._stream
        attachment = self._broker.attachments.attach(
            self._request.actor,
            lambda ending: stream.end(displaced=ending is Ending.DISPLACED),
            f"{stream.queue}/{stream.id}",
        )
        with attachment, stream:
            await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS]})
            unwatch = self._request.watch(stream.end)
            try:
                await self._put(send, self._greeting())
                while again := await stream.held_before():
                    await self._put(send, self._events(again))
                while not stream.ended:
                    deliveries = await stream.next(HEARTBEAT_SECONDS)
                    if self._request.gone():
                        # Leased just as the client left: it was not shown.
                        stream.give_back(deliveries)
                        return
                    if deliveries:
                        await self._put(send, self._events(deliveries))
                    elif not stream.ended:
                        await self._put(send, HEARTBEAT)
                if attachment.ending is Ending.DRAIN:
                    ms = int(self._broker.attachments.reconnect_after_seconds() * 1_000)
                    await self._put(send, drain(ms))
            finally:
                unwatch()
            await send({"type": "http.response.body", "body": b""})

    async def _put(self, send: SendMessage, data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})

    def _greeting(self) -> bytes:
        """The stream's id goes out before any notification: who loses the connection at once comes back with it."""
        return b"retry: %d\nid: %b\nevent: attached\ndata: {}\n\n" % (
            RETRY_MS,
            self._stream.id.encode(),
        )

    def _events(self, deliveries: list[Delivery]) -> bytes:
        return b"".join(self._event(self._stream.session, one) for one in deliveries)

    def _event(self, session: Session, delivery: Delivery) -> bytes:
        self._sent += 1
        data = data_of(to_notification(session, delivery))
        return b"id: %b.%d\nevent: notification\ndata: %b\n\n" % (
            self._stream.id.encode(),
            self._sent,
            data,
        )


def _stream_id(request: Request) -> str | None:
    """The stream that the client was on before; None where it gives none of ours."""
    last = request.header(b"last-event-id")
    match = None if last is None else _ID.fullmatch(last)
    return None if match is None else match[1]
