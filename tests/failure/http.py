"""The lightest HTTP/1.1 client that will do: one connection, one call at a time, answers with a length."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

CALL_SECONDS = 60.0
"""Long enough for the longest long poll of these tests; a call that hangs becomes an unknown outcome."""


class NotSent(Exception):
    """Nobody listened: the call was certainly not carried out."""


class NoAnswer(Exception):
    """The connection ended before the answer did: nobody knows whether the call was carried out."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict:
        return msgspec.json.decode(self.body)


class Connection(asyncio.Protocol):
    """One keep-alive connection to a loopback port."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Raises NotSent when nobody listens."""
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                cls, "127.0.0.1", port
            )
        except OSError as error:
            raise NotSent(str(error)) from error
        return connection

    @property
    def closed(self) -> bool:
        return self._transport is None

    async def call(
        self,
        method: str,
        path: str,
        *,
        key: str,
        body: bytes = b"",
        headers: Mapping[str, str] = {},
    ) -> Answer:
        """Raises NoAnswer when the connection ends or the answer takes longer than CALL_SECONDS."""
        if self._transport is None:
            raise NoAnswer("the connection is closed")
        assert self._answer is None, "a connection carries one call at a time"
        head = [
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        try:
            return await asyncio.wait_for(self._answer, CALL_SECONDS)
        except TimeoutError as error:
            self.close()
            raise NoAnswer(f"no answer in {CALL_SECONDS} s") from error
        finally:
            self._answer = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NoAnswer(str(exc or "the server closed the connection")))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        status_line, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        status = int(status_line.split(" ", 2)[1])
        length = 0 if status == 204 else int(headers["content-length"])
        if len(self._buffer) < end + 4 + length:
            return
        body = self._buffer[end + 4 : end + 4 + length]
        self._buffer = self._buffer[end + 4 + length :]
        if headers.get("connection", "").lower() == "close":
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(status, headers, body))
