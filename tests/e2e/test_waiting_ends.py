"""Whatever ends a delivery ends the wait for it: on the node that is asked, and on another one of the same store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import pytest
from tests.e2e.conftest import Mailbox, Service, two_nodes, until_waited_for

from restante.testing.servers.postgresql import PostgresqlServer

SECONDS: Final = 40.0
"""Within which an end is told: sooner than the wait would be over by itself."""
pytestmark = pytest.mark.timeout(120)


class House(NamedTuple):
    """Where it is waited, and where all else is done: one node, or two that share a store."""

    waited: Service
    other: Service


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Service]]:
    with (
        PostgresqlServer() as server,
        two_nodes(tmp_path_factory.mktemp("nodes"), server.create_database()) as nodes,
    ):
        yield nodes


@pytest.fixture(params=["on the same node", "on another node"])
def house(request: pytest.FixtureRequest, server: Service) -> House:
    if request.param == "on the same node":
        return House(server, server)
    return House(*request.getfixturevalue("nodes"))


@pytest.fixture
def box(house: House) -> Iterator[Mailbox]:
    with contextlib.closing(Mailbox(house.other)) as box:
        yield box


async def said(box: Mailbox, verb: str, **asked: Any) -> None:
    """The client of the mailbox takes what comes next, and says that of it."""
    (one,) = await asyncio.to_thread(box.receive, max=1, wait=20)
    answer = await asyncio.to_thread(box.settle, one["lease"], verb, **asked)
    assert answer.status_code == 200, answer.text


async def replied(box: Mailbox) -> None:
    (one,) = await asyncio.to_thread(box.receive, max=1, wait=20)
    answer = await asyncio.to_thread(
        box.client.post,
        f"/v1/leases/{one['lease']}/ack",
        content=b"<done/>",
        headers={"content-type": "application/xml"},
    )
    assert answer.status_code == 200, answer.text


async def rejected(box: Mailbox) -> None:
    await said(box, "reject", reason="no such article")


async def tried_too_often(box: Mailbox) -> None:
    await said(box, "nack", reason="busy")
    await said(box, "nack", reason="busy still")


async def never_answered(box: Mailbox) -> None:
    assert await asyncio.to_thread(box.receive, max=1, wait=20, lease=1)


async def superseded(box: Mailbox) -> None:
    answer = await asyncio.to_thread(box.publish, restante_collapse_key="price")
    assert answer.status_code == 201, answer.text


async def left_alone(_: Mailbox) -> None:
    """Nobody does anything."""


class Ending(NamedTuple):
    """What is done, with these settings and headers, and what the delivery is then told to be."""

    act: Callable[[Mailbox], Awaitable[None]]
    result: str
    state: str
    outcome: str
    reason: str | None = None
    by_client: bool = False
    reply: str | None = None
    max_attempts: int = 10
    headers: Mapping[str, str] = MappingProxyType({})


ENDINGS: Final = {
    "acked": Ending(replied, "met", "acked", "acked", by_client=True, reply="<done/>"),
    "rejected": Ending(rejected, "failed", "dead", "rejected", "no such article", by_client=True),
    "attempts": Ending(
        *(tried_too_often, "failed", "dead", "nacked", "busy still"), by_client=True, max_attempts=2
    ),
    "lease": Ending(
        *(never_answered, "failed", "dead", "lease_expired", "the lease ran out"),
        by_client=True,
        max_attempts=1,
    ),
    "superseded": Ending(
        superseded, "failed", "superseded", "superseded", headers={"Restante-Collapse-Key": "price"}
    ),
    "expired": Ending(
        left_alone, "failed", "expired", "expired", headers={"Restante-Expires-After": "2"}
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
async def test_it_ends_the_wait(house: House, box: Mailbox, name: str) -> None:
    """Two wait for it: one goes on waiting by its id, the other repeats what it has published."""
    ending = ENDINGS[name]
    box.settings(max_attempts=ending.max_attempts, backoff_base_seconds=0)
    path = f"/v1/queues/{box.name}/notifications"
    headers = {"Idempotency-Key": "k", "Content-Type": "application/xml", **ending.headers}
    published = box.publisher.post(path, content=b"<a/>", headers=headers | {"Prefer": "wait=0"})
    assert (published.status_code, published.json()["result"]) == (202, "pending")
    async with house.waited.async_caller(box.publisher_key) as caller, asyncio.timeout(SECONDS):
        place = published.headers["location"]
        waits = [
            asyncio.create_task(caller.get(place, params={"wait": 60})),
            asyncio.create_task(
                caller.post(path, content=b"<a/>", headers=headers | {"Prefer": "wait=60"})
            ),
        ]
        if ending.act is not left_alone:
            await until_waited_for(house.waited, 2)
        await ending.act(box)
        answers = [await wait for wait in waits]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert (found["id"], found["result"]) == (published.json()["id"], ending.result)
        (delivery,) = found["deliveries"]
        told = [delivery.get(name) for name in ("state", "outcome", "reason", "reply")]
        assert told == [ending.state, ending.outcome, ending.reason, ending.reply]
        assert delivery["settled_at"]
        assert (delivery["client"] == box.name) is ending.by_client
    await until_waited_for(house.waited, 0)


async def test_a_discarded_one_has_failed_for_good(house: House, box: Mailbox) -> None:
    """A dead letter of two has failed whatever becomes of it: who needs any one waits for the other."""
    with contextlib.closing(Mailbox(house.other)) as second:
        topic = f"prices.{box.name}"
        for one in (box, second):
            asked = {"pattern": topic, "queue": one.name}
            assert one.admin.post("/v1/subscriptions", json=asked).status_code == 201
        headers = {"Prefer": "wait=0"}
        published = await asyncio.to_thread(
            box.publisher.post,
            f"/v1/topics/{topic}/notifications",
            content=b"<a/>",
            headers=headers,
        )
        place = published.headers["location"]
        async with house.waited.async_caller(box.publisher_key) as caller, asyncio.timeout(SECONDS):
            waits = [
                asyncio.create_task(caller.get(place, params={"wait": 60, "require": require}))
                for require in ("any", "all")
            ]
            await until_waited_for(house.waited, 2)
            await rejected(box)
            assert (await waits[1]).json()["result"] == "failed"
            answer = await asyncio.to_thread(
                box.admin.post, f"/v1/queues/{box.name}/dead/discard", json={"all": True}
            )
            assert answer.json()["done"] == 1, answer.text
            await until_waited_for(house.waited, 1)
            await replied(second)
            found = (await waits[0]).json()
            assert found["result"] == "met"
            told = {one["queue"]: (one["state"], one["outcome"]) for one in found["deliveries"]}
            assert told == {
                box.name: ("discarded", "discarded"),
                second.name: ("acked", "acked"),
            }
            again = await caller.get(place, params={"wait": 60})
            assert again.json()["result"] == "failed", "it does not wait for what cannot come"
