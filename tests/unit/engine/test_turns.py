"""Streams that share a connection: no more of them look than have turns."""

import asyncio

import pytest
from tests.unit.engine.house import ACME, SHOP, letter, turns

from restante.changes import PutQueue
from restante.model import Queue
from restante.queries import FiguresOf


@pytest.fixture
async def queues(broker):
    """Three more queues of the same client, with two letters in each."""
    names = ["acme-1", "acme-2", "acme-3"]
    for name in names:
        await broker.store.configure([PutQueue(Queue(name, "acme"))])
        for number in range(2):
            await broker.publish(letter(b"%d" % number, queue=name), SHOP)
    return names


async def attached(broker, names, shared):
    """A stream for each, with credit for one."""
    streams = [await broker.stream(name, ACME, turns=shared) for name in names]
    for stream in streams:
        stream.grant(1)
    return streams


async def leased(broker, names):
    return [(await broker.store.browse(FiguresOf(name))).leased for name in names]


async def test_who_has_no_turn_leases_nothing(broker, queues):
    first, second, third = await attached(broker, queues, asyncio.Semaphore(1))
    with first, second, third:
        assert len(await first.next()) == 1
        waiting = [asyncio.create_task(stream.next()) for stream in (second, third)]
        await turns()
        assert await leased(broker, queues) == [1, 0, 0]
        # It asks for more, and so has dealt with what it had; it has no credit left, and keeps no turn either.
        more = asyncio.create_task(first.next())
        await turns()
        assert await leased(broker, queues) == [1, 1, 0]
        assert [task.done() for task in (*waiting, more)] == [True, False, False]
        waiting.append(asyncio.create_task(second.next()))
        await turns()
        assert await leased(broker, queues) == [1, 1, 1]
        for task in (more, *waiting):
            task.cancel()


async def test_who_waits_with_nothing_there_keeps_no_turn(broker, queues):
    shared = asyncio.Semaphore(1)
    first, second = await attached(broker, ["acme", queues[0]], shared)
    with first, second:
        idle = asyncio.create_task(first.next())
        await turns()
        assert not idle.done()
        assert len(await second.next()) == 1
        idle.cancel()


async def test_who_leaves_gives_its_turn_back(broker, queues):
    shared = asyncio.Semaphore(1)
    first, second = await attached(broker, queues[:2], shared)
    with second:
        with first:
            await first.next()
            task = asyncio.create_task(second.next())
            await turns()
            assert not task.done()
        assert len(await task) == 1


async def test_who_waits_for_a_turn_stands_in_nobodys_way(broker, queues):
    """Woken, it cannot look; another of its queue, on a connection of its own, is woken in its place."""
    shared = asyncio.Semaphore(1)
    stuck, busy = await attached(broker, ["acme", queues[0]], shared)
    free = await broker.stream("acme", ACME)
    free.grant(1)
    with stuck, busy, free:
        waiting = [asyncio.create_task(stuck.next()), asyncio.create_task(free.next())]
        await turns()
        assert len(await busy.next()) == 1
        await broker.publish(letter(b"x"), SHOP)
        assert [one.body for one in await waiting[1]] == [b"x"]
        waiting[0].cancel()


async def test_credit_taken_back_while_it_waits_for_a_turn_counts(broker, queues):
    shared = asyncio.Semaphore(1)
    first, second = await attached(broker, queues[:2], shared)
    with first, second:
        await first.next()
        task = asyncio.create_task(second.next())
        await turns()
        second.grant(0)
        first.end()
        assert await first.next() == []
        await turns()
        assert await leased(broker, queues) == [1, 0, 0]
        second.end()
        assert await task == []


@pytest.mark.parametrize("most", [1, 3])
async def test_a_look_is_bounded_in_bytes(broker, most):
    for number in range(4):
        await broker.publish(letter(b"%d" % number), SHOP)
    with await broker.stream("acme", ACME) as stream:
        stream.grant(10)
        # The one that crosses the limit is left for the next look; the first always comes.
        assert len(await stream.next(max_bytes=most)) == most
