"""Whoever writes into the database file past the service is found out, whatever they write.

Each case is one edit that SQL can make to what the ledger consists of; the audit has to say what is wrong, and where.
"""

import asyncio
from types import SimpleNamespace

import apsw
import pytest
from tests.unit.engine.test_receipt_log import KEY, audit, log_of, seal_all
from tests.unit.stores.forging import ORIGIN, forged

from restante.log_audit import Finding
from restante.papers import Kind
from restante.queries import PaperOf, ReceiptByNumber, Receipts
from restante.receipt_log import STATE_KEY, decode_state
from restante.stores.sqlite import SqliteStore, check_file
from restante.stores.sqlite.folder import FILE_NAME
from restante.testing.clock import FakeClock
from restante.testing.conformance.stage import Stage
from restante.wire.proofs import NotProved, check_consistency

NUMBERS = 300
ENTRY = (
    "UPDATE receipts SET entry = CAST(replace(CAST(entry AS TEXT), '{}', '{}') AS BLOB) WHERE {}"
)
OF = "queue = (SELECT id FROM queues WHERE name = 'acme') AND number {}"
CASES = {
    # What a receipt says.
    "an outcome": (ENTRY.format("acked", "nacked", OF.format("= 150")), "edit", "acme~150"),
    "a time": (ENTRY.format('"at":"2', '"at":"1', OF.format("= 7")), "edit", "acme~7"),
    "the first": (ENTRY.format("shop", "shoq", OF.format("= 1")), "edit", "acme~1"),
    "the newest": (ENTRY.format("acked", "nacked", OF.format("= 600")), "edit", "acme~600"),
    "a number": (ENTRY.format('"number":9,', '"number":8,', OF.format("= 9")), "", "acme~8"),
    "a queue": (
        ENTRY.format('"queue":"acme"', '"queue":"acm0"', OF.format("= 9")),
        "insertion",
        "acme~9",
    ),
    "no entry": (f"UPDATE receipts SET entry = x'00' WHERE {OF.format('= 5')}", "damage", "acme~5"),
    "space around an entry": (
        f"UPDATE receipts SET entry = CAST(CAST(entry AS TEXT) || ' ' AS BLOB) WHERE {OF.format('= 5')}",
        "damage",
        "acme~5",
    ),
    "an entry that is text": (
        f"UPDATE receipts SET entry = 'text' WHERE {OF.format('= 5')}",
        "damage",
        "acme~5",
    ),
    "a digest": (
        f"UPDATE receipts SET digest = zeroblob(32) WHERE {OF.format('= 5')}",
        "edit",
        "acme~5",
    ),
    "two for one another": (
        "UPDATE receipts SET (entry, digest) = (SELECT o.entry, o.digest FROM receipts o WHERE"
        f" o.{OF.format('= 22 - receipts.number')}) WHERE {OF.format('IN (10, 12)')}",
        "",
        "acme~1",
    ),
    # What is there.
    "the first gone": (f"DELETE FROM receipts WHERE {OF.format('= 1')}", "deletion", "acme~1"),
    "one gone": (f"DELETE FROM receipts WHERE {OF.format('= 30')}", "deletion", "acme~30"),
    "one gone, with its shelf": (
        f"DELETE FROM receipts WHERE {OF.format('= 64')};"
        f" DELETE FROM shelves WHERE {OF.format('= 64')}",
        "deletion",
        "acme~64",
    ),
    "the newest gone, and the ledger counts it": (
        f"DELETE FROM receipts WHERE {OF.format('= 600')}",
        "truncation",
        "acme~600",
    ),
    "the first gone as if past its time": (
        f"DELETE FROM receipts WHERE {OF.format('= 1')};"
        " INSERT OR REPLACE INTO pruned SELECT id, 0, 1 FROM queues WHERE name = 'acme'",
        "deletion",
        "acme~1",
    ),
    "the newest gone": (
        f"DELETE FROM receipts WHERE {OF.format('= 600')};"
        f" UPDATE tallies SET receipts = 599, last = (SELECT r FROM receipts WHERE {OF.format('= 599')})"
        " WHERE queue = (SELECT id FROM queues WHERE name = 'acme')",
        "truncation",
        "acme~600",
    ),
    "all gone": (
        "DELETE FROM receipts; DELETE FROM tallies; DELETE FROM shelves",
        "truncation",
        "acme~1",
    ),
    "a queue gone": ("DELETE FROM queues WHERE name = 'billing'", "deletion", "place"),
    # Where it is in the log.
    "a place": ("UPDATE seals SET place = place + 1 WHERE first = 1", "", ""),
    "a seal gone": ("DELETE FROM seals WHERE first = 1", "", ""),
    "a seal longer": ("UPDATE seals SET count = count + 1 WHERE first = 1", "insertion", ""),
    "a seal shorter": ("UPDATE seals SET count = count - 1 WHERE first = 1", "", ""),
    "a seal more": (
        "INSERT INTO seals SELECT id, 601, 2, 100 FROM queues WHERE name = 'acme'",
        "insertion",
        "",
    ),
    # The hashes and the heads.
    "a hash": (
        "UPDATE papers SET content = zeroblob(32) || substr(content, 33) WHERE kind = 'log_tile'"
        " AND key LIKE '0/%0'",
        "damage",
        "tile 0/0",
    ),
    "a higher hash": (
        "UPDATE papers SET content = zeroblob(32) || substr(content, 33) WHERE kind = 'log_tile'"
        " AND key LIKE '1/%0'",
        "damage",
        "tile 1/0",
    ),
    "a tile gone": (
        "DELETE FROM papers WHERE kind = 'log_tile' AND key LIKE '0/%1'",
        "damage",
        "tile 0/1",
    ),
    "a tile more": (
        "INSERT INTO papers VALUES ('log_tile', '3/000000000000000', 1, x'00', NULL)",
        "damage",
        "tile 3/0",
    ),
    "the head": (
        "UPDATE papers SET content = CAST(replace(CAST(content AS TEXT), 'T', 't') AS BLOB) WHERE kind = 'log'",
        "",
        "",
    ),
    "an older head": (
        "UPDATE papers SET content = CAST(replace(CAST(content AS TEXT), '\"size\":1200', '\"size\":1199')"
        " AS BLOB) WHERE kind = 'log'",
        "edit",
        "head",
    ),
    "a head that was kept": (
        "UPDATE papers SET content = CAST(replace(CAST(content AS TEXT), '.000Z', '.001Z') AS BLOB)"
        " WHERE kind = 'log_head'",
        "edit",
        "head",
    ),
    "all heads gone, and the first receipt as if past its time": (
        f"DELETE FROM papers WHERE kind = 'log_head'; DELETE FROM receipts WHERE {OF.format('= 1')};"
        " INSERT OR REPLACE INTO pruned SELECT id, 0, 1 FROM queues WHERE name = 'acme'",
        "deletion",
        "heads",
    ),
    "lines in an entry": (
        "UPDATE receipts SET entry = CAST(entry AS BLOB) || x'7d7d0a' ||"
        ' CAST(\'{"receipt":{"digest":"00","entry":{\' AS BLOB)'
        f" WHERE {OF.format('= 5')}",
        "damage",
        "acme~5",
    ),
    "a key of a tile": (
        "UPDATE papers SET key = 'x' WHERE kind = 'log_tile' AND key LIKE '0/%0'",
        "damage",
        "tile x",
    ),
    "a head that is no text": (
        "UPDATE papers SET content = x'ff' WHERE kind = 'log_head' AND key LIKE '%0000'",
        "edit",
        "head",
    ),
    "how far the log has come gone": (
        "DELETE FROM papers WHERE kind = 'log'",
        "truncation",
        "the log",
    ),
    "how far the log has come damaged": (
        "UPDATE papers SET content = x'7b7d' WHERE kind = 'log'",
        "damage",
        "how far the log has come",
    ),
    "a key damaged": (
        "UPDATE papers SET content = x'7b7d' WHERE kind = 'log_key'",
        "damage",
        "a key",
    ),
    "the whole log gone": ("DELETE FROM papers", "truncation", "the log"),
    "the whole log gone, and the places in it": (
        "DELETE FROM papers; DELETE FROM seals",
        "insertion",
        "acme~1",
    ),
    "the log set back to its beginning": (
        "UPDATE papers SET content = (SELECT content FROM kept_state) WHERE kind = 'log'",
        "truncation",
        "",
    ),
    "the key": (
        "UPDATE papers SET content = CAST(replace(CAST(content AS TEXT), '+', '-') AS BLOB) WHERE kind = 'log_key'",
        "",
        "",
    ),
}


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """A store with two queues and three steps of sealing, as a file."""
    folder = tmp_path_factory.mktemp("untouched")

    async def fill():
        async with Stage(opener, folder) as stage:
            await stage.put_queue("billing")
            log = log_of(stage, head_seconds=60)
            await log.step()
            first = await stage.store.browse(PaperOf(Kind.LOG, STATE_KEY))
            for part in range(3):
                for number in range(NUMBERS // 3):
                    await stage.publish(
                        b"<n>%d.%d</n>" % (part, number), queues=("acme", "billing")
                    )
                for queue in ("acme", "billing"):
                    for delivery in await stage.lease(NUMBERS, queue=queue):
                        await stage.ack(delivery)
                await seal_all(log)
                stage.clock.advance(61)
            assert first is not None
            content = first.content
        connection = apsw.Connection(str(folder / FILE_NAME))
        # Beside the store's own, for the case that needs it.
        connection.execute("CREATE TABLE kept_state (content BLOB)")
        connection.execute("INSERT INTO kept_state VALUES (?)", (content,))
        connection.close()

    asyncio.run(fill())
    return folder


def opener(folder, clock, jitter):
    return SqliteStore(folder, clock, jitter=jitter)


async def judged(folder, *heads, trusted=(KEY.verifier,), retention_seconds=None):
    clock = FakeClock()
    clock.advance(3 * 61 + 120)
    async with SqliteStore(folder, clock) as store:
        stage = SimpleNamespace(store=store, clock=clock)
        return await audit(stage, *heads, trusted=trusted, retention_seconds=retention_seconds)


def edited(untouched, tmp_path, sql):
    tmp_path.joinpath(FILE_NAME).write_bytes(untouched.joinpath(FILE_NAME).read_bytes())
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    before = connection.total_changes()
    connection.execute(sql)
    assert connection.total_changes() > before, "the edit changes nothing"
    connection.close()


async def test_untouched_it_is_sound(untouched):
    folder = untouched
    verdict = await judged(folder)
    assert (verdict.findings, verdict.receipts, verdict.unsealed) == ([], 4 * NUMBERS, 0)
    assert verdict.head.size == 4 * NUMBERS


GAPS = {
    "one": ("DELETE FROM receipts WHERE {}", [30]),
    "a shelf": ("DELETE FROM receipts WHERE {}", [64]),
    "some": ("DELETE FROM receipts WHERE {}", [5, 6, 63, 64, 65, 128, 400]),
    "a whole stride": ("DELETE FROM receipts WHERE {}", range(40, 590)),
    "the newest": ("DELETE FROM receipts WHERE {}", [599, 600]),
    "a way to itself": ("UPDATE receipts SET previous = r WHERE {}", []),
    "a way that leads past others": (
        "UPDATE receipts SET previous = (SELECT o.previous FROM receipts o"
        " WHERE o.queue = receipts.queue AND o.number = receipts.number - 9) WHERE {}",
        [],
    ),
    "a shelf elsewhere": ("UPDATE shelves SET r = r - 1 WHERE {}", []),
    "a number that is text": ("UPDATE receipts SET number = 'x' WHERE {}", [128, 600]),
    "a lower number": ("UPDATE receipts SET number = 3 WHERE {}", [100, 128]),
    "a higher number": ("UPDATE receipts SET number = 900 WHERE {}", [100, 128]),
    "the newest as none": ("UPDATE receipts SET number = 0 WHERE {}", [600]),
}


@pytest.mark.parametrize("gap", GAPS)
async def test_what_is_gone_hides_nothing_else(untouched, tmp_path, gap):
    sql, gone = GAPS[gap]
    which = OF.format(f"IN ({', '.join(map(str, gone or [30, 192, 320]))})")
    edited(untouched, tmp_path, sql.format(which))
    left = [number for number in range(1, 601) if number not in gone]
    async with SqliteStore(tmp_path, FakeClock()) as store:
        for newest_first in (False, True):
            page = await store.browse(Receipts("acme", limit=1_000, newest_first=newest_first))
            numbers = [receipt.number for receipt in page.receipts]
            assert numbers == (left[::-1] if newest_first else left)
        for number in (1, *left[27:31], *left[-2:]):
            found = await store.browse(ReceiptByNumber("acme", number))
            assert found is not None
    verdict = await judged(tmp_path)
    assert verdict.receipts == 600 + len(left)
    told = " ".join(finding.where for finding in verdict.findings if finding.what == "deletion")
    assert bool(told) == any(number < left[-1] for number in gone)
    assert not verdict.pruned
    problems = check_file(tmp_path)
    assert bool(problems) == bool(gone)


@pytest.mark.parametrize("case", CASES)
async def test_an_edit_is_found(untouched, tmp_path, case):
    folder = untouched
    sql, what, where = CASES[case]
    edited(folder, tmp_path, sql)
    if case == "the key":
        # What is not signed by a key that one holds is no evidence; with that key the log holds.
        assert (await judged(tmp_path, trusted=())).findings
        return
    verdict = await judged(tmp_path)
    assert verdict.findings, "nobody noticed"
    assert any(_is(finding, what, where) for finding in verdict.findings), verdict.findings


async def test_of_a_receipt_that_is_gone_one_thing_is_said(untouched, tmp_path):
    edited(untouched, tmp_path, f"DELETE FROM receipts WHERE {OF.format('<= 2')}")
    verdict = await judged(tmp_path)
    assert [(one.what, one.where) for one in verdict.findings] == [
        ("deletion", "receipts acme~1 to acme~2")
    ]
    assert (verdict.pruned, verdict.receipts) == (0, 4 * NUMBERS - 2)


@pytest.mark.parametrize("sql", ["DELETE FROM papers", "DELETE FROM papers; DELETE FROM seals"])
async def test_a_log_that_is_gone_is_missed_by_who_has_a_head(untouched, tmp_path, sql):
    async with SqliteStore(untouched, FakeClock()) as store:
        paper = await store.browse(PaperOf(Kind.LOG, STATE_KEY))
    assert paper is not None
    note = decode_state(paper.content).checkpoint
    edited(untouched, tmp_path, f"{sql}; DELETE FROM receipts; DELETE FROM tallies")
    found = [str(one) for one in (await judged(tmp_path, note)).findings]
    assert any("of 1200 receipts at" in one and "the log has none now" in one for one in found)


async def test_a_retention_that_was_shortened_is_found_by_who_knows_better(untouched, tmp_path):
    sql = (
        "UPDATE queues SET settings = json_set(settings, '$.receipt_retention_seconds', 1);"
        f" DELETE FROM receipts WHERE {OF.format('<= 60')};"
        " INSERT OR REPLACE INTO pruned SELECT id, 0, 60 FROM queues WHERE name = 'acme'"
    )
    edited(untouched, tmp_path, sql)
    assert (await judged(tmp_path)).pruned == 60
    verdict = await judged(tmp_path, retention_seconds=86_400)
    assert any(_is(finding, "deletion", "acme~1") for finding in verdict.findings)


def forge(untouched, tmp_path, *, but=()):
    """Write another history in place of this one, but for papers of those kinds."""

    async def read():
        async with SqliteStore(untouched, FakeClock()) as store:
            return await forged(store, "acme", 550, b'"acked"', b'"nacked"')

    forgery = asyncio.run(read())
    tmp_path.joinpath(FILE_NAME).write_bytes(untouched.joinpath(FILE_NAME).read_bytes())
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    for (queue, number), (entry, digest) in forgery.receipts.items():
        connection.execute(
            "UPDATE receipts SET entry = ?, digest = ?"
            " WHERE queue = (SELECT id FROM queues WHERE name = ?) AND number = ?",
            (entry, digest, queue, number),
        )
        assert connection.changes() == 1
    for (kind, key), content in forgery.papers.items():
        if kind not in but:
            connection.execute(
                "UPDATE papers SET content = ? WHERE kind = ? AND key = ?", (content, kind, key)
            )
            assert connection.changes() == 1
    connection.close()
    return forgery


@pytest.fixture
def forgery(untouched, tmp_path):
    return forge(untouched, tmp_path)


async def test_another_history_that_is_signed_is_a_fork_to_who_has_a_head(forgery, tmp_path):
    """Whoever has the machine and the key can write whatever they like, but not what somebody else has kept."""
    # By itself it is without a fault.
    verdict = await judged(tmp_path)
    assert (verdict.findings, verdict.receipts, verdict.unsealed) == ([], 4 * NUMBERS, 0)
    forked = {size for size, note in forgery.heads.items() if await found_by(note, tmp_path)}
    assert forked == forgery.forked
    # The head of when the receipt was not there yet is of both.
    assert 0 < len(forked) < len(forgery.heads)


async def found_by(note, folder):
    findings = (await judged(folder, note)).findings
    assert {finding.what for finding in findings} <= {"fork"}
    return findings


def test_another_history_that_is_signed_has_no_proof_between_two_heads(forgery):
    """Whatever is said of it, and without any of its receipts."""
    for size, note in forgery.heads.items():
        proof = forgery.proofs[size]
        given = (proof, note, proof.checkpoint, ORIGIN, [KEY.verifier])
        if size not in forgery.forked:
            assert check_consistency(*given).old.size == size
        else:
            with pytest.raises(NotProved, match="it is a fork"):
                check_consistency(*given)


def test_the_heads_that_a_store_kept_tell_of_a_fork(untouched, tmp_path):
    """Where they are left there, nobody has to have kept one."""
    forgery = forge(untouched, tmp_path, but={"log_head"})
    findings = asyncio.run(judged(tmp_path)).findings
    assert [finding.what for finding in findings] == ["fork"] * len(forgery.forked)


def _is(finding: Finding, what: str, where: str) -> bool:
    return finding.what.startswith(what) and where in finding.where
