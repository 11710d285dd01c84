"""A stop, as balancers and clients see it: readiness first, then everybody is sent away, and nobody is cut off."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service

from restante.testing.transports.driver import Target
from restante.testing.transports.drivers.grpc import Connection
from restante.wire.proto import restante_pb2 as pb

NAME = "node-of-the-tests"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    # As long as nobody cuts it short by a second signal, which each test does.
    service = Service(tmp_path / "data", "--drain-seconds", "600", "--node-name", NAME)
    service.start()
    yield service
    assert service.end(signal.SIGTERM) == 0, service.log()


@pytest.fixture
def box(service: Service) -> Iterator[Mailbox]:
    box = Mailbox(service)
    yield box
    box.close()


def is_ready(service: Service) -> bool:
    return httpx.get(f"{service.admin_url}/readyz").status_code == 200


def stop(service: Service) -> None:
    """Ask it to stop, and wait until it says that it is not ready."""
    os.kill(service.pid, signal.SIGTERM)
    while is_ready(service):
        pass


async def test_it_serves_as_before_until_balancers_have_noticed(service, box):
    assert is_ready(service)
    answer = box.client.post(f"/v1/queues/{box.name}/next?wait=0")
    assert "connection" not in answer.headers
    polling = asyncio.create_task(
        asyncio.to_thread(box.client.post, f"/v1/queues/{box.name}/next?wait=20")
    )
    async with grpc.aio.insecure_channel(service.grpc) as channel:
        watch: Any = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stop(service)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    # Who waits goes on waiting, who comes is taken in, and is told to look elsewhere for the next.
    assert not polling.done()
    published = box.publisher.post(f"/v1/queues/{box.name}/notifications", content=b"<a/>")
    assert published.status_code == 201
    assert published.headers["connection"] == "close"
    answer = await polling
    assert (answer.status_code, answer.content) == (200, b"<a/>")
    assert answer.headers["connection"] == "close"


async def test_it_says_of_itself_that_it_drains(service, box):
    (node,) = box.admin.get("/v1/nodes").json()["nodes"]
    assert (node["name"], node["draining"], node["url"]) == (NAME, False, service.url)
    stop(service)
    (node,) = box.admin.get("/v1/nodes").json()["nodes"]
    assert node["draining"]
    assert box.client.get("/v1/nodes").status_code == 403


async def test_streams_are_told_when_to_come_back_each_at_another_time(service, box):
    retries: set[int] = set()

    async def follow(caller: httpx.AsyncClient) -> None:
        async with caller.stream("GET", f"/v1/queues/{box.name}/events") as events:
            attached.release()
            text = "".join([part async for part in events.aiter_text()])
        assert "event: drain" in text
        retries.add(int(text.rpartition("retry: ")[2].split("\n")[0]))

    attached = asyncio.Semaphore(0)
    async with service.async_caller(box.key) as caller:
        following = [asyncio.create_task(follow(caller)) for _ in range(10)]
        for _ in following:
            await attached.acquire()
        stop(service)
        assert not any(task.done() for task in following)
        os.kill(service.pid, signal.SIGTERM)
        await asyncio.gather(*following)
    assert len(retries) > 5
    assert all(1_000 <= retry <= 10_000 for retry in retries)


async def test_grpc_refuses_who_asks_too_often(tmp_path):
    service = Service(tmp_path / "slow", "--client-requests-per-second", "0.01")
    service.start()
    box = Mailbox(service)
    target = Target(url=service.url, admin_key=ADMIN_KEY, grpc=service.grpc)
    connection = Connection(target, box.key)
    try:
        pull = pb.PullRequest(queue=box.name, wait_seconds=0)
        await connection.unary("Pull", pull)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await connection.unary("Pull", pull)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(refused.value.trailing_metadata()) == {"restante-code": "too_many_requests"}
    finally:
        await connection.close()
        box.close()
        assert service.end(signal.SIGTERM) == 0
