"""Signed tree heads, as logs of certificates and modules publish theirs: C2SP's tlog-checkpoint in a signed-note.

    receipts.example
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
    2026-11-30T12:00:00.000Z

    — receipts.example Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurm...

The origin names the log and its key, the third line is the root; the fourth, an extension line, is the time. Whoever
has tools for such logs can watch this one with them. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Final, NamedTuple, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from restante.errors import Malformed
from restante.merkle import HASH_BYTES
from restante.wire import times

NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,98}[A-Za-z0-9])?", re.ASCII)
"""Of a log and its keys. Narrower than the specification's: neither spaces nor ``+`` could be told apart by all."""
CONTENT_TYPE: Final = "text/plain; charset=utf-8"
NOTE_CHARACTERS: Final = 16_384
SIGNATURES: Final = 16
_ED25519: Final = b"\x01"
_ID_BYTES: Final = 4
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_DASH: Final = "\u2014 "
_PRIVATE: Final = "PRIVATE+KEY+"
_SIGNED: Final = rf"{_DASH}[^ \n]+ (?:[A-Za-z0-9+/]{{4}}){{22,}}(?:[A-Za-z0-9+/]{{2,3}}={{1,2}})?\n"
_NOTE: Final = re.compile(
    rf"^(?:(?!{_DASH})[^\n]+\n){{1,16}}\n(?:{_SIGNED}){{1,{SIGNATURES}}}", re.MULTILINE
)


class NotSigned(Exception):
    """No key that is trusted has signed it, or one is said to have that has not; or it is no checkpoint at all."""


class NotTrusted(NotSigned):
    """It is a signed note, by other keys than those that are trusted."""


class TreeHead(NamedTuple):
    """A tree of so many leaves had that root at that time (wall clock)."""

    size: int
    root: bytes
    at_ms: int


class VerifierKey(NamedTuple):
    """A key that heads are checked with. ``text`` is how it is written down and handed on."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """Tells the keys of one name apart; no proof of anything."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[
            :_ID_BYTES
        ]

    @property
    def text(self) -> str:
        """``name+id+key``."""
        return f"{self.name}+{self.id.hex()}+{_base64(_ED25519 + self.public)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key of its text. ``ValueError`` where it is none; it says nothing of the text, which may be a secret."""
        name, _, rest = text.strip().partition("+")
        id, _, encoded = rest.partition("+")
        data = _key_of_base64(encoded)
        key = cls(name, data[1:])
        if not NAME.fullmatch(name) or data[:1] != _ED25519 or len(key.public) != HASH_BYTES:
            raise ValueError("not a key that heads are checked with")
        if key.id.hex() != id:
            raise ValueError("the key and its id do not belong together")
        return key

    def holds(self, text: bytes, signature: bytes) -> bool:
        """Whether this key has signed the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


class SignerKey:
    """What signs heads: a name, and the 32 bytes of an Ed25519 key (RFC 8032)."""

    def __init__(self, name: str, secret: bytes) -> None:
        if not NAME.fullmatch(name):
            raise ValueError("not a name of a log")
        self._private = Ed25519PrivateKey.from_private_bytes(secret)
        self.verifier = VerifierKey(name, self._private.public_key().public_bytes_raw())

    @property
    def text(self) -> str:
        """How it is written down: ``PRIVATE+KEY+name+id+key``, as Go's ``note`` package does. A secret."""
        secret = self._private.private_bytes_raw()
        return (
            f"{_PRIVATE}{self.verifier.name}+{self.verifier.id.hex()}+{_base64(_ED25519 + secret)}"
        )

    @staticmethod
    def is_text(text: str) -> bool:
        """Whether it is the text of a key that signs, as against one that checks."""
        return text.startswith(_PRIVATE)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key of its text. ``ValueError`` where it is none; it says nothing of the secret."""
        name, _, rest = text.strip().removeprefix(_PRIVATE).partition("+")
        id, _, encoded = rest.partition("+")
        data = _key_of_base64(encoded)
        if not text.startswith(_PRIVATE) or data[:1] != _ED25519 or len(data) != 1 + HASH_BYTES:
            raise ValueError("not a key that heads are signed with")
        key = cls(name, data[1:])
        if key.verifier.id.hex() != id:
            raise ValueError("the key and its id do not belong together")
        return key

    def __repr__(self) -> str:
        return f"SignerKey({self.verifier.name})"

    def sign(self, text: bytes) -> str:
        """The line that says so."""
        signed = self.verifier.id + self._private.sign(text)
        return f"{_DASH}{self.verifier.name} {_base64(signed)}\n"


class LogKeys(NamedTuple):
    """``signers`` sign heads, all of them. ``before`` are keys that are used no more, whose heads are gone on with."""

    signers: tuple[SignerKey, ...]
    before: tuple[VerifierKey, ...] = ()

    @property
    def trusted(self) -> tuple[VerifierKey, ...]:
        """By which one's own heads are known."""
        return (*(key.verifier for key in self.signers), *self.before)


NO_KEYS: Final = LogKeys(())


def to_note(origin: str, head: TreeHead, keys: Iterable[SignerKey]) -> str:
    """The head, signed with each of the keys."""
    text = f"{origin}\n{head.size}\n{_base64(head.root)}\n{times.to_text(head.at_ms)}\n"
    return f"{text}\n{''.join(key.sign(text.encode()) for key in keys)}"


def of_note(note: str, origin: str, trusted: Iterable[VerifierKey]) -> TreeHead:
    """The head of that log that a trusted key has signed. ``NotSigned``.

    Signatures of other keys say nothing, and are passed over; one that is said to be a trusted key's has to hold.
    """
    if len(note) > NOTE_CHARACTERS:
        raise NotSigned("it is longer than a checkpoint")
    text, blank, lines = note.rpartition("\n\n")
    text += "\n"
    if not blank or not lines.endswith("\n"):
        raise NotSigned("it is no signed note")
    keys = {(key.name, key.id): key for key in trusted}
    signed = False
    for line in lines.split("\n")[:-1][:SIGNATURES]:
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        try:
            data = _of_base64(encoded)
        except ValueError as error:
            raise NotSigned("a signature cannot be read") from error
        if not line.startswith(_DASH) or len(data) <= _ID_BYTES:
            raise NotSigned("a signature cannot be read")
        key = keys.get((name, data[:_ID_BYTES]))
        if key is None:
            continue
        if not key.holds(text.encode(), data[_ID_BYTES:]):
            raise NotSigned(f"{name} has not signed this")
        signed = True
    if not signed:
        raise NotTrusted("no key that is trusted has signed it")
    return _head(text, origin)


def notes_of(text: str) -> list[str]:
    """The signed notes of a file, with empty lines between them. What is not signed, as one cut off, is passed over."""
    return _NOTE.findall(f"{text}\n")


def _head(text: str, origin: str) -> TreeHead:
    named, size, root, at, *_ = *text.split("\n"), "", "", "", ""
    if named != origin:
        raise NotSigned(f"it is of another log: {named[:100]}")
    try:
        head = TreeHead(int(size), _of_base64(root), times.to_ms(at))
    except (ValueError, Malformed) as error:
        raise NotSigned("it is no checkpoint of this kind") from error
    if not _SIZE.fullmatch(size) or len(head.root) != HASH_BYTES:
        raise NotSigned("it is no checkpoint of this kind")
    return head


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _key_of_base64(text: str) -> bytes:
    """Empty where it is none, as no key is."""
    try:
        return _of_base64(text)
    except ValueError:
        return b""


def _of_base64(text: str) -> bytes:
    """``ValueError`` where it is none, or not the one way to write it."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base64") from error
    if _base64(data) != text:
        raise ValueError("not base64")
    return data
