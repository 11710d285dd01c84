"""Others' programs that check a proof: they agree with ours, on what holds and on what does not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from restante import merkle
from restante.merkle import Tile
from restante.model import Receipt
from restante.wire.checkpoints import SignerKey, TreeHead, to_note
from restante.wire.ledger_messages import ConsistencyOut
from restante.wire.proofs import (
    NotProved,
    check,
    check_consistency,
    origin_of,
    read_consistency,
    to_json,
)

pytestmark = pytest.mark.timeout(120)
PROGRAM = Path(__file__).parents[2] / "examples/node/verify-receipt.mjs"
ORIGIN = "receipts.example"
KEY = SignerKey(ORIGIN, b"\x07" * 32)


def entry(number: int) -> bytes:
    return msgspec.json.encode(
        Receipt(
            at="2026-11-30T12:00:00.000Z",
            body_bytes=7,
            body_sha256="ab" * 32,
            notification="019c",
            number=number,
            outcome="acked",
            principal="acme",
            queue="acme",
            seq=number,
            state="acked",
        )
    )


def tiles_of(entries: list[bytes]) -> merkle.ReadTile:
    tiles: dict[Tile, bytes] = {}
    tiles.update(merkle.grown(0, [merkle.leaf_hash(one) for one in entries], tiles.__getitem__))
    return tiles.__getitem__


def note_of(size: int, read: merkle.ReadTile, key: SignerKey = KEY, origin: str = ORIGIN) -> str:
    return to_note(origin, TreeHead(size, merkle.root(size, read), size), [key])


def proof_of(index: int, size: int, key: SignerKey = KEY) -> dict[str, Any]:
    entries = [entry(number) for number in range(size)]
    read = tiles_of(entries)
    path = merkle.inclusion(index, size, read)
    found: dict[str, Any] = json.loads(
        to_json(entries[index], index, path, note_of(size, read, key))
    )
    return found


def assert_told(done: subprocess.CompletedProcess[str]) -> None:
    """It says why, and did not just break."""
    assert (done.returncode, done.stderr[:14]) in {(0, ""), (1, "does not hold:")}, done.stderr


def both_say(proof: dict[str, Any], folder: Path, key: SignerKey = KEY) -> bool:
    """Whether it holds; both have to say the same."""
    file = folder / "proof.json"
    file.write_text(json.dumps(proof))
    done = subprocess.run(
        ["node", str(PROGRAM), str(file), key.verifier.text],
        capture_output=True,
        text=True,
        check=False,
    )
    assert_told(done)
    try:
        check(file.read_bytes(), ORIGIN, [key.verifier])
    except NotProved:
        ours = False
    else:
        ours = True
    assert (done.returncode == 0) is ours, done.stdout + done.stderr
    return ours


@pytest.mark.parametrize(
    ("index", "size"), [(0, 1), (0, 2), (1, 2), (2, 3), (4, 7), (255, 256), (256, 257), (699, 700)]
)
def test_they_agree_on_what_holds(index: int, size: int, tmp_path: Path) -> None:
    assert both_say(proof_of(index, size), tmp_path)


def test_they_agree_on_what_does_not(tmp_path: Path) -> None:
    proof = proof_of(4, 7)
    other = proof_of(5, 7)
    note = proof["checkpoint"]
    for change in (
        *({"index": 5}, {"index": 7}, {"path": proof["path"][:-1]}, {"path": other["path"]}),
        *({"entry": other["entry"]}, {"path": [*proof["path"], "00" * 32]}),
        *(
            {"checkpoint": note.replace("\n7\n", "\n8\n")},
            {"checkpoint": note.partition("\n\n")[0]},
        ),
        {"checkpoint": note.replace(ORIGIN, "other.example")},
    ):
        assert not both_say(proof | change, tmp_path), change


def test_they_agree_when_the_key_was_exchanged(tmp_path: Path) -> None:
    """The log has its name still; by the new key's name it would be another."""
    following = SignerKey(f"{ORIGIN}/2", b"\x08" * 32)
    proof = proof_of(4, 7, following)
    assert both_say(proof, tmp_path, following)
    assert not both_say(proof, tmp_path)


def test_a_key_that_is_another(tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(proof_of(4, 7)))
    stranger = SignerKey(ORIGIN, b"\x09" * 32).verifier.text
    done = subprocess.run(
        ["node", str(PROGRAM), str(file), stranger], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "not signed with that key" in done.stderr) == (1, True)


# -- that a log was only added to ---------------------------------------------------------------------

Heads = tuple[str, str]


def consistency_of(old: int, new: int) -> tuple[Heads, dict[str, Any]]:
    """Two heads of one log, and the proof between them."""
    read = tiles_of([entry(number) for number in range(new)])
    path = merkle.consistency(old, new, read) if old else []
    newer = note_of(new, read)
    proof = ConsistencyOut(old=old, new=new, path=[one.hex() for one in path], checkpoint=newer)
    return (note_of(old, read), newer), msgspec.to_builtins(proof)


def both_say_of(
    heads: Heads, proof: dict[str, Any], folder: Path, keys: tuple[SignerKey, ...] = (KEY,)
) -> bool:
    """Whether the heads are of one log; both have to say the same."""
    files = [folder / "older.txt", folder / "newer.txt", folder / "consistency.json"]
    for file, text in zip(files, (*heads, json.dumps(proof)), strict=True):
        file.write_text(text)
    texts = [key.verifier.text for key in keys]
    done = subprocess.run(
        ["node", str(PROGRAM), "--consistency", *map(str, files), *texts],
        capture_output=True,
        text=True,
        check=False,
    )
    assert_told(done)
    try:
        check_consistency(
            read_consistency(files[2].read_bytes()),
            *heads,
            origin_of(heads[0]),
            [key.verifier for key in keys],
        )
    except NotProved:
        ours = False
    else:
        ours = True
    assert (done.returncode == 0) is ours, done.stdout + done.stderr
    return ours


@pytest.mark.parametrize(
    ("old", "new"),
    [(0, 3), (1, 1), (1, 2), (3, 7), (4, 7), (6, 8), (7, 7), (256, 700), (257, 700), (699, 700)],
)
def test_they_agree_on_what_was_only_added_to(old: int, new: int, tmp_path: Path) -> None:
    assert both_say_of(*consistency_of(old, new), tmp_path)


@pytest.mark.parametrize(("old", "new"), [(0, 7), (3, 7), (4, 7), (7, 7), (257, 700)])
def test_they_agree_on_what_was_not(old: int, new: int, tmp_path: Path) -> None:
    (older, newer), proof = consistency_of(old, new)
    path = proof["path"]
    flipped = [f"{int(one, 16) ^ 1:064x}" for one in path]
    changes: list[dict[str, Any]] = [
        *({"path": [*path, "00" * 32]}, {"old": old + 1}, {"new": new + 1}),
        *({"path": [*path[:at], flipped[at], *path[at + 1 :]]} for at in range(len(path))),
        *({"path": path[:at] + path[at + 1 :]} for at in range(len(path))),
        *([{"path": path[::-1]}] if path != path[::-1] else []),
    ]
    for change in changes:
        assert not both_say_of((older, newer), proof | change, tmp_path), change
    # The heads one for the other, and the sizes of the proof with them.
    if old != new:
        for said in (proof, proof | {"old": new, "new": old}):
            assert not both_say_of((newer, older), said, tmp_path)
    # What was signed by the same key over another history of that size.
    other = tiles_of([entry(number + 1) for number in range(new)])
    forged = [(older, note_of(new, other))] if old else []
    if 0 < old < new:
        forged.append((note_of(old, other), newer))
    for heads in forged:
        assert not both_say_of(heads, proof, tmp_path)
    # A head that nobody has signed so.
    for heads in (
        (older.replace(f"\n{old}\n", f"\n{old + 1}\n"), newer),
        (older, newer.replace(f"\n{new}\n", f"\n{new + 1}\n")),
        (older, newer.partition("\n\n")[0]),
        (older, ""),
    ):
        assert not both_say_of(heads, proof, tmp_path)


def test_they_agree_on_another_log_and_on_other_keys(tmp_path: Path) -> None:
    (older, newer), proof = consistency_of(3, 7)
    read = tiles_of([entry(number) for number in range(7)])
    assert not both_say_of((older, note_of(7, read, origin="other.example")), proof, tmp_path)
    following = SignerKey(f"{ORIGIN}/2", b"\x08" * 32)
    exchanged = (older, note_of(7, read, following))
    assert both_say_of(exchanged, proof, tmp_path, (KEY, following))
    assert not both_say_of(exchanged, proof, tmp_path)
    assert not both_say_of((older, newer), proof, tmp_path, (following,))
