"""A proof shows what it shows, whoever serves it, and an altered one shows nothing."""

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.rules.test_merkle import Tree

from restante.merkle import consistency, inclusion, root
from restante.model import Receipt
from restante.wire.checkpoints import SignerKey, TreeHead, to_note
from restante.wire.ledger_messages import ConsistencyOut
from restante.wire.proofs import (
    NotProved,
    check,
    check_consistency,
    read_consistency,
    to_json,
)

ORIGIN = "receipts.example"
KEY = SignerKey(ORIGIN, b"\x07" * 32)
TRUSTED = [KEY.verifier]
PLACE, SIZE = 321, 700


def entry_of(number):
    return msgspec.json.encode(
        Receipt(
            at="2026-11-30T12:00:00.000Z",
            notification="019c",
            number=number,
            outcome="acked",
            principal="acme",
            queue="acme",
            seq=number,
            state="acked",
        )
    )


@pytest.fixture(scope="module")
def tree():
    tree = Tree()
    tree.add([entry_of(number) for number in range(SIZE)])
    return tree


@pytest.fixture(scope="module")
def proof(tree):
    head = TreeHead(SIZE, root(SIZE, tree.read), 1_764_504_000_123)
    path = inclusion(PLACE, SIZE, tree.read)
    return to_json(tree.data[PLACE], PLACE, path, to_note(ORIGIN, head, [KEY]))


def test_a_proof_shows_who_signed_what(proof):
    proved = check(proof, ORIGIN, TRUSTED)
    assert (proved.receipt.principal, proved.receipt.number) == ("acme", PLACE)
    assert (proved.index, proved.head.size) == (PLACE, SIZE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"entry": "e30="}, "was changed"),
        ({"index": PLACE + 1}, "was changed"),
        ({"index": -1}, "was changed"),
        ({"path": []}, "was changed"),
        ({"path": ["00" * 32]}, "was changed"),
        ({"path": ["00"]}, "no proof"),
        ({"path": ["00" * 32] * 65}, "no proof"),
        ({"path": ["zz" * 32]}, "no proof"),
        ({"entry": "*"}, "no proof"),
        ({"checkpoint": ""}, "head of the log"),
        ({"index": "1"}, "no proof"),
    ],
)
def test_an_altered_one_shows_nothing(proof, change, words):
    altered = json.loads(proof) | change
    with pytest.raises(NotProved, match=words):
        check(json.dumps(altered).encode(), ORIGIN, TRUSTED)


def test_it_is_of_one_log_and_signed_with_a_key_that_is_trusted(proof):
    stranger = SignerKey(ORIGIN, b"\x09" * 32).verifier
    for origin, keys in (("other.example", TRUSTED), (ORIGIN, [stranger]), (ORIGIN, [])):
        with pytest.raises(NotProved, match="head of the log"):
            check(proof, origin, keys)


def test_what_is_in_the_log_and_no_receipt():
    tree = Tree()
    tree.add([b"not one"])
    head = TreeHead(1, root(1, tree.read), 0)
    with pytest.raises(NotProved, match="no receipt"):
        check(to_json(b"not one", 0, [], to_note(ORIGIN, head, [KEY])), ORIGIN, TRUSTED)


@given(st.binary(max_size=200))
def test_what_is_none_shows_nothing(data):
    with pytest.raises(NotProved):
        check(data, ORIGIN, TRUSTED)


def test_no_byte_of_it_can_be_changed(proof):
    """But for what means the same, as the case of a hexadecimal digit does."""
    proved = check(proof, ORIGIN, TRUSTED)
    assert all_of(proof, lambda changed: check(changed, ORIGIN, TRUSTED)) == [proved]


def all_of(proof, shown):
    """What is shown by a proof that has one byte changed, less, or more; by those that show anything."""
    found = []
    for at, byte in enumerate(proof):
        for other in (b"", bytes([byte ^ 1]), bytes([byte ^ 32]), bytes([byte, byte])):
            with contextlib.suppress(NotProved):
                one = shown(proof[:at] + other + proof[at + 1 :])
                if one not in found:
                    found.append(one)
    return found


# -- that a log was only added to ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def notes(tree):
    """Signed heads by their sizes."""
    heads = (TreeHead(size, root(size, tree.read), size) for size in (0, PLACE, SIZE))
    return {head.size: to_note(ORIGIN, head, [KEY]) for head in heads}


@pytest.fixture(scope="module")
def growth(tree, notes):
    path = tuple(one.hex() for one in consistency(PLACE, SIZE, tree.read))
    return msgspec.json.encode(
        ConsistencyOut(old=PLACE, new=SIZE, path=list(path), checkpoint=notes[SIZE])
    )


def grew(proof, notes, old=PLACE, new=SIZE):
    return check_consistency(read_consistency(proof), notes[old], notes[new], ORIGIN, TRUSTED)


def test_a_log_that_was_only_added_to(growth, notes):
    shown = grew(growth, notes)
    assert (shown.old.size, shown.new.size) == (PLACE, SIZE)


@pytest.mark.parametrize(("old", "new"), [(0, SIZE), (0, 0), (SIZE, SIZE)])
def test_of_an_empty_log_and_of_the_same_no_hash_is_needed(notes, old, new):
    proof = {"old": old, "new": new, "path": [], "checkpoint": ""}
    assert grew(json.dumps(proof), notes, old, new).new.size == new
    with pytest.raises(NotProved, match="not the beginning"):
        grew(json.dumps(proof | {"path": ["00" * 32]}), notes, old, new)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": []}, "not the beginning"),
        ({"path": ["00" * 32]}, "not the beginning"),
        ({"path": ["00"]}, "no proof"),
        ({"path": ["00" * 32] * 65}, "no proof"),
        ({"path": ["zz" * 32]}, "no proof"),
        ({"old": PLACE - 1}, "of logs of 320 and 700"),
        ({"new": SIZE + 1}, "of logs of 321 and 701"),
        ({"old": "321"}, "no proof"),
    ],
)
def test_an_altered_proof_of_it_shows_nothing(growth, notes, change, words):
    with pytest.raises(NotProved, match=words):
        grew(json.dumps(json.loads(growth) | change), notes)


def test_a_head_that_is_not_signed_or_not_of_that_log(growth, notes):
    other = to_note("other.example", TreeHead(SIZE, bytes(32), 0), [KEY])
    for change, words in (
        ({PLACE: notes[PLACE].replace("321", "320")}, "older head does not hold"),
        ({SIZE: ""}, "newer head does not hold"),
        ({SIZE: other}, "another log: other.example"),
    ):
        with pytest.raises(NotProved, match=words):
            grew(growth, notes | change)


def test_no_byte_of_a_proof_of_growth_can_be_changed(growth, notes):
    """But for those of the head that is told beside it, and for what means the same."""
    assert all_of(growth, lambda changed: grew(changed, notes)) == [grew(growth, notes)]
