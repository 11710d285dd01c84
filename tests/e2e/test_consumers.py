"""Who collects is seen over every transport, long pollers too: address, program and time; and gone when they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service, bearer
from tests.e2e.sockets import SECONDS, opened

from restante.testing.transports import Target
from restante.testing.transports.drivers.grpc import Connection
from restante.testing.transports.drivers.websocket import TEXT
from restante.wire.proto import restante_pb2 as pb

AGENT = "acme-erp/7.2"
pytestmark = pytest.mark.timeout(120)


async def consumers(
    box: Mailbox, service: Service, wanted: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    """Those that are told of, once they are as they should be."""
    async with service.async_caller(box.key) as caller, asyncio.timeout(SECONDS):
        while True:
            answer = await caller.get(f"/v1/queues/{box.name}/consumers")
            found: list[dict[str, Any]] = answer.json()["consumers"]
            if wanted(found):
                return found


def attached(found: list[dict[str, Any]]) -> set[str]:
    return {one["transport"] for one in found if one["attached"]}


async def test_each_is_seen_while_it_is_there(server: Service, mailbox: Mailbox) -> None:
    path = f"/v1/queues/{mailbox.name}"
    headers = bearer(mailbox.key) | {"user-agent": AGENT}
    rpc = Connection(Target(url=server.url, admin_key=ADMIN_KEY, grpc=server.grpc), mailbox.key)
    async with contextlib.AsyncExitStack() as stack:
        caller = await stack.enter_async_context(server.async_caller(mailbox.key))
        poll = asyncio.create_task(
            caller.post(f"{path}/next?wait=60", headers={"user-agent": AGENT})
        )
        stream = caller.stream("GET", f"{path}/events?credit=1", headers=headers)
        await stack.enter_async_context(stream)
        socket = await stack.enter_async_context(
            opened(server, f"{path}/socket", mailbox.key, TEXT, user_agent_header=AGENT)
        )
        await socket.send(json.dumps({"type": "credit", "messages": 1}))
        call: Any = rpc.call(
            "Subscribe", pb.SubscribeRequest(queue=mailbox.name, credit=pb.Credit(messages=1))
        )
        found = await consumers(
            mailbox, server, lambda found: attached(found) == {"http", "sse", "websocket", "grpc"}
        )
        assert {one["address"] for one in found} == {"127.0.0.1"}
        agents = {one["transport"]: one["agent"] for one in found}
        assert agents.pop("grpc").startswith("grpc-python-asyncio/")
        assert set(agents.values()) == {AGENT}
        assert all(one["since"] <= one["last_seen"] and one["node"] for one in found)

        # Each leaves in its own way; who hung up is not taken to be there any more.
        await socket.close()
        call.cancel()
        await consumers(mailbox, server, lambda found: attached(found) == {"http", "sse"})
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
    await consumers(mailbox, server, lambda found: attached(found) == set())
    await rpc.close()
    view = mailbox.admin.get(f"{path}/view").json()
    assert view["last_contact"]["transport"] in {"http", "sse", "websocket", "grpc"}


async def test_an_operator_is_no_client(server: Service, mailbox: Mailbox) -> None:
    """Who looks into a client's queue with an administrator's key is told of, and the client is as silent as before."""
    mailbox.admin.post(f"/v1/queues/{mailbox.name}/receive", json={"wait": 0})
    await consumers(mailbox, server, bool)
    view = mailbox.admin.get(f"/v1/queues/{mailbox.name}/view").json()
    assert view.get("last_contact") is None
