"""How far checking a log has come, as is seen on a terminal."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.engine.test_receipt_log import KEY

import restante
from restante.log_audit import LogAuditor
from restante.merkle import Tile, grown, leaf_hash, root
from restante.model import Queue, Receipt, Settings
from restante.queries import StoredReceipt
from restante.receipt_log import LogState, Seal
from restante.wire import log_lines, times
from restante.wire.checkpoints import TreeHead, to_note
from restante.wire.receipts import GENESIS, chain, encode_entry

COUNT = 40_000
AT_MS = 1_796_000_000_000


@pytest.fixture(scope="module")
def lines():
    return log_of(COUNT)


def log_of(count):
    """The lines of an export of a log of so many receipts of one queue, signed by ``KEY``."""
    entries = [
        encode_entry(
            Receipt(
                at=times.to_text(AT_MS),
                notification="n",
                number=number,
                outcome="acked",
                queue="acme",
                seq=number,
                state="acked",
            )
        )
        for number in range(1, count + 1)
    ]
    tree: dict[Tile, bytes] = {}
    tree.update(grown(0, list(map(leaf_hash, entries)), tree.__getitem__))
    head = TreeHead(count, root(count, tree.__getitem__), AT_MS)
    note = to_note(KEY.verifier.name, head, [KEY])
    state = LogState(
        origin=KEY.verifier.name,
        size=count,
        root=head.root,
        at_ms=AT_MS,
        node="one",
        checkpoint=note,
    )
    found = [
        log_lines.of_log(state, [], AT_MS),
        log_lines.of_queue(Queue("acme", "acme", Settings())),
        log_lines.of_seal(Seal("acme", 1, count, 0)),
    ]
    digest = GENESIS
    for number, entry in enumerate(entries, 1):
        digest = chain(digest, entry)
        found.append(log_lines.of_receipt(StoredReceipt("acme", number, entry, digest)))
    found.append(log_lines.of_pruned(0, AT_MS))
    found += [log_lines.of_tile(tile, hashes) for tile, hashes in tree.items()]
    return [*found, log_lines.of_head(note), log_lines.of_end()]


def test_reading_and_hashing_tell_how_far_they_have_come(lines):
    auditor = LogAuditor([KEY.verifier])
    assert (auditor.size, auditor.passed) == (None, 0)
    passed = []
    for line in lines:
        auditor.look(line)
        passed.append(auditor.passed)
    assert (auditor.size, passed) == (COUNT, sorted(passed))
    assert set(passed) == set(range(COUNT + 1))
    hashed: list[int] = []
    assert auditor.verdict(hashed.append).findings == []
    assert (len(hashed) > 2, hashed) == (True, sorted(set(hashed)))
    assert hashed[-1] == COUNT


def test_the_bar_is_full_after_reading_and_after_hashing(lines, tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    main, side = pty.openpty()
    source = str(Path(restante.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "restante", "ledger", "verify", file, "--trust", KEY.verifier.text],
        stdout=subprocess.PIPE,
        stderr=side,
        env={"PATH": "", "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": source},
    )
    os.close(side)
    told, shown = read(process, main)
    assert (process.returncode, told.splitlines()[-1]) == (0, b"nothing is wrong")
    for phase in ("receipts", "hashing"):
        steps = re.findall(rf"{phase} \S+ *(\d+)/(\S+)", shown)
        assert steps, shown
        assert steps[-1] == (str(COUNT), str(COUNT))
    # It is no pulse: how many there are is known from the beginning.
    assert "/?" not in shown.partition(f"/{COUNT}")[2]


def read(process, main):
    """What a process writes to its stdout, and to a terminal, without its colours."""
    shown = b""
    with process:
        while True:
            try:
                shown += os.read(main, 65_536)
            except OSError:
                # Its other end was closed: the process has ended.
                break
        os.close(main)
        told = process.stdout.read()
    return told, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
