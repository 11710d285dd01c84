"""Two processes on one PostgreSQL: what is changed on one of them is so on the other within five seconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service, two_nodes
from tests.e2e.hooks import Hooked, next_call, receiving

from restante.testing.servers.postgresql import PostgresqlServer
from restante.testing.transports import Target
from restante.testing.transports.drivers.grpc import Connection
from restante.wire.proto import restante_pb2 as pb

SECONDS = 5.0
"""Within which a change is in force everywhere."""
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Service]]:
    with (
        PostgresqlServer() as server,
        two_nodes(tmp_path_factory.mktemp("nodes"), server.create_database()) as nodes,
    ):
        yield nodes


async def soon(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await holds():
            pass


async def test_a_key_that_one_node_revokes_ends_what_it_has_on_the_other(nodes):
    one, two = nodes
    box = Mailbox(one)
    made = box.admin.post("/v1/keys", json={"role": "client", "name": box.name}).json()
    rpc = Connection(Target(url=two.url, admin_key=ADMIN_KEY, grpc=two.grpc), made["key"])
    async with two.async_caller(made["key"]) as streams:
        call: Any = rpc.call(
            "Subscribe", pb.SubscribeRequest(queue=box.name, credit=pb.Credit(messages=1))
        )
        box.publish()
        # What is handed one is known to be there; with its credit used up it leaves the next to the other.
        while not (await call.read()).notifications:
            pass
        async with streams.stream("GET", f"/v1/queues/{box.name}/events?credit=1") as events:
            chunks = events.aiter_bytes()
            box.publish()
            async with asyncio.timeout(SECONDS):
                while b"event: notification" not in await anext(chunks):
                    pass
            poll = asyncio.create_task(streams.post(f"/v1/queues/{box.name}/next?wait=60"))
            assert box.admin.delete(f"/v1/keys/{made['id']}").status_code < 300
            async with asyncio.timeout(SECONDS):
                with contextlib.suppress(httpx.RemoteProtocolError):
                    async for _ in chunks:
                        pass
                assert (await poll).status_code in {204, 401}
                with contextlib.suppress(grpc.aio.AioRpcError):
                    while await call.read() is not grpc.aio.EOF:
                        pass
                assert await call.code() == grpc.StatusCode.UNAUTHENTICATED
    for node in nodes:
        for key, status in ((made["key"], 401), (box.key, 200)):
            with node.caller(key) as caller:
                assert caller.get(f"/v1/queues/{box.name}").status_code == status
    await rpc.close()
    box.close()


async def test_settings_that_one_node_was_given_are_in_force_on_the_other(nodes):
    one, two = nodes
    box = Mailbox(one)
    path = f"/v1/queues/{box.name}/notifications"
    async with two.async_caller(box.publisher_key) as publisher:

        async def refuses() -> bool:
            answer = await publisher.post(path, content=b"four")
            assert answer.status_code in {201, 413}
            return answer.status_code == 413

        assert not await refuses()
        box.settings(max_body_bytes=3)
        await soon(refuses)
    box.close()


async def test_a_webhook_that_one_node_was_given_is_called_once_by_whichever_node(nodes):
    one, two = nodes
    box = Mailbox(one)
    async with (
        one.async_caller(box.key) as owner,
        two.async_caller(ADMIN_KEY) as elsewhere,
        receiving() as (receiver, url),
    ):
        hook = Hooked(box, owner, elsewhere)
        await hook.set(url)
        given = await hook.publish(*(str(number).encode() for number in range(20)))
        called = []
        for _ in given:
            call = await next_call(receiver)
            called.append(call.headers["webhook-id"])
            await receiver.answer(call, 204)
        assert sorted(called) == sorted(given)
        await hook.receipts("acked", len(given))
        assert receiver.requests.empty()
        await owner.delete(hook.path)
    box.close()


async def test_a_key_that_was_never_made_is_refused_by_both(nodes):
    for node in nodes:
        async with node.async_caller("rst_nobody_knows_this_one") as caller:
            assert (await caller.get("/v1/queues/any")).status_code == 401
