"""Endpoints of webhooks, good and bad, and a client that has one."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service

from restante.testing.transports.drivers.webhook import Receiver, Request

SECONDS = 20.0
Conduct = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Rogue:
    """A server that does to each connection what it is told. Counts what it was asked, and what it could send."""

    def __init__(self, conduct: Conduct) -> None:
        self.connections = 0
        self.ended = 0
        self.most_at_once = 0
        self._conduct = conduct
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    async def open(
        self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> int:
        self._tls = tls
        self._server = await asyncio.start_server(self._serve, host, port)
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def close(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was counted is as it should be."""
        async with asyncio.timeout(SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_called(self) -> None:
        await self.until(lambda: self.connections > 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.most_at_once = max(self.most_at_once, self.connections - self.ended)
        self._changed.set()
        try:
            if self._tls is not None:
                # Here and not by the server, which would leave a connection open whose handshake fails.
                await writer.start_tls(self._tls)
            await self._conduct(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The other side has hung up, or the test is over.
            return
        finally:
            self._tasks.discard(task)
            self.ended += 1
            self._changed.set()
            writer.transport.abort()


async def read_call(reader: asyncio.StreamReader) -> None:
    """Take in one call."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)


def answers(data: bytes) -> Conduct:
    """Answers a call with these bytes, and hangs up when they are read."""

    async def conduct(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_call(reader)
        writer.write(data)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    return conduct


def starts(data: bytes) -> Conduct:
    """Answers with the beginning of something, and then says no more: a drip between two drops."""

    async def conduct(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_call(reader)
        writer.write(data)
        await reader.read()

    return conduct


class Hooked:
    """A client with a webhook, a publisher, and what the ledger says."""

    def __init__(self, box: Mailbox, http: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
        self.box = box
        self.name = box.name
        self.http = http
        self.admin = admin
        self.path = f"/v1/queues/{box.name}/webhook"

    async def set(self, url: str, **settings: Any) -> dict[str, Any]:
        answer = await self.http.put(self.path, json={"url": url, **settings})
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def get(self) -> dict[str, Any]:
        answer = await self.http.get(self.path)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def post(self, what: str, **asked: Any) -> dict[str, Any]:
        answer = await self.http.post(f"{self.path}/{what}", json=asked)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def queue(self, **settings: Any) -> None:
        answer = await self.admin.put(f"/v1/queues/{self.name}", json=settings)
        assert answer.is_success, answer.text

    async def publish(self, *bodies: bytes, **headers: str) -> list[str]:
        ids = []
        for body in bodies:
            answer = await self.admin.post(
                f"/v1/queues/{self.name}/notifications",
                content=body,
                headers={"content-type": "application/xml", **headers},
            )
            assert answer.status_code == 201, answer.text
            ids.append(answer.json()["id"])
        return ids

    async def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.http.get(f"/v1/queues/{self.name}")).json()["figures"]
        return found

    async def receipts(self, outcome: str, count: int = 1) -> list[dict[str, Any]]:
        """The first so many receipts of that outcome, as soon as they are there."""
        async with asyncio.timeout(SECONDS):
            while True:
                page = await self.http.get(
                    f"/v1/queues/{self.name}/receipts", params={"outcome": outcome, "limit": 1_000}
                )
                found: list[dict[str, Any]] = page.json()["receipts"]
                if len(found) >= count:
                    return found


@contextlib.asynccontextmanager
async def hooked(service: Service) -> AsyncIterator[Hooked]:
    box = Mailbox(service)
    async with service.async_caller(box.key) as http, service.async_caller(ADMIN_KEY) as admin:
        one = Hooked(box, http, admin)
        await one.queue(backoff_base_seconds=0, max_attempts=1_000)
        try:
            yield one
        finally:
            await http.delete(one.path)
            box.close()


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[tuple[Receiver, str]]:
    receiver = Receiver()
    url = await receiver.open()
    try:
        yield receiver, url
    finally:
        await receiver.close()


@contextlib.asynccontextmanager
async def rogue(conduct: Conduct, **where: Any) -> AsyncIterator[tuple[Rogue, str]]:
    one = Rogue(conduct)
    port = await one.open(**where)
    scheme = "https" if where.get("tls") else "http"
    try:
        yield one, f"{scheme}://127.0.0.1:{port}/inbox"
    finally:
        await one.close()


async def next_call(receiver: Receiver) -> Request:
    async with asyncio.timeout(SECONDS):
        return await receiver.requests.get()
