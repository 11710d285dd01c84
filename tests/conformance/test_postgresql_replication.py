"""With a standby: what is told is on both, and the standby may take over."""

import asyncio
import time

import pytest
from tests.conformance.databases import Node, connection, nodes, outcome

from restante.errors import OutcomeUnknown, StoreUnavailable
from restante.testing.servers.postgresql import PostgresqlServer


@pytest.fixture
def pair():
    """A primary that commits only what its standby has, too."""
    with PostgresqlServer() as primary, primary.standby() as standby:
        primary.query("ALTER SYSTEM SET synchronous_standby_names = 'standby'", database="postgres")
        primary.query("SELECT pg_reload_conf()", database="postgres")
        primary.create_database()
        yield primary, standby


async def test_nothing_is_told_that_the_standby_does_not_have(pair):
    primary, standby = pair
    url = primary.url()
    async with nodes(url) as (node,), connection(url) as operator:
        await node.publish(b"first", idempotency_key="a")
        delivery = await node.one(seconds=3_600)
        await asyncio.to_thread(standby.stop)
        publishing = node.store.append([node.draft(b"second", idempotency_key="k")])
        await cancel_waits(operator, publishing)
        # It stands on the primary by now, and nobody has been told so.
        assert await operator.fetchval("SELECT count(*) FROM restante.notifications") == 2
        assert not publishing.done()
        async with Node(url) as other:
            again = other.store.append([other.draft(b"second", idempotency_key="k")])
            acking = asyncio.ensure_future(node.ack(delivery))
            repeated = other.store.append([other.draft(b"first", idempotency_key="a")])
            done, _ = await asyncio.wait([publishing, again, acking, repeated], timeout=1)
            assert not done
            await asyncio.to_thread(standby.start)
            (published,), (same,), settled, (known,) = await asyncio.gather(
                publishing, again, acking, repeated
            )
            assert same.id == published.id
            assert same.replayed
            assert known.replayed
            assert settled.outcome == "acked"
            assert (await other.ack(delivery)).repeated
        assert await operator.fetchval("SELECT count(*) FROM restante.notifications") == 2
        await node.check()


async def cancel_waits(operator, publishing):
    """Cancel the wait of the first commit that hangs."""
    while True:
        pid = await operator.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()"
        )
        if pid is not None:
            await operator.execute("SELECT pg_cancel_backend($1)", pid)
            return
        assert not publishing.done()


async def test_the_standby_takes_over(pair):
    primary, standby = pair
    url = f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/restante"
    async with nodes(url, 2) as (one, two):
        first = await one.publish(b"first", idempotency_key="a")
        delivery = await two.one(seconds=3_600)
        await two.publish(b"second", idempotency_key="b")
        await asyncio.to_thread(primary.kill)
        began = time.monotonic()
        lost = await outcome(one.store.append([one.draft(b"third", idempotency_key="c")]))
        assert isinstance(lost, (StoreUnavailable, OutcomeUnknown))
        assert not one.store.available
        assert time.monotonic() - began < 25
        await asyncio.to_thread(
            standby.query, "ALTER SYSTEM SET synchronous_standby_names = ''", database="postgres"
        )
        await asyncio.to_thread(standby.promote)
        again = await one.publish(b"first", idempotency_key="a")
        assert (again.id, again.replayed) == (first.id, True)
        assert one.store.available
        await one.publish(b"third", idempotency_key="c")
        await two.ack(delivery)
        assert [d.body for d in await two.lease()] == [b"second", b"third"]
        assert (await one.figures()).published == 3
        await one.check()
