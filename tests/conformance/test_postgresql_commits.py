"""The connection is lost exactly at a COMMIT: what is told is what became of it."""

import asyncio

import pytest
from tests.conformance.databases import Wire, connection, new_database, nodes, outcome

from restante.changes import AddClient, PutQueue
from restante.errors import AlreadyExists, OutcomeUnknown
from restante.model import Client, Queue, Settings, State
from restante.queries import ClientByName

COMMIT = b"COMMIT\0"


@pytest.fixture(params=["taken", "lost"])
async def cut(request, postgresql):
    """A node behind a wire that is cut at a COMMIT: after it was forwarded, or before."""
    async with Wire(new_database(postgresql)) as wire, nodes(wire.url) as (node,):
        await node.publish(b"first")
        wire.after = request.param == "taken"
        yield node, wire
        await node.check()


async def test_a_publish(cut):
    node, wire = cut
    wire.cut_at = COMMIT
    appended = await node.publish(b"second", idempotency_key="k")
    assert wire.cuts == 1
    assert [place.seq for place in appended.deliveries] == [2]
    assert (await node.figures()).published == 2
    again = await node.publish(b"second", idempotency_key="k")
    assert (again.id, again.replayed) == (appended.id, True)


async def test_a_lease(cut):
    node, wire = cut
    wire.cut_at = COMMIT
    delivery = await node.one()
    assert (wire.cuts, delivery.attempt, delivery.ref.fence) == (1, 1, 1)
    await node.ack(delivery)
    assert (await node.figures()).acked == 1


async def test_an_ack(cut):
    node, wire = cut
    delivery = await node.one()
    wire.cut_at = COMMIT
    settled = await node.ack(delivery)
    assert (wire.cuts, settled.state, settled.repeated) == (1, State.ACKED, False)
    assert await node.story(1) == ["published ready", "acked acked"]


async def test_a_prolonged_lease_beside_a_new_one(cut):
    """They share a transaction, and the prolonged one looks as it did before."""
    node, wire = cut
    held = await node.one(seconds=3_600)
    await node.publish(b"second")
    wire.cut_at = COMMIT
    extending = node.store.extend(held.ref, 3_600)
    leasing = asyncio.ensure_future(node.lease(1))
    assert (await extending).state is State.LEASED
    (second,) = await leasing
    assert (wire.cuts, second.ref.seq) == (1, 2)
    async with connection(node.url) as other:
        fence = await other.fetchval("SELECT fence FROM restante.deliveries WHERE seq = 2")
    assert fence == second.ref.fence
    await node.ack(held)
    await node.ack(second)


async def test_a_change_is_done_or_told_to_be_unknown(cut):
    node, wire = cut
    wire.cut_at = COMMIT
    answer = await outcome(node.store.configure([AddClient(Client("initech", 0))]))
    assert wire.cuts == 1
    assert isinstance(answer, OutcomeUnknown)
    found = await node.store.browse(ClientByName("initech"))
    assert (found is not None) == wire.after


async def test_the_end_of_parking_is_done_or_told_to_be_unknown(cut):
    """Nothing that it changes has moved, so nothing proves that it was done."""
    node, wire = cut
    await node.put_queue(after_dead="park")
    await node.reject(await node.one())
    await node.bury(ordering_key="k")
    wire.cut_at = COMMIT
    queue = Queue("acme", "acme", Settings(after_dead="continue"))
    answer = await outcome(node.store.configure([PutQueue(queue)]))
    assert wire.cuts == 1
    assert isinstance(answer, OutcomeUnknown)


async def test_numbers_taken_over_a_lost_connection_are_not_used(cut):
    """After a crash the database may give them to another."""
    node, wire = cut
    wire.cut_at = COMMIT
    await node.publish(b"second")
    async with connection(node.url) as other:
        numbers = await other.fetch("SELECT n FROM restante.notifications ORDER BY n")
    first, second = (row[0] for row in numbers)
    if wire.after:
        await node.publish(b"third")
    async with connection(node.url) as other:
        newest = await other.fetchval("SELECT max(n) FROM restante.notifications")
    assert newest - first >= 1_000
    assert second > first


async def test_settings_that_were_rolled_back_are_not_remembered(postgresql):
    async with nodes(new_database(postgresql)) as (node,):
        await node.publish(b"first")
        refused = Queue("acme", "acme", Settings(after_dead="continue", max_in_flight=1))
        answer = await outcome(
            node.store.configure([PutQueue(refused), AddClient(Client("acme", 0))])
        )
        assert isinstance(answer, AlreadyExists)
        await node.put_queue(max_in_flight=7)
        await node.append(*(node.draft() for _ in range(9)))
        assert len(await node.lease(10)) == 7
