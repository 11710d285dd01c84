"""Secrets at rest: sealed with AES-256-GCM under a key that is kept apart from them.

A sealed secret is a version byte, four bytes that tell which key sealed it, the nonce, and the ciphertext with its tag.
It opens only in its own place: what it is for and whose it is are associated data (``context``), so that a sealed
secret that was moved to another row does not open there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_VERSION: Final = b"\x01"
_ID_BYTES: Final = 4


class SealBroken(Exception):
    """What was sealed is not there to be had: its key is missing, it was altered, or it is from another place."""


class Keyring:
    """The keys there are: the first seals, all open. ``ValueError`` unless there is one, and each has 32 bytes."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a keyring takes one key or more, of {KEY_BYTES} bytes each")
        self._ciphers = {_id(key): AESGCM(key) for key in keys}
        self._first = _id(keys[0])

    @property
    def ids(self) -> tuple[bytes, ...]:
        """By which the keys are known, in their order. They tell nothing of the keys."""
        return tuple(self._ciphers)

    def __repr__(self) -> str:
        return f"Keyring({len(self._ciphers)} keys)"

    def seal(self, secret: bytes, context: Sequence[str], nonce: bytes) -> bytes:
        """The secret, sealed by the first key. ``nonce`` is 12 random bytes, new for each."""
        sealed = self._ciphers[self._first].encrypt(nonce, secret, _data(context))
        return _VERSION + self._first + nonce + sealed

    def open(self, sealed: bytes, context: Sequence[str]) -> bytes:
        """The secret, where ``context`` is what it was sealed with; else ``SealBroken``."""
        id, rest = sealed[1 : 1 + _ID_BYTES], sealed[1 + _ID_BYTES :]
        cipher = self._ciphers.get(id)
        if sealed[:1] != _VERSION or cipher is None:
            raise SealBroken("there is no key for this secret")
        try:
            return cipher.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], _data(context))
        except (InvalidTag, ValueError) as error:
            raise SealBroken("this secret was altered, or is from another place") from error

    def is_current(self, sealed: bytes) -> bool:
        """Whether it was sealed by the first key, and need not be sealed anew."""
        return sealed[: 1 + _ID_BYTES] == _VERSION + self._first


def parse_keys(text: str) -> list[bytes]:
    """The keys in a file, one a line in base64; ``ValueError``, which shows none of them, for one that is no key."""
    keys: list[bytes] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            key = base64.b64decode(line.strip(), validate=True)
        except (ValueError, binascii.Error):
            key = b""
        if len(key) != KEY_BYTES:
            raise ValueError(f"line {number} is not a key: {KEY_BYTES} bytes in base64")
        keys.append(key)
    if not keys:
        raise ValueError("there is no key in it")
    return keys


def to_line(key: bytes) -> str:
    """A key as it stands in the file."""
    return base64.b64encode(key).decode()


def _id(key: bytes) -> bytes:
    return hashlib.sha256(b"restante key id\0" + key).digest()[:_ID_BYTES]


def _data(context: Sequence[str]) -> bytes:
    # Names hold no NUL, so that no two contexts read alike.
    return "\0".join(context).encode()
