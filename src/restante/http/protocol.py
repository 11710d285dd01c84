"""What the listeners speak: uvicorn's protocols, with fewer system calls and with limits of ours.

An answer's head and body are written apart, and uvloop hands each to the kernel at once: two system calls, two
packets. Held back until the loop comes round, they are one. That takes a tenth off the CPU of a lifecycle.

uvicorn waits as long as it takes for a request to arrive and for an answer to be taken. Here a head has to come within
its time and size, a whole request within its time, and who does not take what is waiting for it is disconnected.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import SecurityError
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import StatusLike

from restante.errors import (
    HeadTooLarge,
    Malformed,
    MethodNotAllowed,
    RestanteError,
    TooSlow,
    UpgradeRequired,
)
from restante.http.answers import problem

HEAD_BYTES: Final = 32 * 1024
"""A notification's attributes alone may take half of it."""
HEAD_SECONDS: Final = 15.0
"""From the connection, or from the first byte of a later request, to the end of the head."""
REQUEST_SECONDS: Final = 120.0
"""From there to the end of the body."""
WRITE_SECONDS: Final = 30.0
"""How long a full buffer may take to be taken."""
FRAGMENTS: Final = 16_384
"""Of one message: an empty one counts for nothing in bytes and is in memory all the same."""
JOINED_BYTES: Final = 64 * 1024
"""What is held back to be joined is flushed beyond this, so that whoever writes on hears that the buffer is full."""
LEFTOVER_BYTES: Final = 32 * 1024 * 1024
"""So much of a body is thrown away once its request has been answered; at more the connection is closed.

Who sends a body to its end before it looks, as nginx does, would else be cut off and never see that it is too large.
"""
HANDSHAKE_MESSAGE_BYTES: Final = 16 * 1024
"""Until somebody has been let in and told of a larger limit."""


class OneWrite:
    """A transport that joins what is written within one turn of the loop. The rest is the real transport's."""

    __slots__ = (
        "_joined",
        "_loop",
        "_pending",
        "_transport",
        "is_closing",
        "pause_reading",
        "resume_reading",
    )

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pending: list[bytes] = []
        self._joined = 0
        # Called for every request: bound once.
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)
        self._joined += len(data)
        if self._joined > JOINED_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._pending:
            data = b"".join(self._pending)
            self._pending.clear()
            self._joined = 0
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Patience:
    """How long a full buffer may stay full before its connection is given up."""

    __slots__ = ("_handle", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._handle is None:
            # Not closed but aborted: to close is to wait until everything is taken.
            self._handle = self._loop.call_later(WRITE_SECONDS, self._transport.abort)

    def end(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Protocol(HttpToolsProtocol):
    """HTTP/1.1. ``overdue`` is asked now and then by whoever owns the listener."""

    # Slots, since uvicorn's own attributes are 29: at 30 an instance's dictionary shares no keys with the others', and
    # each connection is 1.3 KiB larger.
    __slots__ = (
        "_deadline",
        "_extensions",
        "_head_bytes",
        "_ignores_upgrade",
        "_in_head",
        "_leftover_bytes",
        "_patience",
        "_refused",
    )

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # As uvicorn narrows it itself; and what it calls of a transport, OneWrite has.
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]
        self._deadline = self.loop.time() + HEAD_SECONDS
        self._patience = Patience(transport, self.loop)
        self._extensions = tls_extension(transport)
        self._head_bytes = 0
        self._leftover_bytes = 0
        self._in_head = False
        self._refused = False
        self._ignores_upgrade = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._patience.begin()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._patience.end()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._deadline == 0.0:
            self._deadline = self.loop.time() + HEAD_SECONDS
        self._head_bytes += len(data)
        self._unset_keepalive_if_required()
        self._feed(data)
        if self._head_bytes > HEAD_BYTES and self._in_head:
            self._refuse(HeadTooLarge(f"the head of a request is at most {HEAD_BYTES} bytes"))

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(Malformed("this is not HTTP/1.1"))
        except httptools.HttpParserUpgrade as upgrade:
            if self._refused:
                return
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._go_on_without_upgrade(data[upgrade.args[0] :])

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """An upgrade may be ignored (RFC 9110, section 7.8), and what Java's client offers by itself, h2c, is.

        The parser takes what follows for another protocol, body and all: another parser is given the same request
        without the offer.
        """
        self._ignores_upgrade = False
        method = self.parser.get_method()
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [
            b"%b: %b" % (name, value)
            for name, value in self.headers
            if name not in {b"upgrade", b"connection", b"http2-settings"}
        ]
        if any(name == b"connection" and b"close" in value.lower() for name, value in self.headers):
            lines.append(b"connection: close")
        self.parser = httptools.HttpRequestParser(self)
        self._feed(b"\r\n".join((*lines, b"", b"")) + rest)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._deadline = self.loop.time() + HEAD_SECONDS
        self.scope["extensions"] = self._extensions

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self.parser.get_method() == b"CONNECT":
            # To the parser it is an upgrade, and none that could be ignored: there is nobody to be connected to.
            self._refuse(MethodNotAllowed(("GET", "POST", "PUT", "DELETE")))
            return
        if self.parser.should_upgrade() and not self._should_upgrade():
            self._ignores_upgrade = True
            return
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        self._deadline = self.loop.time() + REQUEST_SECONDS
        if size > HEAD_BYTES:
            self._refuse(HeadTooLarge(f"the head of a request is at most {HEAD_BYTES} bytes"))
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        if self._refused:
            return
        super().on_body(body)
        if self.cycle.response_complete:
            self._leftover_bytes += len(body)
            if self._leftover_bytes > LEFTOVER_BYTES:
                self.transport.close()

    def on_message_complete(self) -> None:
        if self._ignores_upgrade:
            return
        self._deadline = 0.0
        self._head_bytes = 0
        self._leftover_bytes = 0
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._is_left_over() and self._announced() > LEFTOVER_BYTES:
            self.transport.close()
        super().on_response_complete()

    def overdue(self, now: float) -> None:
        """Close the connection when what it has begun to send did not come in its time."""
        if self._deadline and now > self._deadline:
            left_over = self._is_left_over()
            self._deadline = 0.0
            if left_over:
                self.transport.close()
            else:
                self._refuse(TooSlow("the request did not arrive in time"))

    def _is_left_over(self) -> bool:
        """Whether what is still to come belongs to a request that has been answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return bool(self._deadline and not self._in_head and cycle and cycle.response_complete)

    def _announced(self) -> int:
        """The length that the request says its body has; 0 when it does not say."""
        lengths = [value for name, value in self.headers if name == b"content-length"]
        # The parser has taken it for a number.
        return int(lengths[0]) if lengths else 0

    def _refuse(self, error: RestanteError) -> None:
        """Answer what never came to be a request, and close the connection."""
        if self._refused:
            return
        self._refused = True
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            # An answer to an earlier request is under way: nothing may be said in the middle of it.
            self.transport.abort()
            return
        answer = problem(error, as_xml=False)
        lines = [b"%b: %b" % header for header in (*answer.headers, (b"connection", b"close"))]
        head = STATUS_LINE[answer.status] + b"\r\n".join((*lines, b"", b""))
        self.transport.write(head + answer.body)
        self.transport.close()


class Handshake(ServerProtocol):
    """Refuses in the words of HTTP's errors."""

    def reject(self, status: StatusLike, text: str) -> Response:
        response = super().reject(status, text)
        detail = text.partition("\n")[0]
        error: RestanteError = Malformed(detail)
        match status:
            case 405:
                error = MethodNotAllowed(("GET",))
            case 414 | 431:
                error = HeadTooLarge("a handshake has at most 128 headers, of 8 KiB each")
            case 426:
                error = UpgradeRequired(detail)
            case 500:
                error = RestanteError()
        answer = problem(error, as_xml=False)
        response.status_code, response.body = answer.status, answer.body
        response.reason_phrase = HTTPStatus(answer.status).phrase
        for name in ("Content-Type", "Content-Length"):
            del response.headers[name]
        response.headers["Content-Type"] = "application/problem+json"
        response.headers["Content-Length"] = str(len(answer.body))
        return response


class SocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket. What it adds to the scope, an application may use where it is there."""

    # As above. Some of these are uvicorn's, which has 36 of its own.
    __slots__ = (
        "_patience",
        "_pongs",
        "close_timeout",
        "close_timer",
        "initial_response",
        "last_ping_rtt",
        "pending_ping_payload",
        "ping_interval",
        "ping_sent_at",
        "ping_timeout",
        "ping_timer",
        "pong_timer",
    )

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._pongs = b""
        self.conn = Handshake(max_size=self.config.ws_max_size, logger=self.logger)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._patience = Patience(self.transport, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._patience.begin()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._patience.end()
        super().resume_writing()
        if self._pongs and not self.transport.is_closing():
            self.transport.write(self._pongs)
        self._pongs = b""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # uvicorn waits for a head that the parser has given up. What the parser may have to say is replaced.
            self.conn.data_to_send()
            self._refuse_handshake(self.conn.handshake_exc)

    def _refuse_handshake(self, error: Exception) -> None:
        self.handshake_complete = self.close_sent = True
        status = 431 if isinstance(error, SecurityError) else 400
        self.transport.write(self.conn.reject(status, str(error)).serialize())
        self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.handshake_complete:
            # Who sends frames before it is let in has to wait: uvicorn is not made for them.
            self.transport.pause_reading()

    def handle_ping(self) -> None:
        pongs = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(pongs)
        elif pongs:
            # Who does not read is answered once, when it does (RFC 6455, section 5.5.3): no pongs pile up.
            self._pongs = pongs

    def handle_cont(self, event: Frame) -> None:
        if self.close_sent:
            return
        if len(self.frames) >= FRAGMENTS:
            self.frames = []
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"more than {FRAGMENTS} fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def run_asgi(self) -> Coroutine[Any, Any, None]:
        # No coroutine of its own around the other: an idle connection is kept small.
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions |= tls_extension(self.transport)
        extensions["restante.max_message_bytes"] = self._limit
        return super().run_asgi()

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        if self.close_sent:
            # By the protocol itself, for a message too large or a pong that never came: the application does not
            # know yet. ASGI would have an OSError, and uvicorn takes it for the application's mistake.
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.accept" and not self.transport.is_closing():
            self.transport.resume_reading()
            # The handshake is over: what was said in it takes a sixth of an idle connection's memory.
            del self.request, self.response
            self.scope["headers"] = []
        elif message["type"] == "websocket.http.response.body":
            # It is over with a refusal: uvicorn would log that it never was.
            self.handshake_complete = True

    def _limit(self, max_message_bytes: int) -> None:
        self.conn.max_message_size = max_message_bytes


def tls_extension(transport: asyncio.Transport) -> dict[str, Any]:
    """What ASGI's TLS extension says of the client: its certificate, where it showed one that was verified."""
    connection: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if connection is None:
        return {}
    certificate = connection.getpeercert(binary_form=True)
    chain = [] if certificate is None else [ssl.DER_cert_to_PEM_cert(certificate)]
    return {"tls": {"client_cert_chain": chain, "tls_version": connection.version()}}
