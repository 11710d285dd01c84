"""Webhooks under load: lanes whose consumer is called, and endpoints that never do well beside them.

The receiver answers every call with 204 and reads no more of it than its length, so that it measures the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from restante.bench.lanes import Lane, LoadFailed, Tally
from restante.bench.restante_load import ask_all, make_queues, open_clients
from restante.bench.restante_wire import batch_request, json_request
from restante.bench.specs import Target
from restante.bench.ways.base import publisher_key
from restante.bench.ways.longpoll import LongPoll
from restante.model import BATCH

CONCURRENCY: Final = 4
_ANSWER: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\ncontent-length:"
_SETUP_CONNECTIONS: Final = 16


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


async def listen(on_call: Callable[[str], None]) -> asyncio.Server:
    """A receiver on a free loopback port."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Receiving(on_call), "127.0.0.1", 0)


async def open_webhook_lanes(target: Target, tally: Tally, lanes: int, body: bytes) -> None:
    """W1 over webhooks: as many queues with a webhook each, their publishers, and begin."""
    opened: dict[str, Lane] = {f"/{number}": Lane(tally) for number in range(lanes)}
    server = await listen(lambda path: opened[path].completed())
    port = server.sockets[0].getsockname()[1]
    await make_queues(target, "lane-", lanes)
    await set_webhooks(target, "lane-", lanes, port)
    for number, lane in enumerate(opened.values()):
        lane.publish = await LongPoll().connect_publisher(
            target, f"lane-{number}", body, lane.confirmed, tally.fail
        )
    for lane in opened.values():
        lane.begin()


async def open_dead_ends(target: Target, count: int, per_queue: int, port: int) -> None:
    """Queues with a webhook at a port where nobody does well, and so many notifications in each."""
    await make_queues(target, "dead-", count)
    names = [f"dead-{number}" for number in range(count)]
    requests = (
        batch_request(names[start : start + BATCH], b"<order/>", key=publisher_key(target))
        for start in range(0, count, BATCH)
        for _ in range(per_queue)
    )
    clients = await open_clients(target.port, 1)
    await ask_all(clients, requests, expect=200)
    clients[0].close()
    await set_webhooks(target, "dead-", count, port)


async def set_webhooks(target: Target, prefix: str, count: int, port: int) -> None:
    """Have each of the queues sent to a path of its own number."""
    clients = await open_clients(target.port, _SETUP_CONNECTIONS)
    requests = (
        json_request(
            "PUT",
            f"/v1/queues/{prefix}{number}/webhook",
            {"url": f"http://127.0.0.1:{port}/{number}", "concurrency": CONCURRENCY},
            key=target.admin_key,
        )
        for number in range(count)
    )
    await ask_all(clients, requests, expect=201)
    for client in clients:
        client.close()
