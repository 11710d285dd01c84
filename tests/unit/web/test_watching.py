"""The calls of those who watch, over the service itself in this process, through the client."""

import asyncio
import json

import httpx
import pytest
from tests.unit.engine.conftest import broker, clock, store
from tests.unit.engine.house import OPERATOR, SHOP, letter, turns

from restante.app import build_api
from restante.attention import Order, Sort
from restante.client import Client
from restante.engine.administration import Administration
from restante.errors import Forbidden, Malformed, OutOfBounds, QueueNotFound
from restante.model import Role
from restante.watching import Span
from restante.wire import xml

__all__ = ["broker", "clock", "store"]
ADMIN = "the-administrators-key"
URL = "http://service.test"


@pytest.fixture
async def api(broker):
    return build_api(broker, ADMIN)


@pytest.fixture
async def admin(api):
    async with Client(URL, ADMIN, transport=httpx.ASGITransport(api)) as client:
        yield client


@pytest.fixture
async def acme(api, broker):
    _, key = await Administration(broker, OPERATOR).add_key(Role.CLIENT, "acme", None, "")
    async with Client(URL, key, transport=httpx.ASGITransport(api)) as client:
        yield client


async def look(clock, broker):
    """Have the monitor look."""
    seen = broker.monitor.version
    clock.advance(3)
    await turns()
    assert broker.monitor.version > seen


async def test_the_overview_has_totals_attention_and_a_page(admin, broker, clock, acme):
    for _ in range(3):
        await broker.publish(letter(), SHOP)
    received = await acme.receive("acme", max=1, wait=0)
    await acme.reject(received.notifications[0].lease, reason="no such article")
    await look(clock, broker)
    found = await admin.overview(sort=Sort.DEPTH, order=Order.DESCENDING, limit=1)
    assert (found.totals.queues, found.totals.depth, found.found) == (2, 2, 2)
    assert found.totals.figures.dead == 1
    assert found.totals.pace.rates.published == 0.05
    (attention,) = found.attention
    assert (attention.queue, attention.health) == ("acme", "warning")
    assert attention.problem.startswith("1 dead letter; 2 waiting; last error: no such article")
    (queue,) = found.queues
    assert (queue.name, queue.depth, queue.problem) == ("acme", 2, attention.problem)
    assert [error.reason for error in queue.pace.errors] == ["no such article"]
    assert queue.pace.error_rate == 1
    searched = await admin.overview(search="BO", offset=0)
    assert [queue.name for queue in searched.queues] == ["bob"]


async def test_a_client_sees_its_own_only(acme):
    assert (await acme.queue_view("acme")).name == "acme"
    assert len((await acme.queue_history("acme", Span.DAY)).points) == 96
    assert await acme.queue_consumers("acme") == []
    for ask in (acme.queue_view, acme.queue_history, acme.queue_consumers):
        with pytest.raises(QueueNotFound):
            await ask("bob")
    with pytest.raises(Forbidden):
        await acme.overview()


async def test_a_queue_that_nobody_has_looked_at_yet_is_looked_at(admin, broker):
    await admin.add_client("new")
    assert broker.monitor.view("new") is None
    assert (await admin.queue_view("new")).health == "idle"


async def test_history_has_every_point_of_its_span(admin):
    for span in Span:
        history = await admin.queue_history("acme", span)
        assert history.step_seconds == span.step_seconds
        assert len(history.points) == span.seconds // span.step_seconds
        assert history.points == sorted(history.points, key=lambda point: point.at)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("sort=colour", Malformed),
        ("order=up", Malformed),
        ("limit=501", OutOfBounds),
        ("offset=-1", Malformed),
        (f"search={'x' * 129}", OutOfBounds),
    ],
)
async def test_what_is_asked_for_is_checked(admin, query, error):
    for path in ("/v1/overview", "/v1/overview/events"):
        with pytest.raises(error):
            await admin._wire.send("GET", f"{path}?{query}", repeatable=True)


async def test_the_same_in_xml(api, broker, clock):
    await broker.publish(letter(), SHOP)
    await look(clock, broker)
    headers = {"Authorization": f"Bearer {ADMIN}", "Accept": "application/xml"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(api), base_url=URL, headers=headers
    ) as caller:
        for path in (
            "/v1/overview",
            "/v1/queues/acme/view",
            "/v1/queues/acme/history",
            "/v1/queues/acme/consumers",
        ):
            answer = await caller.get(path)
            assert answer.status_code == 200
            assert answer.content.startswith(b"<?xml"), path
            assert xml.NAMESPACE.encode() in answer.content


class Stream:
    """What is sent on one answer of ``/v1/overview/events``, as ASGI has it; ``leave`` hangs up."""

    def __init__(self, api, key=ADMIN):
        self.sent = []
        self._left = asyncio.Event()
        self._asked = False
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/v1/overview/events",
            "query_string": b"limit=1",
            "headers": [(b"authorization", f"Bearer {key}".encode())],
        }
        self.task = asyncio.create_task(api(scope, self._receive, self._send))

    async def _receive(self):
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b""}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        self.sent.append(message.get("body", b""))

    def leave(self):
        self._left.set()

    @property
    def overviews(self):
        return [
            json.loads(body.partition(b"data: ")[2])
            for body in self.sent
            if body.startswith(b"event: overview")
        ]


async def test_what_changes_is_told_within_a_second_and_no_more_often(api, broker, clock):
    stream = Stream(api)
    await turns()
    assert len(stream.overviews) == 1
    await broker.publish(letter(), SHOP)
    await broker.monitor.refresh("acme")
    await turns()
    assert len(stream.overviews) == 1
    clock.advance(1)
    await turns()
    assert stream.overviews[-1]["totals"]["depth"] == 1
    assert len(stream.overviews) == 2
    stream.leave()
    await stream.task
    assert len(broker.attachments) == 0


async def test_a_stream_is_told_to_come_back_elsewhere(api, broker):
    stream = Stream(api)
    await turns()
    broker.drain()
    await stream.task
    assert b"event: drain" in stream.sent[-2]
