"""What is past its time goes by whole partitions, and what is still needed stays."""

import asyncio
import datetime

import pytest
from tests.conformance.databases import Node, Wire, connection, fake_clocks, new_database, nodes

from restante.errors import LeaseLost
from restante.queries import Body, BodyOf, NotificationById

DAY = 86_400


@pytest.fixture
async def stage(postgresql):
    """Two nodes whose clocks are turned together; bodies are kept for a day, receipts for sixty."""
    (clock,) = fake_clocks(1)
    url = new_database(postgresql)
    kept = {"body_retention_seconds": DAY, "receipt_retention_seconds": 60 * DAY}
    async with (
        nodes(url, 2, clocks=[clock, clock], max_attempts=3, **kept) as pair,
        connection(url) as other,
    ):
        yield *pair, clock, other


async def partitions(other, table):
    rows = await other.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = $1::text::regclass",
        f"restante.{table}",
    )
    return sorted(row[0].rpartition(".")[2] for row in rows)


def partition_of(table, wall_ms, days=1):
    span = days * DAY * 1_000
    low = wall_ms - wall_ms % span
    return f"{table}_p{low}_{low + span}"


async def test_bodies_go_and_what_is_still_needed_stays(stage):
    one, two, clock, other = stage
    day = partition_of("notifications", clock.wall_ms())
    gone = await one.publish(b"gone")
    await one.ack(await one.one())
    dead = await one.bury(b"dead")
    nowhere = await one.publish(b"nowhere", queues=())
    later = await one.publish(b"later", deliver_after_seconds=10 * DAY)
    moment = await one.publish(b"a moment ago")
    await one.publish(b"waiting")
    clock.advance(3 * DAY)
    await one.ack(await one.one())
    await asyncio.gather(one.prune_all(), two.prune_all())
    await one.prune_all()
    assert day not in await partitions(other, "notifications")
    left = {
        bytes(row[0])
        for row in await other.fetch(
            "SELECT body FROM restante.notifications WHERE body IS NOT NULL"
        )
    }
    assert left == {b"dead", b"later", b"a moment ago", b"waiting"}
    for appended in (gone, nowhere, later, moment):
        record = await two.store.browse(NotificationById(appended.id))
        assert record.published_at_ms == clock.wall_ms() - 3 * DAY * 1_000
        assert len(record.deliveries) == len(appended.deliveries)
    # What was kept is handed out as ever.
    assert (await two.redrive(dead))[0] == 1
    clock.advance(8 * DAY)
    await two.overdue()
    deliveries = await two.lease(10)
    assert [delivery.body for delivery in deliveries] == [b"dead", b"later", b"waiting"]
    for delivery in deliveries:
        await one.ack(delivery)
    clock.advance(2 * DAY)
    await one.prune_all()
    assert await other.fetchval("SELECT count(*) FROM restante.notifications") == 0
    assert await other.fetchval("SELECT count(*) FROM restante.archive") == 6
    assert (await one.store.browse(NotificationById(gone.id))).body_bytes == 4
    # An ack of what is in the archive alone is evidence all the same.
    with pytest.raises(LeaseLost):
        await one.nack(deliveries[0])


async def test_receipts_go_and_the_ledger_reads_right_on_both_sides(stage):
    one, two, clock, other = stage
    first = partition_of("receipts", clock.wall_ms(), 30)
    for _ in range(3):
        await one.publish()
        await one.ack(await one.one())
    clock.advance(50 * DAY)
    await one.publish()
    delivery = await one.one(seconds=60)
    clock.advance(45 * DAY)
    await one.overdue()
    await two.publish()
    await asyncio.gather(two.prune_all(), one.prune_all())
    await two.prune_all()
    assert first not in await partitions(other, "receipts")
    ledger = await one.ledger()
    assert [receipt.number for receipt in ledger] == list(range(7, 10))
    assert await two.ledger() == ledger
    await one.check()
    assert (await one.ack(delivery)).number == 10
    clock.advance(100 * DAY)
    await one.prune_all()
    # What tells of a delivery that has not ended is kept, and all behind it.
    assert [receipt.number for receipt in await two.ledger()] == [9, 10]
    await two.check()


async def test_partitions_are_there_ahead(stage):
    one, _, clock, other = stage
    for _ in range(3):
        await one.prune_all()
        there = await partitions(other, "notifications")
        for ahead in range(3):
            assert partition_of("notifications", clock.wall_ms() + ahead * DAY * 1_000) in there
        appended = await one.publish()
        place = await other.fetchval(
            "SELECT tableoid::regclass::text FROM restante.notifications WHERE id = $1", appended.id
        )
        assert place.endswith(partition_of("notifications", clock.wall_ms()))
        clock.advance(DAY)


async def test_rows_without_a_partition_are_kept_and_swept(stage):
    """Nobody pruned for long: what was published meanwhile is in no partition of its own."""
    one, two, clock, other = stage
    clock.advance(400 * DAY)
    appended = await one.publish(b"between")
    await one.ack(await one.one())
    await one.prune_all()
    assert await other.fetchval("SELECT count(*) FROM restante.notifications_kept") == 1
    assert await other.fetchval("SELECT count(*) FROM restante.receipts_kept") == 2
    clock.advance(3 * DAY)
    await two.prune_all()
    assert await other.fetchval("SELECT count(*) FROM restante.notifications_kept") == 0
    assert (await one.store.browse(NotificationById(appended.id))).body_bytes == 7
    clock.advance(70 * DAY)
    await two.publish()
    await two.prune_all()
    assert await other.fetchval("SELECT count(*) FROM restante.receipts_kept") == 0
    await one.check()


async def test_a_partition_of_which_much_is_needed_stays_for_now(stage, monkeypatch):
    """And those behind it go all the same."""
    monkeypatch.setattr("restante.stores.postgresql.partitions._MOST_KEPT", 1)
    one, _, clock, other = stage
    days = []
    for count in (2, 2, 1):
        days.append(partition_of("notifications", clock.wall_ms()))
        for _ in range(count):
            await one.publish()
        clock.advance(DAY)
        await one.prune_all()
    clock.advance(3 * DAY)
    await one.prune_all()
    there = await partitions(other, "notifications")
    assert [day in there for day in days] == [True, True, False]
    assert len(await one.lease(10)) == 5


async def test_a_body_that_is_discarded_while_its_partition_goes_does_not_come_back(postgresql):
    """What is still needed of the partition was copied before."""
    (clock,) = fake_clocks(1)
    url = new_database(postgresql)
    async with (
        Wire(url) as wire,
        nodes(url, clocks=[clock], body_retention_seconds=3 * DAY // 2) as (one,),
        Node(wire.url, clock) as pruning,
        connection(url) as other,
    ):
        day = partition_of("notifications", clock.wall_ms())
        secret = await one.publish(b"secret")
        await one.reject(await one.one())
        # On the day on which it goes, no partition is to be made: that would hold up the discard.
        clock.advance(2 * DAY + 3_600 - clock.wall_ms() // 1_000 % DAY)
        await one.prune_all()
        assert day in await partitions(other, "notifications")
        clock.advance(12 * 3_600)
        wire.hold_at = b"DETACH PARTITION"
        pruned = asyncio.ensure_future(pruning.prune_all())
        await wire.cut.wait()
        await one.discard(1)
        wire.release()
        await pruned
        assert day not in await partitions(other, "notifications")
        assert await one.store.browse(BodyOf(secret.id)) == Body("application/xml", None)
        await one.check()


async def test_a_partition_that_has_just_ended_is_left_to_who_may_still_write_to_it(stage):
    one, _, clock, other = stage
    await one.put_queue(body_retention_seconds=0)
    midnight = datetime.datetime.fromtimestamp(clock.wall_ms() / 1_000, datetime.UTC)
    assert (midnight.hour, midnight.minute) == (0, 0)
    day = partition_of("notifications", clock.wall_ms())
    clock.advance(DAY - 1)
    await one.publish()
    await one.ack(await one.one())
    clock.advance(2)
    await one.prune_all()
    assert day in await partitions(other, "notifications")
    clock.advance(3_600)
    await one.prune_all()
    assert day not in await partitions(other, "notifications")


async def test_a_long_partition_holds_up_nothing(stage):
    """Whatever pruning waits for, leases run out meanwhile."""
    one, _, _, other = stage
    await one.publish()
    await one.one(seconds=30)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("LOCK TABLE restante.pruned")
    pruning = one.store.prune(100)
    assert await one.pass_time(31) == {"acme": 1}
    assert not pruning.done()
    await transaction.rollback()
    assert await pruning == 1
