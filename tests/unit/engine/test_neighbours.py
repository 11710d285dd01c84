"""Two nodes on one store, and a waker between them that works, is down, says nothing or lies."""

import asyncio
import contextlib

import pytest
from tests.unit.engine.house import ACME, SHOP, furnish, letter, turns

from restante.engine.broker import POLL_INTERVAL_SECONDS, Broker
from restante.engine.wakeups import Wakeups
from restante.stores.memory import MemoryStore
from restante.testing.clock import FakeClock


class Wire:
    """What the wakers of several nodes hang on; ``cut`` loses whatever is said."""

    def __init__(self):
        self.ends = []
        self.cut = False


class WireWaker:
    def __init__(self, wire):
        self.wire = wire
        self.on_wake = None
        self.attended = set()
        self.said = []

    @contextlib.asynccontextmanager
    async def listening(self, on_wake):
        self.on_wake = on_wake
        self.wire.ends.append(self)
        yield
        self.wire.ends.remove(self)

    def wake(self, queues):
        self.said.extend(queues)
        for end in [] if self.wire.cut else self.wire.ends:
            known = [queue for queue in queues if queue in end.attended]
            if known:
                end.on_wake(known)

    def attend(self, queue):
        self.attended.add(queue)

    def leave(self, queue):
        self.attended.discard(queue)


@pytest.fixture
async def nodes():
    clock, wire = FakeClock(), Wire()
    async with MemoryStore(clock) as store:
        await furnish(store)
        wakers = [WireWaker(wire) for _ in range(2)]
        async with (
            Broker(store, clock, waker=wakers[0]) as one,
            Broker(store, clock, waker=wakers[1]) as other,
        ):
            yield one, other, wakers


async def waits(broker, seconds=60):
    """Somebody on that node who waits for something in acme's queue."""
    session = await broker.session("acme", ACME)
    task = asyncio.create_task(session.receive(max=1, wait_seconds=seconds))
    await turns()
    return task


async def test_a_consumer_is_woken_on_another_node(nodes):
    one, other, wakers = nodes
    task = await waits(other)
    assert wakers[1].attended == {"acme"}
    await one.publish(letter(), SHOP)
    assert await task
    assert not wakers[1].attended


async def test_nobody_is_told_of_what_is_taken_here(nodes):
    one, _, wakers = nodes
    task = await waits(one)
    await one.publish(letter(), SHOP)
    assert await task
    assert not wakers[0].said


@pytest.mark.parametrize("lies", [(), ("nowhere", "acme", "bob"), None])
async def test_a_waker_that_is_down_or_lies_costs_the_poll_interval(nodes, lies):
    one, other, wakers = nodes
    wakers[0].wire.cut = True
    task = await waits(other)
    wakers[1].on_wake(lies)
    await turns()
    await one.publish(letter(), SHOP)
    await turns()
    assert not task.done()
    one.clock.advance(POLL_INTERVAL_SECONDS)
    await turns()
    assert task.done()
    assert await task


async def test_all_may_have_been_missed_wakes_whoever_waits(nodes):
    one, other, wakers = nodes
    wakers[0].wire.cut = True
    task = await waits(other)
    await one.publish(letter(), SHOP)
    await turns()
    wakers[1].on_wake(None)
    await turns()
    assert await task


async def test_one_hint_for_many_wakes_the_next_each_time(nodes):
    one, other, _ = nodes
    tasks = [await waits(other) for _ in range(3)]
    await one.publish_batch([letter() for _ in range(3)], SHOP)
    answers = await asyncio.gather(*tasks)
    assert [len(answer) for answer in answers] == [1, 1, 1]


async def test_a_node_that_drains_hands_over(nodes):
    one, other, _ = nodes
    here, there = await waits(one), await waits(other)
    one.drain()
    assert not await here
    await one.publish(letter(), SHOP)
    assert await there


def test_what_is_heard_never_goes_out_again():
    waker = WireWaker(Wire())
    wakeups = Wakeups(FakeClock(), waker)
    wakeups.hear(["q", "nowhere"])
    wakeups.hear(None)
    with wakeups.attend("q"):
        wakeups.hear(["q"])
        wakeups.hear(None)
    assert not waker.said
    assert not waker.attended


def test_what_is_left_over_goes_out_once():
    waker = WireWaker(Wire())
    wakeups = Wakeups(FakeClock(), waker)
    wakeups.wake("q", 5)
    assert waker.said == ["q"]
