"""Many consumers that look at once: those who find nothing lock nothing, and nobody overlooks what is there."""

import asyncio

from tests.conformance.databases import new_database, nodes

from restante.stores.postgresql.operations import GLANCED_AT

QUEUES = tuple(f"q{number}" for number in range(GLANCED_AT))


async def look_everywhere(node):
    """One look at each queue, all in one transaction."""
    looks = [node.look(1, queue=queue) for queue in QUEUES]
    return dict(zip(QUEUES, await asyncio.gather(*looks), strict=True))


async def test_who_finds_nothing_writes_nothing_to_the_log(postgresql):
    url = new_database(postgresql)
    async with nodes(url, queues=QUEUES) as (node,):
        await look_everywhere(node)
        before = postgresql.query("SELECT pg_current_xact_id()", database=url.rpartition("/")[2])
        found = await look_everywhere(node)
        after = postgresql.query("SELECT pg_current_xact_id()", database=url.rpartition("/")[2])
        assert not any(leased.deliveries or leased.at_limit for leased in found.values())
        assert int(after[0]) == int(before[0]) + 1, "only the question itself took a number"


async def test_what_is_there_is_found_beside_what_is_not(postgresql):
    async with nodes(new_database(postgresql), queues=QUEUES, max_in_flight=1) as (node,):
        await look_everywhere(node)
        for queue in QUEUES[:2]:
            await node.publish(queues=(queue,))
        found = await look_everywhere(node)
        assert [queue for queue, leased in found.items() if leased.deliveries] == list(QUEUES[:2])
        again = await look_everywhere(node)
        assert not any(leased.deliveries for leased in again.values())
        assert [queue for queue, leased in again.items() if leased.at_limit] == list(QUEUES[:2])
        await node.check()
