"""Time's hand: on time, whatever was announced, and never stopped by an error."""

import asyncio

import structlog
from tests.unit.engine.house import ACME, SHOP, letter, settings, turns

from restante.engine.broker import Broker
from restante.engine.settling import Settle
from restante.errors import StoreUnavailable
from restante.model import State, Verb
from restante.queries import FiguresOf, Receipts
from restante.wire.receipts import decode_entry


async def figures(broker):
    return await broker.store.browse(FiguresOf("acme"))


async def pass_time(clock, seconds):
    """Let time pass in one step, and all that it sets going be done."""
    await turns()
    clock.advance(seconds)
    await turns()


async def test_a_scheduled_one_is_delivered_on_time(broker, clock):
    session = await broker.session("acme", ACME)
    waiting = asyncio.create_task(session.receive(wait_seconds=60))
    await turns()
    await broker.publish(letter(deliver_after_seconds=7), SHOP)
    await pass_time(clock, 6.9)
    assert not waiting.done()
    await pass_time(clock, 0.1)
    assert len(await waiting) == 1


async def test_a_lease_runs_out_on_time(broker, clock):
    await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    await session.receive(lease_seconds=3)
    waiting = asyncio.create_task(session.receive(wait_seconds=60))
    await pass_time(clock, 2.9)
    assert not waiting.done()
    await pass_time(clock, 0.1)
    (delivery,) = await waiting
    assert delivery.attempt == 2


async def test_a_shortened_lease_runs_out_on_time(broker, clock):
    await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    (delivery,) = await session.receive(lease_seconds=1_000)
    await pass_time(clock, 0)
    asked = [Settle(lease=session.token(delivery), verb=Verb.EXTEND, lease_seconds=2)]
    await (await session.settle(asked)).results()
    await pass_time(clock, 2)
    assert (await figures(broker)).ready == 1


async def test_a_nacked_one_comes_back_on_time(broker, clock):
    await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    (delivery,) = await session.receive()
    asked = [Settle(lease=session.token(delivery), verb=Verb.NACK, retry_after_seconds=4)]
    await (await session.settle(asked)).results()
    await pass_time(clock, 3.9)
    assert (await figures(broker)).scheduled == 1
    await pass_time(clock, 0.1)
    assert (await figures(broker)).ready == 1


async def test_what_expires_does_so_on_time(broker, clock):
    await pass_time(clock, 0)
    await broker.publish(letter(deliver_after_seconds=600, expires_after_seconds=5), SHOP)
    await pass_time(clock, 5)
    assert (await figures(broker)).expired == 1
    await broker.publish(letter(expires_after_seconds=4), SHOP)
    await pass_time(clock, 4)
    assert (await figures(broker)).expired == 2


async def test_what_was_not_announced_is_done_at_the_next_poll(broker, clock, store):
    """Another process's work, say: nobody armed the sweeper for it."""
    await turns()
    waiting = asyncio.create_task((await broker.session("acme", ACME)).receive(wait_seconds=60))
    await turns()
    draft = broker._draft(letter(deliver_after_seconds=1), SHOP)
    await store.append([draft])
    await pass_time(clock, 15)
    assert len(await waiting) == 1


async def test_the_poll_wakes_who_waits(broker, clock, store):
    waiting = asyncio.create_task((await broker.session("acme", ACME)).receive(wait_seconds=60))
    await turns()
    await store.append([broker._draft(letter(), SHOP)])
    await pass_time(clock, 14.9)
    assert not waiting.done()
    await pass_time(clock, 0.1)
    assert len(await waiting) == 1


async def test_much_that_is_due_is_done_in_steps(broker, clock):
    batch = [letter(deliver_after_seconds=1) for _ in range(1_000)]
    await broker.publish_batch(batch, SHOP)
    await broker.publish_batch(batch[:234], SHOP)
    await pass_time(clock, 1)
    assert (await figures(broker)).ready == 1_234


async def test_a_jump_of_the_wall_clock_changes_nothing(broker, clock):
    await broker.publish(letter(deliver_after_seconds=10), SHOP)
    await pass_time(clock, 0)
    clock.jump_wall(3_600)
    await pass_time(clock, 9.9)
    assert (await figures(broker)).scheduled == 1
    clock.jump_wall(-86_400)
    await pass_time(clock, 0.1)
    assert (await figures(broker)).ready == 1


async def test_an_error_of_the_store_stops_nothing(broker, clock, store, monkeypatch):
    for error in (StoreUnavailable("later"), AssertionError("a bug")):

        def fail(_, error=error):
            future = asyncio.get_running_loop().create_future()
            future.set_exception(error)
            return future

        await broker.publish(letter(deliver_after_seconds=1), SHOP)
        with monkeypatch.context() as patch, structlog.testing.capture_logs() as logs:
            patch.setattr(store, "overdue", fail)
            await pass_time(clock, 1)
        assert [log["log_level"] for log in logs] in (["warning"], ["error"])
        assert (await figures(broker)).scheduled == 1
        await pass_time(clock, 15)
        assert (await figures(broker)).scheduled == 0


async def test_what_is_past_its_retention_is_pruned(store, clock):
    async with Broker(store, clock, retention_interval_seconds=60) as broker:
        await settings(broker, receipt_retention_seconds=0, body_retention_seconds=0)
        session = await broker.session("acme", ACME)
        for _ in range(3):
            await broker.publish(letter(), SHOP)
        items = [Settle(lease=session.token(one), verb=Verb.ACK) for one in await session.receive()]
        await (await session.settle(items)).results()
        await pass_time(clock, 59)
        assert len((await store.browse(Receipts("acme"))).receipts) == 6
        await pass_time(clock, 1)
        (newest,) = (await store.browse(Receipts("acme"))).receipts
        assert decode_entry(newest.entry).state == State.ACKED.label


async def test_closing_ends_its_jobs_and_leaves_leases_alone(store, clock):
    async with Broker(store, clock) as broker:
        await broker.publish(letter(), SHOP)
        session = await broker.session("acme", ACME)
        await session.receive()
        waiting = asyncio.create_task(session.receive(wait_seconds=60))
        await turns()
    assert await waiting == []
    assert clock.timers == 0
    assert (await figures(broker)).leased == 1
