"""An export of the log of receipts: JSON lines, each an object with one member that says what it is.

    {"log":{"origin":"receipts.example","size":3,"checkpoint":"...","keys":["receipts.example+..."]}}
    {"queue":{"name":"acme","pruned":0,"receipt_retention_seconds":31536000}}
    {"seal":{"first":1,"count":3,"place":0}}
    {"receipt":{"digest":"b06e...","entry":{"at":"2026-11-30T12:00:00.000Z", ...}}}
    {"tile":{"level":0,"number":0,"hashes":"..."}}
    {"head":{"checkpoint":"..."}}
    {"end":{}}

First how far the log has come and who signs it; then queue by queue, by name, where its receipts stand in the log
(``place`` of the one with number ``first``, and those behind it) and the receipts themselves, an ``entry`` byte for
byte as it is in the store; then the hashes of the log (RFC 9162), in base64; then heads that were kept. A receipt that
is not kept any more has its hash still.
"""

from __future__ import annotations

import base64
from typing import Final

import msgspec

from restante.merkle import Tile
from restante.model import Queue
from restante.queries import StoredReceipt
from restante.receipt_log import LogKey, LogState, Seal

LINE_BYTES: Final = 4 * 1024 * 1024
"""No line is longer: an entry may have a reply of a megabyte, in base64."""


class LogLine(msgspec.Struct, frozen=True):
    origin: str
    size: int
    checkpoint: str
    keys: list[str]


class QueueLine(msgspec.Struct, frozen=True):
    """Receipts up to number ``pruned`` are not kept any more."""

    name: str
    pruned: int
    receipt_retention_seconds: int


class SealLine(msgspec.Struct, frozen=True):
    first: int
    count: int
    place: int


class ReceiptLine(msgspec.Struct, frozen=True, gc=False):
    digest: str
    entry: msgspec.Raw


class TileLine(msgspec.Struct, frozen=True):
    level: int
    number: int
    hashes: str


class HeadLine(msgspec.Struct, frozen=True):
    checkpoint: str


class EndLine(msgspec.Struct, frozen=True):
    pass


class Line(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One of these is there."""

    receipt: ReceiptLine | None = None
    seal: SealLine | None = None
    tile: TileLine | None = None
    queue: QueueLine | None = None
    head: HeadLine | None = None
    log: LogLine | None = None
    end: EndLine | None = None


_encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder(Line).decode


def of_log(state: LogState, keys: list[LogKey]) -> bytes:
    """The first line."""
    texts = [key.key for key in keys]
    return _encode(Line(log=LogLine(state.origin, state.size, state.checkpoint, texts)))


def of_queue(queue: Queue, pruned: int) -> bytes:
    retention = queue.settings.receipt_retention_seconds
    return _encode(Line(queue=QueueLine(queue.name, pruned, retention)))


def of_seal(seal: Seal) -> bytes:
    return _encode(Line(seal=SealLine(seal.first, seal.count, seal.place)))


def of_receipt(receipt: StoredReceipt) -> bytes:
    return b'{"receipt":{"digest":"%s","entry":%s}}' % (
        receipt.digest.hex().encode(),
        receipt.entry,
    )


def of_tile(tile: Tile, hashes: bytes) -> bytes:
    text = base64.b64encode(hashes).decode()
    return _encode(Line(tile=TileLine(tile.level, tile.number, text)))


def of_head(checkpoint: str) -> bytes:
    return _encode(Line(head=HeadLine(checkpoint)))


def of_end() -> bytes:
    """The last line: without it an export is not whole."""
    return _encode(Line(end=EndLine()))
