"""Waiting for what was published, whichever way: to a topic, in batches, over gRPC and on a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service, until_waited_for
from tests.e2e.sockets import opened, received

from restante.testing.transports import Target
from restante.testing.transports.drivers.grpc import Connection
from restante.testing.transports.drivers.websocket import TEXT
from restante.wire.proto import restante_pb2 as pb

SECONDS: Final = 40.0
pytestmark = pytest.mark.timeout(120)


class Pair(NamedTuple):
    """Two mailboxes that have subscribed to a topic."""

    first: Mailbox
    second: Mailbox
    topic: str


@pytest.fixture
def pair(server: Service, mailbox: Mailbox) -> Iterator[Pair]:
    with contextlib.closing(Mailbox(server)) as second:
        topic = f"orders.{mailbox.name}"
        for box in (mailbox, second):
            asked = {"pattern": topic, "queue": box.name}
            assert box.admin.post("/v1/subscriptions", json=asked).status_code == 201
        yield Pair(mailbox, second, topic)


async def signed(box: Mailbox, verb: str = "ack", reply: bytes = b"") -> None:
    """The client of the mailbox takes what comes next, and says that of it."""
    (one,) = await asyncio.to_thread(box.receive, max=1, wait=20)
    path, headers = f"/v1/leases/{one['lease']}/{verb}", {"content-type": "application/xml"}
    answer = await asyncio.to_thread(
        box.client.post, path, content=reply, headers=headers if reply else {}
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("require", "verbs", "result"),
    [
        ("all", ("ack", "ack"), "met"),
        ("2", ("ack", "ack"), "met"),
        ("all", ("reject",), "failed"),
        ("any", ("ack",), "met"),
        ("any", ("reject", "ack"), "met"),
        ("any", ("reject", "reject"), "failed"),
        ("2", ("ack", "reject"), "failed"),
    ],
)
async def test_to_a_topic(
    server: Service, pair: Pair, require: str, verbs: tuple[str, ...], result: str
) -> None:
    """As many of its queues sign as are required, or cannot any more; whoever has signed is told, with its reply."""
    boxes = (pair.first, pair.second)
    signing = [
        (box, verb, b"<%b/>" % box.name.encode() if verb == "ack" else b"")
        for box, verb in zip(boxes, verbs, strict=False)
    ]
    async with server.async_caller(pair.first.publisher_key) as caller, asyncio.timeout(SECONDS):
        headers = {"Prefer": "wait=60", "Restante-Require": require}
        path = f"/v1/topics/{pair.topic}/notifications"
        asking = asyncio.create_task(caller.post(path, content=b"<order/>", headers=headers))
        await until_waited_for(server, 1)
        for one in signing:
            assert not asking.done()
            await signed(*one)
        answer = await asking
    assert (answer.status_code, answer.json()["result"]) == (200, result), answer.text
    assert answer.headers["preference-applied"] == "wait=60"
    found = {one["queue"]: one for one in answer.json()["deliveries"]}
    assert set(found) == {box.name for box in boxes}
    for box, verb, reply in signing:
        one = found[box.name]
        assert one["state"] == {"ack": "acked", "reject": "dead"}[verb]
        assert one.get("reply") == (reply.decode() or None)
    for box in boxes[len(verbs) :]:
        assert found[box.name]["state"] == "ready"


async def in_a_batch(server: Service, pair: Pair) -> list[str]:
    """The preference is passed over, which the answer says by not saying that it was applied."""
    items = [{"queue": pair.first.name, "body": "<a/>"}, {"topic": pair.topic, "body": "<b/>"}]
    answer = await asyncio.to_thread(
        pair.first.publisher.post,
        "/v1/notifications",
        json={"notifications": items},
        headers={"Prefer": "wait=60", "Restante-Require": "any"},
    )
    assert answer.status_code == 200, answer.text
    assert "preference-applied" not in answer.headers
    assert [sorted(one) for one in answer.json()["results"]] == [["deliveries", "id", "ok"]] * 2
    return [one["id"] for one in answer.json()["results"]]


async def over_grpc(server: Service, pair: Pair) -> list[str]:
    target = Target(url=server.url, admin_key=ADMIN_KEY, grpc=server.grpc)
    connection = Connection(target, pair.first.publisher_key)
    publications = [
        pb.Publication(queue=pair.first.name, body=b"<a/>"),
        pb.Publication(topic=pair.topic, body=b"<b/>"),
    ]
    call: Any = connection.call("Publish", pb.PublishRequest(notifications=publications))
    answer = await call
    await connection.close()
    return [one.id for one in answer.results]


async def on_a_websocket(server: Service, pair: Pair) -> list[str]:
    items = [{"queue": pair.first.name, "body": "<a/>"}, {"topic": pair.topic, "body": "<b/>"}]
    async with opened(server, "/v1/socket", pair.first.publisher_key, TEXT) as socket:
        await socket.send(json.dumps({"type": "publish", "notifications": items}))
        answer = await received(socket)
    return [one["id"] for one in answer["results"]]


@pytest.mark.parametrize("publish", [in_a_batch, over_grpc, on_a_websocket])
async def test_what_is_published_without_waiting_is_waited_for_by_its_id(
    server: Service, pair: Pair, publish: Any
) -> None:
    first, second = await publish(server, pair)
    async with server.async_caller(pair.first.publisher_key) as caller, asyncio.timeout(SECONDS):
        waits = [
            asyncio.create_task(caller.get(f"/v1/notifications/{id}", params={"wait": 60}))
            for id in (first, second)
        ]
        await until_waited_for(server, 2)
        await signed(pair.first, reply=b"<one/>")
        await signed(pair.first, reply=b"<two/>")
        assert (await waits[0]).json()["deliveries"][0]["reply"] == "<one/>"
        await signed(pair.second, reply=b"<three/>")
        found = (await waits[1]).json()
    assert found["result"] == "met"
    replies = {one["queue"]: one["reply"] for one in found["deliveries"]}
    assert replies == {pair.first.name: "<two/>", pair.second.name: "<three/>"}
