"""Who hangs up is waited for no longer, whatever it has waited for: the figures of the server say so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.e2e.conftest import Mailbox, Service, until_waited_for
from tests.e2e.sockets import opened, received

from restante.wire.operation_messages import SUBPROTOCOL

pytestmark = pytest.mark.timeout(120)


def group_of(box: Mailbox) -> dict[str, Any]:
    return {"timeout_seconds": 60, "members": [{"queue": box.name, "body": "<a/>"}]}


def published(box: Mailbox) -> str:
    return f"/v1/notifications/{box.publish().json()['id']}"


def grouped(box: Mailbox) -> str:
    answer = box.publisher.post("/v1/groups", json=group_of(box))
    assert answer.status_code == 202, answer.text
    place: str = answer.headers["location"]
    return place


def operating(box: Mailbox) -> str:
    answer = box.publisher.post("/v1/operations", json={"title": "a report", "client": box.name})
    assert answer.status_code == 201, answer.text
    place: str = answer.headers["location"]
    return place


@pytest.fixture
async def caller(server: Service, mailbox: Mailbox) -> AsyncIterator[httpx.AsyncClient]:
    async with server.async_caller(mailbox.publisher_key) as caller:
        yield caller


async def hung_up(server: Service, *asking: asyncio.Task[Any]) -> None:
    """They wait; and once they have hung up, none of them does."""
    await until_waited_for(server, len(asking))
    for one in asking:
        one.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    await until_waited_for(server, 0)


@pytest.mark.parametrize(
    "place", [published, grouped, operating], ids=["notification", "group", "operation"]
)
async def test_who_looks(
    server: Service, mailbox: Mailbox, caller: httpx.AsyncClient, place: Any
) -> None:
    path = place(mailbox)
    asking = [asyncio.create_task(caller.get(path, params={"wait": 60})) for _ in range(3)]
    await hung_up(server, *asking)
    answer = await caller.get(path, params={"wait": 0})
    assert answer.status_code == 200, "it stands as it did"


async def test_who_waits_for_the_next_version_of_an_operation(
    server: Service, mailbox: Mailbox, caller: httpx.AsyncClient
) -> None:
    path = operating(mailbox)
    await hung_up(server, asyncio.create_task(caller.get(path, params={"wait": 60, "after": 1})))


async def test_who_follows_an_operation(
    server: Service, mailbox: Mailbox, caller: httpx.AsyncClient
) -> None:
    path = operating(mailbox)

    async def follow() -> None:
        async with caller.stream("GET", f"{path}/events") as stream:
            async for _ in stream.aiter_bytes():
                pass

    await hung_up(server, asyncio.create_task(follow()))
    async with opened(server, "/v1/operations/socket", mailbox.key, SUBPROTOCOL) as socket:
        frame = {"type": "watch", "ids": [path.rpartition("/")[2]]}
        await socket.send(json.dumps(frame))
        await received(socket)
        await until_waited_for(server, 1)
    await until_waited_for(server, 0)


async def test_who_has_asked_for_a_group(
    server: Service, mailbox: Mailbox, caller: httpx.AsyncClient
) -> None:
    """It is published all the same, and carried on."""
    asking = asyncio.create_task(
        caller.post("/v1/groups", json=group_of(mailbox), headers={"Prefer": "wait=60"})
    )
    await hung_up(server, asking)
    (one,) = mailbox.receive(max=1, wait=20)
    assert mailbox.settle(one["lease"], "ack").status_code == 200
    found = await caller.get(f"/v1/groups/{one['attributes']['group']}", params={"wait": 30})
    assert found.json()["state"] == "complete"
