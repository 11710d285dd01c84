"""Signed heads: what a trusted key has signed is believed, and nothing else is."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from restante.wire.checkpoints import (
    NotSigned,
    SignerKey,
    TreeHead,
    VerifierKey,
    of_note,
    to_note,
)

ORIGIN = "receipts.example"
HEAD = TreeHead(20_852_163, bytes(range(32)), 1_764_504_000_123)
KEY = SignerKey(ORIGIN, b"\x07" * 32)
NEXT = SignerKey(ORIGIN, b"\x08" * 32)
OTHER = SignerKey("witness.example/w1", b"\x09" * 32)
NOTE = to_note(ORIGIN, HEAD, [KEY])
TRUSTED = [KEY.verifier]


def test_it_is_a_note_as_others_read_them():
    text, _, signature = NOTE.rpartition("\n\n")
    lines = text.split("\n")
    assert lines == [
        ORIGIN,
        "20852163",
        base64.b64encode(HEAD.root).decode(),
        "2025-11-30T12:00:00.123Z",
    ]
    dash, name, encoded = signature.rstrip("\n").split(" ")
    assert (dash, name) == ("\u2014", ORIGIN)
    data = base64.b64decode(encoded)
    public = KEY.verifier.public
    assert data[:4] == hashlib.sha256(ORIGIN.encode() + b"\n\x01" + public).digest()[:4]
    Ed25519PublicKey.from_public_bytes(public).verify(data[4:], (text + "\n").encode())
    assert of_note(NOTE, ORIGIN, TRUSTED) == HEAD


def test_a_key_is_handed_on_as_text():
    text = KEY.verifier.text
    assert VerifierKey.parse(f" {text}\n") == KEY.verifier
    name, id, key = text.split("+", 2)
    for wrong in (
        "",
        name,
        f"{name}+{id}",
        f"{name}+00000000+{key}",
        f"{name}+{id}+{key[:-4]}",
        f"a b+{id}+{key}",
    ):
        with pytest.raises(ValueError, match="key"):
            VerifierKey.parse(wrong)


def test_with_a_new_key_and_a_witness():
    """Who trusts one of them believes it; the others' signatures say nothing to them."""
    note = to_note(ORIGIN, HEAD, [KEY, NEXT, OTHER])
    for key in (KEY, NEXT, OTHER):
        assert of_note(note, ORIGIN, [key.verifier]) == HEAD
    with pytest.raises(NotSigned, match="no key that is trusted"):
        of_note(NOTE, ORIGIN, [NEXT.verifier, OTHER.verifier])
    with pytest.raises(NotSigned, match="no key that is trusted"):
        of_note(NOTE, ORIGIN, [])


def test_what_is_said_to_be_a_trusted_keys_has_to_hold():
    """Also where another trusted key has signed."""
    line = KEY.sign(b"something else\n")
    with pytest.raises(NotSigned, match="has not signed this"):
        of_note(to_note(ORIGIN, HEAD, [NEXT]) + line, ORIGIN, [KEY.verifier, NEXT.verifier])


@given(st.data())
def test_a_head_with_one_letter_changed_is_not_believed(data):
    at = data.draw(st.integers(0, len(NOTE) - 1))
    letter = data.draw(st.characters(codec="utf-8"))
    changed = NOTE[:at] + letter + NOTE[at + 1 :]
    if changed != NOTE:
        with pytest.raises(NotSigned):
            of_note(changed, ORIGIN, TRUSTED)


@given(st.text(max_size=300))
def test_what_is_none_is_not_believed(text):
    with pytest.raises(NotSigned):
        of_note(text, ORIGIN, TRUSTED)


@pytest.mark.parametrize(
    "text",
    [
        "another.example\n1\n{root}\n2025-11-30T12:00:00.123Z\n",
        f"{ORIGIN}\n01\n{{root}}\n2025-11-30T12:00:00.123Z\n",
        f"{ORIGIN}\n-1\n{{root}}\n2025-11-30T12:00:00.123Z\n",
        f"{ORIGIN}\n1_0\n{{root}}\n2025-11-30T12:00:00.123Z\n",
        f"{ORIGIN}\n1\nAAAA\n2025-11-30T12:00:00.123Z\n",
        f"{ORIGIN}\n1\n{{root}}\nyesterday\n",
        f"{ORIGIN}\n1\n{{root}}\n",
        f"{ORIGIN}\n",
        "\n",
    ],
)
def test_what_is_signed_and_no_head_is_not_believed(text):
    signed = text.replace("{root}", base64.b64encode(HEAD.root).decode())
    with pytest.raises(NotSigned, match=r"another log|no checkpoint"):
        of_note(f"{signed}\n{KEY.sign(signed.encode())}", ORIGIN, TRUSTED)


def test_names_are_those_that_a_note_can_carry():
    for name in ("", "a b", "a+b", "a\nb", "ä", "/a", "a" * 200):
        with pytest.raises(ValueError, match="name"):
            SignerKey(name, bytes(32))
