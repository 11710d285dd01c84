"""Server-sent events, with a credit of one; acks by HTTP calls on a second connection."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import cast

from restante.bench.http import HttpConnection, request_bytes
from restante.bench.restante_wire import ack_request
from restante.bench.specs import Target
from restante.bench.ways.base import Collecting, OnError, Way
from restante.bench.ways.longpoll import connect_http_publisher

_LEASE = re.compile(rb'"lease":"([^"]+)"')
_EVENT_END = b"\n\n"


class EventStream(asyncio.Protocol):
    """Reads events and nothing else: chunks are cut at event ends, their lengths are passed over."""

    def __init__(
        self, request: bytes, on_event: Callable[[bytes], None], on_error: OnError
    ) -> None:
        self._request = request
        self._on_event = on_event
        self._on_error = on_error
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # By its behaviour alone: uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        *events, self._buffer = (self._buffer + data).split(_EVENT_END)
        for event in events:
            if b"event: attached" in event and not self.begun.done():
                self.begun.set_result(None)
            elif b"event: notification" in event:
                self._on_event(event)

    def close(self) -> None:
        """Be gone, without a word to the server or to `on_error`."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport = None
            self._on_error(f"the server ended a stream ({exc or 'no error'})")
        if not self.begun.done():
            self.begun.set_exception(OSError(f"no stream: {self._buffer[:200]!r}"))


class Events(Way):
    name = "events"
    title = "server-sent events"
    requests = "1 (the ack)"
    settings = "a credit of one, each notification acked by an HTTP call of its own"

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
        settles: HttpConnection | None = None

        def settled(status: int, answer: bytes) -> None:
            if status == 200:
                collecting.settled()
            else:
                collecting.failed(f"an ack was answered {status}: {answer[:300]!r}")

        async def ack(lease: bytes) -> None:
            nonlocal settles
            if settles is None:
                # Who is idle needs no second connection.
                settles = await HttpConnection.open(target.port, settled, collecting.failed)
            settles.send(ack_request(lease, key=target.client_key))

        def came(event: bytes) -> None:
            lease = _LEASE.search(event)
            if lease is None:
                collecting.failed(f"a notification without a lease: {event[:300]!r}")
                return
            collecting.came()
            if not collecting.running:
                return
            if settles is None:
                tasks.append(asyncio.create_task(ack(lease[1])))
            else:
                settles.send(ack_request(lease[1], key=target.client_key))

        tasks: list[asyncio.Task[None]] = []
        path = f"/v1/queues/{queue}/events?credit=1"
        request = request_bytes("GET", path, key=target.client_key)
        _, stream = await asyncio.get_running_loop().create_connection(
            lambda: EventStream(request, came, collecting.failed), "127.0.0.1", target.port
        )
        await stream.begun
