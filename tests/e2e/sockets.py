"""WebSockets for tests: well-behaved ones, and bare ones whose every byte is the test's."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import psutil
from tests.e2e.conftest import ADMIN_KEY, Service, bearer
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from restante.testing.transports import Target
from restante.testing.transports.drivers.websocket import BINARY, TEXT, Binary, Link, Text

SECONDS = 20
"""How long anything may take that has to come."""
DRIVERS: dict[str, type[Text]] = {TEXT: Text, BINARY: Binary}


@contextlib.asynccontextmanager
async def linked(
    service: Service, path: str, key: str, subprotocol: str = TEXT
) -> AsyncIterator[Link]:
    """A connection that reads for itself, and whose frames can be asked for an answer."""
    driver = DRIVERS[subprotocol](Target(url=service.url, admin_key=ADMIN_KEY))
    link = await driver.connect(path, key)
    try:
        yield link
    finally:
        await link.close()


def opened(
    service: Service, path: str, key: str | None, *subprotocols: str, **options: Any
) -> connect:
    """A handshake to be awaited or entered."""
    return connect(
        f"ws://{service.address[0]}:{service.address[1]}{path}",
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        additional_headers=None if key is None else bearer(key),
        proxy=None,
        max_size=None,
        **options,
    )


async def received(connection: ClientConnection) -> dict[str, Any]:
    """The next frame, without what stands behind it."""
    async with asyncio.timeout(SECONDS):
        message = await connection.recv()
    if isinstance(message, bytes):
        message = message[4 : 4 + int.from_bytes(message[:4], "big")]
    frame: dict[str, Any] = json.loads(message)
    return frame


def written(frame: Any, subprotocol: str, rest: bytes = b"") -> str | bytes:
    text = json.dumps(frame)
    if subprotocol == TEXT:
        return text
    return len(text).to_bytes(4, "big") + text.encode() + rest


class Bare:
    """A connection that has shaken hands, and reads nothing any more."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, service: Service, path: str, key: str) -> Bare:
        # Whatever is sent to it stays in the kernel, and in the server.
        reader, writer = await asyncio.open_connection(*service.address, limit=1_024)
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: MDAwMDAwMDAwMDAwMDAwMA==\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {TEXT}\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        return cls(reader, writer)

    async def sends(self, data: bytes, opcode: Opcode = Opcode.TEXT, times: int = 1) -> None:
        frame = Frame(opcode, data).serialize(mask=True)
        at_once = min(times, 1 + 65_536 // len(frame))
        for _ in range(0, times, at_once):
            self.writer.write(frame * at_once)
            async with asyncio.timeout(SECONDS):
                await self.writer.drain()

    async def credit(self, **members: Any) -> None:
        await self.sends(json.dumps({"type": "credit", **members}).encode())

    def abandon(self) -> None:
        self.writer.transport.abort()


def memory_mib(service: Service) -> int:
    """What the server has in memory (its resident set)."""
    size: int = psutil.Process(service.pid).memory_info().rss
    return size // (1_024 * 1_024)
