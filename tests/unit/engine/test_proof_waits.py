"""Waiting for a receipt that was only just written to come into the log."""

import asyncio

import pytest
from tests.unit.engine.house import ACME, OPERATOR, SHOP, furnish, letter, turns
from tests.unit.engine.neighbours import SharedStore
from tests.unit.engine.test_waiting import Caller

from restante.engine.broker import Broker
from restante.engine.receipt_log import SEAL_SECONDS, ReceiptLog
from restante.errors import ReceiptNotFound, ReceiptNotSealed, StoreUnavailable
from restante.papers import Kind
from restante.queries import PaperVersions, Seals
from restante.wire import proofs
from restante.wire.checkpoints import LogKeys, SignerKey

KEY = SignerKey("receipts.example", b"\x01" * 32)
KEYS = LogKeys((KEY,))


async def wait(broker, number=1, seconds=30, actor=ACME, hangup=None):
    with broker.waiting.enter(actor, seconds) as waiter:
        return await broker.proofs.proof(waiter, "acme", number, actor, seconds, hangup)


async def waiting_for(broker, number=1, **options):
    """A task that waits, and has looked."""
    task = asyncio.create_task(wait(broker, number, **options))
    await turns()
    assert not task.done()
    return task


def index(proof):
    return proofs.check(proof, KEY.verifier.name, [KEY.verifier]).index


def questions(monkeypatch, store, kind):
    """What the store is asked of that kind."""
    asked = []
    browse = store.browse

    def noted(query):
        if isinstance(query, kind):
            asked.append(query)
        return browse(query)

    monkeypatch.setattr(store, "browse", noted)
    return asked


async def test_who_waits_is_answered_by_the_sealing_and_asks_for_nothing_meanwhile(
    store, clock, monkeypatch
):
    async with Broker(store, clock, log_keys=KEYS) as broker:
        await turns()
        await broker.publish(letter(), SHOP)
        looks = questions(monkeypatch, store, Seals)
        with monkeypatch.context() as patch:
            patch.setattr(broker.log, "step", lambda: asyncio.sleep(0, False))
            tasks = [await waiting_for(broker) for _ in range(3)]
            clock.advance(20)
            await turns()
        assert len(looks) == 3, "each once, when it began"
        clock.advance(SEAL_SECONDS)
        await turns()
        assert [index(await task) for task in tasks] == [0, 0, 0]
        assert len(looks) == 6
        assert len(broker.waiting) == 0
        # What is sealed of others does not end a wait.
        await broker.publish(letter(queue="bob"), SHOP)
        with monkeypatch.context() as patch:
            patch.setattr(broker.log, "proof", refused)
            task = await waiting_for(broker)
            clock.advance(SEAL_SECONDS)
            await turns()
            assert not task.done()
            clock.advance(30)
            with pytest.raises(ReceiptNotSealed):
                await task


async def refused(queue, number):
    raise ReceiptNotSealed(f"{queue}~{number}")


async def test_who_waits_in_vain_or_for_nothing_is_told(broker, clock):
    await broker.publish(letter(), SHOP)
    with pytest.raises(ReceiptNotSealed):
        await wait(broker, seconds=0)
    with pytest.raises(ReceiptNotFound):
        await wait(broker, number=2)
    task = await waiting_for(broker, seconds=5)
    clock.advance(5)
    with pytest.raises(ReceiptNotSealed):
        await task


async def test_nobody_waits_beyond_the_service_the_key_or_the_connection(broker):
    await broker.publish(letter(), SHOP)
    caller = Caller()
    left = await waiting_for(broker, hangup=caller)
    ended = await waiting_for(broker)
    drained = await waiting_for(broker, actor=OPERATOR)
    caller.hang_up()
    await turns()
    assert [task.done() for task in (left, ended, drained)] == [True, False, False]
    broker.dismiss(ACME.key_id)
    await turns()
    assert [task.done() for task in (ended, drained)] == [True, False]
    broker.drain()
    for task in (left, ended, drained, asyncio.create_task(wait(broker))):
        with pytest.raises(ReceiptNotSealed):
            await task
    assert len(broker.waiting) == 0


async def test_one_look_is_for_all_that_wait_for_what_another_node_seals(clock, monkeypatch):
    store = SharedStore(clock, jitter=lambda: 0.5)
    await furnish(store)
    async with Broker(store, clock) as broker:
        await broker.publish(letter(), SHOP)
        other = ReceiptLog(store, clock, "other", KEYS)
        versions = questions(monkeypatch, store, PaperVersions)
        places = questions(monkeypatch, store, Seals)
        clock.advance(10)
        await turns()
        assert versions == [], "nobody waits"
        tasks = [await waiting_for(broker) for _ in range(10)]
        for _ in range(4):
            clock.advance(SEAL_SECONDS)
            await turns()
        assert [one.kind for one in versions] == [Kind.LOG] * 4
        assert len(places) == 10, "nothing was sealed"
        await other.step()
        with monkeypatch.context() as patch:
            patch.setattr(store, "browse", away)
            clock.advance(SEAL_SECONDS)
            await turns()
        clock.advance(SEAL_SECONDS)
        await turns()
        assert [index(await task) for task in tasks] == [0] * 10
        clock.advance(SEAL_SECONDS)
        await turns()
        versions.clear()
        clock.advance(10)
        await turns()
        assert versions == [], "nobody waits any more"


def away(query):
    raise StoreUnavailable("away")
