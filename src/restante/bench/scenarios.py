"""What the load generator does to Restante for W2 to W7."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Any

from restante.bench.http import HttpConnection, request_bytes
from restante.bench.lanes import LoadFailed
from restante.bench.processes import cpu_seconds, rss_bytes
from restante.bench.restante_load import (
    HttpClient,
    Stopwatch,
    ask_all,
    make_queues,
    open_clients,
)
from restante.bench.restante_wire import (
    ReceiveRequests,
    ack_request,
    all_settled,
    batch_request,
    find_leases,
    first_lease,
    json_request,
    publish_request,
    xml_body,
)
from restante.bench.specs import (
    Drain,
    FanOut,
    Fill,
    Idle,
    IdleFigures,
    MakeQueues,
    Probe,
    ProbeFigures,
    Subscribe,
    Target,
    Took,
    Wake,
    WakeFigures,
)
from restante.bench.stats import percentile
from restante.bench.ways import WAYS, Collecting, Way, way_of
from restante.bench.ways.longpoll import LONGEST_POLL_SECONDS

_BATCH = 1000
_BATCH_CONNECTIONS = 4
_SETUP_CONNECTIONS = 32
_CONNECTING_AT_ONCE = 100
_QUIET_SECONDS = 60.0
_ALONE_OPERATIONS = 200


async def run_make_queues(spec: MakeQueues) -> Took:
    return await make_queues(spec.target, spec.prefix, spec.count)


async def run_fill(spec: Fill) -> Took:
    """Round after round over all queues, so that no queue is filled in one go."""
    target, body = spec.target, xml_body(spec.body_bytes)
    key = target.publisher_key
    total = spec.count * spec.per_queue

    def requests() -> Iterator[bytes]:
        for start in range(0, total, _BATCH):
            numbers = range(start, min(start + _BATCH, total))
            names = [f"{spec.prefix}{number % spec.count}" for number in numbers]
            yield batch_request(names, body, key=key)

    def check(answer: bytes) -> None:
        if b'"ok":false' in answer:
            raise LoadFailed(f"a batch was not accepted whole: {answer[:500]!r}")

    watch = Stopwatch(target)
    clients = await open_clients(target.port, _BATCH_CONNECTIONS)
    await ask_all(clients, requests(), expect=200, on_answer=check)
    return watch.took(total)


async def run_probe(spec: Probe) -> ProbeFigures:
    """The queues hold as much afterwards as before: each probe acks as many as it publishes."""
    target = spec.target
    body = xml_body(spec.body_bytes)
    chosen = random.Random(1)
    queues = [f"{spec.prefix}{chosen.randrange(spec.count)}" for _ in range(spec.operations)]
    clients = await open_clients(target.port, spec.connections)

    publishes = [publish_request(queue, body, key=target.publisher_key) for queue in queues]
    watch = Stopwatch(target)
    await ask_all(clients, iter(publishes), expect=201)
    publish = watch.took(len(publishes))

    remaining = iter(queues)

    async def lease_and_ack(client: HttpClient) -> None:
        for queue in remaining:
            await _lease_and_ack(client, target, queue)

    watch = Stopwatch(target)
    await asyncio.gather(*(lease_and_ack(client) for client in clients))
    lease_ack = watch.took(len(queues))

    alone = clients[0]
    publish_seconds: list[float] = []
    lease_seconds: list[float] = []
    for queue in queues[:_ALONE_OPERATIONS]:
        request = publish_request(queue, body, key=target.publisher_key)
        began = time.perf_counter()
        await alone.ask(request, expect=201)
        publish_seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
        await _lease_and_ack(alone, target, queue)
        lease_seconds.append(time.perf_counter() - began)
    return ProbeFigures(
        publish=publish,
        lease_ack=lease_ack,
        publish_alone_p50_seconds=percentile(publish_seconds, 50),
        lease_ack_alone_p50_seconds=percentile(lease_seconds, 50),
    )


async def _lease_and_ack(client: HttpClient, target: Target, queue: str) -> None:
    receive = json_request(
        "POST", f"/v1/queues/{queue}/receive", {"max": 1, "wait": 20}, key=target.client_key
    )
    lease = first_lease(await client.ask(receive, expect=200))
    if lease is None:
        raise LoadFailed(f"queue {queue} gave nothing although it holds notifications")
    await client.ask(ack_request(lease, key=target.client_key), expect=200)


class _Idle:
    """Idle consumers, one on each queue; says when something arrives at one of them."""

    def __init__(self, target: Target, prefix: str, count: int, way: Way) -> None:
        self._target = target
        self._prefix = prefix
        self._count = count
        self._way = way
        self.arrival: asyncio.Future[tuple[int, float]] | None = None
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self) -> None:
        """Connect, some at a time: the listen backlog is finite."""
        for start in range(0, self._count, _CONNECTING_AT_ONCE):
            numbers = range(start, min(start + _CONNECTING_AT_ONCE, self._count))
            await asyncio.gather(*(self._connect(number) for number in numbers))

    async def _connect(self, number: int) -> None:
        await self._way.connect_consumer(
            self._target, f"{self._prefix}{number}", _IdleEnd(self, number)
        )

    def fail(self, reason: str) -> None:
        if not self.failure.done():
            self.failure.set_exception(LoadFailed(reason))

    async def or_failure(self, future: asyncio.Future[Any]) -> None:
        """Wait for the future. Raises LoadFailed when something goes wrong meanwhile."""
        await asyncio.wait(
            [future, self.failure],
            timeout=LONGEST_POLL_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self.failure.done():
            self.failure.result()
        if not future.done():
            raise LoadFailed(f"nothing came for {LONGEST_POLL_SECONDS} s")


class _IdleEnd(Collecting):
    """One of the idle, as it is told of what comes."""

    def __init__(self, idle: _Idle, number: int) -> None:
        self._idle = idle
        self._number = number

    def came(self) -> None:
        arrival = self._idle.arrival
        if arrival is not None and not arrival.done():
            arrival.set_result((self._number, time.perf_counter()))

    def failed(self, reason: str) -> None:
        self._idle.fail(reason)


async def _quiet(target: Target) -> None:
    """Wait until the server has done what it was sent and uses (almost) no processor time."""
    deadline = time.perf_counter() + _QUIET_SECONDS
    used = cpu_seconds(target.pids)
    while time.perf_counter() < deadline:
        await asyncio.sleep(0.5)
        before, used = used, cpu_seconds(target.pids)
        if used - before <= 0.02:
            return


async def run_wake(spec: Wake) -> WakeFigures:
    target = spec.target
    # Of several nodes the last: what is published on the first has to be heard of there.
    idle = _Idle(target.nodes[-1], spec.prefix, spec.idle, way_of(WAYS, spec.way))
    await idle.connect()
    await _quiet(target)
    loop = asyncio.get_running_loop()
    confirm: asyncio.Future[int] = loop.create_future()

    def confirmed(status: int, answer: bytes) -> None:
        confirm.set_result(status)

    publisher = await HttpConnection.open(target.port, confirmed, idle.fail)
    body = xml_body(spec.body_bytes)
    chosen = random.Random(2)
    seconds: list[float] = []
    for _ in range(spec.probes):
        number = chosen.randrange(spec.idle)
        request = publish_request(f"{spec.prefix}{number}", body, key=target.publisher_key)
        confirm, arrival = loop.create_future(), loop.create_future()
        idle.arrival = arrival
        sent = time.perf_counter()
        publisher.send(request)
        await idle.or_failure(confirm)
        await idle.or_failure(arrival)
        status, (arrived_at, when) = confirm.result(), arrival.result()
        if status != 201 or arrived_at != number:
            raise LoadFailed(f"publish to queue {number}: {status}, arrived at {arrived_at}")
        seconds.append(when - sent)
    return WakeFigures(
        probes=len(seconds),
        p50_seconds=percentile(seconds, 50),
        p99_seconds=percentile(seconds, 99),
        max_seconds=max(seconds),
    )


async def run_idle(spec: Idle) -> IdleFigures:
    target = spec.target
    idle = _Idle(target, spec.prefix, spec.idle, way_of(WAYS, spec.way))
    await _quiet(target)
    before = rss_bytes(target.node_pids)
    await idle.connect()
    await _quiet(target)
    after = rss_bytes(target.node_pids)
    if idle.failure.done():
        idle.failure.result()
    return IdleFigures(idle=spec.idle, rss_before_bytes=before, rss_after_bytes=after)


async def run_drain(spec: Drain) -> Took:
    target = spec.target
    requests = ReceiveRequests(spec.queue, key=target.client_key, max=spec.batch, wait_seconds=0)
    client = await HttpClient.open(target.port)
    watch = Stopwatch(target)
    collected = 0
    leases: list[bytes] = []
    while True:
        request = requests.acking_all(leases) if leases else requests.plain
        answer = await client.ask(request, expect=200)
        if not all_settled(answer, len(leases)):
            raise LoadFailed(f"an ack did not go well: {answer[-300:]!r}")
        leases = find_leases(answer)
        if not leases:
            break
        collected += len(leases)
    if collected != spec.total:
        raise LoadFailed(f"{collected} collected of {spec.total}")
    return watch.took(collected)


async def run_subscribe(spec: Subscribe) -> Took:
    target = spec.target
    requests = (
        json_request(
            "POST",
            "/v1/subscriptions",
            {"pattern": spec.topic, "queue": f"{spec.prefix}{number}"},
            key=target.admin_key,
        )
        for number in range(spec.count)
    )
    watch = Stopwatch(target)
    clients = await open_clients(target.port, _SETUP_CONNECTIONS)
    return watch.took(await ask_all(clients, requests, expect=201))


async def run_fan_out(spec: FanOut) -> Took:
    target = spec.target
    request = request_bytes(
        "POST",
        f"/v1/topics/{spec.topic}/notifications",
        key=target.publisher_key,
        body=xml_body(spec.body_bytes),
        content_type="application/xml",
    )
    client = await HttpClient.open(target.port)
    watch = Stopwatch(target)
    answer = await client.ask(request, expect=201)
    took = watch.took(spec.expected)
    reached = answer.count(b'"seq":')
    if reached != spec.expected:
        raise LoadFailed(f"the publish reached {reached} queues, not {spec.expected}")
    return took
