"""A proof shows what it shows, whoever serves it, and an altered one shows nothing."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.rules.test_merkle import Tree

from restante.merkle import inclusion, root
from restante.model import Receipt
from restante.wire.checkpoints import SignerKey, TreeHead, to_note
from restante.wire.proofs import NotProved, check, to_json

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


@given(st.data())
def test_no_byte_of_it_can_be_changed(proof, data):
    """But for what means the same, as the case of a hexadecimal digit does."""
    at = data.draw(st.integers(0, len(proof) - 1))
    changed = proof[:at] + bytes([data.draw(st.integers(0, 255))]) + proof[at + 1 :]
    try:
        proved = check(changed, ORIGIN, TRUSTED)
    except NotProved:
        return
    assert proved == check(proof, ORIGIN, TRUSTED)
