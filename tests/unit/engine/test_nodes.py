"""Nodes that share a store: what is changed on one takes effect on all, and each webhook is one node's to call."""

import asyncio
import contextlib
from typing import Any, cast

import pytest
from structlog.testing import capture_logs
from tests.unit.engine.house import OPERATOR, furnish, turns
from tests.unit.engine.neighbours import SharedStore

from restante.engine.administration import Administration
from restante.engine.attachments import Ending
from restante.engine.broker import Broker
from restante.errors import QueueNotFound
from restante.http.authentication import Authenticator
from restante.model import Actor, Role, Settings
from restante.nodes import (
    BEAT_SECONDS,
    CLAIM_SECONDS,
    SLOTS,
    NodeName,
    fair_share,
    slot_of,
)
from restante.stores.memory import MemoryStore
from restante.testing.clock import FakeClock

QUEUES = [f"queue-{number}" for number in range(400)]


class Courier:
    """Calls as many webhooks as it is told, and remembers what it was told of."""

    def __init__(self):
        self.count = 0
        self.done = False
        self.told = []

    def refresh(self, queue):
        self.told.append(queue)

    def refresh_all(self):
        self.told.append(None)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def store(clock):
    async with SharedStore(clock, jitter=lambda: 0.5) as store:
        await furnish(store)
        yield store


@contextlib.asynccontextmanager
async def node(store, clock, name, *, calls=True):
    async with Broker(store, clock, node=NodeName(name, f"http://{name}", "1")) as broker:
        if calls:
            broker.webhooks.courier = cast(Any, Courier())
        await turns()
        yield broker


@pytest.fixture
async def pair(store, clock):
    async with node(store, clock, "a") as one, node(store, clock, "b") as other:
        await beats(clock, 3)
        yield one, other


async def beats(clock, count=1):
    for _ in range(count):
        clock.advance(BEAT_SECONDS)
        await turns(40)


async def made_key(broker, name="acme"):
    key, text = await Administration(broker, OPERATOR).add_key(Role.CLIENT, name, None, "")
    return key, text


# -- what others changed ------------------------------------------------------------------------


async def test_a_revoked_key_ends_who_is_connected_with_it_on_the_other_node(pair, clock):
    one, other = pair
    key, text = await made_key(one)
    actor = await Authenticator(other).by_key(text, "http", "")
    ended: list[Ending] = []
    session = await other.session("acme", actor)
    polling = asyncio.create_task(session.receive(max=1, wait_seconds=60))
    with other.attachments.attach(actor, ended.append):
        await turns()
        await Administration(one, OPERATOR).revoke_key(key.id)
        await beats(clock)
        assert ended == [Ending.KEY_ENDED]
        assert await polling == []
    with pytest.raises(Exception, match="revoked"):
        await Authenticator(other).by_key(text, "http", "")


async def test_it_takes_effect_after_a_beat_that_was_missed(pair, store, clock):
    one, other = pair
    key, text = await made_key(one)
    actor = await Authenticator(other).by_key(text, "http", "")
    ended: list[Ending] = []
    with other.attachments.attach(actor, ended.append):
        await Administration(one, OPERATOR).revoke_key(key.id)
        store.board.cut_off = {"b"}
        await beats(clock)
        assert not ended
        store.board.cut_off = set()
        await beats(clock)
        assert ended == [Ending.KEY_ENDED]


async def test_other_keys_of_the_client_are_left_alone(pair, clock):
    one, other = pair
    key, _ = await made_key(one)
    ended: list[Ending] = []
    others = Actor("acme", Role.CLIENT, "k-other")
    with other.attachments.attach(others, ended.append):
        await Administration(one, OPERATOR).revoke_key(key.id)
        await beats(clock, 2)
        assert not ended


async def test_what_is_remembered_of_a_queue_is_what_it_is_now(pair, clock):
    one, other = pair
    assert (await other.directory.queue("acme")).owner == "acme"
    await Administration(one, OPERATOR).put_queue("acme", "bob", Settings(max_attempts=3))
    await beats(clock)
    queue = await other.directory.queue("acme")
    assert (queue.owner, queue.settings.max_attempts) == ("bob", 3)
    with pytest.raises(QueueNotFound):
        await other.session("acme", Actor("acme", Role.CLIENT, "k"))


async def test_subscriptions_route_on_every_node(pair, clock):
    one, other = pair
    assert (await other.directory.router()).queues("orders", {}) == ()
    await Administration(one, OPERATOR).subscribe("orders", "acme", {})
    await beats(clock)
    assert (await other.directory.router()).queues("orders", {}) == ("acme",)


async def test_a_changed_webhook_is_told_to_who_calls_it(pair, clock):
    one, other = pair
    await one.webhooks.put("acme", "https://a.example/", None, {})
    await beats(clock)
    assert "acme" in other.webhooks.courier.told
    # Its queue's new owner is not sent to: the same on the node where that was asked for, and on this.
    other.webhooks.courier.told.clear()
    await Administration(one, OPERATOR).put_queue("acme", "bob", None)
    await beats(clock)
    assert "acme" in other.webhooks.courier.told
    assert not (await other.webhooks.get("acme")).enabled


async def test_who_has_missed_too_much_forgets_all_and_ends_what_has_ended(
    pair, store, clock, monkeypatch
):
    one, other = pair
    key, text = await made_key(one)
    actor = await Authenticator(other).by_key(text, "http", "")
    environment = Actor("admin", Role.ADMIN, "environment")
    ended: list[Ending] = []
    stays: list[Ending] = []
    with (
        other.attachments.attach(actor, ended.append),
        other.attachments.attach(environment, stays.append),
    ):
        await other.directory.queue("acme")
        await Administration(one, OPERATOR).revoke_key(key.id)
        monkeypatch.setattr(other.membership, "_seen", 0)
        await beats(clock)
        assert other.directory.known_queue("acme") is None
        assert ended == [Ending.KEY_ENDED]
        assert not stays


async def test_who_hears_nothing_asks_the_store_for_each_key(pair, store, clock):
    one, other = pair
    key, text = await made_key(one)
    await Authenticator(other).by_key(text, "http", "")
    store.board.cut_off = {"b"}
    with capture_logs() as logs:
        await beats(clock)
        await Administration(one, OPERATOR).revoke_key(key.id)
        await beats(clock, 4)
    with pytest.raises(Exception, match="revoked"):
        await Authenticator(other).by_key(text, "http", "")
    # Once, however long it lasts.
    assert [log["event"] for log in logs].count("nodes.silent") == 1


# -- claims -------------------------------------------------------------------------------------


def held(broker):
    return {queue for queue in QUEUES if broker.membership.holds(queue)}


async def test_each_webhook_is_one_nodes_to_call(pair):
    one, other = pair
    assert held(one) | held(other) == set(QUEUES)
    assert not held(one) & held(other)
    assert len({slot_of(queue) for queue in held(one)}) <= SLOTS // 2


async def test_two_never_hold_the_same_while_a_third_comes_and_goes(pair, store, clock):
    one, other = pair
    async with node(store, clock, "c") as third:
        for _ in range(4):
            await beats(clock)
            for some, more in ((one, other), (one, third), (other, third)):
                assert not held(some) & held(more)
        assert held(one) | held(other) | held(third) == set(QUEUES)
        assert all(len(held(broker)) < 200 for broker in (one, other, third))
    # It left in order: nobody waits until its claims run out.
    await beats(clock, 2)
    assert held(one) | held(other) == set(QUEUES)


async def test_who_is_cut_off_stops_before_another_takes_over(pair, store, clock):
    one, other = pair
    lost = held(other)
    store.board.cut_off = {"b"}
    seconds = 0
    while held(other):
        assert not held(one) & held(other)
        await beats(clock)
        seconds += 1
    assert seconds <= CLAIM_SECONDS
    # Who calls was told, without hearing anything.
    assert other.webhooks.courier.told[-1] is None
    await beats(clock, 3)
    assert held(one) == set(QUEUES)
    store.board.cut_off = set()
    for _ in range(4):
        await beats(clock)
        assert not held(one) & held(other)
    assert held(one) | held(other) == set(QUEUES)
    assert len(held(other)) == pytest.approx(len(lost), abs=80)


async def test_a_claim_runs_from_when_it_was_asked_for_not_from_the_answer(store, clock):
    async with node(store, clock, "a") as broker:
        store.board.held_back = []
        await beats(clock)
        ((answer, beat),) = store.board.held_back
        clock.advance(CLAIM_SECONDS)
        answer.set_result(beat)
        await turns()
        assert not held(broker)
        store.board.held_back = None


async def test_who_calls_no_webhooks_claims_none(store, clock):
    async with (
        node(store, clock, "a") as one,
        node(store, clock, "b", calls=False) as other,
    ):
        await beats(clock, 3)
        assert held(one) == set(QUEUES)
        assert not held(other)


async def test_who_drains_hands_over_when_its_last_call_has_ended(pair, clock):
    one, other = pair
    before = held(other)
    other.drain()
    await turns(40)
    # Said at once, not with the next beat; calls are still under way.
    assert other.store.board.reports["b"].draining
    await beats(clock, 2)
    assert held(other) == before
    assert not held(one) & before
    other.webhooks.courier.done = True
    other.membership.hurry()
    await turns(40)
    assert not held(other)
    await beats(clock)
    assert held(one) == set(QUEUES)


@pytest.mark.parametrize("callers", [1, 2, 3, 7, 256, 300])
def test_shares_are_enough_for_every_slot(callers):
    assert fair_share(callers) * callers >= SLOTS
    assert (fair_share(callers) - 1) * callers < SLOTS


def test_slots_are_the_same_for_ever():
    assert [slot_of(queue) for queue in ("acme", "bob", "ümlaut")] == [62, 64, 160]


# -- the list -----------------------------------------------------------------------------------


async def test_every_node_knows_all_and_how_long_each_has_been_silent(pair, store, clock):
    one, other = pair
    one.webhooks.courier.count = 3
    with one.attachments.attach(OPERATOR, lambda _: None):
        await beats(clock, 2)
        nodes = {node.name: node for node in other.membership.nodes()}
    assert set(nodes) == {"a", "b"}
    assert (nodes["a"].connections, nodes["a"].webhooks) == (1, 3)
    assert (nodes["a"].url, nodes["a"].version) == ("http://a", "1")
    assert nodes["a"].id == one.membership.id
    store.board.cut_off = {"a"}
    await beats(clock, 5)
    silent = {node.name: node.silent_seconds for node in other.membership.nodes()}
    assert silent["a"] >= 4
    assert silent["b"] <= BEAT_SECONDS
    # It cannot hear of the other either, and says since when.
    assert all(node.silent_seconds >= 4 for node in one.membership.nodes())


async def test_alone_it_knows_itself(clock):
    async with (
        MemoryStore(clock) as store,
        Broker(store, clock, node=NodeName("solo")) as broker,
    ):
        (alone,) = broker.membership.nodes()
        assert (alone.name, alone.draining, alone.silent_seconds) == ("solo", False, 0)
        assert broker.membership.holds("acme")
        broker.retire()
        assert broker.membership.nodes()[0].draining
