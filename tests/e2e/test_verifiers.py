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
from restante.wire.proofs import NotProved, check, to_json

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


def proof_of(index: int, size: int) -> dict[str, Any]:
    tiles: dict[Tile, bytes] = {}
    entries = [entry(number) for number in range(size)]
    tiles.update(merkle.grown(0, [merkle.leaf_hash(one) for one in entries], tiles.__getitem__))
    read = tiles.__getitem__
    note = to_note(ORIGIN, TreeHead(size, merkle.root(size, read), 0), [KEY])
    found: dict[str, Any] = json.loads(
        to_json(entries[index], index, merkle.inclusion(index, size, read), note)
    )
    return found


def both_say(proof: dict[str, Any], folder: Path, key: str = KEY.verifier.text) -> bool:
    """Whether it holds; both have to say the same."""
    file = folder / "proof.json"
    file.write_text(json.dumps(proof))
    done = subprocess.run(
        ["node", str(PROGRAM), str(file), key], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    try:
        check(file.read_bytes(), ORIGIN, [KEY.verifier])
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


def test_a_key_that_is_another(tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(proof_of(4, 7)))
    stranger = SignerKey(ORIGIN, b"\x09" * 32).verifier.text
    done = subprocess.run(
        ["node", str(PROGRAM), str(file), stranger], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "not signed with that key" in done.stderr) == (1, True)
