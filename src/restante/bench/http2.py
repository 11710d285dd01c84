"""Just enough HTTP/2 and gRPC for a load generator (RFC 9113): requests made beforehand, messages cut out, little else.

Every call of a connection is of one method, so that its header fields are said once, and then named by a byte each.
The heads of answers are not read: a call that ends well has had its message, and one that does not shows its trailers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, cast

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_ENABLE_PUSH, _INITIAL_WINDOW_SIZE = 2, 4
_FRAME_BYTES: Final = 16_384
_DEFAULT_WINDOW: Final = 65_535
_WINDOW: Final = 1 << 30
"""So large that it is seldom renewed: by half, when half of it is used."""
_FIRST_DYNAMIC: Final = 62


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame (section 4.1)."""
    head = (len(payload) << 40) | (kind << 32) | (flags << 24)
    return head.to_bytes(8, "big")[:5] + stream.to_bytes(4, "big") + payload


def message(data: bytes) -> bytes:
    """A message of gRPC's, not compressed."""
    return b"\0" + len(data).to_bytes(4, "big") + data


def indexed_fields(fields: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Header fields as they are said at first, and put into the dynamic table, and then (RFC 7541, section 6)."""
    first = b"".join(b"\x40" + _text(name) + _text(value) for name, value in fields.items())
    newest = _FIRST_DYNAMIC + len(fields) - 1
    return first, bytes(0x80 | (newest - number) for number in range(len(fields)))


def _text(value: str) -> bytes:
    length = len(value)
    if length < 127:
        return bytes((length,)) + value.encode()
    # An integer with a prefix of seven bits (section 5.1), below 255.
    return bytes((127, length - 127)) + value.encode()


class Call:
    """One call. ``on_message`` gets each message, ``on_end`` how it ended: the head that came last, or why."""

    __slots__ = ("buffer", "on_end", "on_message", "received", "stream", "waiting", "window")

    def __init__(
        self,
        stream: int,
        window: int,
        on_message: Callable[[bytes], None],
        on_end: Callable[[bytes], None],
    ) -> None:
        self.stream = stream
        self.window = window
        self.on_message = on_message
        self.on_end = on_end
        self.buffer = b""
        self.received = 0
        self.waiting: deque[tuple[bytes, int]] = deque()


class GrpcConnection(asyncio.Protocol):
    """One connection, all of whose calls are of one method. ``on_error`` gets the end of it all."""

    def __init__(self, method: str, key: str, on_error: Callable[[str], None]) -> None:
        self._on_error = on_error
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._out: list[bytes] | None = None
        self._calls: dict[int, Call] = {}
        self._next_stream = 1
        self._window = _DEFAULT_WINDOW
        self._call_window = _DEFAULT_WINDOW
        self._received = 0
        self._blocked: deque[Call] = deque()
        self._first_head, self._head = indexed_fields(
            {
                ":method": "POST",
                ":scheme": "http",
                ":path": method,
                ":authority": "127.0.0.1",
                "content-type": "application/grpc",
                "te": "trailers",
                "authorization": f"Bearer {key}",
            }
        )

    @classmethod
    async def open(
        cls, port: int, method: str, key: str, on_error: Callable[[str], None]
    ) -> GrpcConnection:
        """Connect to a loopback port. Raises OSError when nothing answers there."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: cls(method, key, on_error), "127.0.0.1", port
        )
        return connection

    # -- calling --------------------------------------------------------------------------------

    def unary(
        self, data: bytes, on_message: Callable[[bytes], None], on_end: Callable[[bytes], None]
    ) -> Call:
        """Make a call of one request, which is a message already."""
        call = self.call(on_message, on_end)
        self.send(call, data, end=True)
        return call

    def call(self, on_message: Callable[[bytes], None], on_end: Callable[[bytes], None]) -> Call:
        """Open a call."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        head = self._first_head if stream == 1 else self._head
        call = self._calls[stream] = Call(stream, self._call_window, on_message, on_end)
        self._write(frame(_HEADERS, _END_HEADERS, stream, head))
        return call

    def send(self, call: Call, data: bytes, *, end: bool = False) -> None:
        """Send a message of ``message``'s, as far and as soon as the server's windows let it pass."""
        flags = _END_STREAM if end else 0
        if call.waiting or not self._passes(call, data, flags):
            if not call.waiting:
                self._blocked.append(call)
            call.waiting.append((data, flags))
            self._unblock()

    def _passes(self, call: Call, data: bytes, flags: int) -> bool:
        """Send the whole of it if the windows are wide enough."""
        size = len(data)
        if size > self._window or size > call.window:
            return False
        self._window -= size
        call.window -= size
        if size <= _FRAME_BYTES:
            self._write(frame(_DATA, flags, call.stream, data))
            return True
        for start in range(0, size, _FRAME_BYTES):
            last = start + _FRAME_BYTES >= size
            part = data[start : start + _FRAME_BYTES]
            self._write(frame(_DATA, flags if last else 0, call.stream, part))
        return True

    def _unblock(self) -> None:
        """Send what waits, a part where not all of it passes."""
        for _ in range(len(self._blocked)):
            call = self._blocked.popleft()
            while call.waiting:
                data, flags = call.waiting[0]
                if not self._passes(call, data, flags):
                    room = min(self._window, call.window)
                    if room > 0:
                        self._passes(call, data[:room], 0)
                        call.waiting[0] = (data[room:], flags)
                    self._blocked.append(call)
                    break
                call.waiting.popleft()

    def _write(self, data: bytes) -> None:
        if self._out is not None:
            self._out.append(data)
            return
        # What is said within one turn goes out in one piece.
        self._out = [data]
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        out, self._out = self._out, None
        if out and self._transport is not None:
            self._transport.write(b"".join(out))

    # -- being answered -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # By its behaviour alone: uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        settings = ((_ENABLE_PUSH, 0), (_INITIAL_WINDOW_SIZE, _WINDOW))
        payload = b"".join(k.to_bytes(2, "big") + v.to_bytes(4, "big") for k, v in settings)
        widen = (_WINDOW - _DEFAULT_WINDOW).to_bytes(4, "big")
        self._transport.write(
            _PREFACE + frame(_SETTINGS, 0, 0, payload) + frame(_WINDOW_UPDATE, 0, 0, widen)
        )

    def data_received(self, data: bytes) -> None:
        if self._out is None:
            self._out = []
        buffer = self._buffer + data if self._buffer else data
        at, size = 0, len(buffer)
        while size - at >= 9:
            begin = at + 9
            end = begin + (buffer[at] << 16 | buffer[at + 1] << 8 | buffer[at + 2])
            if end > size:
                break
            stream = int.from_bytes(buffer[at + 5 : begin], "big")
            self._take_in(buffer[at + 3], buffer[at + 4], stream, buffer[begin:end])
            at = end
        self._buffer = buffer[at:]
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport = None
            self._on_error(f"the server closed a connection ({exc or 'no error'})")

    def close(self) -> None:
        """Be gone, without a word to the server or to ``on_error``."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def _take_in(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            call = self._calls.get(stream)
            if call is not None:
                self._take_data(call, payload)
            if flags & _END_STREAM:
                self._ended(stream, b"")
        elif kind == _HEADERS:
            if flags & _END_STREAM:
                self._ended(stream, payload)
        elif kind == _WINDOW_UPDATE:
            self._widened(stream, int.from_bytes(payload, "big"))
        elif kind == _SETTINGS:
            if not flags & _ACK:
                self._take_settings(payload)
        elif kind == _PING:
            if not flags & _ACK:
                self._write(frame(_PING, _ACK, 0, payload))
        elif kind == _RST_STREAM:
            self._ended(stream, b"reset: " + payload.hex().encode())
        elif kind == _GOAWAY:
            self._on_error(f"the server went away: {payload[8:]!r}")

    def _take_data(self, call: Call, payload: bytes) -> None:
        size = len(payload)
        self._received = self._renewed(0, self._received + size)
        call.received = self._renewed(call.stream, call.received + size)
        buffer = call.buffer + payload if call.buffer else payload
        while len(buffer) >= 5:
            end = 5 + int.from_bytes(buffer[1:5], "big")
            if len(buffer) < end:
                break
            call.on_message(buffer[5:end])
            buffer = buffer[end:]
        call.buffer = buffer

    def _renewed(self, stream: int, received: int) -> int:
        if received < _WINDOW // 2:
            return received
        self._write(frame(_WINDOW_UPDATE, 0, stream, received.to_bytes(4, "big")))
        return 0

    def _ended(self, stream: int, head: bytes) -> None:
        call = self._calls.pop(stream, None)
        if call is not None:
            call.waiting.clear()
            call.on_end(head)

    def _widened(self, stream: int, by: int) -> None:
        if stream == 0:
            self._window += by
        elif (call := self._calls.get(stream)) is not None:
            call.window += by
        if self._blocked:
            self._unblock()

    def _take_settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            name = int.from_bytes(payload[at : at + 2], "big")
            if name == _INITIAL_WINDOW_SIZE:
                # For calls that are open already, too (section 6.9.2).
                window = int.from_bytes(payload[at + 2 : at + 6], "big")
                for call in self._calls.values():
                    call.window += window - self._call_window
                self._call_window = window
        self._write(frame(_SETTINGS, _ACK, 0))
        if self._blocked:
            self._unblock()
