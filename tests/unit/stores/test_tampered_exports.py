"""Whoever edits an export is found out, whatever line or field they edit, or it says what it said before.

A small export, two queues of which one has let go of receipts, is edited in every way that there is one line of it to
edit. What is held sound has to have the same receipts, at the same places of the log, with the same hashes and head.
"""

import asyncio
import itertools
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engine.test_receipt_log import KEY, log_of, seal_all

from restante.engine.log_export import LogExport
from restante.log_audit import LogAuditor
from restante.stores.memory import MemoryStore
from restante.testing.conformance.stage import Stage

RETENTION_SECONDS = 600
BELIEVED = {
    ("log", "at"),
    ("log", "keys"),
    ("queue", "receipt_retention_seconds"),
    ("pruned", "to"),
    ("pruned", "at"),
}
"""Not signed, and asked of nobody who holds a key and knows how long receipts had to be kept."""


async def exported(folder):
    async with Stage(lambda _, clock, jitter: MemoryStore(clock, jitter=jitter), folder) as stage:
        await stage.put_queue(receipt_retention_seconds=RETENTION_SECONDS)
        await stage.put_queue("billing")
        log = log_of(stage, head_seconds=60)
        await log.step()
        for part in range(3):
            await stage.publish(b"<n>%d</n>" % part, queues=("acme", "billing"))
            for queue in ("acme", "billing"):
                for delivery in await stage.lease(9, queue=queue):
                    await stage.ack(delivery)
            await seal_all(log)
            stage.clock.advance(400)
        await stage.prune_all()
        export = LogExport(stage.store, stage.clock, log)
        lines: list[bytes] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await export.page(cursor)
            lines += page.lines
            cursor = page.next
        return lines


@pytest.fixture(scope="module")
def lines():
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(exported(Path(folder)))


def judged(lines):
    auditor = LogAuditor([KEY.verifier], retention_seconds=RETENTION_SECONDS)
    for line in lines:
        auditor.look(line)
    return auditor.verdict()


def meaning(lines):
    """What an export says, for people who read JSON; heads that were kept are evidence, and say nothing of it."""
    log, entries, places, tiles, queue = None, [], {}, {}, None
    for line in lines:
        if not line.strip():
            continue
        ((kind, said),) = json.loads(line).items()
        match kind:
            case "log":
                log = (said["origin"], said["size"], said["checkpoint"])
            case "queue":
                queue = said["name"]
            case "seal":
                for within in range(said["count"]):
                    places[queue, said["first"] + within] = said["place"] + within
            case "receipt":
                entries.append((queue, said["digest"], json.dumps(said["entry"])))
            case "tile":
                tiles[said["level"], said["number"]] = said["hashes"]
    return log, entries, places, tiles


def assert_found(edited, lines, what):
    verdict = judged(edited)
    assert verdict.findings or meaning(edited) == meaning(lines), what


def test_it_is_sound_and_has_all_kinds_of_lines(lines):
    verdict = judged(lines)
    assert (verdict.findings, verdict.unsealed) == ([], 0)
    assert verdict.pruned > 0
    kinds = {next(iter(json.loads(line))) for line in lines}
    assert kinds == {"log", "queue", "seal", "receipt", "pruned", "tile", "head", "end"}


def test_each_line_dropped_or_doubled_or_somewhere_else(lines):
    for at, line in enumerate(lines):
        kind = next(iter(json.loads(line)))
        dropped = [*lines[:at], *lines[at + 1 :]]
        # Of heads that the store kept nobody but whoever has them elsewhere knows how many there were.
        assert judged(dropped).findings or kind == "head", line
        doubled = [*lines[:at], line, *lines[at:]]
        assert judged(doubled).findings or kind == "head", line
        for to in range(len(dropped) + 1):
            assert_found([*dropped[:to], line, *dropped[to:]], lines, (line, to))


def test_each_line_exchanged_for_another(lines):
    for one, other in itertools.combinations(range(len(lines)), 2):
        edited = list(lines)
        edited[one], edited[other] = lines[other], lines[one]
        assert_found(edited, lines, (lines[one], lines[other]))
        for here, there in ((one, other), (other, one)):
            replaced = list(lines)
            replaced[here] = lines[there]
            kinds = {next(iter(json.loads(lines[at]))) for at in (one, other)}
            assert judged(replaced).findings or kinds in ({"head"}, {"pruned"}), lines[here]


def test_cut_off_anywhere(lines):
    for count in range(len(lines)):
        assert judged(lines[:count]).findings, count


def fields(said, path=()):
    """The paths to all members of an object, and to items of its lists."""
    for name, value in said.items() if isinstance(said, dict) else enumerate(said):
        yield (*path, name)
        if isinstance(value, dict | list):
            yield from fields(value, (*path, name))


def others(value):
    """What might be there in place of a value."""
    yield from ("", 0, None)
    if isinstance(value, int):
        yield from (value + 1, value - 1, 1 << 40, float(value), str(value))
    if isinstance(value, str) and value:
        yield from (value + "x", value[:-1], value + " ")
        for at in {0, len(value) // 2, len(value) - 6}:
            character = "1" if value[at] != "1" else "2"
            yield value[:at] + character + value[at + 1 :]


def test_each_field_of_each_line(lines):
    for at, line in enumerate(lines):
        kind = next(iter(json.loads(line)))
        for path in fields(json.loads(line)):
            said = json.loads(line)
            *outer, last = path
            holder = said
            for name in outer:
                holder = holder[name]
            value = holder[last]
            for other in others(value):
                if other == value and type(other) is type(value):
                    continue
                holder[last] = other
                check_field(lines, at, said, kind, path)
            if isinstance(holder, dict):
                del holder[last]
                check_field(lines, at, said, kind, path)
                holder["more"] = value
                check_field(lines, at, said, kind, path)


def check_field(lines, at, said, kind, path):
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
    verdict = judged([*lines[:at], text, *lines[at + 1 :]])
    if verdict.findings or path[:2] in BELIEVED:
        return
    # What says that another key has signed it is not judged, and told to be so.
    assert kind == "head", (path, text)
    assert verdict.unjudged == 1, (path, text)


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b'"entry":', b'"entry": '),
        lambda line: line.replace(b"}}}", b"} }}"),
        lambda line: line.replace(b'{"receipt"', b'{"pruned":{"to":1},"receipt"'),
        lambda line: line.replace(b'"entry":{', b'"entry":{"at":"x"},"entry":{'),
        lambda line: line.replace(b'{"receipt"', b'{"receipt":{"digest":"","entry":{}},"receipt"'),
    ],
)
def test_a_line_that_can_be_read_in_two_ways(lines, change):
    at = next(at for at, line in enumerate(lines) if line.startswith(b'{"receipt"'))
    edited = [*lines[:at], change(lines[at]), *lines[at + 1 :]]
    assert edited != lines
    assert [finding.what for finding in judged(edited).findings][:1] == ["damage"]


@settings(max_examples=200)
@given(st.data())
def test_any_bytes_anywhere(lines, data):
    whole = b"\n".join(lines)
    at = data.draw(st.integers(0, len(whole) - 1))
    gone = data.draw(st.integers(0, 3))
    edited = whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + gone :]
    assert_found(edited.split(b"\n"), lines, edited[max(0, at - 20) : at + 20])
