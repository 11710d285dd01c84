"""The log over all receipts of a store: where in it each stands, and what is kept of it.

Its leaves are the receipts' entries, in the order in which they were sealed; its hashes are RFC 9162's (``merkle.py``).
Sealing takes what receipts there are that are not in the log, some of many queues at once: a run of one queue's
receipts stands in the log one behind the other, so that one ``Seal`` tells the places of all of them. The hashes are
kept as papers, tile by tile; so are the signed heads.
"""

from __future__ import annotations

from typing import Final

import msgspec

from restante.merkle import Tile
from restante.wire.checkpoints import TreeHead

STATE_KEY: Final = "state"
"""The key of the one paper that says how far the log has come."""
SIZE_MAXIMUM: Final = 2**62
"""Nobody asks for a log of more receipts."""


class Seal(msgspec.Struct, frozen=True):
    """``count`` receipts of a queue from number ``first`` on are leaves ``place``, ``place + 1`` ... of the log."""

    queue: str
    first: int
    count: int
    place: int

    def place_of(self, number: int) -> int | None:
        """Where in the log that receipt of the queue is; None: not in this run."""
        within = number - self.first
        return self.place + within if 0 <= within < self.count else None


class Run(msgspec.Struct, frozen=True):
    """Entries of a queue's receipts from number ``first`` on, one behind the other, that are not in the log."""

    queue: str
    first: int
    entries: list[bytes]


class UnsealedPage(msgspec.Struct, frozen=True):
    """``cursor`` is the store's own: sealing hands it back."""

    runs: list[Run]
    cursor: int


class Lag(msgspec.Struct, frozen=True):
    """How far the log is behind: so many receipts are not in it, and the oldest of them is of ``oldest_at_ms``.

    None where all are in it.
    """

    receipts: int = 0
    oldest_at_ms: int | None = None


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """How far the log has come. ``checkpoint`` is its signed head, ``node`` whoever made it, at ``at_ms`` (wall clock).

    ``kept_at_ms`` and ``kept_size`` are of the last head that was kept for good; ``kept_size`` is -1 before the first.
    """

    origin: str
    size: int
    root: bytes
    at_ms: int
    node: str
    checkpoint: str
    kept_at_ms: int = 0
    kept_size: int = -1

    @property
    def head(self) -> TreeHead:
        """What the checkpoint says."""
        return TreeHead(self.size, self.root, self.at_ms)


class LogKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that heads are signed with (``VerifierKey.text``), and when it was first used (wall clock)."""

    key: str
    since_ms: int


encode_state: Final = msgspec.json.Encoder().encode
decode_state: Final = msgspec.json.Decoder(LogState).decode
encode_key: Final = msgspec.json.Encoder().encode
decode_key: Final = msgspec.json.Decoder(LogKey).decode


def tile_key(tile: Tile) -> str:
    """The key of a tile's paper: they stand in the order of their level and number."""
    return f"{tile.level}/{tile.number:015d}"


def tile_of(key: str) -> Tile:
    """The tile of such a key."""
    level, _, number = key.partition("/")
    return Tile(int(level), int(number))


def head_key(size: int) -> str:
    """The key of the paper of a head that is kept."""
    return f"{size:019d}"


def head_size(key: str) -> int | None:
    """The size in such a key; None where it is none."""
    if len(key) != len(head_key(0)) or not key.isascii() or not key.isdigit():
        return None
    size = int(key)
    return size if size <= SIZE_MAXIMUM else None
