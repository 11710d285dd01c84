"""Restante under W1, and the connections that its other workloads use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

from restante.bench.http import HttpConnection
from restante.bench.lanes import Lane, LoadFailed, Tally
from restante.bench.processes import cpu_seconds
from restante.bench.restante_wire import json_request
from restante.bench.specs import Target, Took
from restante.bench.ways import Collecting, Way

_SETUP_CONNECTIONS = 32


class _LaneEnd(Collecting):
    """A lane's consumer, as it is told of what comes."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def settled(self) -> None:
        self._lane.completed()

    def failed(self, reason: str) -> None:
        self._lane.tally.fail(reason)

    @property
    def running(self) -> bool:
        return self._lane.tally.running


async def open_lanes(target: Target, tally: Tally, lanes: int, body: bytes, way: Way) -> list[Lane]:
    """Make the queues, connect everyone, and begin.

    Of several nodes each publishes to each: of two, half of the queues are collected where they are not published.
    """
    await make_queues(target, "lane-", lanes)
    opened = [Lane(tally) for _ in range(lanes)]
    nodes = target.nodes
    for number, lane in enumerate(opened):
        queue = f"lane-{number}"
        here, there = nodes[number % len(nodes)], nodes[number // len(nodes) % len(nodes)]
        lane.publish = await way.connect_publisher(here, queue, body, lane.confirmed, tally.fail)
        await way.connect_consumer(there, queue, _LaneEnd(lane))
    for lane in opened:
        lane.begin()
    return opened


class HttpClient:
    """One connection that is asked and awaited, where the generator's own cost matters less."""

    def __init__(self) -> None:
        self._connection: HttpConnection | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    @classmethod
    async def open(cls, port: int) -> HttpClient:
        client = cls()
        client._connection = await HttpConnection.open(port, client._answered, client._failed)
        return client

    async def ask(self, request: bytes, *, expect: int) -> bytes:
        """Send one request and return the body of its answer.

        Raises LoadFailed when the status is not the one expected or the connection ends.
        """
        assert self._connection is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._connection.send(request)
        status, body = await self._answer
        if status != expect:
            line = request[: request.find(b"\r\n")].decode()
            raise LoadFailed(f"{line} was answered {status}, not {expect}: {body[:300]!r}")
        return body

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _answered(self, status: int, body: bytes) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, body))

    def _failed(self, reason: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LoadFailed(reason))


async def open_clients(port: int, count: int) -> list[HttpClient]:
    """Some connections to one server."""
    return [await HttpClient.open(port) for _ in range(count)]


async def ask_all(
    clients: Iterable[HttpClient],
    requests: Iterator[bytes],
    *,
    expect: int,
    on_answer: Callable[[bytes], None] | None = None,
) -> int:
    """Send all requests, one at a time on each connection; return how many they were."""
    done = 0

    async def work(client: HttpClient) -> None:
        nonlocal done
        # The connections share one iterator: each takes the next request when it is free.
        for request in requests:
            answer = await client.ask(request, expect=expect)
            done += 1
            if on_answer is not None:
                on_answer(answer)

    await asyncio.gather(*(work(client) for client in clients))
    return done


class Stopwatch:
    """Wall time and processor time on both sides, from its creation on."""

    def __init__(self, target: Target) -> None:
        self._pids = target.pids
        self._server_cpu = cpu_seconds(self._pids)
        self._own_cpu = time.process_time()
        self._began = time.perf_counter()

    def took(self, operations: int) -> Took:
        seconds = time.perf_counter() - self._began
        return Took(
            seconds=seconds,
            operations=operations,
            server_cpu_seconds=cpu_seconds(self._pids) - self._server_cpu,
            generator_cpu_seconds=time.process_time() - self._own_cpu,
        )


async def make_queues(target: Target, prefix: str, count: int) -> Took:
    """Create the queues, owned by the target's client."""
    requests = (
        json_request(
            "PUT", f"/v1/queues/{prefix}{number}", {"owner": target.client}, key=target.admin_key
        )
        for number in range(count)
    )
    watch = Stopwatch(target)
    clients = await open_clients(target.port, min(count, _SETUP_CONNECTIONS))
    done = await ask_all(clients, requests, expect=200)
    for client in clients:
        client.close()
    return watch.took(done)
