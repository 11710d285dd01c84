"""Whoever writes into PostgreSQL past the service is found out, as with SQLite, whatever they write."""

import asyncio
import itertools

import pytest
from tests.conformance.databases import Node, connection
from tests.unit.engine.test_receipt_log import KEY, audit, log_of, seal_all
from tests.unit.stores.forging import ORIGIN, forged

from restante.papers import Kind
from restante.queries import PaperOf
from restante.receipt_log import STATE_KEY
from restante.testing.clock import FakeClock
from restante.wire.proofs import NotProved, check_consistency

NUMBERS = 60
TEMPLATE = "tampering"
OF = "queue = (SELECT id FROM queues WHERE name = 'acme') AND number {}"
ENTRY = "UPDATE receipts SET entry = convert_to(replace(convert_from(entry, 'UTF8'), '{}', '{}'), 'UTF8') WHERE {}"
LOG = (
    "UPDATE papers SET content = convert_to(replace(convert_from(content, 'UTF8'), {}), 'UTF8')"
    " WHERE kind = '{}'"
)
ROW = "queue, number, at, notification, seq, outcome, fence, entry, digest"
NEXT = (
    "replace(convert_from(entry, 'UTF8'), '\"number\":' || number || ',',"
    " '\"number\":' || number + 1 || ',')"
)
HASH = (
    "UPDATE papers SET content = decode(repeat('00', 32), 'hex') || substr(content, 33)"
    " WHERE kind = 'log_tile' AND key LIKE '0/%0'"
)
CASES = {
    "an outcome": (ENTRY.format("acked", "nacked", OF.format("= 45")), "edit", "acme~45"),
    "a time": (ENTRY.format('"at":"2', '"at":"1', OF.format("= 7")), "edit", "acme~7"),
    "the newest": (ENTRY.format("acked", "nacked", OF.format("= 120")), "edit", "acme~120"),
    "space around an entry": (
        f"UPDATE receipts SET entry = entry || '\\x20' WHERE {OF.format('= 5')}",
        "damage",
        "acme~5",
    ),
    "a digest": (
        f"UPDATE receipts SET digest = decode(repeat('00', 32), 'hex') WHERE {OF.format('= 5')}",
        "edit",
        "acme~5",
    ),
    "a place": ("UPDATE seals SET place = place + 1 WHERE first = 1", "", ""),
    "the size of the log": (LOG.format("""'"size":240', '"size":239'""", "log"), "edit", "head"),
    "a head that was kept": (LOG.format("'.000Z', '.001Z'", "log_head"), "edit", "head"),
    "a hash": (HASH, "damage", "tile 0/0"),
    "one gone": (f"DELETE FROM receipts WHERE {OF.format('= 30')}", "deletion", "acme~30"),
    "the first gone as if past its time": (
        f"DELETE FROM receipts WHERE {OF.format('= 1')}; INSERT INTO pruned"
        " SELECT id, 1 FROM queues WHERE name = 'acme' ON CONFLICT (queue) DO UPDATE SET receipts = 1",
        "deletion",
        "acme~1",
    ),
    "a seal gone": ("DELETE FROM seals WHERE first = 1", "", ""),
    "a queue gone": ("DELETE FROM queues WHERE name = 'billing'", "deletion", "place"),
    "a tile gone": ("DELETE FROM papers WHERE kind = 'log_tile'", "damage", "tile 0/0"),
    "one twice": (
        f"INSERT INTO receipts SELECT {ROW} FROM receipts WHERE {OF.format('= 30')}",
        "insertion",
        "acme~30",
    ),
    "one more, as if it had always been there": (
        "INSERT INTO receipts SELECT queue, number + 1, at, notification, seq, outcome, fence,"
        f" convert_to({NEXT}, 'UTF8'), sha256(digest || convert_to({NEXT}, 'UTF8'))"
        f" FROM receipts WHERE {OF.format('= 120')};"
        " UPDATE tallies SET receipts = receipts + 1"
        " WHERE queue = (SELECT id FROM queues WHERE name = 'acme')",
        "insertion",
        "acme~121",
    ),
    "the newest gone": (
        f"DELETE FROM receipts WHERE {OF.format('> 110')}; UPDATE tallies SET receipts = 110"
        " WHERE queue = (SELECT id FROM queues WHERE name = 'acme')",
        "truncation",
        "acme~111",
    ),
    "all gone": ("DELETE FROM receipts; UPDATE tallies SET receipts = 0", "truncation", "acme~1"),
}


@pytest.fixture(scope="module")
def first_state(postgresql):
    """Of the log, when it was half as long. Beside it, a database that is copied for each case."""
    url = postgresql.create_database(TEMPLATE)

    async def fill():
        async with Node(url, FakeClock()) as node:
            await node.prepare("billing")
            log = log_of(node, head_seconds=60)
            await log.step()
            states = []
            for part in range(2):
                for number in range(NUMBERS // 2):
                    await node.publish(b"<n>%d.%d</n>" % (part, number), queues=("acme", "billing"))
                for queue in ("acme", "billing"):
                    for delivery in await node.lease(NUMBERS, queue=queue):
                        await node.ack(delivery)
                node.clock.advance(61)
                await seal_all(log)
                states.append((await node.store.browse(PaperOf(Kind.LOG, STATE_KEY))).content)
            return states[0]

    return asyncio.run(fill())


_copies = itertools.count(1)


@pytest.fixture
def url(postgresql, first_state):
    """A copy of it."""
    name = f"{TEMPLATE}_{next(_copies)}"
    postgresql.query(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}"', database="postgres")
    return postgresql.url(name)


async def edit(url, sql, *arguments):
    async with connection(url) as other:
        await other.execute("SET search_path TO restante")
        done = await other.execute(sql, *arguments)
        assert not done.endswith(" 0"), "the edit changes nothing"


async def judged(url, *heads):
    clock = FakeClock()
    clock.advance(2 * 61 + 120)
    async with Node(url, clock) as node:
        return await audit(node, *heads)


async def test_untouched_it_is_sound(url):
    verdict = await judged(url)
    assert (verdict.findings, verdict.receipts, verdict.unsealed) == ([], 4 * NUMBERS, 0)
    assert verdict.head.size == 4 * NUMBERS


@pytest.mark.parametrize("case", CASES)
async def test_an_edit_is_found(url, case):
    sql, what, where = CASES[case]
    await edit(url, sql)
    findings = (await judged(url)).findings
    assert any(one.what.startswith(what) and where in one.where for one in findings), findings


async def test_a_log_that_is_set_back(url, first_state):
    await edit(url, "UPDATE papers SET content = $1 WHERE kind = 'log'", first_state)
    whats = {finding.what for finding in (await judged(url)).findings}
    assert "truncation" in whats


@pytest.mark.parametrize("but", [(), ("log_head",)])
async def test_another_history_that_is_signed_is_a_fork(url, but):
    """By a head that somebody else has kept; by the store's own where those were left."""
    async with Node(url, FakeClock()) as node:
        forgery = await forged(node.store, "acme", 100, b'"acked"', b'"nacked"')
    for (queue, number), (entry, digest) in forgery.receipts.items():
        await edit(
            url,
            "UPDATE receipts SET entry = $1, digest = $2"
            " WHERE queue = (SELECT id FROM queues WHERE name = $3) AND number = $4",
            *(entry, digest, queue, number),
        )
    for (kind, key), content in forgery.papers.items():
        if kind not in but:
            sql = "UPDATE papers SET content = $1 WHERE kind = $2 AND key = $3"
            await edit(url, sql, content, kind, key)
    found = [finding.what for finding in (await judged(url)).findings]
    assert found == ["fork"] * (len(forgery.forked) if but else 0)
    for size in forgery.forked:
        note, proof = forgery.heads[size], forgery.proofs[size]
        assert "fork" in {finding.what for finding in (await judged(url, note)).findings}
        with pytest.raises(NotProved, match="it is a fork"):
            check_consistency(proof, note, proof.checkpoint, ORIGIN, [KEY.verifier])
