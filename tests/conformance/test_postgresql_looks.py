"""Many consumers that look at once: those who find nothing lock nothing, and nobody overlooks what is there."""

import asyncio

from tests.conformance.databases import new_database, nodes

from restante.stores.postgresql.operations import GLANCED_AT

QUEUES = tuple(f"q{number}" for number in range(GLANCED_AT))
ROUNDS = 10


async def look_everywhere(node):
    """One look at each queue, all in one transaction."""
    looks = [node.look(1, queue=queue) for queue in QUEUES]
    return dict(zip(QUEUES, await asyncio.gather(*looks), strict=True))


async def numbers_taken(look, postgresql, database):
    """How many transaction numbers a look took, and what it found.

    The counter is the whole cluster's, and autovacuum takes numbers too, of each of its databases in turn: what the
    look itself takes, it takes every time.
    """
    found, taken = None, []
    for _ in range(ROUNDS):
        before = postgresql.query("SELECT pg_current_xact_id()", database=database)
        found = await look()
        after = postgresql.query("SELECT pg_current_xact_id()", database=database)
        # The question after it took one.
        taken.append(int(after[0]) - int(before[0]) - 1)
    return min(taken), found


async def test_who_finds_nothing_writes_nothing_to_the_log(postgresql):
    url = new_database(postgresql)
    database = url.rpartition("/")[2]
    async with nodes(url, queues=QUEUES) as (node,):
        await look_everywhere(node)
        taken, found = await numbers_taken(lambda: look_everywhere(node), postgresql, database)
        assert not any(leased.deliveries or leased.at_limit for leased in found.values())
        assert taken == 0
        # Who looks alone locks its queue's row, which takes a number: the measure sees it.
        taken, _ = await numbers_taken(lambda: node.look(1, queue=QUEUES[0]), postgresql, database)
        assert taken == 1


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
