"""Proofs: everything that is needed to check what they say, and nobody to be asked or believed.

That a receipt is in the log is one JSON object. ``entry`` is the receipt byte for byte, in base64, since its hash is
over these bytes; ``index`` is its place in the log, ``path`` the hashes (hex) that lead from it to the root that
``checkpoint``, a signed head of ``size`` leaves, tells of. That a log was only added to is two such heads, and the
hashes between their trees. ``docs/ledger.md`` says how to check either by hand.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import Final

import msgspec

from restante.merkle import EMPTY_ROOT, HASH_BYTES, extends, includes, leaf_hash
from restante.model import Receipt
from restante.wire.checkpoints import NotSigned, TreeHead, VerifierKey, of_note
from restante.wire.ledger_messages import ConsistencyOut
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


class Consistent(msgspec.Struct, frozen=True):
    """What a proof has shown: the log that the head ``old`` is of is the beginning of that of the head ``new``."""

    old: TreeHead
    new: TreeHead


class NotProved(Exception):
    """What the proof says does not hold; the text says what of it, for people."""


_decoder: Final = msgspec.json.Decoder(Proof)
_decode_consistency: Final = msgspec.json.Decoder(ConsistencyOut).decode
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


def read_consistency(data: bytes) -> ConsistencyOut:
    """The proof that ``/v1/ledger/consistency`` answers, unchecked. ``NotProved`` for what is none."""
    try:
        return _decode_consistency(data)
    except (msgspec.DecodeError, ValueError) as error:
        raise NotProved("it is no proof that a log was only added to") from error


def origin_of(checkpoint: str) -> str:
    """The log that a head says it is of: for who holds the key of one log only."""
    return checkpoint.partition("\n")[0]


def read_head(
    whose: str, checkpoint: str, origin: str, trusted: Collection[VerifierKey]
) -> TreeHead:
    """A head that holds for whoever trusts these keys; ``whose`` it is, for people. ``NotProved``."""
    try:
        return of_note(checkpoint, origin, trusted)
    except NotSigned as error:
        raise NotProved(f"{whose} does not hold: {error}") from error


def check(data: bytes, origin: str, trusted: Collection[VerifierKey]) -> Proved:
    """What a proof shows to whoever trusts these keys. ``NotProved``."""
    if len(data) > PROOF_BYTES:
        raise NotProved("it is longer than a proof")
    proof = read(data)
    try:
        entry = base64.b64decode(proof.entry, validate=True)
    except ValueError as error:
        raise NotProved("it is no proof of a receipt") from error
    path = _path(proof.path)
    head = read_head("the head of the log", proof.checkpoint, origin, trusted)
    if not includes(leaf_hash(entry), proof.index, head.size, path, head.root):
        raise NotProved(
            f"the receipt is not number {proof.index} of the log that the head is of:"
            " it was changed, or the proof is another's"
        )
    try:
        return Proved(decode_entry(entry), proof.index, head)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise NotProved("what is in the log there is no receipt") from error


def check_consistency(
    proof: ConsistencyOut, older: str, newer: str, origin: str, trusted: Collection[VerifierKey]
) -> Consistent:
    """That the log was only added to between two signed heads, to whoever trusts these keys. ``NotProved``.

    An empty log is the beginning of each, without any hashes.
    """
    path = _path(proof.path)
    old = read_head("the older head", older, origin, trusted)
    new = read_head("the newer head", newer, origin, trusted)
    if (proof.old, proof.new) != (old.size, new.size):
        raise NotProved(
            f"the proof is of logs of {proof.old} and {proof.new} receipts,"
            f" and the heads are of {old.size} and {new.size}"
        )
    if old.size == 0 and new.size > 0:
        holds = not path and old.root == EMPTY_ROOT
    elif old.size == new.size:
        holds = not path and old.root == new.root
    else:
        holds = extends(old.size, new.size, path, old.root, new.root)
    if not holds:
        raise NotProved(
            f"the log of {old.size} receipts is not the beginning of that of {new.size}:"
            " it is a fork, or the proof was changed"
        )
    return Consistent(old, new)


def _path(hashes: Collection[str]) -> list[bytes]:
    try:
        path = [bytes.fromhex(one) for one in hashes]
    except ValueError as error:
        raise NotProved("it is no proof: a hash cannot be read") from error
    if len(path) > PATH_HASHES or any(len(one) != HASH_BYTES for one in path):
        raise NotProved("it is no proof: its hashes are not those of a tree")
    return path
