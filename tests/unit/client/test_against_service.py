"""The client against the service itself, in this process: each call as the service understands it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from restante.app import build_api, open_broker
from restante.client import Client, Settle
from restante.client.ledger import LedgerBroken, verify_ledger
from restante.errors import Forbidden, LeaseLost, QueueNotFound, Unauthenticated
from restante.model import Publication, Role, Verb

ADMIN = "the-administrators-key"
Connect = Callable[[str], Client]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes clients of one service, by key."""
    async with open_broker("memory://") as broker:
        transport = httpx.ASGITransport(build_api(broker, ADMIN))
        yield lambda key: Client("http://service.test", key, transport=transport)


@pytest.fixture
async def admin(connect: Connect) -> AsyncIterator[Client]:
    async with connect(ADMIN) as client:
        yield client


@pytest.fixture
async def acme(admin: Client, connect: Connect) -> AsyncIterator[Client]:
    """A client of the service's with its own key."""
    made = await admin.add_client("acme")
    async with connect(made.key) as client:
        yield client


async def test_the_way_of_a_notification(admin, acme):
    body = "<Käufer/>".encode("utf-16")
    published = await admin.publish(
        "acme", body, content_type="application/xml", attributes={"region": "nörd"}
    )
    (place,) = published.deliveries
    assert (place.queue, place.seq) == ("acme", 1)
    (notification,) = (await acme.receive("acme", wait=0)).notifications
    assert notification.content == body
    assert notification.attributes == {"region": "nörd"}
    extended = await acme.extend(notification.lease, 100)
    assert extended.lease_until is not None
    settled = await acme.ack(notification.lease, b"<ok/>", reply_content_type="application/xml")
    assert settled.receipt is not None
    receipt = await acme.receipt(settled.receipt)
    assert (receipt.outcome, receipt.reply, receipt.principal) == ("acked", "<ok/>", "acme")
    status = await admin.notification(published.id)
    assert status.deliveries[0].state == "acked"
    assert (await acme.queue("acme")).figures.acked == 1
    with pytest.raises(LeaseLost):
        await acme.nack(notification.lease)


async def test_every_verb(admin, acme):
    await admin.put_queue("acme", settings={"backoff_base_seconds": 0})
    for number in range(4):
        await admin.publish("acme", b"%d" % number)
    one, two, three, four = (await acme.receive("acme", wait=0)).notifications
    assert (await acme.nack(one.lease, reason="r", retry_after_seconds=0)).state == "ready"
    assert (await acme.release(two.lease)).state == "ready"
    assert (await acme.reject(three.lease, reason="poison")).state == "dead"
    acked, lost = await acme.settle(
        "acme", [Settle(lease=four.lease), Settle(lease=one.lease, verb=Verb.REJECT)]
    )
    assert acked.ok
    assert (lost.ok, lost.code) == (False, "lease_lost")
    received = await acme.receive("acme", wait=0)
    assert [n.attempt for n in received.notifications] == [2, 1]
    again = await acme.receive(
        "acme", wait=0, settle=[Settle(lease=n.lease) for n in received.notifications]
    )
    assert [settled.ok for settled in again.settled] == [True, True]


async def test_dead_letters(admin, acme):
    for _ in range(3):
        await admin.publish("acme", b"x")
    for notification in (await acme.receive("acme", wait=0)).notifications:
        await acme.reject(notification.lease, reason=f"r{notification.seq}")
    page = await acme.dead("acme", limit=2)
    assert [letter.reason for letter in page.dead] == ["r1", "r2"]
    assert page.dead[0].history[-1].outcome == "rejected"
    rest = await acme.dead("acme", after=page.next)
    assert [letter.seq for letter in rest.dead] == [3]
    assert (await admin.redrive("acme", filter={"reason": "r2"}, preview=True)).matched == 1
    assert (await admin.redrive("acme", seqs=[1])).done == 1
    assert (await admin.discard("acme", reason="old")).done == 2
    figures = (await admin.queue("acme")).figures
    assert (figures.ready, figures.discarded, figures.dead) == (1, 2, 0)


async def test_topics_and_batches(admin, acme):
    made = await admin.subscribe("orders.*", "acme", {"region": "north"})
    assert made.filter == {"region": ["north"]}
    north = await admin.publish_topic("orders.new", b"1", attributes={"region": "north"})
    south = await admin.publish_topic("orders.new", b"2", attributes={"region": "south"})
    assert [len(published.deliveries) for published in (north, south)] == [1, 0]
    good, bad = await admin.publish_batch(
        [Publication(queue="acme", body=b"\xff"), Publication(queue="nobody", body=b"")]
    )
    assert not isinstance(good, QueueNotFound)
    assert isinstance(bad, QueueNotFound)
    assert [one.id for one in await admin.subscriptions()] == [made.id]
    await admin.unsubscribe(made.id)
    assert await admin.subscriptions() == []


async def test_a_batch_with_a_key_is_published_once(admin, acme):
    batch = [Publication(queue="acme", body=b"1"), Publication(queue="acme", body=b"2")]
    first = await admin.publish_batch(batch, idempotency_key="b")
    assert await admin.publish_batch(batch, idempotency_key="b") == first
    own = [Publication(queue="acme", body=b"3", idempotency_key="own")]
    results = [(await admin.publish_batch(own))[0] for _ in range(2)]
    assert [result.replayed for result in results] == [False, True]
    assert (await admin.queue("acme")).figures.published == 3
    assert (await admin.request("b")).state == "done"


async def test_keys(admin, acme, connect):
    made = await admin.add_key(Role.PUBLISHER, "orders", expires_after_seconds=60, label="l")
    assert {key.name for key in (await admin.keys()).keys} >= {"acme", "orders"}
    async with connect(made.key) as publisher:
        await publisher.publish("acme", b"x", idempotency_key="k")
        repeated = await publisher.publish("acme", b"x", idempotency_key="k")
        assert repeated.replayed
        await admin.revoke_key(made.id)
        with pytest.raises(Unauthenticated):
            await publisher.publish("acme", b"x")
    certificate = await admin.add_certificate(
        Role.CLIENT, "acme", "dns:A.example", expires_after_seconds=60, label="l"
    )
    assert certificate.certificate_san == "dns:a.example"
    assert certificate in (await admin.keys()).keys
    assert (await admin.client("acme")).name == "acme"
    assert [one.name for one in (await admin.clients()).clients] == ["acme"]
    assert [one.name for one in (await acme.queues()).queues] == ["acme"]


async def test_collecting_acks_on_leaving(admin, acme):
    await admin.publish("acme", b"1")
    async for lease in acme.collect("acme"):
        async with lease as notification:
            assert notification.content == b"1"
        break
    assert (await admin.queue("acme")).figures.acked == 1


async def test_collecting_nacks_an_error_and_lets_it_go_on(admin, acme):
    await admin.publish("acme", b"1")

    async def work() -> None:
        async for lease in acme.collect("acme"):
            async with lease:
                raise KeyError("article")

    with pytest.raises(KeyError):
        await work()
    page = await acme.receipts("acme", outcome="nacked")
    assert page.receipts[0].reason == "KeyError: 'article'"


async def test_collecting_releases_when_cancelled(admin, acme):
    await admin.publish("acme", b"1")
    holding = asyncio.Event()

    async def work() -> None:
        async for lease in acme.collect("acme"):
            async with lease:
                holding.set()
                await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await holding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    figures = (await admin.queue("acme")).figures
    assert (figures.ready, figures.leased) == (1, 0)


async def test_collecting_leaves_alone_what_the_block_settled(admin, acme):
    await admin.publish("acme", b"1")
    async for lease in acme.collect("acme"):
        async with lease:
            await lease.reject(reason="poison")
        break
    assert (await admin.queue("acme")).figures.dead == 1


async def test_a_lease_lost_meanwhile_is_told_with_the_error(admin, acme):
    await admin.publish("acme", b"1")

    async def work() -> None:
        async for lease in acme.collect("acme"):
            async with lease as notification:
                await acme.reject(notification.lease)
                raise KeyError("x")

    with pytest.raises(KeyError) as raised:
        await work()
    assert "lease lost as well" in raised.value.__notes__[0]


async def test_a_ledger_verifies(admin, acme):
    for number in range(5):
        await admin.publish("acme", f"ü{number}".encode())
    for notification in (await acme.receive("acme", wait=0)).notifications:
        await acme.ack(notification.lease, "<ünter/>".encode())
    checked = await verify_ledger(admin, "acme", page_size=3)
    assert (checked.count, checked.first, checked.last) == (10, 1, 10)


async def test_what_is_written_while_a_ledger_is_verified_is_not_missed(admin, acme, monkeypatch):
    honest = admin.receipts
    late = iter(range(2))

    async def busy(queue, **options):
        page = await honest(queue, **options)
        for _ in itertools.islice(late, 1):
            await admin.publish("acme", b"x")
        return type(page)(page.receipts, page.next, page.pruned_to, (await honest(queue)).newest)

    monkeypatch.setattr(admin, "receipts", busy)
    checked = await verify_ledger(admin, "acme")
    assert (checked.count, checked.first, checked.last) == (2, 1, 2)


async def test_what_passes_its_time_while_a_ledger_is_verified_is_not_missed(
    admin, acme, monkeypatch
):
    for number in range(9):
        await admin.publish("acme", b"%d" % number)
    honest = admin.receipts

    async def pruning(queue, *, after=None, **options):
        page = await honest(queue, after=after if after is None else max(after, 6), **options)
        return type(page)(page.receipts, page.next, 0 if after is None else 6, page.newest)

    monkeypatch.setattr(admin, "receipts", pruning)
    checked = await verify_ledger(admin, "acme", page_size=3)
    assert (checked.count, checked.first, checked.last) == (3, 7, 9)


@pytest.mark.parametrize("tamper", ["change", "first", "remove", "newest"])
async def test_a_ledger_that_was_tampered_with_does_not(admin, acme, monkeypatch, tamper):
    for _ in range(4):
        await admin.publish("acme", b"x")
    honest = admin.receipts

    async def tampered(queue, **options):
        page = await honest(queue, **options)
        gone = {"first": 1, "remove": 2, "newest": 4}.get(tamper)
        kept = [receipt for receipt in page.receipts if receipt.number != gone]
        changed = [
            type(receipt)(**{**_fields(receipt), "principal": "someone else"})
            if tamper == "change" and receipt.number == 3
            else receipt
            for receipt in kept
        ]
        return type(page)(changed, page.next, page.pruned_to, page.newest)

    monkeypatch.setattr(admin, "receipts", tampered)
    with pytest.raises(LedgerBroken, match="acme~"):
        await verify_ledger(admin, "acme")


def _fields(receipt):
    return {name: getattr(receipt, name) for name in receipt.__struct_fields__}


async def test_nodes_are_listed_to_administrators(admin, acme):
    (alone,) = await admin.nodes()
    assert (alone.draining, alone.webhooks, alone.silent_seconds) == (False, 0, 0)
    with pytest.raises(Forbidden):
        await acme.nodes()
