"""Whoever asks too often is refused, in each transport's words, and on a stream held back."""

import asyncio

import httpx
import pytest
from tests.unit.engine.house import ACME, OPERATOR, SHOP, furnish, letter, turns
from tests.unit.rpc.house import Link, ack, first
from tests.unit.transports.house import Socket

from restante.app import build_api
from restante.engine.administration import Administration
from restante.engine.broker import Broker
from restante.model import Role
from restante.operation import Asked
from restante.rpc.service import Service
from restante.stores.memory import MemoryStore
from restante.testing.clock import FakeClock
from restante.wire import xml

ADMIN = "the-administrators-key"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def broker(clock):
    async with (
        MemoryStore(clock) as store,
        Broker(store, clock, client_requests_per_second=0.5) as broker,
    ):
        await furnish(store)
        yield broker


@pytest.fixture
async def key(broker):
    _, text = await Administration(broker, OPERATOR).add_key(Role.CLIENT, "acme", None, "")
    return text


@pytest.fixture
async def caller(broker, key):
    transport = httpx.ASGITransport(build_api(broker, ADMIN))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://service.test", headers=headers
    ) as caller:
        yield caller


async def test_http_is_answered_with_when_to_ask_again(caller, clock):
    assert (await caller.get("/v1/queues/acme")).status_code == 200
    refused = await caller.get("/v1/queues/acme")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "2"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "too_many_requests"
    in_xml = await caller.get("/v1/queues/acme", headers={"Accept": "application/xml"})
    assert in_xml.headers["content-type"] == "application/problem+xml"
    assert xml.PROBLEM_NAMESPACE in in_xml.text
    clock.advance(2)
    assert (await caller.get("/v1/queues/acme")).status_code == 200


async def test_nothing_is_read_from_the_store_for_it(caller, broker, monkeypatch):
    await caller.get("/v1/queues/acme")
    monkeypatch.setattr(broker.store, "browse", None)
    monkeypatch.setattr(broker.store, "lease", None)
    for path in ("receive", "next"):
        assert (await caller.post(f"/v1/queues/acme/{path}")).status_code == 429
    assert (await caller.get("/v1/queues/acme/events")).status_code == 429


async def test_administrators_are_not_limited(caller):
    for _ in range(5):
        answer = await caller.get("/v1/queues", headers={"Authorization": f"Bearer {ADMIN}"})
        assert answer.status_code == 200


async def test_connect_is_answered_in_its_own_words(caller):
    path = "/restante.v1.Delivery/Settle"
    await caller.post(path, json={})
    refused = await caller.post(path, json={})
    assert refused.status_code == 429
    assert refused.json()["code"] == "resource_exhausted"
    assert refused.headers["restante-code"] == "too_many_requests"
    assert refused.headers["retry-after"] == "2"


async def test_a_dialogue_is_held_back_and_loses_nothing(broker, clock):
    link = Link()
    serving = asyncio.create_task(Service(broker).receive(ACME, link))
    link.say(first(10))
    for number in range(2):
        await broker.publish(letter(b"%d" % number), SHOP)
    await turns()
    one, two = link.notifications
    link.say(ack(one, ref="one"))
    link.say(ack(two, ref="two"))
    await turns()
    assert [answer.ref for answer in link.answers] == ["one"]
    clock.advance(2)
    await turns()
    assert [answer.ref for answer in link.answers] == ["one", "two"]
    link.close()
    await asyncio.wait_for(serving, 5)


async def test_a_websocket_is_held_back_and_loses_nothing(broker, clock, key):
    socket = Socket(broker, key)
    await broker.publish(letter(), SHOP)
    socket.say(type="credit", messages=10)
    await turns()
    # The handshake was the one request that it had.
    assert socket.frames == []
    clock.advance(2)
    await turns()
    (notifications,) = socket.frames
    (lease,) = [one["lease"] for one in notifications["notifications"]]
    socket.say(type="ack", ref="a", items=[{"lease": lease}])
    await turns()
    assert len(socket.frames) == 1
    clock.advance(2)
    await turns()
    assert socket.frames[1]["items"][0]["ok"]
    await socket.leave()


async def test_each_operation_that_is_read_counts(broker, clock, key, monkeypatch):
    """What is named again or watched already is neither read nor counted."""
    made = [(await broker.operations.make(Asked(client="acme"), SHOP)).kept for _ in range(3)]
    ids = [kept.operation.id for kept in made]
    read = []
    find = broker.operations.find

    def note(id, actor):
        read.append(id)
        return find(id, actor)

    monkeypatch.setattr(broker.operations, "find", note)
    socket = Socket(broker, key, "/v1/operations/socket", "restante.operations.v1")
    socket.say(type="watch", ids=[*ids[:2], *ids, "unknown"])
    socket.say(type="watch", ids=ids)
    socket.say(type="watch", ids=["nobody's"])
    await turns()
    # The handshake was the one request that it had.
    for number in range(4):
        assert len(read) == number
        clock.advance(2)
        await turns()
    assert read == [*ids, "unknown"]
    clock.advance(2)
    await turns()
    assert len(read) == 4, "the second frame itself counts"
    clock.advance(2)
    await turns()
    assert read == [*ids, "unknown", "nobody's"]
    assert [frame["type"] for frame in socket.frames] == [*["operation"] * 3, *["error"] * 2]
    await socket.leave()


async def test_a_handshake_too_many_is_refused(broker, key):
    socket = Socket(broker, key)
    await turns()
    again = Socket(broker, key)
    await asyncio.wait_for(again.serving, 5)
    assert again.sent[0]["status"] == 429
    await socket.leave()
