"""An export of the log of receipts: JSON lines, each an object with one member that says what it is.

    {"log":{"at":"...","origin":"receipts.example","size":3,"checkpoint":"...","keys":["receipts.example+..."]}}
    {"queue":{"name":"acme","receipt_retention_seconds":31536000}}
    {"seal":{"first":1,"count":3,"place":0}}
    {"receipt":{"digest":"b06e...","entry":{"at":"2026-11-30T12:00:00.000Z", ...}}}
    {"pruned":{"to":0,"at":"..."}}
    {"tile":{"level":0,"number":0,"hashes":"..."}}
    {"head":{"checkpoint":"..."}}
    {"end":{}}

First how far the log has come and who signs it; then queue by queue, by name, where its receipts stand in the log
(``place`` of the one with number ``first``, and those behind it) and the receipts themselves, an ``entry`` byte for
byte as it is in the store; then the hashes of the log (RFC 9162), in base64; then heads that were kept. A receipt that
is not kept any more has its hash still. What cannot be written so, since somebody else has written it, is a ``damage``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import IO, Final

import msgspec

from restante.errors import Malformed
from restante.merkle import Tile
from restante.model import Queue
from restante.queries import StoredReceipt
from restante.receipt_log import LogKey, LogState, Seal
from restante.wire import times
from restante.wire.receipts import receipt_id

LINE_BYTES: Final = 4 * 1024 * 1024
"""No line is longer: an entry may have a reply of a megabyte, in base64."""


class LogLine(msgspec.Struct, frozen=True):
    """``at`` is when the export was begun, by the server's wall clock. A log without a head has no ``checkpoint``."""

    at: str
    origin: str
    size: int
    checkpoint: str
    keys: list[str]


class QueueLine(msgspec.Struct, frozen=True):
    name: str
    receipt_retention_seconds: int


class PrunedLine(msgspec.Struct, frozen=True):
    """Behind a queue's receipts: those up to number ``to`` were past their time when it was read, ``at``."""

    to: int
    at: str


class DamageLine(msgspec.Struct, frozen=True):
    """What could not be written as a line of its kind."""

    where: str


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
    pruned: PrunedLine | None = None
    damage: DamageLine | None = None


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Line).decode
_decode_any: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode(text: bytes) -> Line:
    """A line of an export. ``msgspec.DecodeError`` or ``Malformed`` for what is none.

    There is one way to write it: what could be read in two ways, as with a member that is there twice, is none.
    """
    line = _decode(text)
    if _encode(line) != text:
        raise Malformed("it is not as Restante writes it")
    return line


def of_log(state: LogState | None, keys: list[LogKey], at_ms: int) -> bytes:
    """The first line; without a state, of a log that has no head."""
    at, texts = times.to_text(at_ms), [key.key for key in keys]
    if state is None:
        return _encode(Line(log=LogLine(at, "", 0, "", texts)))
    return _encode(Line(log=LogLine(at, state.origin, state.size, state.checkpoint, texts)))


def of_queue(queue: Queue) -> bytes:
    retention = queue.settings.receipt_retention_seconds
    return _encode(Line(queue=QueueLine(queue.name, retention)))


def of_pruned(to: int, at_ms: int) -> bytes:
    return _encode(Line(pruned=PrunedLine(to, times.to_text(at_ms))))


def of_damage(where: str) -> bytes:
    return _encode(Line(damage=DamageLine(where)))


def of_seal(seal: Seal) -> bytes:
    return _encode(Line(seal=SealLine(seal.first, seal.count, seal.place)))


def of_receipt(receipt: StoredReceipt) -> bytes:
    """The entry as it is; of one that is no document by itself, byte for byte, that it is damaged."""
    if not _is_document(receipt.entry):
        return of_damage(f"receipt {receipt_id(receipt.queue, receipt.number)}")
    return b'{"receipt":{"digest":"%s","entry":%s}}' % (
        receipt.digest.hex().encode(),
        receipt.entry,
    )


def _is_document(entry: bytes) -> bool:
    # Lines in it could be taken for others, and nobody who reads JSON sees the space around it.
    if b"\n" in entry or b"\r" in entry or entry != entry.strip():
        return False
    try:
        _decode_any(entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def of_tile(tile: Tile, hashes: bytes) -> bytes:
    text = base64.b64encode(hashes).decode()
    return _encode(Line(tile=TileLine(tile.level, tile.number, text)))


def of_head(checkpoint: str) -> bytes:
    return _encode(Line(head=HeadLine(checkpoint)))


def of_end() -> bytes:
    """The last line: without it an export is not whole."""
    return _encode(Line(end=EndLine()))


def lines_of(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, without their ends; ``Malformed`` for one that is longer than any."""
    while line := file.readline(LINE_BYTES + 1):
        if len(line) > LINE_BYTES:
            raise Malformed("this is no export: a line has no end")
        if text := line.strip():
            yield text
