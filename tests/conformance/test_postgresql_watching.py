"""What those see who watch nodes on one database: counted once whatever happens, and bodies that go for good."""

import asyncio

import pytest
from tests.conformance.databases import Wire, connection, fake_clocks, new_database, nodes

from restante.metering import Tally
from restante.model import Selection, State
from restante.queries import Body, BodyOf, OpenDeliveries
from restante.stores.postgresql.watching import FIGURES
from restante.testing.conformance.stage import ACME, OPERATOR

COMMIT = b"COMMIT\0"


@pytest.mark.parametrize("taken", [True, False])
async def test_what_was_cut_off_at_its_commit_is_counted_once(postgresql, taken):
    """Whether it took place, or was done again."""
    async with Wire(new_database(postgresql)) as wire, nodes(wire.url) as (node,):
        wire.after = taken
        wire.cut_at = COMMIT
        await node.publish()
        assert (wire.cuts, node.drain()) == (1, {"acme": Tally(published=1)})
        wire.cut_at = COMMIT
        delivery = await node.one()
        assert (wire.cuts, node.drain()) == (2, {"acme": Tally(delivered=1)})
        wire.cut_at = COMMIT
        await node.ack(delivery)
        assert (wire.cuts, node.tally().acked) == (3, 1)
        await node.check_meter()


async def test_each_node_counts_what_it_has_done(postgresql):
    async with nodes(new_database(postgresql), 2) as (one, two):
        await one.publish()
        await two.reject(await two.one(), reason="no")
        assert one.drain() == {"acme": Tally(published=1)}
        assert two.drain() == {"acme": Tally(delivered=1, rejected=1, died=1, reasons={"no": 1})}


async def test_two_nodes_discard_the_last_two_deliveries_of_a_body(postgresql):
    """Each sees the other's there still: whoever comes second drops the body all the same."""
    async with nodes(new_database(postgresql), 2, queues=("left",)) as (one, two):
        kept = await one.publish(b"<secret/>", queues=("acme", "left"))
        await one.reject(await one.one())
        await one.reject(await one.one(queue="left"))
        async with connection(one.url) as other:
            held = other.transaction()
            await held.start()
            await other.execute("SELECT 1 FROM restante.notifications FOR UPDATE")
            discards = [
                node.store.discard(queue, Selection(), OPERATOR, 10, "stale")
                for node, queue in ((one, "acme"), (two, "left"))
            ]
            await _wait_until_blocked(other, 2)
            await held.rollback()
        await asyncio.gather(*discards)
        assert await one.store.browse(BodyOf(kept.id)) == Body("application/xml", None)


async def _wait_until_blocked(connection, count):
    """Until so many wait for the locks that this connection holds."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(30):
        while True:
            # The view is the same for as long as a transaction lasts.
            await connection.execute("SELECT pg_stat_clear_snapshot()")
            if await connection.fetchval(waiting) >= count:
                return


async def test_who_had_the_lease_is_told_after_it(postgresql):
    clocks = fake_clocks(1)
    async with nodes(new_database(postgresql), clocks=clocks) as (node,):
        await node.publish()
        delivery = await node.one()
        await node.nack(delivery, retry_after_seconds=60)
        (seen,) = await node.store.browse(OpenDeliveries("acme", State.SCHEDULED))
        assert (seen.holder, seen.leased_at_ms) == (ACME, delivery.published_at_ms)


@pytest.mark.parametrize("state", [State.READY, State.DEAD])
async def test_the_oldest_is_found_by_an_index_for_each_state(postgresql, state):
    """Whatever the backlog, and whatever it consists of: here a hundred thousand of one state."""
    async with nodes(new_database(postgresql)) as (node,):
        await node.publish()
        async with connection(node.url) as other:
            await other.execute(
                "INSERT INTO restante.deliveries (queue, seq, notification, published_at, body_bytes, state, attempt,"
                " fence, forgiving, parked, overtaken) SELECT queue, 1 + s, notification, published_at, 0,"
                f" {state.value}, 1, 1, false, false, false"
                " FROM restante.deliveries CROSS JOIN generate_series(1, 100000) s"
            )
            await other.execute("ANALYZE restante.deliveries")
            for condition in ("q.name = 'acme'", "q.name > '' ORDER BY q.name LIMIT 500"):
                lines = await other.fetch(f"EXPLAIN {FIGURES} WHERE {condition}")
                plan = "\n".join(line for (line,) in lines)
                for name in ("scheduled", "ready", "waiting", "leased"):
                    assert f"using deliveries_{name} on" in plan, plan
