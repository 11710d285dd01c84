"""Papers on a database that many nodes share."""

import asyncio

import asyncpg
import pytest
from tests.conformance.databases import Wire, connection, new_database, nodes, outcome

from restante.changes import DropPaper, PutPaper
from restante.errors import OutcomeUnknown, PaperChanged
from restante.papers import Kind, Paper
from restante.queries import PaperOf, Papers
from restante.stores.postgresql.schema import MIGRATIONS, SCHEMA
from restante.testing.servers.pgbouncer import Pgbouncer

COMMIT = b"COMMIT\0"


def paper(key="k", content=b"", version=0, expires_at_ms=None):
    return PutPaper(
        Paper(kind=Kind.JOB, key=key, content=content, version=version, expires_at_ms=expires_at_ms)
    )


@pytest.mark.parametrize("there", [0, 1, 7])
async def test_of_two_nodes_that_put_the_same_version_one_does(postgresql, there):
    async with nodes(new_database(postgresql), 2) as (one, two):
        for _ in range(there):
            await one.configure(paper())
        answers = await asyncio.gather(
            *(
                outcome(node.store.configure([paper(content=content, version=there + 1)]))
                for node, content in ((one, b"one"), (two, b"two"))
            )
        )
        assert [type(answer) for answer in answers if answer is not None] == [PaperChanged]
        found = await one.store.browse(PaperOf(Kind.JOB, "k"))
        assert found is not None
        assert (found.version, found.content) == (there + 1, [b"one", b"two"][answers.index(None)])


@pytest.mark.parametrize("mixed", [False, True])
async def test_many_are_put_at_once_in_whatever_order(postgresql, mixed):
    """Nodes never wait for one another in a ring, though each names the papers in an order of its own."""
    log = postgresql.folder / "log"
    before = log.stat().st_size
    keys = [f"{number:03}" for number in range(200)]
    dropped = [DropPaper(Kind.JOB, "nothing")] if mixed else []
    async with nodes(new_database(postgresql), 2) as both:
        await both[0].configure(*(paper(key) for key in keys))

        async def flush(node, order):
            for _ in range(10):
                await node.configure(*dropped, *(paper(key) for key in order))

        await asyncio.gather(flush(both[0], keys), flush(both[1], keys[::-1]))
        found = await both[0].store.browse(Papers(Kind.JOB, limit=1_000))
        assert [(one.key, one.version) for one in found] == [(key, 21) for key in keys]
    assert b"deadlock" not in log.read_bytes()[before:]


@pytest.mark.parametrize("taken", [True, False])
async def test_a_connection_lost_at_the_commit(postgresql, taken):
    """What may be done twice is; of what may not it is told that nobody knows."""
    async with Wire(new_database(postgresql)) as wire, nodes(wire.url) as (node,):
        wire.after = taken
        wire.cut_at = COMMIT
        await node.configure(paper(content=b"kept"))
        found = await node.store.browse(PaperOf(Kind.JOB, "k"))
        assert found is not None
        assert (wire.cuts, found.content, found.version) == (1, b"kept", 2 if taken else 1)
        wire.cut_at = COMMIT
        next_one = paper(content=b"next", version=found.version + 1)
        answer = await outcome(node.store.configure([next_one]))
        assert wire.cuts == 2
        assert isinstance(answer, OutcomeUnknown)
        found = await node.store.browse(PaperOf(Kind.JOB, "k"))
        assert found is not None
        assert found.content == (b"next" if taken else b"kept")


async def test_one_that_is_being_put_again_is_not_pruned(postgresql):
    """Nor waited for: who puts many may have locked others that are past their time."""
    async with nodes(new_database(postgresql)) as (node,):
        await node.configure(paper("a", expires_at_ms=1), paper("b", expires_at_ms=1))
        async with connection(node.url) as other, other.transaction():
            await other.execute("UPDATE restante.papers SET expires_at = NULL WHERE key = 'a'")
            await node.prune_all()
        assert [one.key for one in await node.store.browse(Papers(Kind.JOB))] == ["a"]


async def test_through_pgbouncer(postgresql):
    name = new_database(postgresql).rpartition("/")[2]
    with Pgbouncer(postgresql.port, pool_size=4) as pooler:
        async with nodes(pooler.url(name), 2) as (one, two):
            await asyncio.gather(*(node.configure(paper(), paper("l")) for node in (one, two)))
            await one.configure(paper(version=3, content=b"third"))
            found = await two.store.browse(PaperOf(Kind.JOB, "k"))
            assert found is not None
            assert found.content == b"third"


async def test_a_store_without_papers_is_brought_up_to_date(postgresql):
    """What an earlier version wrote is all there, and papers are kept beside it."""
    url = new_database(postgresql)
    async with nodes(url) as (node,):
        await node.publish(b"before")
    async with connection(url) as other:
        await _take_back_to_the_first_version(other)
    async with nodes(url, owner="other") as (node,):
        assert (await node.one()).body == b"before"
        await node.configure(paper(content=b"new"))
        assert await node.store.browse(PaperOf(Kind.JOB, "k")) is not None
    async with connection(url) as other:
        version = await other.fetchval("SELECT value FROM restante.meta WHERE name = 'version'")
        assert int(version) == len(MIGRATIONS)


async def _take_back_to_the_first_version(other: asyncpg.Connection) -> None:
    await other.execute(
        f"DROP TABLE {SCHEMA}.papers, {SCHEMA}.seals, {SCHEMA}.sealed;"
        f" DROP INDEX {SCHEMA}.deliveries_scheduled, {SCHEMA}.deliveries_waiting;"
        f" UPDATE {SCHEMA}.meta SET value = '1' WHERE name = 'version'"
    )
