"""A consumer that stays: credit, waiting, leaving, coming back."""

import asyncio

import pytest
from tests.unit.engine.house import ACME, BOB, SHOP, letter, settings, turns

from restante.engine.broker import Broker
from restante.engine.settling import Settle
from restante.engine.stream import AWAY_SECONDS, RECALL_SECONDS
from restante.errors import (
    Forbidden,
    LeaseLost,
    OutcomeUnknown,
    OutOfBounds,
    QueueNotFound,
    StoreUnavailable,
)
from restante.model import Settled, Verb
from restante.queries import FiguresOf


async def figures(broker, queue="acme"):
    return await broker.store.browse(FiguresOf(queue))


async def opened(broker, messages=10, actor=ACME, **options):
    stream = await broker.stream("acme", actor, **options)
    stream.grant(messages)
    return stream


async def publish(broker, *bodies, **fields):
    for body in bodies:
        await broker.publish(letter(body, **fields), SHOP)


async def asking(stream, wait_seconds=None):
    task = asyncio.create_task(stream.next(wait_seconds))
    await turns()
    return task


async def settle(session, *deliveries, verb=Verb.ACK, **fields):
    items = [Settle(lease=session.token(one), verb=verb, **fields) for one in deliveries]
    return await (await session.settle(items)).results()


def bodies(deliveries):
    return [one.body for one in deliveries]


# -- other nodes --------------------------------------------------------------------------------


async def test_what_was_settled_on_another_node_makes_room_too(broker, store, clock, monkeypatch):
    await publish(broker, b"1", b"2", b"3")
    async with Broker(store, clock) as elsewhere:
        with monkeypatch.context() as shared, await opened(broker, 2) as stream:
            shared.setattr(type(store), "nodes", object())
            first, _ = await stream.next()
            session = await elsewhere.session("acme", ACME)
            task = await asking(stream)
            clock.advance(RECALL_SECONDS[0])
            await turns()
            assert not task.done(), "both are still its own"
            await settle(session, first)
            clock.advance(2 * RECALL_SECONDS[0])
            assert bodies(await task) == [b"3"]
            assert stream.unsettled == 2


# -- a store that is away -----------------------------------------------------------------------


@pytest.mark.parametrize("error", [StoreUnavailable("away"), OutcomeUnknown("who knows")])
async def test_a_store_that_is_away_is_waited_for(broker, store, clock, monkeypatch, error):
    await publish(broker, b"1")
    asked = 0

    def away(request):
        nonlocal asked
        asked += 1
        answer = asyncio.get_running_loop().create_future()
        answer.set_exception(error)
        return answer

    with await opened(broker) as stream:
        with monkeypatch.context() as patch:
            patch.setattr(store, "lease", away)
            task = await asking(stream, 10)
            assert asked == 1
            clock.advance(AWAY_SECONDS)
            await turns()
            assert asked == 2
            # At the end of its time it has heard of no work, as when there is none.
            clock.advance(10)
            assert await task == []
        assert bodies(await stream.next()) == [b"1"]


# -- credit -------------------------------------------------------------------------------------


async def test_what_is_there_comes_at_once_and_what_comes_later_as_it_comes(broker):
    await publish(broker, b"1", b"2")
    with await opened(broker) as stream:
        assert bodies(await stream.next()) == [b"1", b"2"]
        task = await asking(stream)
        assert not task.done()
        await publish(broker, b"3")
        assert bodies(await task) == [b"3"]
        assert stream.unsettled == 3


async def test_no_more_than_the_credit_is_unsettled(broker):
    await publish(broker, *[b"%d" % n for n in range(5)])
    with await opened(broker, 2) as stream:
        first = await stream.next()
        assert bodies(first) == [b"0", b"1"]
        task = await asking(stream)
        assert not task.done()
        await settle(stream.session, first[0])
        assert bodies(await task) == [b"2"]
        assert stream.unsettled == 2


@pytest.mark.parametrize("verb", [Verb.ACK, Verb.NACK, Verb.REJECT, Verb.RELEASE])
async def test_however_a_lease_ends_it_makes_room(broker, verb):
    await publish(broker, b"1", b"2")
    with await opened(broker, 1) as stream:
        (first,) = await stream.next()
        task = await asking(stream)
        await settle(stream.session, first, verb=verb)
        assert len(await task) == 1


async def test_settled_over_another_transport_makes_room_too(broker):
    await publish(broker, b"1", b"2")
    other = await broker.session("acme", ACME)
    with await opened(broker, 1) as stream:
        (first,) = await stream.next()
        task = await asking(stream)
        await settle(other, first)
        assert bodies(await task) == [b"2"]


async def test_a_lease_that_runs_out_makes_room(broker, clock):
    await settings(broker, lease_seconds=7)
    await publish(broker, b"1", b"2")
    with await opened(broker, 1) as stream:
        assert bodies(await stream.next()) == [b"1"]
        task = await asking(stream)
        clock.advance(6.9)
        await turns()
        assert not task.done()
        clock.advance(0.1)
        await turns()
        # Which of the two it is depends on whether the sweeper has been there yet.
        assert len(await task) == 1
        assert stream.unsettled == 1


async def test_an_extended_lease_takes_its_room_for_longer(broker, clock):
    await settings(broker, lease_seconds=7)
    await publish(broker, b"1", b"2")
    with await opened(broker, 1) as stream:
        (first,) = await stream.next()
        await settle(stream.session, first, verb=Verb.EXTEND, lease_seconds=60)
        task = await asking(stream)
        clock.advance(30)
        await turns()
        assert not task.done()
        clock.advance(30)
        await turns()
        assert len(await task) == 1


async def test_a_settle_of_an_older_lease_makes_no_room(broker, clock):
    """The fence tells: what somebody else holds now is not this stream's to let go."""
    await settings(broker, lease_seconds=5)
    await publish(broker, b"1", b"2")
    with await opened(broker, 1) as first, await opened(broker, 2) as second:
        (late,) = await first.next()
        first.grant(0)
        clock.advance(5)
        await turns()
        again = await second.next()
        assert len(again) == 2
        task = await asking(second)
        assert isinstance((await settle(first.session, late))[0], LeaseLost)
        await publish(broker, b"3")
        await turns()
        assert not task.done()
        second.end()
        assert await task == []


async def test_a_lost_lease_makes_room(broker, clock, store):
    """Somebody learns that it is no longer the current one: whoever counted it counts it no more."""
    await publish(broker, b"1", b"2")
    with await opened(broker, 1) as stream:
        (first,) = await stream.next()
        task = await asking(stream)
        # As another node would have: behind this one's back.
        clock_free = store.settle([_ack(first)])
        await clock_free
        await turns()
        assert not task.done()
        assert isinstance((await settle(stream.session, first, verb=Verb.NACK))[0], LeaseLost)
        assert bodies(await task) == [b"2"]


def _ack(delivery):
    from restante.model import Settlement

    return Settlement(ref=delivery.ref, verb=Verb.ACK, actor=ACME)


async def test_credit_in_bytes(broker):
    await publish(broker, b"x" * 60, b"y" * 60, b"z" * 60)
    with await opened(broker) as stream:
        stream.grant(10, 100)
        first = await stream.next()
        assert [one.body[:1] for one in first] == [b"x"], "the second does not fit"
        task = await asking(stream)
        # 40 bytes are left: one more is handed out, whatever its size, and then no more.
        assert [one.body[:1] for one in await task] == [b"y"]
        task = await asking(stream)
        await settle(stream.session, *first)
        assert not task.done(), "60 of 100 bytes are still out, and 60 more were"
        await turns()
        assert [one.body[:1] for one in await task] == [b"z"]


async def test_a_limit_for_once_holds_whatever_room_there_comes_to_be(broker):
    await publish(broker, b"0")
    with await opened(broker, 3) as stream:
        (first,) = await stream.next(most=2)
        task = asyncio.create_task(stream.next(most=1))
        await turns()
        await settle(stream.session, first)
        await broker.publish_batch([letter(b"%d" % n) for n in (1, 2, 3)], SHOP)
        assert bodies(await task) == [b"1"]
        assert bodies(await stream.next()) == [b"2", b"3"]


async def test_one_is_handed_out_whatever_its_size(broker):
    await publish(broker, b"x" * 1_000)
    with await opened(broker) as stream:
        stream.grant(10, 1)
        assert len(await stream.next()) == 1


async def test_no_more_than_a_mebibyte_comes_at_a_time(broker):
    """What a connection that takes nothing may keep in memory does not depend on its credit."""
    await publish(broker, *[b"x" * 400_000] * 4, b"y" * 1_000_000)
    with await opened(broker) as stream:
        assert [len(await stream.next()) for _ in range(3)] == [2, 2, 1]


async def test_credit_can_be_raised_lowered_and_taken_away(broker):
    await publish(broker, *[b"%d" % n for n in range(6)])
    with await opened(broker, 0) as stream:
        task = await asking(stream)
        assert not task.done()
        stream.grant(2)
        first = await task
        assert bodies(first) == [b"0", b"1"]
        stream.grant(1)
        task = await asking(stream)
        await settle(stream.session, first[0])
        await turns()
        assert not task.done(), "one is out, and one is the credit"
        stream.grant(3)
        assert bodies(await task) == [b"2", b"3"]
        stream.grant(0)
        assert await stream.next(0) == []


@pytest.mark.parametrize("when", ["while it waits", "as it is woken"])
async def test_a_wake_passes_by_who_had_its_credit_taken_back(broker, when):
    with await opened(broker) as first, await opened(broker) as second:
        without, waiting = await asking(first), await asking(second)
        if when == "while it waits":
            first.grant(0)
            await turns()
        await publish(broker, b"1")
        first.grant(0)
        assert bodies(await waiting) == [b"1"]
        assert not without.done()
        first.end()
        assert await without == []


@pytest.mark.parametrize(
    "wrong", [(-1,), (10_001,), (1, 0), (1, -5), (1, 2**40), (1, 100, 0), (1, 100, 43_201)]
)
async def test_bounds_of_credit(broker, wrong):
    await publish(broker, b"1")
    with await opened(broker, 0) as stream:
        with pytest.raises(OutOfBounds):
            stream.grant(*wrong)
        assert await stream.next(0) == [], "a refused grant grants nothing"


async def test_flow_control_of_the_queue_holds_for_streams_too(broker):
    await settings(broker, max_in_flight=2)
    await publish(broker, b"1", b"2", b"3")
    with await opened(broker, 10) as first, await opened(broker, 10) as second:
        (one, _) = await first.next()
        task = await asking(second)
        assert not task.done()
        await settle(first.session, one)
        assert bodies(await task) == [b"3"]


async def test_the_lease_is_as_long_as_asked(broker, clock):
    await publish(broker, b"1", b"2")
    with await opened(broker, 1, lease_seconds=99) as stream:
        (first,) = await stream.next()
        assert first.lease_until_ms == clock.wall_ms() + 99_000
        stream.grant(2, lease_seconds=9)
        (second,) = await stream.next()
        assert second.lease_until_ms == clock.wall_ms() + 9_000


# -- waiting ------------------------------------------------------------------------------------


async def test_the_wait_ends_with_nothing(broker, clock):
    with await opened(broker) as stream:
        task = await asking(stream, 12)
        clock.advance(12)
        assert await task == []
    with await opened(broker, 0) as stream:
        task = await asking(stream, 12)
        clock.advance(12)
        assert await task == []


async def test_one_publish_answers_one_of_many(broker):
    with await opened(broker) as first, await opened(broker) as second:
        tasks = [await asking(first), await asking(second)]
        await publish(broker, b"1")
        await turns()
        assert [task.done() for task in tasks] == [True, False]
        second.end()
        assert await tasks[1] == []


async def test_one_without_credit_takes_no_wake_from_another(broker):
    await publish(broker, b"1")
    with await opened(broker, 1) as full, await opened(broker, 1) as free:
        await full.next()
        waiting = await asking(full)
        task = await asking(free)
        await publish(broker, b"2")
        assert bodies(await task) == [b"2"]
        full.end()
        assert await waiting == []


async def test_what_one_leaves_behind_another_is_woken_for(broker):
    """A batch cut short by its bytes leaves some behind, as a full one does."""
    with await opened(broker) as small, await opened(broker) as other:
        small.grant(10, 100)
        tasks = [await asking(small), await asking(other)]
        publishing = [broker.publish(letter(b"x" * 90), SHOP) for _ in range(2)]
        await asyncio.gather(*publishing)
        got = await asyncio.gather(*tasks)
        assert sorted(len(one) for one in got) == [1, 1]


# -- leaving and coming back --------------------------------------------------------------------


async def test_ended_while_it_waits(broker):
    with await opened(broker) as stream:
        task = await asking(stream)
        stream.end()
        assert await task == []
        assert await stream.next() == []
    await publish(broker, b"1")
    assert (await figures(broker)).ready == 1


async def test_ended_while_the_store_answers(broker, store):
    await publish(broker, b"1")
    store.gated = True
    with await opened(broker) as stream:
        task = await asking(stream)
        stream.end()
        store.answer()
        assert await task == []
        await turns()
    assert (await figures(broker)).ready == 1, "released: it was never shown"


async def test_cancelled_while_the_store_answers(broker, store):
    await publish(broker, b"1")
    store.gated = True
    with await opened(broker) as stream:
        task = await asking(stream)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        store.answer()
        await turns()
    assert (await figures(broker)).ready == 1


async def test_woken_just_as_it_leaves(broker):
    """The work it was woken for is another's."""
    first = await opened(broker)
    with await opened(broker) as second:
        with first:
            tasks = [await asking(first), await asking(second)]
            publishing = asyncio.create_task(broker.publish(letter(b"1"), SHOP))
            broker.wakeups.wake("acme")
            tasks[0].cancel()
        await publishing
        assert bodies(await tasks[1]) == [b"1"]


async def test_what_cannot_be_shown_is_given_back_uncounted(broker):
    await publish(broker, b"1")
    with await opened(broker) as stream:
        stream.give_back(await stream.next())
    await turns()
    with await opened(broker) as stream:
        (again,) = await stream.next()
        assert again.attempt == 1


async def test_what_was_shown_stays_leased_when_it_leaves(broker, clock):
    await settings(broker, lease_seconds=5)
    await publish(broker, b"1")
    with await opened(broker) as stream:
        await stream.next()
    with await opened(broker) as stream:
        task = await asking(stream)
        assert not task.done()
        clock.advance(5)
        (again,) = await task
        assert again.attempt == 2


async def test_who_comes_back_finds_what_it_held_under_the_same_leases(broker, clock):
    await settings(broker, lease_seconds=20)
    await publish(broker, b"1", b"2", b"3", b"4")
    with await opened(broker, 3) as stream:
        before = await stream.next()
        await settle(stream.session, before[0])
    clock.advance(5)
    with await opened(broker, 3, consumer=stream.id) as back:
        again = await back.held_before()
        assert [one.ref for one in again] == [one.ref for one in before[1:]]
        assert [one.attempt for one in again] == [1, 1]
        assert back.unsettled == 2
        assert bodies(await back.next()) == [b"4"], "there is room for one"
        task = await asking(back)
        results = await settle(back.session, before[1])
        assert isinstance(results[0], Settled)
        await publish(broker, b"5")
        assert bodies(await task) == [b"5"]
        clock.advance(15)
        await turns()
        # Taken up again, a lease is no longer than it was.
        assert (await figures(broker)).leased == 2
    ids = {await_id.id for await_id in (stream, back)}
    assert len(ids) == 1


async def test_what_the_displaced_one_was_about_to_be_handed_is_found_too(broker, store):
    """It must not be sent by the one and given back by the other."""
    await publish(broker, b"1")
    store.gated = True
    with await opened(broker) as stream:
        task = await asking(stream)
        stream.end(displaced=True)
        with await opened(broker, consumer=stream.id) as back:
            assert bodies(await back.held_before()) == [b"1"]
            store.answer()
            assert await task == []
            await turns()
            assert (await figures(broker)).leased == 1
            stream.give_back(await back.held_before())
            await turns()
            assert (await figures(broker)).leased == 1


async def test_what_was_given_back_is_not_found(broker, store, monkeypatch):
    """Even when the store has not done it yet: what was called first is done first."""
    await publish(broker, b"1")
    with await opened(broker) as stream:
        stream.give_back(await stream.next())
        with await opened(broker, consumer=stream.id) as back:
            assert await back.held_before() == []


async def test_who_comes_back_may_find_what_it_held_in_parts(broker):
    await publish(broker, b"11", b"22", b"33")
    with await opened(broker) as stream:
        await stream.next()
    with await opened(broker, consumer=stream.id) as back:
        assert bodies(await back.held_before(5)) == [b"11", b"22"]
        assert bodies(await back.held_before(5)) == [b"33"]
        assert await back.held_before(5) == []
        assert back.unsettled == 3


async def test_another_consumers_leases_are_not_found(broker):
    await publish(broker, b"1")
    with await opened(broker) as stream:
        await stream.next()
        with await opened(broker) as other, await opened(broker, consumer="x") as named:
            assert await other.held_before() == []
            assert await named.held_before() == []


async def test_who_may(broker):
    with pytest.raises(Forbidden):
        await broker.stream("acme", SHOP)
    for queue in ("acme", "nowhere"):
        with pytest.raises(QueueNotFound):
            await broker.stream(queue, BOB)
    with pytest.raises(OutOfBounds):
        await broker.stream("acme", ACME, lease_seconds=0)


async def test_nothing_is_remembered_of_who_left(broker):
    await publish(broker, b"1", b"2")
    with await opened(broker) as stream:
        await stream.next()
        assert broker.holders._queues
    assert not broker.holders._queues
    assert not broker.wakeups._lines
