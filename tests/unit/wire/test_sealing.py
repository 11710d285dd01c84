"""Secrets at rest."""

import pytest

from restante.wire.sealing import Keyring, SealBroken, parse_keys, to_line

OLD, NEW = bytes(32), bytes(range(32))
NONCE = b"n" * 12
PLACE = ("webhook", "acme", "s1")


def test_what_was_sealed_opens_in_its_place_and_in_no_other():
    ring = Keyring([OLD])
    sealed = ring.seal(b"secret", PLACE, NONCE)
    assert b"secret" not in sealed
    assert ring.open(sealed, PLACE) == b"secret"
    for place in (("webhook", "acme", "s2"), ("webhook", "bob", "s1"), ("webhook", "acmes1"), ()):
        with pytest.raises(SealBroken):
            ring.open(sealed, place)


def test_every_altered_byte_is_noticed():
    ring = Keyring([OLD])
    sealed = ring.seal(b"secret", PLACE, NONCE)
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1
        with pytest.raises(SealBroken):
            ring.open(bytes(altered), PLACE)
    for end in range(len(sealed)):
        with pytest.raises(SealBroken):
            ring.open(sealed[:end], PLACE)


def test_the_first_key_seals_and_all_open():
    sealed = Keyring([OLD]).seal(b"secret", PLACE, NONCE)
    ring = Keyring([NEW, OLD])
    assert ring.open(sealed, PLACE) == b"secret"
    assert not ring.is_current(sealed)
    anew = ring.seal(b"secret", PLACE, NONCE)
    assert ring.is_current(anew)
    assert Keyring([NEW]).open(anew, PLACE) == b"secret"
    with pytest.raises(SealBroken, match="no key"):
        Keyring([NEW]).open(sealed, PLACE)


@pytest.mark.parametrize("keys", [[], [b"short"], [OLD, b""]])
def test_no_keyring(keys):
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring(keys)


def test_keys_stay_out_of_what_is_shown():
    assert repr(Keyring([NEW])) == "Keyring(1 keys)"


def test_a_file_of_keys():
    text = f"# the new one\n{to_line(NEW)}\n\n  {to_line(OLD)}  \n"
    assert parse_keys(text) == [NEW, OLD]


@pytest.mark.parametrize("text", ["", "# nothing", "not base64!", to_line(b"short"), "ä"])
def test_no_file_of_keys(text):
    with pytest.raises(ValueError, match="key") as caught:
        parse_keys(text)
    assert not text or text not in str(caught.value)
