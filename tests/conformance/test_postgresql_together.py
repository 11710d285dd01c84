"""Many nodes on one database at once: everything stays dense, and everybody hands out something else."""

import asyncio
import random
from typing import Any

import pytest
from tests.conformance.databases import Node, fake_clocks, new_database, nodes

from restante.changes import PutQueue
from restante.errors import LeaseLost
from restante.model import Appended, Queue, Settings
from restante.queries import Now
from restante.stores.postgresql.transactor import Transactor
from restante.testing.conformance import store_scenarios
from restante.testing.servers.pgbouncer import Pgbouncer

QUEUES = ("acme", "left", "right")


async def work(node, chance, keys, seen):
    """A random call after the other."""
    for _ in range(60):
        queue = chance.choice(QUEUES)
        what = chance.randrange(10)
        try:
            if what < 4:
                fields: dict[str, Any] = {
                    "queues": tuple(sorted(chance.sample(QUEUES, chance.randint(1, 3))))
                }
                if chance.random() < 0.3:
                    fields["ordering_key"] = chance.choice("ab")
                if chance.random() < 0.2:
                    fields["collapse_key"] = chance.choice("cd")
                if chance.random() < 0.5:
                    fields["idempotency_key"] = key = f"k{chance.randrange(30)}"
                    fields["queues"] = QUEUES
                    body = key.encode()
                else:
                    body = chance.randbytes(20)
                appended = await node.publish(body, **fields)
                if "idempotency_key" in fields:
                    keys.setdefault(fields["idempotency_key"], set()).add(appended.id)
            elif what < 8:
                deliveries = await node.lease(
                    chance.randint(1, 5), queue=queue, seconds=chance.choice([0.001, 60])
                )
                for delivery in deliveries:
                    token = (queue, delivery.ref.seq, delivery.ref.fence)
                    assert token not in seen, "two hold the same lease"
                    seen.add(token)
                    settle = chance.choice(
                        [node.ack, node.ack, node.nack, node.reject, node.release]
                    )
                    await settle(delivery)
            elif what == 8:
                await node.overdue()
            else:
                settings = Settings(
                    after_dead=chance.choice(["park", "continue"]),
                    max_in_flight=chance.randint(3, 50),
                )
                names = chance.sample(QUEUES, 2)
                await node.configure(*(PutQueue(Queue(name, "acme", settings)) for name in names))
        except LeaseLost:
            pass


@pytest.mark.parametrize("seed", range(2))
async def test_everything_stays_dense(postgresql, seed):
    log = postgresql.folder / "log"
    before = log.stat().st_size
    async with nodes(new_database(postgresql), 3, queues=QUEUES[1:]) as three:
        keys: dict[str, set[str]] = {}
        seen: set[Any] = set()
        await asyncio.gather(
            *(
                work(node, random.Random(f"{seed} {at} {turn}"), keys, seen)
                for at, node in enumerate(three)
                for turn in range(3)
            )
        )
        assert seen
        assert keys
        assert [key for key, ids in keys.items() if len(ids) != 1] == []
        for node in three:
            await node.check()
    told = log.read_bytes()[before:]
    assert b"deadlock" not in told


async def test_one_key_on_many_nodes_at_once(postgresql):
    """To one queue, to different queues, and to none: it is one notification."""
    async with nodes(new_database(postgresql), 3, queues=QUEUES[1:]) as three:
        to_each: list[list[tuple[str, ...]]] = [
            [("acme",)] * 3,
            [(name,) for name in QUEUES],
            [(), (), ()],
        ]
        for round, places in enumerate(to_each):
            calls = [
                node.store.append([node.draft(queues=queues, idempotency_key=f"k{round}")])
                for node, queues in zip(three * 4, places * 4, strict=True)
            ]
            answers = [(await call)[0] for call in calls]
            assert all(isinstance(answer, Appended) for answer in answers)
            assert len({answer.id for answer in answers}) == 1
            assert [answer.replayed for answer in answers].count(False) == 1
        for node in three:
            await node.check()


async def test_what_is_asked_in_a_row_takes_effect_in_that_order(postgresql):
    """Though it shares a transaction."""
    async with nodes(new_database(postgresql), max_in_flight=1) as (node,):
        await node.publish(b"first")
        await node.publish(b"second")
        first = await node.one()
        acking = asyncio.ensure_future(node.ack(first))
        publishing = asyncio.ensure_future(node.publish(b"third"))
        leasing = asyncio.ensure_future(node.lease(1))
        await asyncio.gather(acking, publishing)
        (second,) = await leasing
        assert second.body == b"second"
        returning = asyncio.ensure_future(node.nack(second, retry_after_seconds=0))
        publishing = asyncio.ensure_future(node.publish(b"fourth"))
        leasing = asyncio.ensure_future(node.lease(1))
        await asyncio.gather(returning, publishing)
        (again,) = await leasing
        assert again.body == b"second"
        await node.check()


async def test_leases_that_share_a_transaction_get_all_that_is_ready(postgresql):
    async with nodes(new_database(postgresql)) as (node,):
        for _ in range(3):
            await node.publish(bytes(1_000))
        found = await asyncio.gather(*(node.lease(5, max_bytes=10) for _ in range(4)))
        assert sorted(len(deliveries) for deliveries in found) == [0, 1, 1, 1]


SCENARIOS = [one for one in store_scenarios() if one.name.startswith(("appending", "persistence"))]


async def test_through_pgbouncer(postgresql):
    """Two nodes, more at once than the pooler has connections; and again by others, on the same connections."""
    name = new_database(postgresql).rpartition("/")[2]
    with Pgbouncer(postgresql.port, pool_size=4) as pooler:
        for round in range(2):
            async with Node(pooler.url(name)) as one, Node(pooler.url(name)) as two:
                if round == 0:
                    await one.prepare(*QUEUES[1:])
                keys: dict[str, set[str]] = {}
                seen: set[Any] = set()
                await asyncio.gather(
                    *(
                        work(node, random.Random(f"{round} {turn}"), keys, seen)
                        for turn in range(3)
                        for node in (one, two)
                    )
                )
                await one.check()
                await two.store.prune(10)


@pytest.fixture(scope="module")
def pooled(postgresql):
    with Pgbouncer(postgresql.port) as pooler:
        yield pooler.url(new_database(postgresql).rpartition("/")[2])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_a_scenario_through_pgbouncer(scenario, pooled, tmp_path, monkeypatch):
    from restante.stores.postgresql import TEST_URL, open_for_tests

    monkeypatch.setenv(TEST_URL, pooled)
    scenario.run(open_for_tests, tmp_path)


# -- the clock ----------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [3_600, 2 * 86_400, -3_600])
async def test_the_clock_of_the_database_jumps(postgresql, jump):
    """Seen by two nodes: no lease ends by it, and none is prolonged."""
    clocks = fake_clocks(2)
    async with nodes(new_database(postgresql), 2, clocks=clocks) as (one, two):
        for _ in range(3):
            await one.publish()
        await one.lease(1, seconds=30)
        await two.lease(1, seconds=60)
        await one.publish(deliver_after_seconds=30)
        await asyncio.gather(one.overdue(), two.overdue())
        now_ms = await one.store.browse(Now())
        for clock in clocks:
            clock.jump_wall(jump)
        assert [await node.store.browse(Now()) for node in (two, one)] == [now_ms] * 2
        swept = await asyncio.gather(
            *(node.overdue() for node in (one, two)),
            one.lease(1, seconds=30),
            two.store.next_due(),
            one.overdue(),
        )
        assert [swept[0], swept[1], swept[4]] == [{}, {}, {}]
        for clock in clocks:
            clock.advance(29)
        assert (await one.overdue(), await two.overdue()) == ({}, {})
        for clock in clocks:
            clock.advance(2)
        assert await two.overdue() == {"acme": 3}
        for clock in clocks:
            clock.advance(30)
        assert await one.overdue() == {"acme": 1}
        await two.check()


async def test_the_clock_was_set_back_while_nobody_looked(postgresql):
    (clock,) = fake_clocks(1)
    url = new_database(postgresql)
    async with nodes(url, clocks=[clock]) as (node,):
        await node.publish()
        await node.lease(1, seconds=30)
        await node.overdue()
    clock.jump_wall(-86_400)
    async with Node(url, clock) as node:
        assert await node.overdue() == {}
        clock.advance(31)
        assert await node.overdue() == {"acme": 1}


async def test_a_machine_that_stood_still_does_not_hold_up_the_others_leases(postgresql):
    """To it the database's clock seems to have jumped."""
    clocks = fake_clocks(2)
    async with nodes(new_database(postgresql), 2, clocks=clocks) as (one, two):
        await one.publish()
        await one.lease(1, seconds=7_200)
        await asyncio.gather(one.overdue(), two.overdue())
        for _ in range(720):
            clocks[0].advance(5)
            if clocks[0].monotonic() % 600 == 0:
                await one.overdue()
        await one.overdue()
        clocks[1].jump_wall(3_600)  # the other's own clock has not moved
        await two.overdue()
        assert await one.store.next_due() == 3_600
        assert await two.store.next_due() == 3_600


async def test_many_who_ask_for_the_time_at_once_share_a_transaction(postgresql, monkeypatch):
    transactions = []
    run = Transactor.run

    def counted(self, work, **how):
        transactions.append(work)
        return run(self, work, **how)

    async with nodes(new_database(postgresql), 1, clocks=fake_clocks(1)) as (one,):
        now_ms = await one.store.browse(Now())
        monkeypatch.setattr(Transactor, "run", counted)
        answers = await asyncio.gather(*(one.store.browse(Now()) for _ in range(1_000)))
        assert set(answers) == {now_ms}
        assert len(transactions) == 1
