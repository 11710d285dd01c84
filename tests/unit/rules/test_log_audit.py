"""Exports that somebody has worked on, so that what was edited in a store would not show."""

import hashlib
import json
import re

import pytest

from restante.engine.log_export import LogExport
from restante.engine.receipt_log import ReceiptLog
from restante.log_audit import LATE_MS, HeldHead, LogAuditor
from restante.stores.memory import MemoryStore
from restante.testing.conformance.stage import Stage
from restante.wire import log_lines, proofs
from restante.wire.checkpoints import LogKeys, SignerKey, TreeHead, to_note

KEY = SignerKey("receipts.example", b"\x01" * 32)
YEAR = 365 * 86_400


@pytest.fixture
async def stage(tmp_path):
    async with Stage(
        lambda folder, clock, jitter: MemoryStore(clock, jitter=jitter), tmp_path
    ) as it:
        yield it


@pytest.fixture
def log(stage):
    return ReceiptLog(stage.store, stage.clock, "one", LogKeys((KEY,)))


async def seal(log):
    while await log.step():
        pass


async def exported(stage, log, *, meanwhile=None):
    export = LogExport(stage.store, stage.clock, log)
    lines: list[bytes] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await export._part(cursor)
        if meanwhile is not None and not lines:
            await meanwhile()
        lines += page.lines
        cursor = page.next
    return lines


@pytest.fixture
async def lines(stage, log):
    """Two queues, ``acme`` of five receipts and ``billing`` of four; all are in the log."""
    await seal(log)
    await stage.put_queue("billing")
    for number in range(4):
        await stage.publish(b"<n>%d</n>" % number, queues=("acme", "billing"))
    await seal(log)
    stage.clock.advance(700)
    await stage.publish(b"<z/>", queues=("acme",))
    await seal(log)
    return await exported(stage, log)


def judged(lines, *heads, retention_seconds=YEAR, now_ms=None, trusted=(KEY.verifier,)):
    auditor = LogAuditor(
        trusted, [HeldHead(note, "here") for note in heads], retention_seconds, now_ms
    )
    for line in lines:
        auditor.look(line)
    return auditor.verdict()


def kinds(verdict):
    return {finding.what for finding in verdict.findings}


def replaced(line, **fields):
    """A line with other fields, written as it was."""
    ((kind, told),) = json.loads(line).items()
    return written({kind: told | fields})


def written(line):
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode()


def with_receipt(lines, queue, at=None):
    """One more receipt at the end of a queue, chained as it should be, of another time."""
    out, current, entry, digest, number = [], "", b"", "", 0
    for line in lines:
        told = json.loads(line)
        if "queue" in told:
            current = told["queue"]["name"]
        if "receipt" in told:
            entry, digest = line[line.index(b'"entry":') + 8 : -2], told["receipt"]["digest"]
            number = told["receipt"]["entry"]["number"]
        if "pruned" in told and current == queue:
            entry = entry.replace(b'"number":%d' % number, b'"number":%d' % (number + 1))
            if at is not None:
                entry = re.sub(rb'"at":"[^"]*"', b'"at":"%s"' % at.encode(), entry, count=1)
            chained = hashlib.sha256(bytes.fromhex(digest) + entry).hexdigest().encode()
            out.append(b'{"receipt":{"digest":"%s","entry":%s}}' % (chained, entry))
        out.append(line)
    assert len(out) == len(lines) + 1
    return out


def test_untouched_it_is_sound(lines):
    verdict = judged(lines)
    assert (verdict.findings, verdict.receipts, verdict.head.size) == ([], 9, 9)


def test_a_receipt_of_a_time_that_had_not_come_is_found(lines):
    forged = with_receipt(lines, "billing", at="2999-01-01T00:00:00.000Z")
    assert kinds(judged(forged)) == {"insertion"}


def test_an_export_that_says_it_is_old_hides_nothing(lines):
    forged = with_receipt(lines, "billing")
    assert kinds(judged(forged)) == {"insertion"}
    forged[0] = replaced(forged[0], at="1999-01-01T00:00:00.000Z")
    assert kinds(judged(forged)) == {"insertion"}


def test_an_export_is_of_no_time_that_has_not_come(stage, lines):
    now = stage.clock.wall_ms()
    assert judged(lines, now_ms=now).sound
    ahead = "2999-01-01T00:00:00.000Z"
    for number in (0, next(n for n, line in enumerate(lines) if b'"pruned"' in line)):
        forged = [*lines]
        forged[number] = replaced(forged[number], at=ahead)
        assert kinds(judged(forged, now_ms=now)) == {"edit"}
        assert judged(forged, now_ms=now - LATE_MS - 1).count > 1


def test_a_queue_that_is_told_twice_hides_nothing(lines):
    out, seals = [], []
    end = json.loads(next(line for line in lines if b'"pruned"' in line))["pruned"]["at"]
    current = ""
    for line in lines:
        told = json.loads(line)
        current = told["queue"]["name"] if "queue" in told else current
        if current != "acme":
            out.append(line)
        elif "seal" in told and told["seal"]["first"] == 1:
            place = told["seal"]["place"]
            out.append(replaced(line, count=2))
            seals = [replaced(line, first=3, count=2, place=place + 2)]
        elif "seal" in told:
            seals.append(line)
        elif "receipt" in told and told["receipt"]["entry"]["number"] == 3:
            out.append(written({"pruned": {"to": 0, "at": end}}))
            again = {"queue": {"name": "acme", "receipt_retention_seconds": 1}}
            out += [written(again), *seals]
        elif "pruned" in told:
            out.append(replaced(line, to=3))
        else:
            out.append(line)
    verdict = judged(out, retention_seconds=None)
    assert "queue acme" in {finding.where for finding in verdict.findings}
    assert kinds(verdict) == {"insertion"}


def test_lines_stand_in_their_order(lines):
    def at(kind):
        return next(n for n, line in enumerate(lines) if json.loads(line).keys() == {kind})

    assert at("seal") < at("receipt") < at("pruned")
    for moved, behind in (("seal", "receipt"), ("seal", "pruned"), ("receipt", "pruned")):
        order = [*lines]
        order.insert(at(behind), order.pop(at(moved)))
        assert "damage" in kinds(judged(order)), (moved, behind)


async def test_what_goes_in_its_time_while_it_is_exported_is_no_deletion(stage, log):
    await seal(log)
    await stage.put_queue("acme", receipt_retention_seconds=3_600, body_retention_seconds=60)
    for number in range(60):
        await stage.publish(b"<n>%d</n>" % number)
        await stage.ack(await stage.one())
        await seal(log)
        stage.clock.advance(120)
        await stage.store.prune(1_000)

    async def a_long_time():
        stage.clock.advance(1_500)
        await stage.store.prune(10_000)

    told = await exported(stage, log, meanwhile=a_long_time)
    verdict = judged(told, retention_seconds=None)
    assert verdict.findings == []
    assert verdict.unproved == verdict.pruned > 60
    assert judged(told, retention_seconds=3_600).unproved == 0
    # Longer than they were kept: the same is a deletion.
    assert kinds(judged(told, retention_seconds=YEAR)) == {"deletion"}


async def test_a_head_that_one_brings_is_judged_or_found(stage, log, lines):
    ((_, first), *_) = await log.heads(None, 10)
    other = SignerKey("receipts.example/2", b"\x02" * 32)
    assert judged(lines, first).sound
    told = to_note("receipts.example", TreeHead(500, bytes(32), 0), [other])
    verdict = judged(lines, told)
    assert [(one.what, one.where) for one in verdict.findings] == [
        ("key", "a head that was kept elsewhere (here)")
    ]
    assert "truncation" in kinds(judged(lines, told, trusted=(KEY.verifier, other.verifier)))


@pytest.mark.parametrize("deep", [b'{"a":%s}', b'{"receipt":{"digest":"00","entry":%s}}'])
def test_what_is_nested_too_deep_is_damage(lines, deep):
    bad = deep % (b"[" * 100_000 + b"]" * 100_000)
    assert kinds(judged([lines[0], bad, *lines[1:]])) == {"damage"}
    with pytest.raises(proofs.NotProved):
        proofs.read(bad)
    assert not log_lines._is_document(bad)
