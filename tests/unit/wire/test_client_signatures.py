"""Clients' own signatures: the text, the keys, and that nothing but the very thing signed holds."""

import base64
import datetime
import hashlib

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.certificates import Authority

from restante.client import Receipt, Signer, verify_signature
from restante.client.signing import PrivateKey
from restante.errors import (
    InvalidSigningKey,
    Malformed,
    OutOfBounds,
    SignatureOutOfTime,
    SignatureRefused,
    SigningKeyEnded,
)
from restante.model import Signature, Verb
from restante.wire import client_signatures as signatures
from restante.wire import times
from restante.wire.messages import NotificationOut
from restante.wire.receipts import Subject

AT = "2026-01-31T12:00:00Z"
NOW_MS = times.to_ms(AT)
ID = "019c1a2b-3c4d-7e5f-8a6b-7c8d9e0f1a2b"
BODY = '<order name="Bodø"/>'
DIGEST = hashlib.sha256(BODY.encode()).hexdigest()
SEED = bytes(range(32))
SECRET = Ed25519PrivateKey.from_private_bytes(SEED)
PRIVATE: dict[str, PrivateKey] = {
    "ed25519": SECRET,
    "ecdsa-p256-sha256": ec.derive_private_key(int.from_bytes(SEED, "big"), ec.SECP256R1()),
    "rsa-pss-sha256": rsa.generate_private_key(65_537, 2_048),
}
SIGNERS = {name: Signer(private) for name, private in PRIVATE.items()}
ED25519 = SIGNERS["ed25519"]
LETTER = NotificationOut(
    id=ID,
    queue="acme",
    seq=1,
    lease="L",
    attempt=1,
    content_type="application/xml",
    body=BODY,
    published_at=AT,
    lease_until=AT,
)
WHEN = datetime.datetime.fromisoformat(AT)


def kept(signer):
    return signatures.read_key(signer.public_pem, "", NOW_MS)


def opened(signer):
    return signatures.open_key(kept(signer))


def signed(signer=ED25519, verb=Verb.ACK, said=b"<ok/>"):
    return signer.sign(LETTER, verb, said=said, at=WHEN)


def verified(signature, *, key=None, queue="acme", verb=Verb.ACK, said=b"<ok/>", now_ms=NOW_MS):
    return signatures.verified(signature, key or opened(ED25519), queue, verb, said, now_ms)


def test_the_text_and_its_signature_byte_for_byte():
    """What other programs are tested against. The key is RFC 8032's form of the bytes 0 to 31."""
    signature = signed()
    key = signature.key
    text = signatures.text_of(signature, "acme", "acked", b"<ok/>")
    assert text.decode().split("\n") == [
        "restante receipt signature v1",
        ID,
        DIGEST,
        "acme",
        "acked",
        hashlib.sha256(b"<ok/>").hexdigest(),
        AT,
        key,
        "",
    ]
    assert signature.value == SECRET.sign(text)


@pytest.mark.parametrize("algorithm", SIGNERS)
@pytest.mark.parametrize("verb", [Verb.ACK, Verb.NACK, Verb.REJECT])
def test_each_kind_of_key_signs_each_outcome(algorithm, verb):
    signer = SIGNERS[algorithm]
    found = verified(
        signed(signer, verb, b"because"), key=opened(signer), verb=verb, said=b"because"
    )
    assert (found.algorithm, found.key) == (algorithm, signer.key_id)


@pytest.mark.parametrize("verb", [Verb.RELEASE, Verb.EXTEND])
def test_what_says_nothing_of_the_document_is_not_signed(verb):
    with pytest.raises(SignatureRefused):
        signed(verb=verb)
    with pytest.raises(SignatureRefused):
        verified(signed(), verb=verb)


@pytest.mark.parametrize(
    "other",
    [
        {"queue": "acme.returns"},
        {"verb": Verb.REJECT},
        {"verb": Verb.NACK},
        {"said": b""},
        {"said": b"<ok />"},
    ],
)
def test_it_is_over_queue_outcome_and_what_is_said(other):
    with pytest.raises(SignatureRefused) as refused:
        verified(signed(), **other)
    assert type(refused.value) is SignatureRefused


@pytest.mark.parametrize(
    "other",
    [
        {"notification": ID.replace("0", "1", 1)},
        {"body_sha256": hashlib.sha256(b"").hexdigest()},
        {"at": "2026-01-31T12:00:01Z"},
        {"at": "2026-01-31T13:00:00+01:00"},
        {"key": SIGNERS["ecdsa-p256-sha256"].key_id},
    ],
)
def test_it_is_over_all_that_it_says_itself(other):
    with pytest.raises(SignatureRefused):
        verified(msgspec.structs.replace(signed(), **other))


# Made once: those of ECDSA and RSA-PSS are others each time, of other lengths too.
SIGNED = {name: signed(signer) for name, signer in SIGNERS.items()}


@given(st.sampled_from(list(SIGNERS)), st.data())
def test_no_bit_may_be_another(algorithm, data):
    signer, signature = SIGNERS[algorithm], SIGNED[algorithm]
    text = signatures.text_of(signature, "acme", "acked", b"<ok/>")
    public = opened(signer).public
    assert signatures.holds(public, text, signature.value)
    for whole, holds in (
        (text, lambda one: signatures.holds(public, one, signature.value)),
        (signature.value, lambda one: signatures.holds(public, text, one)),
    ):
        place = data.draw(st.integers(0, 8 * len(whole) - 1))
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        assert not holds(bytes(flipped))


@given(st.binary(max_size=80))
def test_nothing_but_a_signature_is_one(value):
    for signer in SIGNERS.values():
        assert not signatures.holds(opened(signer).public, b"text", value)


@pytest.mark.parametrize(
    ("seconds", "holds"), [(-601, False), (-600, True), (600, True), (601, False)]
)
def test_its_time_is_near_the_services(seconds, holds):
    now_ms = NOW_MS + seconds * 1_000
    if holds:
        assert verified(signed(), now_ms=now_ms).at == AT
    else:
        with pytest.raises(SignatureOutOfTime):
            verified(signed(), now_ms=now_ms)


def test_a_revoked_key_signs_nothing():
    key = opened(ED25519)
    ended = key._replace(kept=msgspec.structs.replace(key.kept, revoked_at_ms=NOW_MS))
    with pytest.raises(SigningKeyEnded, match="revoked at 2026-01-31T12:00"):
        verified(signed(), key=ended)


def test_it_is_checked_against_what_was_published():
    subject = Subject(1, ID, NOW_MS, bytes.fromhex(DIGEST), len(BODY))
    signatures.check_subject(signed(), subject)
    for other in (
        Subject(1, "another", NOW_MS, bytes.fromhex(DIGEST), len(BODY)),
        Subject(1, ID, NOW_MS, bytes(32), len(BODY)),
    ):
        with pytest.raises(SignatureRefused):
            signatures.check_subject(signed(), other)


# -- keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_a_public_key_is_kept_as_it_is(algorithm):
    key = kept(SIGNERS[algorithm])
    assert (key.algorithm, key.pem) == (algorithm, SIGNERS[algorithm].public_pem)
    der = (
        PRIVATE[algorithm]
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    assert key.id == hashlib.sha256(der).hexdigest() == SIGNERS[algorithm].key_id
    assert signatures.read_key(key.pem.replace("\n", "\r\n"), "", NOW_MS) == key


def test_a_certificate_stands_for_its_key_in_its_time(tmp_path):
    issued = Authority(tmp_path).for_client("dns:acme.example", common_name="ACME")
    signer = Signer.from_pem(issued.key.read_bytes())
    now_ms = int(datetime.datetime.now(datetime.UTC).timestamp() * 1_000)
    pem = issued.pem.partition("-----END CERTIFICATE-----\n")
    key = signatures.read_key(pem[0] + pem[1], "the certificate", now_ms)
    assert (key.id, key.label) == (signer.key_id, "the certificate")
    assert key.subject.startswith("CN=") or "CN=" in key.subject
    assert key.not_before_ms is not None
    assert key.not_after_ms is not None
    assert key.not_before_ms < now_ms < key.not_after_ms
    when = datetime.datetime.fromtimestamp(now_ms / 1_000, datetime.UTC)
    signature = signer.sign(LETTER, said=b"", at=when)
    assert verified(signature, key=signatures.open_key(key), said=b"", now_ms=now_ms).algorithm
    day_ms = 86_400_000
    for other_ms in (key.not_before_ms - 1, key.not_after_ms + 1):
        with pytest.raises(SigningKeyEnded):
            key.check(other_ms)
        with pytest.raises(InvalidSigningKey):
            signatures.read_key(key.pem, "", other_ms)
    assert key.not_after_ms - key.not_before_ms == 2 * day_ms


def pem_of(private):
    return public_pem(private.public_key())


def public_pem(public):
    return public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


@pytest.mark.parametrize("exponent", [3, 65_539, 2**1_900 + 1], ids=["short", "near", "long"])
def test_an_rsa_key_has_the_exponent_that_all_have(exponent):
    """Verifying by a long one takes many times as long."""
    modulus = rsa.generate_private_key(65_537, 2_048).public_key().public_numbers().n
    pem = public_pem(rsa.RSAPublicNumbers(exponent, modulus).public_key())
    with pytest.raises(InvalidSigningKey, match="exponent"):
        signatures.read_key(pem, "", NOW_MS)
    with pytest.raises(InvalidSigningKey, match="exponent"):
        signatures.load_public_key(pem)


def test_nothing_else_is_taken():
    secret = SECRET.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    good = ED25519.public_pem
    for bad in (
        pem_of(ec.generate_private_key(ec.SECP384R1())),
        pem_of(rsa.generate_private_key(65_537, 1_024)),
        pem_of(dsa.generate_private_key(1_024)),
        secret,
        good + good,
        good.replace("MCow", "MCov"),
        "ssh-ed25519 AAAA",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "ä",
    ):
        with pytest.raises(InvalidSigningKey):
            signatures.read_key(bad, "", NOW_MS)
    with pytest.raises(OutOfBounds):
        signatures.read_key(" " * 4_097, "", NOW_MS)
    with pytest.raises(InvalidSigningKey):
        Signer.from_pem(good.encode())
    with pytest.raises(InvalidSigningKey):
        Signer(ec.generate_private_key(ec.SECP384R1()))


# -- receipts -----------------------------------------------------------------------------------


def receipt(signature, outcome="acked", **said):
    return Receipt(
        id="acme~2",
        digest="00",
        at="2026-01-31T12:00:00.250Z",
        body_sha256=DIGEST,
        notification=ID,
        number=2,
        outcome=outcome,
        queue="acme",
        seq=1,
        state="acked",
        signature=base64.b64encode(signature.value).decode(),
        signature_algorithm="ed25519",
        signature_key=signature.key,
        signed_at=signature.at,
        **said,
    )


@pytest.mark.parametrize(
    ("outcome", "verb", "said", "fields"),
    [
        ("acked", Verb.ACK, b"<ok/>", {"reply": "<ok/>"}),
        ("late_ack", Verb.ACK, b"\xff\x00", {"reply_base64": "/wA="}),
        ("acked", Verb.ACK, b"", {}),
        ("nacked", Verb.NACK, b"busy", {"reason": "busy"}),
        ("rejected", Verb.REJECT, "größe".encode(), {"reason": "größe"}),
    ],
)
def test_a_receipt_alone_proves_it(outcome, verb, said, fields):
    whole = receipt(signed(verb=verb, said=said), outcome, **fields)
    assert verify_signature(whole, ED25519.public_pem)
    for other in (
        msgspec.structs.replace(whole, reply="x", reply_base64=None, reason="x"),
        msgspec.structs.replace(whole, queue="bob"),
        msgspec.structs.replace(whole, body_sha256="00" * 32),
        msgspec.structs.replace(whole, signature=""),
        msgspec.structs.replace(whole, signature_key="00" * 32),
    ):
        assert not verify_signature(other, ED25519.public_pem)
    assert not verify_signature(whole, SIGNERS["rsa-pss-sha256"].public_pem)


# -- as it is sent ------------------------------------------------------------------------------


@pytest.mark.parametrize("signer", SIGNERS.values())
def test_the_header_carries_it(signer):
    signature = signed(signer)
    assert signatures.from_header(signatures.to_header(signature)) == signature
    spaced = signatures.to_header(signature).replace(", ", ",")
    assert signatures.from_header(spaced) == signature


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("key=", "id="),
        (f"at={AT}, ", ""),
        (AT, "2026-01-31T12:00:00"),
        (AT, "2026-13-31T12:00:00Z"),
        (AT, "now"),
        (f"notification={ID}", f"notification={'n' * 129}"),
        (DIGEST, DIGEST.upper()),
        (DIGEST, DIGEST[:-1]),
        ("value=", "value=!"),
        ("value=", "key=1, value="),
        ("value=", f"{'x' * 2_048}, value="),
    ],
)
def test_a_header_that_says_something_else_is_malformed(old, new):
    text = signatures.to_header(signed())
    assert old in text
    with pytest.raises(Malformed):
        signatures.from_header(text.replace(old, new, 1))


def test_a_value_has_its_bounds():
    for value in ("", base64.b64encode(bytes(513)).decode()):
        with pytest.raises(OutOfBounds):
            signatures.signature_of(
                key="0" * 64, at=AT, notification=ID, body_sha256=DIGEST, value=value
            )
    whole = signatures.signature_of(
        key="0" * 64, at=AT, notification=ID, body_sha256=DIGEST, value=bytes(512)
    )
    assert isinstance(whole, Signature)
