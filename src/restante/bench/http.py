"""Just enough HTTP/1.1 for a load generator: requests made beforehand, answers with a length.

Answers are scanned, not parsed: the less the generator does for each, the more it measures of
the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import cast

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"
_NO_BODY = frozenset({204, 304})


class BadResponse(Exception):
    """An answer that this reader does not understand (RFC 9112 allows more than it reads)."""


def request_bytes(
    method: str,
    path: str,
    *,
    key: str,
    body: bytes = b"",
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """One request as it goes over the wire, on a connection that stays open."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {key}",
        f"Content-Length: {len(body)}",
    ]
    if body:
        lines.append(f"Content-Type: {content_type}")
    lines.extend(f"{name}: {value}" for name, value in (headers or {}).items())
    return "\r\n".join(lines).encode("ascii") + _HEAD_END + body


class RequestTemplate:
    """A request of which only the JSON body changes: the head is encoded once."""

    def __init__(self, method: str, path: str, *, key: str) -> None:
        head = request_bytes(method, path, key=key, body=b"x")
        before, after = head[: -len(_HEAD_END) - 1].split(b"Content-Length: 1")
        self._before = before + b"Content-Length: "
        self._after = after + _HEAD_END

    def fill(self, body: bytes) -> bytes:
        """The request with this body, which must not be empty."""
        return b"%b%d%b%b" % (self._before, len(body), self._after, body)


class ResponseReader:
    """Cuts a stream of bytes into answers, however the bytes arrive."""

    def __init__(self) -> None:
        self._buffer = b""
        self._status = 0
        # Length of the whole answer, head included, once its head is read; 0 before.
        self._need = 0
        self._head = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take bytes; return the answers now complete, each as (status, body).

        Raises BadResponse on an answer without Content-Length or without a status line.
        """
        buffer = self._buffer + data if self._buffer else data
        answers: list[tuple[int, bytes]] = []
        while True:
            if not self._need and not self._read_head(buffer):
                break
            if len(buffer) < self._need:
                break
            answers.append((self._status, buffer[self._head : self._need]))
            buffer = buffer[self._need :]
            self._need = 0
            if not buffer:
                break
        self._buffer = buffer
        return answers

    def _read_head(self, buffer: bytes) -> bool:
        end = buffer.find(_HEAD_END)
        if end < 0:
            return False
        if not buffer.startswith(b"HTTP/1.1 "):
            raise BadResponse(f"not an HTTP/1.1 answer: {buffer[:60]!r}")
        self._status = int(buffer[9:12])
        self._head = end + len(_HEAD_END)
        if self._status in _NO_BODY:
            self._need = self._head
            return True
        head = buffer[:end].lower()
        at = head.find(_LENGTH)
        if at < 0:
            raise BadResponse(f"an answer without Content-Length: {head[:200]!r}")
        start = at + len(_LENGTH)
        stop = head.find(b"\r\n", start)
        self._need = self._head + int(head[start : stop if stop >= 0 else None])
        return True


class HttpConnection(asyncio.Protocol):
    """One keep-alive connection. `on_answer` gets each answer, `on_error` the end of it all."""

    def __init__(
        self,
        on_answer: Callable[[int, bytes], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._on_answer = on_answer
        self._on_error = on_error
        self._reader = ResponseReader()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(
        cls,
        port: int,
        on_answer: Callable[[int, bytes], None],
        on_error: Callable[[str], None],
    ) -> HttpConnection:
        """Connect to a loopback port. Raises OSError when nothing answers there."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: cls(on_answer, on_error), "127.0.0.1", port
        )
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # By its behaviour alone: uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for status, body in self._reader.feed(data):
                self._on_answer(status, body)
        except BadResponse as error:
            self._on_error(str(error))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport = None
            self._on_error(f"the server closed a connection ({exc or 'no error'})")

    def send(self, request: bytes) -> None:
        if self._transport is not None:
            self._transport.write(request)

    def close(self) -> None:
        """Close without telling `on_error`."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
