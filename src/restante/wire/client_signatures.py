"""A client's own signature over an outcome: the text that is signed, and the keys by which it is verified.

The text is eight lines of UTF-8, each ended by a line feed, the last one too:

    restante receipt signature v1
    <id of the notification>
    <SHA-256 of the body, in hexadecimal digits>
    <queue>
    <outcome: acked, nacked or rejected>
    <SHA-256 of what the client says: of its reply with an ack, else of its reason>
    <time, RFC 3339, as the client gives it>
    <id of the key>

What is not said is as if it were empty. A key is Ed25519 (the signature is 64 bytes), ECDSA on P-256 with SHA-256 (the
signature in DER), or RSA of 2,048 to 4,096 bits with the public exponent 65,537 for PSS with SHA-256, MGF1 with SHA-256
and a salt of 32 bytes. The key's id is the SHA-256 of its SubjectPublicKeyInfo in DER.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from restante.errors import (
    InvalidSigningKey,
    Malformed,
    SignatureOutOfTime,
    SignatureRefused,
    SigningKeyEnded,
)
from restante.model import Outcome, Receipt, Signature, Verb, check_bounds
from restante.wire import times
from restante.wire.receipts import Subject

FORMAT: Final = "restante receipt signature v1"
HEADER: Final = "Restante-Signature"
TOLERANCE_SECONDS: Final = 600
"""So far may the time of a signature be from the service's, either way."""
PEM_CHARACTERS: Final = 4_096
VALUE_BYTES: Final = 512
"""The longest: RSA of 4,096 bits."""
HEADER_CHARACTERS: Final = 2_048
ED25519: Final = "ed25519"
ECDSA: Final = "ecdsa-p256-sha256"
RSA_PSS: Final = "rsa-pss-sha256"
RSA_BITS: Final = (2_048, 4_096)
RSA_EXPONENT: Final = 65_537
"""Verifying by one as long as the modulus takes hundreds of times as long: milliseconds, not microseconds."""
SIGNABLE: Final[Mapping[Verb, Outcome]] = {
    Verb.ACK: Outcome.ACKED,
    Verb.NACK: Outcome.NACKED,
    Verb.REJECT: Outcome.REJECTED,
}
"""What may be signed: an outcome that says something of what was received."""

PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_MEMBERS: Final = frozenset({"key", "at", "notification", "body_sha256", "value"})
_MARK: Final = "-----BEGIN "
_CERTIFICATE: Final = f"{_MARK}CERTIFICATE-----"
_PSS: Final = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
_SHA256: Final = hashes.SHA256()
_ECDSA: Final = ec.ECDSA(_SHA256)


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """A public key of a client, as it is kept. ``pem`` is the key's, or the certificate's that it came in.

    With a certificate there are its ``subject``, and ``not_before_ms`` and ``not_after_ms``, both of which are in its
    time. One that was revoked is kept, so that what it signed before can be verified.
    """

    id: str
    algorithm: str
    pem: str
    added_at_ms: int
    label: str = ""
    subject: str = ""
    not_before_ms: int | None = None
    not_after_ms: int | None = None
    revoked_at_ms: int | None = None

    def check(self, now_ms: int) -> None:
        """``SigningKeyEnded`` unless it can sign at that time."""
        if self.revoked_at_ms is not None:
            raise SigningKeyEnded(f"the key was revoked at {times.to_text(self.revoked_at_ms)}")
        if self.not_before_ms is not None and now_ms < self.not_before_ms:
            raise SigningKeyEnded(
                f"the certificate is valid from {times.to_text(self.not_before_ms)} on"
            )
        if self.not_after_ms is not None and now_ms > self.not_after_ms:
            raise SigningKeyEnded(
                f"the certificate was valid until {times.to_text(self.not_after_ms)}"
            )


class Opened(NamedTuple):
    """A key that is ready to verify with."""

    kept: SigningKey
    public: PublicKey


# -- keys ---------------------------------------------------------------------------------------


def read_key(pem: str, label: str, now_ms: int) -> SigningKey:
    """What is kept of a public key (SubjectPublicKeyInfo) or an X.509 certificate in PEM.

    ``InvalidSigningKey`` for anything else, private keys and further blocks among it, for a kind or size of key that
    is not taken, and for a certificate that is not valid now.
    """
    check_bounds("length of pem", len(pem), 1, PEM_CHARACTERS)
    if pem.count(_MARK) != 1:
        raise InvalidSigningKey("give one public key or one certificate, in PEM")
    try:
        if _CERTIFICATE in pem:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            public = _supported(certificate.public_key())
            text = certificate.public_bytes(serialization.Encoding.PEM).decode()
            key = SigningKey(
                id=key_id(public),
                algorithm=algorithm_of(public),
                pem=text,
                added_at_ms=now_ms,
                label=label,
                subject=certificate.subject.rfc4514_string()[:300],
                not_before_ms=_ms(certificate.not_valid_before_utc),
                not_after_ms=_ms(certificate.not_valid_after_utc),
            )
        else:
            public = _supported(serialization.load_pem_public_key(pem.encode()))
            key = SigningKey(
                id=key_id(public),
                algorithm=algorithm_of(public),
                pem=pem_of(public),
                added_at_ms=now_ms,
                label=label,
            )
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise InvalidSigningKey("that is no public key or certificate in PEM") from error
    try:
        key.check(now_ms)
    except SigningKeyEnded as error:
        raise InvalidSigningKey(error.detail) from error
    check_bounds("length of pem", len(key.pem), 1, PEM_CHARACTERS)
    return key


def open_key(kept: SigningKey) -> Opened:
    """A key that is kept, to verify with."""
    return Opened(kept, load_public_key(kept.pem))


def load_public_key(pem: str) -> PublicKey:
    """The key in a PEM of a public key or a certificate. ``InvalidSigningKey``."""
    try:
        if _CERTIFICATE in pem:
            return _supported(x509.load_pem_x509_certificate(pem.encode()).public_key())
        return _supported(serialization.load_pem_public_key(pem.encode()))
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise InvalidSigningKey("that is no public key or certificate in PEM") from error


def key_id(public: PublicKey) -> str:
    """The SHA-256 of the key's SubjectPublicKeyInfo in DER, in hexadecimal digits."""
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def pem_of(public: PublicKey) -> str:
    """The key as SubjectPublicKeyInfo in PEM."""
    return public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def algorithm_of(public: PublicKey) -> str:
    """The one algorithm by which that key signs."""
    match public:
        case Ed25519PublicKey():
            return ED25519
        case ec.EllipticCurvePublicKey():
            return ECDSA
        case _:
            return RSA_PSS


def _supported(public: object) -> PublicKey:
    match public:
        case Ed25519PublicKey():
            return public
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return public
        case rsa.RSAPublicKey(key_size=bits) if RSA_BITS[0] <= bits <= RSA_BITS[1]:
            if public.public_numbers().e != RSA_EXPONENT:
                raise InvalidSigningKey(f"the public exponent of an RSA key is {RSA_EXPONENT}")
            return public
        case _:
            raise InvalidSigningKey(
                "a key is Ed25519, of the elliptic curve P-256, or RSA of 2,048 to 4,096 bits"
            )


def _ms(moment: datetime.datetime) -> int:
    return int(moment.timestamp()) * 1_000


# -- the text, and what is over it --------------------------------------------------------------


def text_of(signature: Signature, queue: str, outcome: str, said: bytes) -> bytes:
    """What is signed. ``said`` is the reply with an ack, else the reason."""
    lines = (
        FORMAT,
        signature.notification,
        signature.body_sha256,
        queue,
        outcome,
        hashlib.sha256(said).hexdigest(),
        signature.at,
        signature.key,
    )
    return "".join(f"{line}\n" for line in lines).encode()


def holds(public: PublicKey, text: bytes, value: bytes) -> bool:
    """Whether the value is a signature over the text by that key."""
    try:
        match public:
            case Ed25519PublicKey():
                public.verify(value, text)
            case ec.EllipticCurvePublicKey():
                public.verify(value, text, _ECDSA)
            case _:
                public.verify(value, text, _PSS, _SHA256)
    except InvalidSignature:
        return False
    return True


def verified(
    signature: Signature, key: Opened, queue: str, verb: Verb, said: bytes, now_ms: int
) -> Signature:
    """The signature with its algorithm, once it is known to hold now; else one of ``SignatureRefused``."""
    outcome = SIGNABLE.get(verb)
    if outcome is None:
        raise SignatureRefused(f"a {verb.value} is not signed: an ack, a nack or a reject is")
    key.kept.check(now_ms)
    if abs(times.to_ms(signature.at) - now_ms) > TOLERANCE_SECONDS * 1_000:
        raise SignatureOutOfTime(
            f"it was signed at {signature.at}, more than {TOLERANCE_SECONDS} seconds from"
            f" {times.to_text(now_ms)}"
        )
    if not holds(key.public, text_of(signature, queue, outcome.value, said), signature.value):
        raise SignatureRefused(
            f"it is none over {signature.notification} as {outcome.value} in {queue} by that key"
        )
    return msgspec.structs.replace(signature, algorithm=key.kept.algorithm)


def check_subject(signature: Signature, subject: Subject) -> None:
    """``SignatureRefused`` unless it is over what was published: that notification, and that body."""
    if signature.notification != subject.id:
        raise SignatureRefused(
            f"it is over {signature.notification}, and the lease is of {subject.id}"
        )
    if signature.body_sha256 != subject.body_sha256.hex():
        raise SignatureRefused(
            f"it is over a body with the SHA-256 {signature.body_sha256}, and what was published has"
            f" {subject.body_sha256.hex()}"
        )


def verify_signature(receipt: Receipt, public_key: str) -> bool:
    """Whether the client's own signature in a receipt holds, by a public key or certificate in PEM.

    False also where the receipt bears none, or one by another key. The answer rests on the receipt and the key alone:
    that the key was the client's, and not revoked at the time, is for its register to say. ``InvalidSigningKey``.
    """
    public = load_public_key(public_key)
    if not receipt.signature or key_id(public) != receipt.signature_key:
        return False
    return holds(public, receipt_text(receipt), base64.b64decode(receipt.signature))


def receipt_text(receipt: Receipt) -> bytes:
    """What was signed of a receipt that bears a signature."""
    late = receipt.outcome == Outcome.LATE_ACK
    outcome = Outcome.ACKED.value if late else receipt.outcome
    if outcome == Outcome.ACKED:
        said = (
            base64.b64decode(receipt.reply_base64)
            if receipt.reply_base64 is not None
            else (receipt.reply or "").encode()
        )
    else:
        said = receipt.reason.encode()
    signature = Signature(
        key=receipt.signature_key,
        at=receipt.signed_at,
        notification=receipt.notification,
        body_sha256=receipt.body_sha256,
        value=b"",
    )
    return text_of(signature, receipt.queue, outcome, said)


# -- as it is sent ------------------------------------------------------------------------------


def signature_of(
    *, key: str, at: str, notification: str, body_sha256: str, value: str | bytes
) -> Signature:
    """A signature as a client sends it, its value in base64 or in bytes. ``Malformed`` for what cannot be one."""
    for name, text in (("key", key), ("body_sha256", body_sha256)):
        if not _DIGEST.fullmatch(text):
            raise Malformed(f"the signature's {name} must be 64 hexadecimal digits, in lower case")
    if not _TIME.fullmatch(at):
        raise Malformed("the signature's at must be an RFC 3339 time such as 2026-01-31T12:00:00Z")
    times.to_ms(at)
    if not (0 < len(notification) <= 128 and notification.isascii() and notification.isprintable()):
        raise Malformed("the signature's notification must be the notification's id")
    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except (ValueError, binascii.Error) as error:
            raise Malformed("the signature's value is not base64") from error
    check_bounds("length of the signature's value", len(value), 1, VALUE_BYTES)
    return Signature(
        key=key, at=at, notification=notification, body_sha256=body_sha256, value=value
    )


def to_json(signature: Signature) -> dict[str, str]:
    """The member ``signature`` of a message."""
    return {
        "key": signature.key,
        "at": signature.at,
        "notification": signature.notification,
        "body_sha256": signature.body_sha256,
        "value": base64.b64encode(signature.value).decode(),
    }


def to_header(signature: Signature) -> str:
    """The value of the header ``Restante-Signature``."""
    return ", ".join(f"{name}={value}" for name, value in to_json(signature).items())


def from_header(text: str) -> Signature:
    """What that header says. ``Malformed``."""
    if len(text) > HEADER_CHARACTERS:
        raise Malformed(f"{HEADER} is at most {HEADER_CHARACTERS} characters long")
    members: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in _MEMBERS or name in members:
            raise Malformed(f"{HEADER} has {', '.join(sorted(_MEMBERS))}, each once as name=value")
        members[name] = value
    if len(members) != len(_MEMBERS):
        missing = ", ".join(sorted(_MEMBERS - members.keys()))
        raise Malformed(f"{HEADER} lacks {missing}")
    return signature_of(**members)
