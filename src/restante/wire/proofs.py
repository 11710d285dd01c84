"""The proof that a receipt is in the log: everything that is needed to check it, and nobody to be asked or believed.

It is one JSON object. ``entry`` is the receipt byte for byte, in base64, since its hash is over these bytes; ``index``
is its place in the log, ``path`` the hashes (hex) that lead from it to the root that ``checkpoint``, a signed head of
``size`` leaves, tells of. ``docs/ledger.md`` says how to check one by hand.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import Final

import msgspec

from restante.merkle import HASH_BYTES, includes, leaf_hash
from restante.model import Receipt
from restante.wire.checkpoints import NotSigned, TreeHead, VerifierKey, of_note
from restante.wire.receipts import decode_entry

PATH_HASHES: Final = 64
"""No tree that there can be has longer paths."""
PROOF_BYTES: Final = 1_048_576


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What is served, kept in a file, and handed on."""

    entry: str
    index: int
    path: tuple[str, ...]
    checkpoint: str


class Proved(msgspec.Struct, frozen=True):
    """What a proof has shown: that receipt is at that place of the log with that head."""

    receipt: Receipt
    index: int
    head: TreeHead


class NotProved(Exception):
    """What the proof says does not hold; the text says what of it, for people."""


_decoder: Final = msgspec.json.Decoder(Proof)
_encode: Final = msgspec.json.Encoder().encode


def to_json(entry: bytes, index: int, path: Collection[bytes], checkpoint: str) -> bytes:
    """A proof as it is served."""
    return _encode(
        Proof(
            entry=base64.b64encode(entry).decode(),
            index=index,
            path=tuple(one.hex() for one in path),
            checkpoint=checkpoint,
        )
    )


def read(data: bytes) -> Proof:
    """The proof as it is written, unchecked. ``NotProved`` for what is none."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise NotProved("it is no proof of a receipt") from error


def origin_of(proof: Proof) -> str:
    """The log that a proof says it is of: for who holds the key of one log only."""
    return proof.checkpoint.partition("\n")[0]


def check(data: bytes, origin: str, trusted: Collection[VerifierKey]) -> Proved:
    """What a proof shows to whoever trusts these keys. ``NotProved``."""
    if len(data) > PROOF_BYTES:
        raise NotProved("it is longer than a proof")
    proof = read(data)
    try:
        entry = base64.b64decode(proof.entry, validate=True)
        path = [bytes.fromhex(one) for one in proof.path]
    except ValueError as error:
        raise NotProved("it is no proof of a receipt") from error
    if len(path) > PATH_HASHES or any(len(one) != HASH_BYTES for one in path):
        raise NotProved("it is no proof of a receipt")
    try:
        head = of_note(proof.checkpoint, origin, trusted)
    except NotSigned as error:
        raise NotProved(f"the head of the log does not hold: {error}") from error
    if not includes(leaf_hash(entry), proof.index, head.size, path, head.root):
        raise NotProved(
            f"the receipt is not number {proof.index} of the log that the head is of:"
            " it was changed, or the proof is another's"
        )
    try:
        return Proved(decode_entry(entry), proof.index, head)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise NotProved("what is in the log there is no receipt") from error
