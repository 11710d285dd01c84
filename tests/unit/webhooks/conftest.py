"""A dispatcher over the memory store, with the clock in hand, and endpoints that are functions."""

import asyncio
from urllib.parse import urlsplit

import pytest
from tests.unit.engine.house import SHOP, GatedStore, furnish, letter, turns

from restante.addresses import parse_networks
from restante.engine.broker import Broker
from restante.queries import FiguresOf, Receipts
from restante.testing.clock import FakeClock
from restante.transports.webhook.calls import Answered, Failed
from restante.transports.webhook.dispatcher import Dispatcher
from restante.wire.receipts import decode_entry


class Endpoints:
    """The ``Caller``. Calls wait until they are answered, or get what ``always`` has for their host."""

    def __init__(self):
        self.always = {}
        self.calls = []
        self._waiting = []

    async def call(self, call):
        self.calls.append(call)
        host = urlsplit(call.url).hostname
        if host in self.always:
            await asyncio.sleep(0)
            return self.always[host]
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        try:
            return await answer
        finally:
            if answer in self._waiting:
                self._waiting.remove(answer)

    @property
    def waiting(self):
        return len(self._waiting)

    @property
    def bodies(self):
        return [call.body for call in self.calls]

    async def answer(self, status=200, body=b"", index=0, **headers):
        """Answer the call that has waited longest (or the one at ``index``)."""
        named = [(n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()]
        self._waiting.pop(index).set_result(Answered(status, "", named, body))
        await turns()

    async def fail(self, reason="connection refused", sent=True):
        self._waiting.pop(0).set_result(Failed(reason, sent))
        await turns()


class Post:
    """The broker, its dispatcher and the endpoints, in short form."""

    def __init__(self, broker, clock, endpoints):
        self.broker = broker
        self.clock = clock
        self.endpoints = endpoints

    async def webhook(self, queue="acme", url="https://a.example/", headers=None, **settings):
        made = await self.broker.webhooks.put(queue, url, headers, settings)
        await turns()
        return made

    async def publish(self, *bodies, queue="acme", **fields):
        for body in bodies:
            await self.broker.publish(letter(body, queue, **fields), SHOP)
        await turns()

    async def pass_time(self, seconds):
        self.clock.advance(seconds)
        await turns(40)

    async def figures(self, queue="acme"):
        return await self.broker.store.browse(FiguresOf(queue))

    async def ledger(self, queue="acme"):
        page = await self.broker.store.browse(Receipts(queue, limit=1_000))
        return [decode_entry(one.entry) for one in page.receipts]

    async def outcomes(self, queue="acme"):
        return [one.outcome for one in await self.ledger(queue) if one.outcome != "published"]


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def endpoints():
    return Endpoints()


@pytest.fixture
async def store(clock):
    async with GatedStore(clock, jitter=lambda: 1.0) as store:
        await furnish(store)
        yield store


@pytest.fixture
async def broker(store, clock):
    allowed = parse_networks(["127.0.0.0/8"])
    async with Broker(store, clock, webhook_allow=allowed) as broker:
        yield broker


@pytest.fixture
async def post(broker, clock, endpoints):
    async with Dispatcher(broker, caller=endpoints, jitter=lambda: 1.0):
        yield Post(broker, clock, endpoints)
