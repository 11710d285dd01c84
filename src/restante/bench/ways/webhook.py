"""Webhooks: the service calls a receiver of the generator's own, one notification at a time.

The receiver answers every call with 204 and reads no more of it than its path and its length, so that it measures the
server. The answer is the ack: its commit follows it, and nobody is told.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

import msgspec

from restante.bench.lanes import LoadFailed
from restante.bench.restante_wire import json_request
from restante.bench.specs import Target
from restante.bench.ways.base import Collecting, OnError, Way
from restante.bench.ways.longpoll import connect_http_publisher

_ANSWER: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\ncontent-length:"
_BACKLOG: Final = 1_024


class Receiving(asyncio.Protocol):
    """One connection of the service. ``on_call`` gets the path of each call as it is answered."""

    def __init__(self, on_call: Callable[[str], None]) -> None:
        self._on_call = on_call
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        while (end := buffer.find(_HEAD_END)) >= 0:
            at = buffer.lower().find(_LENGTH, 0, end)
            if at < 0:
                raise LoadFailed(f"a call without a length: {buffer[:200]!r}")
            start = at + len(_LENGTH)
            need = end + len(_HEAD_END) + int(buffer[start : buffer.find(b"\r\n", start)])
            if len(buffer) < need:
                break
            path = buffer[: buffer.find(b"\r\n")].split(b" ")[1].decode()
            buffer = buffer[need:]
            self._transport.write(_ANSWER)
            self._on_call(path)
        self._buffer = buffer


def webhook_request(target: Target, queue: str, path: str, port: int, concurrency: int) -> bytes:
    """Have the queue sent to a path of a loopback port, so many notifications at a time."""
    return json_request(
        "PUT",
        f"/v1/queues/{queue}/webhook",
        {"url": f"http://127.0.0.1:{port}{path}", "concurrency": concurrency},
        key=target.admin_key,
    )


class Webhook(Way):
    name = "webhook"
    title = "webhook"
    requests = "1 (the server's)"
    settings = (
        "one call at a time for each queue, answered with 204 at once; an ack counts when its call is "
        "answered: its commit follows"
    )
    serve_options = ("--webhook-allow", "127.0.0.0/8")
    idles = False

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._ends: dict[str, Collecting] = {}

    def port(self, target: Target) -> int:
        """The port that is called: the receiver's, unless a relay stands before it."""
        return target.webhook_port or self._bound().getsockname()[1]

    def through(self, target: Target, port: int) -> Target:
        return msgspec.structs.replace(target, webhook_port=port)

    async def connect_publisher(
        self,
        target: Target,
        queue: str,
        body: bytes,
        on_confirm: Callable[[], None],
        on_error: OnError,
    ) -> Callable[[], None]:
        return await connect_http_publisher(target, queue, body, on_confirm, on_error)

    async def connect_consumer(self, target: Target, queue: str, collecting: Collecting) -> None:
        # Imported late: what asks and awaits knows of ways itself.
        from restante.bench.restante_load import HttpClient

        path = f"/{queue}"
        self._ends[path] = collecting
        port = self.port(target)
        if self._socket is not None and self._server is None:
            listening = asyncio.get_running_loop().create_server(
                lambda: Receiving(self._called), sock=self._socket, backlog=_BACKLOG
            )
            self._server = await listening
        client = await HttpClient.open(target.port)
        await client.ask(webhook_request(target, queue, path, port, 1), expect=201)
        client.close()

    def _called(self, path: str) -> None:
        end = self._ends[path]
        end.came()
        end.settled()

    def _bound(self) -> socket.socket:
        # Before there is a server, so that a relay may know where it will be.
        if self._socket is None:
            self._socket = socket.socket()
            self._socket.bind(("127.0.0.1", 0))
        return self._socket
