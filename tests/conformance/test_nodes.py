"""Nodes over PostgreSQL: claims that are one node's, changes that all hear of, and rows that go when nodes do."""

import asyncio
import contextlib

import asyncpg
import pytest

from restante.changes import AddClient, PutQueue
from restante.model import Client, Queue
from restante.nodes import CLAIM_SECONDS, SLOTS, Changed, NodeReport, Subject, fair_share
from restante.stores.postgresql import PostgresqlStore
from restante.stores.postgresql import nodes as pg
from restante.testing.clock import FakeClock


@pytest.fixture(scope="module")
def url(postgresql):
    return postgresql.create_database("nodes")


@pytest.fixture
async def store(url):
    """An empty store, and the database's own clock."""
    async with connected(url) as connection:
        await connection.execute("DROP SCHEMA IF EXISTS restante CASCADE")
    async with PostgresqlStore(url) as store:
        yield store


@pytest.fixture
async def connection(url, store):
    async with connected(url) as connection:
        yield connection


@contextlib.asynccontextmanager
async def connected(url):
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


class Teller:
    """A node as the database sees it: it says what it heard the last time."""

    def __init__(self, store, name, **report):
        self.store = store
        self.fields = {"id": name, "name": name, "version": "1", "started_at_ms": 1, **report}
        self.fields.setdefault("calls_webhooks", True)
        self.seen = 0
        self.claims: frozenset[int] = frozenset()

    async def beat(self, **changed):
        self.fields |= changed
        report = NodeReport(seen=self.seen, holding=self.claims, **self.fields)
        heard = await self.store.nodes.beat(report)
        self.seen, self.claims = heard.seen, heard.claims
        return heard


async def age(connection, seconds, *, node):
    """Let it have been silent for so long."""
    await connection.execute(
        "UPDATE restante.nodes SET beat_at = beat_at - $1 * interval '1 second' WHERE id = $2",
        seconds,
        node,
    )
    await connection.execute(
        "UPDATE restante.webhook_slots SET held_until = held_until - $1 * interval '1 second'"
        " WHERE holder = $2",
        seconds,
        node,
    )


async def settled(*tellers):
    for _ in range(4):
        for teller in tellers:
            await teller.beat()
    claims = [teller.claims for teller in tellers]
    assert frozenset().union(*claims) == frozenset(range(SLOTS))
    assert sum(map(len, claims)) == SLOTS
    return claims


async def test_who_is_alone_has_all_and_shares_with_whoever_comes(store):
    one, other = Teller(store, "a"), Teller(store, "b")
    await one.beat()
    assert one.claims == frozenset(range(SLOTS))
    # None is taken from who has it: it is let go of first, and free with the beat after that.
    await other.beat()
    assert not other.claims
    await one.beat()
    assert len(one.claims) == fair_share(2)
    await other.beat()
    assert not other.claims
    await settled(one, other)
    third = Teller(store, "c")
    claims = await settled(one, other, third)
    assert max(map(len, claims)) == fair_share(3)


async def test_who_is_silent_loses_its_claims_and_not_before(store, connection):
    one, other = Teller(store, "a"), Teller(store, "b")
    await settled(one, other)
    before = other.claims
    await age(connection, CLAIM_SECONDS - 2, node="b")
    await one.beat()
    assert not one.claims & before
    await age(connection, 2.5, node="b")
    await one.beat()
    assert one.claims == frozenset(range(SLOTS))
    # Back again, it has none of what it thinks it holds.
    await other.beat()
    assert not other.claims & one.claims


async def test_a_late_renewal_and_a_take_over_never_both_succeed(store, connection):
    one, other = Teller(store, "a"), Teller(store, "b")
    await settled(one, other)
    for _ in range(20):
        await age(connection, CLAIM_SECONDS + 1, node="b")
        await asyncio.gather(one.beat(), other.beat())
        assert not one.claims & other.claims
        await settled(one, other)


async def test_who_drains_takes_none_and_keeps_what_it_still_calls(store):
    one, other = Teller(store, "a"), Teller(store, "b")
    await settled(one, other)
    keeps = other.claims
    await other.beat(draining=True)
    assert other.claims == keeps
    await one.beat()
    assert not one.claims & keeps
    other.claims = frozenset()
    await other.beat()
    assert not other.claims
    await one.beat()
    assert one.claims == frozenset(range(SLOTS))


async def test_who_leaves_is_gone_with_its_claims(store):
    one, other = Teller(store, "a"), Teller(store, "b")
    await settled(one, other)
    await store.nodes.leave("b")
    heard = await one.beat()
    assert [node.name for node in heard.nodes] == ["a"]
    assert one.claims == frozenset(range(SLOTS))


async def test_who_calls_no_webhooks_counts_for_none(store):
    one, other = Teller(store, "a"), Teller(store, "b", calls_webhooks=False)
    await other.beat()
    await one.beat()
    assert one.claims == frozenset(range(SLOTS))
    assert not other.claims


async def test_nodes_are_listed_as_they_said_until_an_hour_of_silence(store, connection):
    one = Teller(store, "a", url="http://a", connections=5, webhooks=2)
    other = Teller(store, "b")
    await other.beat()
    await age(connection, 60, node="b")
    heard = await one.beat()
    a, b = heard.nodes
    assert (a.name, a.url, a.connections, a.webhooks, a.version) == ("a", "http://a", 5, 2, "1")
    assert a.silent_seconds < 5
    assert 60 <= b.silent_seconds < 70
    await age(connection, 3_600, node="b")
    assert [node.name for node in (await one.beat()).nodes] == ["a"]
    assert await connection.fetchval("SELECT count(*) FROM restante.nodes") == 1


async def test_what_is_configured_is_told_once_and_in_order(store):
    one = Teller(store, "a")
    assert (await one.beat()).changes is None
    assert (await one.beat()).changes == []
    await store.configure([AddClient(Client("acme")), PutQueue(Queue("acme", "acme"))])
    await store.configure([PutQueue(Queue("more", "acme"))])
    told = (await one.beat()).changes
    assert [change.name for change in told] == ["acme", "acme", "more"]
    assert {change.subject for change in told} == {Subject.QUEUE}
    assert (await one.beat()).changes == []


async def test_what_is_refused_is_not_told(store):
    one = Teller(store, "a")
    await one.beat()
    with pytest.raises(Exception, match="client"):
        await store.configure([PutQueue(Queue("acme", "nobody"))])
    assert (await one.beat()).changes == []


async def test_who_is_far_behind_or_ahead_is_told_that_it_knows_nothing(store, connection):
    one, other = Teller(store, "a"), Teller(store, "b")
    await one.beat()
    await other.beat()
    await connection.execute("UPDATE restante.change_count SET version = version + $1", pg.KEPT)
    await pg.record(connection, [Changed(Subject.KEY, "k")])
    assert (await one.beat()).changes is None
    assert (await one.beat()).changes == []
    # The store was restored from a copy that knows less.
    other.seen = one.seen + 5
    assert (await other.beat()).changes is None


async def test_old_changes_are_forgotten(connection):
    await pg.record(connection, [Changed(Subject.KEY, "old"), Changed(Subject.KEY, "older")])
    await connection.execute("UPDATE restante.change_count SET version = version + $1", pg.KEPT)
    await pg.record(connection, [Changed(Subject.KEY, "new")])
    names = await connection.fetch("SELECT name FROM restante.changelog")
    assert [row["name"] for row in names] == ["new"]


async def test_the_tests_own_clock_moves_no_claims(url, store):
    """Claims are by the server's clock, whatever a node's own says."""
    one = Teller(store, "a")
    await one.beat()
    async with PostgresqlStore(url, clock=FakeClock(wall_ms=1)) as strange:
        other = Teller(strange, "b")
        await other.beat()
        assert not other.claims & one.claims


async def test_nodes_agree_on_the_key_that_seals(store):
    """Whoever has the key that is used may put another in front; who has not is told so."""
    agree = store.nodes.agree
    assert await agree([b"old"])
    assert not await agree([b"own"])
    assert await agree([b"new", b"old"])
    assert await agree([b"new"])
    assert not await agree([b"old"])
