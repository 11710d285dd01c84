"""Lifecycle after lifecycle: the tables that every one of them passes through stay as small as they were."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from typing import Any

import pytest

from restante.changes import AddClient, PutQueue
from restante.ids import CHANCE_BITS, uuid7
from restante.model import (
    Actor,
    Appended,
    Client,
    Draft,
    LeaseRequest,
    Queue,
    Role,
    Settled,
    Settlement,
    Verb,
)
from restante.stores.postgresql import PostgresqlStore
from restante.testing.servers.postgresql import PostgresqlServer

QUEUES = 32
EACH = 8
"""Published to each queue, leased and acked in one turn."""
STEP = 2_000
TABLES = ("deliveries", "tallies")
WARM_UP = 60_000
"""Lifecycles, at most, until autovacuum has come so often that what it leaves can be told:"""
VACUUMS = 3
GROWTH = 2
"""Vacuum comes when it comes: how much more than in the warm-up a table may ever have."""
BODY = b"<a/>"
PUBLISHER = Actor("publisher", Role.PUBLISHER, "key", "http", "127.0.0.1")
OPTIONS = {
    # So that a short run sees what a long one does: a look around in each second, instead of in each minute.
    "autovacuum_naptime": "1s",
}


@pytest.mark.timeout(300)
def test_tables_stay_small(run: Any) -> None:
    run(churn(30_000))


@pytest.mark.long
@pytest.mark.timeout(86_400)
def test_tables_stay_small_for_a_day_of_lifecycles(run: Any) -> None:
    run(churn(10_000_000))


async def churn(lifecycles: int) -> None:
    with PostgresqlServer(options=OPTIONS) as server:
        async with PostgresqlStore(server.create_database()) as store:
            for name in names():
                await store.configure([AddClient(Client(name)), PutQueue(Queue(name, name))])
            warm = dict.fromkeys(TABLES, 0)
            done = 0
            while vacuums(server) < VACUUMS:
                assert done < WARM_UP, "autovacuum does not come"
                done += await live(store, STEP)
                most(warm, server)
            found = dict(warm)
            done, began = 0, time.monotonic()
            while done < lifecycles:
                done += await live(store, STEP)
                most(found, server)
            rate = done / (time.monotonic() - began)
        print(f"{done:,} lifecycles, {rate:,.0f} a second: at most {warm} bytes, then {found}")
        for table in TABLES:
            assert found[table] <= GROWTH * warm[table], f"{table} grew from {warm} to {found}"


def vacuums(server: PostgresqlServer) -> int:
    count = "SELECT min(autovacuum_count) FROM pg_stat_user_tables WHERE relname IN ('{}')"
    return int(server.query(count.format("', '".join(TABLES)))[0])


def most(sizes: dict[str, int], server: PostgresqlServer) -> None:
    """Raise each table's figure to the bytes that it has, with its indexes."""
    for table in TABLES:
        size = server.query(f"SELECT pg_total_relation_size('restante.{table}')")
        sizes[table] = max(sizes[table], int(size[0]))


def names() -> list[str]:
    return [f"client-{number}" for number in range(QUEUES)]


async def live(store: PostgresqlStore, count: int) -> int:
    """At least so many lifecycles, over all queues at once; how many."""
    turns = -(-count // (QUEUES * EACH))
    async with asyncio.TaskGroup() as group:
        for name in names():
            group.create_task(live_in(store, name, turns))
    return turns * QUEUES * EACH


async def live_in(store: PostgresqlStore, queue: str, turns: int) -> None:
    consumer = Actor(queue, Role.CLIENT, "key", "websocket", "127.0.0.1", "consumer")
    for _ in range(turns):
        drafts = [draft(queue) for _ in range(EACH)]
        appended = store.append(drafts)
        # Both calls are under way before either is answered, as those of a server's many clients are.
        leased = store.lease(LeaseRequest(queue=queue, max=EACH, lease_seconds=30, actor=consumer))
        assert all(isinstance(one, Appended) for one in await appended)
        deliveries = (await leased).deliveries
        assert len(deliveries) == EACH
        settled = await store.settle(
            [Settlement(ref=one.ref, verb=Verb.ACK, actor=consumer) for one in deliveries]
        )
        assert all(isinstance(one, Settled) for one in settled)


def draft(queue: str) -> Draft:
    return Draft(
        id=uuid7(time.time_ns() // 1_000_000, secrets.randbits(CHANCE_BITS)),
        queues=(queue,),
        body=BODY,
        body_sha256=hashlib.sha256(BODY).digest(),
        content_type="application/xml",
        actor=PUBLISHER,
    )
