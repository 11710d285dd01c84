"""Requests that count once, where several nodes share a store."""

import asyncio

import pytest
from tests.unit.engine.house import turns
from tests.unit.engine.request_house import WHO, Work, asked, kill

from restante.engine.broker import Broker
from restante.engine.requests import LOOK_SECONDS, RETENTION_SECONDS
from restante.errors import (
    RequestInProgress,
    RequestUnknown,
)
from restante.idempotency import Fate, State
from restante.nodes import Beat, Node
from restante.stores.memory import MemoryStore


class Neighbours:
    """The store's word about nodes, as the test has it."""

    def __init__(self, clock):
        self._clock = clock
        self.alive = {}
        self.gone = set()

    def beat(self, report):
        done = asyncio.get_running_loop().create_future()
        self.alive[report.id] = report
        nodes = [
            Node(
                id=one.id,
                name="",
                version="",
                url="",
                started_at_ms=0,
                draining=False,
                connections=0,
                webhooks=0,
                silent_seconds=99.0 if one.id in self.gone else 0.0,
            )
            for one in self.alive.values()
        ]
        done.set_result(Beat(0, [], nodes, frozenset()))
        return done

    def leave(self, node):
        self.alive.pop(node, None)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class SharedStore(MemoryStore):
    """One that several nodes share."""

    def __init__(self, clock):
        super().__init__(clock)
        self.neighbours = Neighbours(clock)
        self.looks = 0

    @property
    def nodes(self):
        return self.neighbours

    def browse(self, query):
        self.looks += 1
        return super().browse(query)


async def test_two_nodes_run_it_once(clock):
    async with (
        SharedStore(clock) as store,
        Broker(store, clock) as one,
        Broker(store, clock) as two,
    ):
        work = Work(held=True)
        tasks = [asyncio.create_task(node.requests.once(asked(), work)) for node in (one, two)]
        await turns()
        assert work.runs == 1
        waiting = [task for task in tasks if not task.done()]
        refused = [task for task in tasks if task.done()]
        assert [type(task.exception()) for task in refused] == [RequestInProgress]
        work.gate.set()
        assert not (await waiting[0]).replayed
        assert (await one.requests.once(asked(), work)).replayed
        assert (await two.requests.once(asked(), work)).replayed
        assert work.runs == 1


async def test_all_who_wait_for_another_node_look_together(clock):
    async with (
        SharedStore(clock) as store,
        Broker(store, clock) as one,
        Broker(store, clock) as two,
    ):
        work = Work(held=True)
        first = asyncio.create_task(one.requests.once(asked(), work))
        await turns()
        waiting = [
            asyncio.create_task(two.requests.once(asked(), work, wait_seconds=30)) for _ in range(9)
        ]
        await turns()
        before = store.looks
        clock.advance(LOOK_SECONDS)
        await turns()
        # The monitor looks as well, but never so often.
        assert store.looks - before < len(waiting)
        assert not any(task.done() for task in waiting)
        work.gate.set()
        await first
        clock.advance(LOOK_SECONDS)
        assert [(await task).replayed for task in waiting] == [True] * 9
        assert work.runs == 1


async def test_those_who_wait_for_different_keys_look_together(clock):
    async with (
        SharedStore(clock) as store,
        Broker(store, clock) as one,
        Broker(store, clock) as two,
    ):
        work = Work(held=True)
        keys = [f"k{number}" for number in range(50)]
        first = [asyncio.create_task(one.requests.once(asked(key), work)) for key in keys]
        await turns()
        again = [
            asyncio.create_task(two.requests.once(asked(key), work, wait_seconds=30))
            for key in keys
        ]
        await turns()
        before = store.looks
        clock.advance(LOOK_SECONDS)
        await turns()
        # The monitor looks as well, but never so often.
        assert store.looks - before < len(keys) / 2
        work.gate.set()
        await asyncio.gather(*first)
        clock.advance(LOOK_SECONDS)
        assert all([(await task).replayed for task in again])
        assert work.runs == len(keys)


async def test_a_node_that_is_silent_is_taken_for_dead(clock):
    async with SharedStore(clock) as store, Broker(store, clock) as two:
        work = Work(held=True)
        one = await Broker(store, clock).__aenter__()
        task = asyncio.create_task(one.requests.once(asked(), work))
        await turns()
        store.neighbours.gone.add(one.membership.id)
        clock.advance(1)
        await turns()
        # Only its word is missing so far: it may just have started.
        with pytest.raises(RequestInProgress):
            await two.requests.once(asked(), work)
        for _ in range(10):
            clock.advance(1)
            await turns()
        with pytest.raises(RequestUnknown):
            await two.requests.once(asked(), work)
        await kill(one, task)
        assert work.runs == 1


async def test_what_becomes_too_old_while_somebody_waits_for_it_is_begun_anew(clock):
    """The keys of its parts may be gone by the time that the node which had it is known to be."""
    async with SharedStore(clock) as store, Broker(store, clock) as two:
        one = await Broker(store, clock).__aenter__()
        left = asyncio.create_task(one.requests.once(asked(in_parts=True), Work(held=True)))
        await turns()
        clock.advance(RETENTION_SECONDS - 5)
        await turns()
        work = Work(fate=Fate.INCOMPLETE)
        again = asyncio.create_task(two.requests.once(asked(in_parts=True), work, wait_seconds=30))
        await turns()
        for second in range(10):
            if second == 6:
                store.neighbours.gone.add(one.membership.id)
            clock.advance(1)
            await turns()
        assert not (await again).replayed
        assert work.runs == 1
        clock.advance(RETENTION_SECONDS - 10)
        await turns()
        assert (await two.requests.find(WHO, "k1")).state is State.INCOMPLETE
        await kill(one, left)
