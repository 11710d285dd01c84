"""Webhooks of a store that two nodes share: each is called by one of them, whichever that is."""

import asyncio
import contextlib

import pytest
from tests.unit.engine.house import SHOP, furnish, letter, turns
from tests.unit.engine.neighbours import SharedStore

from restante.engine.broker import Broker
from restante.errors import StoreUnavailable, WebhooksUnavailable
from restante.nodes import BEAT_SECONDS, CLAIM_SECONDS, NodeName
from restante.queries import Webhooks
from restante.transports.webhook.calls import Answered
from restante.transports.webhook.dispatcher import Dispatcher
from restante.wire.sealing import Keyring

OK = Answered(200, "", [], b"")


@pytest.fixture
async def store(clock):
    async with SharedStore(clock, jitter=lambda: 0.5) as store:
        await furnish(store)
        yield store


class Node:
    """A broker, its dispatcher, and the queues whose endpoints it has called."""

    def __init__(self, broker, dispatcher, endpoints):
        self.broker = broker
        self.dispatcher = dispatcher
        self.endpoints = endpoints

    @property
    def calls(self):
        return {call.url for call in self.endpoints.calls}


@contextlib.asynccontextmanager
async def node(store, clock, endpoints, name):
    endpoints.always = {"acme.example": OK, "bob.example": OK}
    # A keyring that each node would read from the same file.
    async with (
        Broker(store, clock, node=NodeName(name)) as broker,
        Dispatcher(broker, caller=endpoints, jitter=lambda: 1.0) as dispatcher,
    ):
        broker.webhooks._keyring = store.keyring = getattr(
            store, "keyring", broker.webhooks._keyring
        )
        await turns(40)
        yield Node(broker, dispatcher, endpoints)


@pytest.fixture
async def pair(store, clock, endpoints):
    others = type(endpoints)()
    async with (
        node(store, clock, endpoints, "a") as one,
        node(store, clock, others, "b") as other,
    ):
        for queue in ("acme", "bob"):
            await one.broker.webhooks.put(queue, f"https://{queue}.example/", None, {})
        await beats(clock, 4)
        yield one, other


async def beats(clock, count=1):
    for _ in range(count):
        clock.advance(BEAT_SECONDS)
        await turns(60)


async def publish(broker, count=3):
    for queue in ("acme", "bob"):
        for number in range(count):
            await broker.publish(letter(b"%d" % number, queue), SHOP)
    await turns(60)


async def test_each_is_called_by_the_one_that_holds_it(pair, clock):
    one, other = pair
    assert one.dispatcher.count + other.dispatcher.count == 2
    await publish(one.broker)
    # What one node publishes the other finds by looking, where nothing wakes it.
    await beats(clock, 20)
    assert not one.calls & other.calls
    calls = one.endpoints.calls + other.endpoints.calls
    assert len(calls) == 6
    for some in pair:
        for queue in ("acme", "bob"):
            called = f"https://{queue}.example/" in some.calls
            assert called == some.broker.membership.holds(queue)


async def test_what_a_silent_node_called_is_called_by_the_other(pair, store, clock):
    one, other = pair
    store.board.cut_off = {"b"}
    await beats(clock, int(CLAIM_SECONDS) + 2)
    assert (one.dispatcher.count, other.dispatcher.count) == (2, 0)
    await publish(one.broker)
    await beats(clock, 2)
    assert len(one.calls) == 2
    assert not other.calls


async def test_what_is_changed_on_one_node_is_done_on_the_other(pair, clock):
    one, other = pair
    for queue in ("acme", "bob"):
        await one.broker.webhooks.disable(queue, "over")
    await beats(clock, 2)
    assert (one.dispatcher.count, other.dispatcher.count) == (0, 0)


async def test_a_search_that_fails_is_made_again(store, clock, endpoints, monkeypatch):
    browse = store.browse

    def failing(query):
        if isinstance(query, Webhooks):
            failed = asyncio.get_running_loop().create_future()
            failed.set_exception(StoreUnavailable("away"))
            return failed
        return browse(query)

    async with node(store, clock, endpoints, "a") as alone:
        monkeypatch.setattr(store, "browse", failing)
        await alone.broker.webhooks.put("acme", "https://acme.example/", None, {})
        alone.dispatcher.refresh_all()
        await beats(clock)
        monkeypatch.setattr(store, "browse", browse)
        await beats(clock, 2)
        assert alone.dispatcher.count == 1


async def test_a_node_with_another_key_seals_nothing_that_the_others_could_not_open(
    store, clock, endpoints
):
    ours, theirs = Keyring([b"1" * 32]), Keyring([b"2" * 32])
    for keyring, welcome in ((ours, True), (theirs, False)):
        async with (
            Broker(store, clock, keyring=keyring) as broker,
            Dispatcher(broker, caller=endpoints),
        ):
            making = broker.webhooks.put("acme", "https://acme.example/", None, {})
            if welcome:
                await making
            else:
                with pytest.raises(WebhooksUnavailable, match="other nodes"):
                    await making
