"""WebSocket: publishes, deliveries and acks as frames of one connection each, text or binary.

Just enough of RFC 6455 for a load generator: client frames are masked with zeros, which changes nothing and costs
nothing; the server's frames are whole messages.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import cast

import msgspec

from restante.bench.specs import Target
from restante.bench.ways.base import Collecting, OnError, Way, publisher_key

_LEASE = re.compile(rb'"lease":"([^"]+)"')
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10


class SocketConnection(asyncio.Protocol):
    """One connection. `on_message` gets the payload of each message, `on_error` the end of it all."""

    def __init__(self, asks: bytes, opcode: int, on_error: OnError) -> None:
        self._asks = asks
        self._opcode = opcode
        self._on_error = on_error
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_message: Callable[[bytes], None] = _nobody_listens

    @classmethod
    async def open(
        cls, target: Target, path: str, key: str, subprotocol: str, on_error: OnError
    ) -> SocketConnection:
        """Connect and complete the handshake. Raises OSError when that is refused."""
        asks = handshake(path, key, subprotocol)
        opcode = _BINARY if subprotocol.endswith(".binary") else _TEXT
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: cls(asks, opcode, on_error), "127.0.0.1", target.port
        )
        await connection._open
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # By its behaviour alone: uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._asks)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        if not self._open.done():
            head, separator, buffer = buffer.partition(b"\r\n\r\n")
            if not separator:
                self._buffer = head
                return
            if b" 101 " not in head[:16]:
                self._open.set_exception(OSError(f"the handshake was refused: {head[:200]!r}"))
                return
            self._open.set_result(None)
        while len(buffer) >= 2:
            length, start = buffer[1] & 127, 2
            if length == 126:
                length, start = int.from_bytes(buffer[2:4], "big"), 4
            elif length == 127:
                length, start = int.from_bytes(buffer[2:10], "big"), 10
            if len(buffer) < start + length:
                break
            self._take_in(buffer[0] & 15, buffer[start : start + length])
            buffer = buffer[start + length :]
        self._buffer = buffer

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport = None
            self._on_error(f"the server closed a connection ({exc or 'no error'})")
        if not self._open.done():
            self._open.set_exception(OSError("the server closed the connection"))

    def message(self, payload: bytes) -> bytes:
        """A message as it goes over the wire."""
        return frame(self._opcode, payload)

    def send(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)

    def close(self) -> None:
        """Be gone, without a word to the server or to `on_error`."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def _take_in(self, opcode: int, payload: bytes) -> None:
        if opcode in {_TEXT, _BINARY}:
            self.on_message(payload)
        elif opcode == _PING:
            self.send(frame(_PONG, payload))
        elif opcode == _CLOSE:
            self._on_error(f"the server closed a WebSocket: {payload!r}")


def handshake(path: str, key: str, subprotocol: str) -> bytes:
    """The request that opens a WebSocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Sec-WebSocket-Protocol: {subprotocol}\r\nAuthorization: Bearer {key}\r\n\r\n"
    ).encode()


def frame(opcode: int, payload: bytes) -> bytes:
    """A frame as a client sends it."""
    length = len(payload)
    if length < 126:
        head = bytes((128 | opcode, 128 | length))
    elif length < 65_536:
        head = bytes((128 | opcode, 128 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((128 | opcode, 128 | 127)) + length.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def _nobody_listens(message: bytes) -> None:
    raise AssertionError(f"nobody listens to {message[:100]!r}")


class WebSocket(Way):
    name = "websocket"
    title = "WebSocket"
    requests = "0 (2 frames)"
    settings = "text frames; a credit of one, each notification acked in a frame of its own"
    subprotocol = "restante.v1"

    async def connect_publisher(
        self,
        target: Target,
        queue: str,
        body: bytes,
        on_confirm: Callable[[], None],
        on_error: OnError,
    ) -> Callable[[], None]:
        connection = await SocketConnection.open(
            target, "/v1/socket", publisher_key(target), self.subprotocol, on_error
        )

        def confirmed(message: bytes) -> None:
            if b'"ok":true' in message:
                on_confirm()
            else:
                on_error(f"a publish was answered {message[:300]!r}")

        connection.on_message = confirmed
        frame = connection.message(self.publish_frame(queue, body))
        return lambda: connection.send(frame)

    def publish_frame(self, queue: str, body: bytes) -> bytes:
        item = {"queue": queue, "content_type": "application/xml", "body": body.decode()}
        return self.written({"type": "publish", "notifications": [item]})

    def written(self, frame: object) -> bytes:
        return msgspec.json.encode(frame)

    async def connect_consumer(self, target: Target, queue: str, collecting: Collecting) -> None:
        connection = await SocketConnection.open(
            target,
            f"/v1/queues/{queue}/socket",
            target.client_key,
            self.subprotocol,
            collecting.failed,
        )

        def received(message: bytes) -> None:
            kind = message.find(b'"type":"') + 8
            if message.startswith(b"notifications", kind):
                lease = _LEASE.search(message)
                if lease is None:
                    collecting.failed(f"a notification without a lease: {message[:300]!r}")
                    return
                collecting.came()
                if collecting.running:
                    connection.send(connection.message(self.ack_frame(lease[1])))
            elif message.startswith(b"settled", kind) and b'"ok":true' in message:
                collecting.settled()
            else:
                collecting.failed(f"an ack was answered {message[:300]!r}")

        connection.on_message = received
        connection.send(connection.message(self.written({"type": "credit", "messages": 1})))

    def ack_frame(self, lease: bytes) -> bytes:
        return b'{"type":"ack","items":[{"lease":"%b"}]}' % lease


class BinaryWebSocket(WebSocket):
    name = "websocket-binary"
    title = "WebSocket, binary"
    settings = "binary frames, bodies raw; a credit of one, each notification acked by itself"
    subprotocol = "restante.v1.binary"

    def publish_frame(self, queue: str, body: bytes) -> bytes:
        item = {"queue": queue, "content_type": "application/xml", "body_bytes": len(body)}
        return self.written({"type": "publish", "notifications": [item]}) + body

    def written(self, frame: object) -> bytes:
        head = msgspec.json.encode(frame)
        return len(head).to_bytes(4, "big") + head

    def ack_frame(self, lease: bytes) -> bytes:
        head = super().ack_frame(lease)
        return len(head).to_bytes(4, "big") + head
