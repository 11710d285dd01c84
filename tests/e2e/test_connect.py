"""Connect and gRPC-Web over a real connection: who leaves, who stays, who loses their key. Forms have unit tests."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator

import httpx
import pytest
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service, raw_post

from restante.testing.transports import Target
from restante.testing.transports.driver import Options
from restante.testing.transports.drivers.connect import (
    Connect,
    ConnectConsumer,
    ConnectJson,
    GrpcWeb,
    envelope,
    split,
)
from restante.wire.proto import restante_pb2 as pb

CALL = "/restante.v1.Delivery/"
WAYS = [Connect, ConnectJson, GrpcWeb]


@pytest.fixture
async def caller(server: Service, mailbox: Mailbox) -> AsyncIterator[httpx.AsyncClient]:
    async with server.async_caller(mailbox.key) as caller:
        yield caller


async def attached(
    service: Service, box: Mailbox, way: type[Connect], key: str = ""
) -> ConnectConsumer:
    driver = way(Target(url=service.url, admin_key=ADMIN_KEY))
    return await driver.attach(box.name, key or box.key, Options())


async def test_a_pull_that_hangs_up_leaves_no_lease(server: Service, mailbox: Mailbox) -> None:
    asked = json.dumps({"queue": mailbox.name, "waitSeconds": 60}).encode()
    for _ in range(20):
        _, writer = await asyncio.open_connection(*server.address)
        writer.write(raw_post(f"{CALL}Pull", mailbox.key, asked))
        await writer.drain()
        for _ in range(3):
            # Requests sent later, on another connection, are answered: it has reached the server.
            await asyncio.to_thread(mailbox.admin.get, "/v1/queues")
        writer.close()
        await writer.wait_closed()
    mailbox.publish()
    (notification,) = mailbox.receive(wait=20)
    assert notification["attempt"] == 1
    assert mailbox.figures()["leased"] == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_that_hangs_up_takes_nothing_along(
    server: Service, mailbox: Mailbox, way: type[Connect]
) -> None:
    for _ in range(20):
        await (await attached(server, mailbox, way)).close()
    mailbox.publish()
    (notification,) = mailbox.receive(wait=20)
    assert notification["attempt"] == 1


async def test_a_deadline_ends_a_pull(caller: httpx.AsyncClient, mailbox: Mailbox) -> None:
    asked = {"queue": mailbox.name, "waitSeconds": 60}
    answer = await caller.post(f"{CALL}Pull", json=asked, headers={"connect-timeout-ms": "200"})
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    # On the same connection, and nothing is leased.
    mailbox.publish()
    answer = await caller.post(f"{CALL}Pull", json=asked)
    assert answer.json()["notifications"][0]["attempt"] == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_revoked_key_ends_a_stream(
    server: Service, mailbox: Mailbox, way: type[Connect]
) -> None:
    made = mailbox.admin.post("/v1/keys", json={"role": "client", "name": mailbox.name}).json()
    consumer = await attached(server, mailbox, way, made["key"])
    mailbox.admin.delete(f"/v1/keys/{made['id']}")
    async with asyncio.timeout(5):
        await consumer.ended()
    await consumer.close()


async def test_another_client_finds_nothing(
    caller: httpx.AsyncClient, server: Service, mailbox: Mailbox
) -> None:
    other = Mailbox(server)
    other.publish()
    (theirs,) = other.receive()
    answer = await caller.post(f"{CALL}Pull", json={"queue": other.name})
    assert (answer.status_code, answer.headers["restante-code"]) == (404, "queue_not_found")
    settle = {"settle": [{"lease": theirs["lease"], "ack": {}}]}
    answer = await caller.post(f"{CALL}Settle", json=settle)
    assert answer.json()["results"][0]["problem"]["code"] == "lease_not_found"
    request = {"queue": other.name, "credit": {"messages": 1}}
    answer = await caller.post(
        f"{CALL}Subscribe",
        content=envelope(json.dumps(request).encode()),
        headers={"content-type": "application/connect+json"},
    )
    ((flag, end),) = split(answer.content)[0]
    assert (flag, json.loads(end)["error"]["code"]) == (2, "not_found")
    other.close()


async def test_a_stop_tells_a_stream_to_come_back(own_server: Service) -> None:
    box = Mailbox(own_server)
    async with own_server.async_caller(box.key) as caller:
        request = {"queue": box.name, "credit": {"messages": 1}}
        asked = caller.build_request(
            "POST",
            f"{CALL}Subscribe",
            content=envelope(json.dumps(request).encode()),
            headers={"content-type": "application/connect+json"},
        )
        answer = await caller.send(asked, stream=True)
        chunks = answer.aiter_raw()
        data = await anext(chunks)
        stopping = asyncio.create_task(asyncio.to_thread(own_server.end, signal.SIGTERM))
        async for chunk in chunks:
            data += chunk
        told = [json.loads(message) for _, message in split(data)[0]]
        assert [next(iter(one)) for one in told] == ["attached", "drain", "error"]
        assert told[1]["drain"]["reconnectAfterSeconds"] >= 1
        assert await stopping == 0
    assert "Traceback" not in own_server.log()
    box.close()


async def test_receipts_say_over_what(server: Service, mailbox: Mailbox) -> None:
    for way in WAYS:
        mailbox.publish()
        consumer = await attached(server, mailbox, way)
        (delivered,) = await consumer.take(1)
        calls = consumer.calls
        settle = [pb.Settlement(lease=delivered.lease, ack=pb.Ack())]
        await calls.unary("Settle", pb.SettleRequest(settle=settle))
        await consumer.close()
    transports = [receipt["transport"] for receipt in mailbox.receipts(outcome="acked")]
    assert transports == ["connect", "connect", "grpc-web"]
