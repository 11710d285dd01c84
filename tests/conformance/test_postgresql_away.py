"""The database is away, comes back, or another takes over: nothing acknowledged is lost, nothing waits for ever."""

import asyncio
import contextlib
import time

import pytest
from tests.conformance.databases import Node, Wire, connection, new_database, nodes, outcome

from restante.errors import InvalidInput, OutcomeUnknown, StoreError, StoreUnavailable
from restante.model import Appended, LeaseRequest
from restante.queries import NotificationById, QueueByName
from restante.stores.postgresql.connections import Manner
from restante.testing.conformance.stage import ACME
from restante.testing.servers.postgresql import PostgresqlServer


@pytest.fixture
def _impatient(monkeypatch):
    monkeypatch.setattr("restante.stores.postgresql.transactor.PATIENCE_SECONDS", 1.0)


@pytest.mark.usefixtures("_impatient")
async def test_what_waits_for_a_database_that_is_away_is_refused_in_time(postgresql):
    async with Wire(new_database(postgresql)) as wire, nodes(wire.url) as (node,):
        await node.publish()
        assert node.store.available
        wire.refuse()
        began = time.monotonic()
        calls = [
            *(node.store.append([node.draft(bytes(1_000))]) for _ in range(1_000)),
            *(node.store.browse(QueueByName("acme")) for _ in range(300)),
            *(node.store.overdue(10) for _ in range(20)),
        ]
        answers = await asyncio.gather(*map(outcome, calls))
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert not node.store.available
        # It has been away already: nobody is patient now.
        assert isinstance(await outcome(node.store.append([node.draft()])), StoreUnavailable)
        assert time.monotonic() - began < 20
        wire.accept()
        await node.publish()
        assert node.store.available
        assert (await node.figures()).published == 2
        await node.check()


async def test_a_connection_that_went_stale_is_nobody_s_concern(postgresql):
    async with Wire(new_database(postgresql)) as wire, nodes(wire.url) as (node,):
        await node.publish()
        wire.drop_all()
        publishing = node.store.append([node.draft()])
        while not publishing.done():
            assert node.store.available
            await asyncio.wait([publishing], timeout=0.001)
        wire.drop_all()
        assert await node.store.browse(QueueByName("acme")) is not None
        assert node.store.available


@pytest.mark.usefixtures("_impatient")
async def test_closing_while_the_database_is_away(postgresql):
    async with Wire(new_database(postgresql)) as wire, nodes(wire.url) as (node,):
        await node.publish()
        wire.refuse()
        calls = [node.store.append([node.draft()]) for _ in range(600)]
        calls += [node.store.browse(QueueByName("acme")), node.store.prune(10)]
        began = time.monotonic()
        await node.store.close()
        assert time.monotonic() - began < 20
        answers = [await outcome(call) for call in calls]
        assert {type(answer) for answer in answers} == {StoreUnavailable}


@pytest.mark.usefixtures("_impatient")
async def test_a_cable_that_is_pulled_is_noticed(postgresql, monkeypatch):
    """Nothing is refused and nothing answered: the statement's own time-out ends it."""
    monkeypatch.setattr("restante.stores.postgresql.connections.STATEMENT_SECONDS", 0.5)
    monkeypatch.setattr("restante.stores.postgresql.connections.CONNECT_SECONDS", 0.5)
    async with Wire(new_database(postgresql)) as wire, nodes(wire.url) as (node,):
        await node.publish()
        wire.hold()
        assert isinstance(await outcome(node.store.append([node.draft()])), StoreUnavailable)
        assert isinstance(await outcome(node.store.browse(QueueByName("acme"))), StoreUnavailable)
        assert not node.store.available
        wire.release()
        wire.drop_all()
        await node.publish()
        await node.check()


@pytest.mark.usefixtures("_impatient")
async def test_a_wrong_password_later_on_is_a_database_out_of_reach(postgresql):
    url = new_database(postgresql)
    postgresql.query("DROP ROLE IF EXISTS passing")
    postgresql.query("CREATE ROLE passing LOGIN SUPERUSER")
    async with nodes(url.replace("postgres@", "passing@")) as (node,):
        await node.publish()
        postgresql.query("ALTER ROLE passing NOLOGIN")
        postgresql.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'passing'"
        )
        assert isinstance(await outcome(node.store.append([node.draft()])), StoreUnavailable)
        assert not node.store.available
        postgresql.query("ALTER ROLE passing LOGIN")
        await node.publish()
        assert (await node.figures()).published == 2


async def test_a_text_that_the_database_cannot_hold_is_the_caller_s_concern(postgresql):
    text = "a\0b"
    async with nodes(new_database(postgresql)) as (node,):
        good, bad = node.draft(), node.draft(topic=text)
        calls = [node.store.append([one]) for one in (good, bad)]
        calls.append(node.store.browse(NotificationById(text)))
        kept, *refused = [await outcome(call) for call in calls]
        assert isinstance(kept[0], Appended)
        assert [type(error) for error in refused] == [InvalidInput, InvalidInput]
        assert node.store.available
        await node.check()


async def test_a_lock_that_is_held_too_long_does_not_make_a_node_unready(postgresql, monkeypatch):
    monkeypatch.setattr("restante.stores.postgresql.transactor.PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(
        "restante.stores.postgresql.transactor.READING", Manner("BEGIN", ("lock_timeout = 50",))
    )
    url = new_database(postgresql)
    async with nodes(url) as (node,), connection(url) as other:
        await node.publish()
        transaction = other.transaction()
        await transaction.start()
        await other.execute("LOCK TABLE restante.queues")
        answer = await outcome(node.store.browse(QueueByName("acme")))
        assert isinstance(answer, StoreUnavailable)
        assert "busy" in str(answer)
        assert node.store.available
        await transaction.rollback()


async def test_a_queue_that_always_is_busy_has_its_leases_ended(postgresql):
    """It is passed over once, and waited for the next time."""
    url = new_database(postgresql)
    async with nodes(url) as (node,), connection(url) as other:
        await node.publish()
        await node.one(seconds=0.001)
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SELECT 1 FROM restante.tallies FOR UPDATE")
        while await node.store.next_due() != 0:
            pass
        assert await node.overdue() == {}
        waiting = node.store.overdue(10)
        await until_somebody_waits(other)
        await transaction.rollback()
        assert await waiting == {"acme": 1}


async def test_a_node_that_stands_still_holds_up_the_others_for_its_time_out(postgresql):
    url = new_database(postgresql)
    async with Wire(url) as wire, nodes(wire.url) as (still,), Node(url) as lively:
        await still.publish()
        wire.hold_at = b"COMMIT\0"
        publishing = still.store.append([still.draft(b"late")])
        await wire.cut.wait()
        began = time.monotonic()
        assert [place.seq for place in (await lively.publish()).deliveries] == [2]
        assert time.monotonic() - began < 12
        # What stood still did not take place, and is done again.
        wire.release()
        (appended,) = await publishing
        assert [place.seq for place in appended.deliveries] == [3]
        await lively.check()


async def test_a_node_that_stands_still_while_it_is_sent_bodies(postgresql):
    """The server is writing then, and waits for nothing that has a time-out but the connection's own."""
    url = new_database(postgresql)
    async with Wire(url) as wire, nodes(wire.url) as (still,), Node(url) as lively:
        await still.append(*(still.draft(bytes(1_000_000)) for _ in range(16)))
        wire.hold_bodies = True
        leasing = still.store.lease(
            LeaseRequest(queue="acme", max=16, lease_seconds=60, actor=ACME)
        )
        async with connection(url) as other:
            await until_it_writes(other)
        began = time.monotonic()
        print("writes")
        assert len(await lively.lease(1)) == 1
        print("leased", time.monotonic() - began)
        assert time.monotonic() - began < 20
        wire.release()
        assert len((await leasing).deliveries) == 15
        await lively.check()


@pytest.fixture
def primary():
    with PostgresqlServer(options={"wal_sender_timeout": "2s"}) as server:
        yield server


class Load:
    """Publishers and consumers that go on until told to stop; every key is tried until its outcome is known."""

    def __init__(self):
        self.acknowledged = {}
        self.acked = []
        self.refused = 0
        self._stopped = False
        self._moved = asyncio.Event()

    async def work(self, node, worker):
        number = 0
        while not self._stopped:
            number += 1
            key = f"{worker}-{number}"
            while isinstance(answer := await self._publish(node, key), StoreError):
                assert isinstance(answer, (StoreUnavailable, OutcomeUnknown))
                self.refused += 1
            self.acknowledged[key] = answer.id
            self._moved.set()
            if number % 3 == 0:
                with contextlib.suppress(StoreError):
                    for delivery in await node.lease(2, seconds=300):
                        await node.ack(delivery)
                        self.acked.append(delivery.ref.seq)

    async def _publish(self, node, key):
        answer = await outcome(node.store.append([node.draft(idempotency_key=key)]))
        return answer[0] if isinstance(answer, list) else answer

    async def goes_on(self, count=150):
        """Return once so many more have been acknowledged."""
        goal = len(self.acknowledged) + count
        while len(self.acknowledged) < goal:
            self._moved.clear()
            await self._moved.wait()

    def stop(self):
        self._stopped = True


async def survived(url, load):
    """All that was acknowledged is there, once."""
    async with Node(url) as node, connection(url) as other:
        await node.check()
        kept = dict(await other.fetch("SELECT key, id FROM restante.idempotency"))
        ids = [row[0] for row in await other.fetch("SELECT id FROM restante.notifications")]
        acked = await other.fetch("SELECT seq FROM restante.receipts WHERE outcome = 'acked'")
    assert {key: kept.get(key) for key in load.acknowledged} == load.acknowledged
    assert sorted(ids) == sorted(kept.values())
    assert len(ids) == len(set(ids))
    assert set(load.acked) <= {row[0] for row in acked}
    assert len(load.acked) == len(set(load.acked))


@pytest.mark.usefixtures("_impatient")
async def test_the_primary_crashes_under_load_and_comes_back():
    with PostgresqlServer() as primary:
        url = primary.create_database()
        async with nodes(url, 2) as pair:
            load = Load()
            working = [
                asyncio.create_task(load.work(node, f"{at}-{turn}"))
                for at, node in enumerate(pair)
                for turn in range(8)
            ]
            for _ in range(2):
                await load.goes_on()
                await asyncio.to_thread(primary.kill)
                one = pair[0]
                assert isinstance(
                    await outcome(one.store.append([one.draft(idempotency_key="x")])), StoreError
                )
                assert not one.store.available
                await asyncio.to_thread(primary.start)
            await load.goes_on()
            for at, node in enumerate(pair):
                await until_it_publishes(node, f"last-{at}")
                assert node.store.available
            load.stop()
            await asyncio.gather(*working)
            assert load.refused
        await survived(url, load)


async def until_it_publishes(node, key):
    """The load goes on as soon as one node has the database back: another may still be refused."""
    while isinstance(
        await outcome(node.store.append([node.draft(idempotency_key=key)])), StoreError
    ):
        pass


async def until_somebody_waits(other):
    while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        pass


async def until_it_writes(other):
    while not await other.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND datname = current_database()"
    ):
        pass
