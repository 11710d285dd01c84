"""The tree that an export of the log of receipts tells of, held against the head that was signed. Pure.

It is made anew of the receipts that are there, and of the hashes that the store keeps for those that are not any more.
"""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections.abc import Callable
from typing import Final

from restante.errors import Malformed
from restante.merkle import HASH_BYTES, TILE_WIDTH, Damaged, Tile, grown, leaf_hash, root
from restante.receipt_log import Seal
from restante.wire.checkpoints import TreeHead
from restante.wire.log_lines import TileLine

LEAVES: Final = 1 << 30
"""Larger logs are not looked at: it would take 34 bytes of memory for each."""
_LEVELS: Final = 8
_STEP: Final = 64 * TILE_WIDTH

Find = Callable[[str, str, str], None]
"""Is told what was found, where, and why (see ``log_audit.Finding``)."""
OnProgress = Callable[[int], None]
"""Is told of how many leaves the tree has been made."""


class AuditedTree:
    """Is told what stands where, then asked whether it leads to a head."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._leaves = bytearray()
        self._known = bytearray()
        self._claimed = bytearray()
        self._seals: list[tuple[int, Seal]] = []
        self._tiles: dict[Tile, bytes] = {}
        self._tree: dict[Tile, bytes] | None = None

    def begin(self, size: int) -> None:
        """It is of so many leaves, at most ``LEAVES``."""
        self._leaves, self._known, self._claimed = (
            bytearray(size * HASH_BYTES),
            bytearray(size),
            bytearray(size),
        )

    def claim(self, seal: Seal) -> None:
        """Receipts are said to be at those places."""
        self._seals.append((seal.place, seal))
        end = min(seal.place + seal.count, len(self._claimed))
        if any(self._claimed[seal.place : end]):
            where = f"places {seal.place} to {seal.place + seal.count - 1} of the log"
            self._find("insertion", where, f"{seal.queue}~{seal.first} is said to be there as well")
        for place in range(seal.place, end):
            self._claimed[place] = 1

    def put(self, place: int, entry: bytes) -> bool:
        """That entry is at that place; False: which the tree has not got."""
        if place >= len(self._known):
            return False
        self._leaves[place * HASH_BYTES : (place + 1) * HASH_BYTES] = leaf_hash(entry)
        self._known[place] = 1
        return True

    def keep(self, line: TileLine) -> None:
        """Those hashes are what the store keeps. ``Malformed``."""
        tile = Tile(line.level, line.number)
        if not 0 <= tile.level < _LEVELS or not 0 <= tile.number < LEAVES:
            raise Malformed("there is no such part of a log")
        try:
            hashes = base64.b64decode(line.hashes, validate=True)
        except ValueError:
            hashes = b""
        if tile in self._tiles:
            self._find("insertion", _named(tile), "it is there twice")
        self._tiles[tile] = hashes

    def judge(self, head: TreeHead, on_progress: OnProgress) -> None:
        """Find what does not lead to that head."""
        self._seals.sort(key=lambda one: one[0])
        differing = self._fill()
        tree: dict[Tile, bytes] = {}
        for first in range(0, head.size, _STEP):
            count = min(_STEP, head.size - first)
            leaves = [
                bytes(self._leaves[at : at + HASH_BYTES])
                for at in range(first * HASH_BYTES, (first + count) * HASH_BYTES, HASH_BYTES)
            ]
            tree.update(grown(first, leaves, tree.__getitem__))
            on_progress(first + count)
        entries_hold = root(head.size, tree.__getitem__) == head.root
        if entries_hold:
            self._tree = tree
        if differing:
            tiles_hold = not entries_hold and self._tiles_lead_to(head)
            for place in differing:
                self._blame(place, entries_hold=entries_hold, tiles_hold=tiles_hold)
        elif not entries_hold:
            self._find(
                "edit", "the head of the log", "the receipts and their hashes lead to another"
            )
        else:
            self._compare(tree)

    def root_of(self, size: int) -> bytes | None:
        """The root when it had so many leaves; None where it does not lead to the head that was signed."""
        return None if self._tree is None else root(size, self._tree.__getitem__)

    def _fill(self) -> list[int]:
        """Take the hashes of what is not kept from the tiles; the places of receipts that differ from theirs."""
        differing: list[int] = []
        for first in range(0, len(self._known), TILE_WIDTH):
            count = min(TILE_WIDTH, len(self._known) - first)
            hashes = self._tiles.get(Tile(0, first // TILE_WIDTH), b"")[: count * HASH_BYTES]
            begin = first * HASH_BYTES
            if hashes == self._leaves[begin : begin + count * HASH_BYTES]:
                continue
            for within in range(count):
                place = first + within
                at, stored = place * HASH_BYTES, hashes[within * HASH_BYTES :][:HASH_BYTES]
                if self._known[place]:
                    if stored != self._leaves[at : at + HASH_BYTES]:
                        differing.append(place)
                    continue
                if not self._claimed[place]:
                    self._find("deletion", f"place {place} of the log", "no receipt is there")
                if len(stored) == HASH_BYTES:
                    self._leaves[at : at + HASH_BYTES] = stored
                else:
                    self._find("damage", _named(Tile(0, first // TILE_WIDTH)), "hashes are missing")
        return differing

    def _tiles_lead_to(self, head: TreeHead) -> bool:
        leaves = []
        for place in range(head.size):
            hashes = self._tiles.get(Tile(0, place // TILE_WIDTH), b"")
            leaf = hashes[place % TILE_WIDTH * HASH_BYTES :][:HASH_BYTES]
            if len(leaf) != HASH_BYTES:
                return False
            leaves.append(leaf)
        return root(head.size, grown(0, leaves, _nothing).__getitem__) == head.root

    def _blame(self, place: int, *, entries_hold: bool, tiles_hold: bool) -> None:
        where = self._receipt_at(place)
        if entries_hold:
            tile = _named(Tile(0, place // TILE_WIDTH))
            self._find("damage", tile, f"its hash of {where} is not what the head says")
        elif tiles_hold:
            self._find("edit", where, "it is not what the head of the log was signed over")
        else:
            self._find(
                "edit", where, "its hash is another in the log, and neither leads to the head"
            )

    def _compare(self, tree: dict[Tile, bytes]) -> None:
        """Of hashes that lead to the head: whether the store keeps them as they are."""
        for tile, hashes in tree.items():
            if self._tiles.get(tile, b"")[: len(hashes)] != hashes:
                self._find("damage", _named(tile), "its hashes are not those of the receipts")
        for tile in self._tiles.keys() - tree.keys():
            width = TILE_WIDTH ** (tile.level + 1)
            if tile.number * width < len(self._known):
                self._find("damage", _named(tile), "there is no such part of the log")

    def _receipt_at(self, place: int) -> str:
        at = bisect_right(self._seals, place, key=lambda one: one[0]) - 1
        if at >= 0:
            seal = self._seals[at][1]
            if seal.place <= place < seal.place + seal.count:
                return f"receipt {seal.queue}~{seal.first + place - seal.place}"
        return f"place {place} of the log"


def _named(tile: Tile) -> str:
    return f"tile {tile.level}/{tile.number}"


def _nothing(tile: Tile) -> bytes:
    raise Damaged(f"{_named(tile)} is not there")
