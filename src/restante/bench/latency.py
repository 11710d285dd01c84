"""What the load generator does to compare Restante's transports: latency at a steady rate, and bytes on the wire."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import cast

from restante.bench.lanes import LoadFailed
from restante.bench.processes import cpu_seconds
from restante.bench.relay import Relay
from restante.bench.restante_load import ask_all, make_queues, open_clients
from restante.bench.restante_wire import publish_request, xml_body
from restante.bench.specs import Steady, SteadyFigures, Target, WireBytes, WireFigures
from restante.bench.stats import percentile
from restante.bench.ways import WAYS, Collecting, Way, way_of
from restante.bench.ways.longpoll import LongPoll
from restante.bench.ways.websocket import frame, handshake

_LONGEST_SECONDS = 30.0
_FAT_BYTES = 512 * 1024
_WARM = 10
"""Notifications before bytes are counted: connections are made and headers said by then."""


class _Stop:
    """The first failure of any connection, and whether to go on."""

    def __init__(self) -> None:
        self.running = True
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, reason: str) -> None:
        if self.running and not self.failure.done():
            self.running = False
            self.failure.set_exception(LoadFailed(reason))

    async def wait(self, future: asyncio.Future[None], seconds: float = _LONGEST_SECONDS) -> None:
        """Until the future is done. Raises LoadFailed when something goes wrong first."""
        ends = [future, self.failure]
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if self.failure.done():
            self.failure.result()
        if not future.done():
            raise LoadFailed(f"nothing came for {seconds:.0f} s")


class _Timed(Collecting):
    """A consumer whose notifications come in the order in which they were published."""

    def __init__(self, stop: _Stop) -> None:
        self._stop = stop
        self.sent_at: deque[float] = deque()
        self.seconds: list[float] = []

    def came(self) -> None:
        self.seconds.append(time.perf_counter() - self.sent_at.popleft())

    def failed(self, reason: str) -> None:
        self._stop.fail(reason)


async def run_steady(spec: Steady) -> SteadyFigures:
    """Publish at a steady rate, whatever comes back; from sending the publish to the notification in hand."""
    target, way = spec.target, way_of(WAYS, spec.way)
    prefix = f"steady-beside-{spec.never_reading}-"
    await make_queues(target, prefix, spec.lanes)
    stop = _Stop()
    ends = [_Timed(stop) for _ in range(spec.lanes)]
    publishes = [
        await _connect(target, way, f"{prefix}{number}", spec.body_bytes, end, stop)
        for number, end in enumerate(ends)
    ]
    silent = await _never_reading(target, spec.never_reading)
    loop = asyncio.get_running_loop()
    pause = 1.0 / spec.rate
    total = int(spec.rate * spec.seconds)
    warm = total // 5
    cpu = began = 0.0
    start = loop.time()
    for number in range(total):
        if number == warm:
            cpu, began = cpu_seconds(target.pids), time.perf_counter()
            for end in ends:
                end.seconds.clear()
        left = start + number * pause - loop.time()
        if left > 0:
            await asyncio.wait([stop.failure], timeout=left)
        if stop.failure.done():
            stop.failure.result()
        lane = number % spec.lanes
        ends[lane].sent_at.append(time.perf_counter())
        publishes[lane]()
    took = time.perf_counter() - began
    cpu = cpu_seconds(target.pids) - cpu
    stop.running = False
    if any(one.ended for one in silent):
        raise LoadFailed("some of those who never read were gone before the end")
    seconds = [second for end in ends for second in end.seconds]
    if not seconds:
        raise LoadFailed("nothing was delivered")
    return SteadyFigures(
        delivered=len(seconds),
        seconds=took,
        p50_seconds=percentile(seconds, 50),
        p99_seconds=percentile(seconds, 99),
        server_cpu_seconds=cpu,
    )


async def _connect(
    target: Target, way: Way, queue: str, body_bytes: int, end: Collecting, stop: _Stop
) -> Callable[[], None]:
    # Published over HTTP whatever the way: what is compared is how notifications are collected.
    publish = await LongPoll().connect_publisher(
        target, queue, xml_body(body_bytes), lambda: None, stop.fail
    )
    await way.connect_consumer(target, queue, end)
    return publish


class _Silent(asyncio.Protocol):
    """A connection that says one thing, and never reads."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # By its behaviour alone: uvloop's transports do not inherit from asyncio's.
        connected = cast("asyncio.Transport", transport)
        connected.pause_reading()
        connected.write(self._says)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True


async def _never_reading(target: Target, count: int) -> list[_Silent]:
    if not count:
        return []
    await make_queues(target, "fat-", 1)
    body = xml_body(_FAT_BYTES)
    clients = await open_clients(target.port, 2)
    requests = (publish_request("fat-0", body, key=target.publisher_key) for _ in range(4 * count))
    await ask_all(clients, requests, expect=201)
    credit = b'{"type":"credit","messages":10000,"bytes":268435456}'
    says = handshake("/v1/queues/fat-0/socket", target.client_key, "restante.v1") + frame(1, credit)
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: _Silent(says), "127.0.0.1", target.port)
        for _ in range(count)
    ]
    return [silent for _, silent in made]


class _Counted(Collecting):
    def __init__(self, stop: _Stop) -> None:
        self._stop = stop
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def came(self) -> None:
        # Not its ack: over long poll that is answered with the next notification.
        if not self.done.done():
            self.done.set_result(None)

    def failed(self, reason: str) -> None:
        self._stop.fail(reason)


async def run_wire_bytes(spec: WireBytes) -> WireFigures:
    """Notifications one after the other, each collected and acked through a relay that counts."""
    target, way = spec.target, way_of(WAYS, spec.way)
    await make_queues(target, "wire-", 1)
    stop = _Stop()
    end = _Counted(stop)
    publish = await LongPoll().connect_publisher(
        target, "wire-0", xml_body(spec.body_bytes), lambda: None, stop.fail
    )
    async with Relay(way.port(target)) as relay:
        await way.connect_consumer(way.through(target, relay.port), "wire-0", end)
        up = down = 0
        try:
            for number in range(_WARM + spec.notifications):
                if number == _WARM:
                    up, down = relay.up_bytes, relay.down_bytes
                end.done = asyncio.get_running_loop().create_future()
                publish()
                await stop.wait(end.done)
        finally:
            # What ends from here on is meant to.
            stop.running = False
        return WireFigures(
            notifications=spec.notifications,
            up_bytes=relay.up_bytes - up,
            down_bytes=relay.down_bytes - down,
            connections=relay.connections,
        )
