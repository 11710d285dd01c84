"""An append-only Merkle tree: hashes, roots and proofs as RFC 9162 (Certificate Transparency 2.0), section 2.1.

Pure. What is stored of a tree are the hashes of its complete subtrees, which never change: in tiles of up to 256 hashes
of one level, one level in eight. Every other hash is made of those of a tile. A tree of ten million leaves so has some
forty thousand tiles, and any proof in it is made of at most six of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

HASH_BYTES: Final = 32
TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""The root of a tree without leaves (2.1.1)."""


class Tile(NamedTuple):
    """The place of a tile: its hashes are of tree level ``TILE_HEIGHT * level``, from ``TILE_WIDTH * number`` on."""

    level: int
    number: int


ReadTile = Callable[[Tile], bytes]
"""The hashes of a tile, one behind the other; as many as there are."""


class Damaged(Exception):
    """A tile has not got the hashes that a tree of that size has."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf (2.1.1): what stands for its data in the tree."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node over two others (2.1.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def grown(size: int, leaves: Sequence[bytes], read: ReadTile) -> dict[Tile, bytes]:
    """The tiles that differ, each with all its hashes, when leaf hashes are added to a tree of ``size`` leaves.

    Of tiles that are there only those at the right edge are read.
    """
    changed: dict[Tile, bytes] = {}
    added: Sequence[bytes] = leaves
    first, level = size, 0
    while added:
        above: list[bytes] = []
        at = first
        while at < first + len(added):
            index, within = divmod(at, TILE_WIDTH)
            tile = Tile(level, index)
            take = added[at - first : at - first + TILE_WIDTH - within]
            before = _hashes(tile, within, read) if within else b""
            hashes = before + b"".join(take)
            changed[tile] = hashes
            if len(hashes) == TILE_WIDTH * HASH_BYTES:
                above.append(_over(hashes))
            at += len(take)
        # Tiles that are complete now are the next hashes of the level above.
        first, added, level = first // TILE_WIDTH, above, level + 1
    return changed


def root(size: int, read: ReadTile) -> bytes:
    """The hash of the whole tree of the first ``size`` leaves."""
    return _of_range(0, size, read) if size else EMPTY_ROOT


def inclusion(index: int, size: int, read: ReadTile) -> list[bytes]:
    """The proof that leaf ``index`` is in the tree of the first ``size`` leaves (2.1.3.1), the nearest hash first."""
    if not 0 <= index < size:
        raise ValueError("there is no such leaf")
    return _path(index, 0, size, read)


def consistency(old: int, new: int, read: ReadTile) -> list[bytes]:
    """The proof that the tree of the first ``old`` leaves is the beginning of that of the first ``new`` (2.1.4.1)."""
    if not 0 < old <= new:
        raise ValueError("there are no such trees")
    return _subproof(old, 0, new, read, whole=True)


# -- verifying: nothing is read here, and nobody is trusted -----------------------------------------


def includes(leaf: bytes, index: int, size: int, proof: Iterable[bytes], tree: bytes) -> bool:
    """Whether the proof shows that the leaf's hash is at that index of the tree with that root (2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, found = index, size - 1, leaf
    for one in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = node_hash(one, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, one)
        node, last = node >> 1, last >> 1
    return last == 0 and found == tree


def extends(old: int, new: int, proof: Sequence[bytes], old_tree: bytes, new_tree: bytes) -> bool:
    """Whether the proof shows that the tree of ``old`` leaves is the beginning of that of ``new`` (2.1.4.2)."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_tree == new_tree
    path = list(proof)
    if old & (old - 1) == 0:
        # A complete tree is a node of the new one, and not told again.
        path.insert(0, old_tree)
    if not path:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = path[0]
    for one in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            before, after = node_hash(one, before), node_hash(one, after)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            after = node_hash(after, one)
        node, last = node >> 1, last >> 1
    return last == 0 and before == old_tree and after == new_tree


# -- inside -----------------------------------------------------------------------------------------


def _path(index: int, begin: int, end: int, read: ReadTile) -> list[bytes]:
    if end - begin == 1:
        return []
    middle = begin + _split(end - begin)
    if index < middle:
        return [*_path(index, begin, middle, read), _of_range(middle, end, read)]
    return [*_path(index, middle, end, read), _of_range(begin, middle, read)]


def _subproof(old: int, begin: int, end: int, read: ReadTile, *, whole: bool) -> list[bytes]:
    if old == end:
        return [] if whole else [_of_range(begin, end, read)]
    middle = begin + _split(end - begin)
    if old <= middle:
        rest = _subproof(old, begin, middle, read, whole=whole)
        return [*rest, _of_range(middle, end, read)]
    rest = _subproof(old, middle, end, read, whole=False)
    return [*rest, _of_range(begin, middle, read)]


def _of_range(begin: int, end: int, read: ReadTile) -> bytes:
    """The hash over leaves ``begin`` to ``end``, as they stand in a tree: ``begin`` is where a subtree begins."""
    count = end - begin
    if count & (count - 1) == 0:
        return _of_subtree(count.bit_length() - 1, begin >> (count.bit_length() - 1), read)
    middle = begin + _split(count)
    return node_hash(_of_range(begin, middle, read), _of_range(middle, end, read))


def _of_subtree(level: int, index: int, read: ReadTile) -> bytes:
    """The hash of the complete subtree over leaves ``index << level`` and those behind it."""
    high, low = divmod(level, TILE_HEIGHT)
    first = index << low
    tile = Tile(high, first // TILE_WIDTH)
    begin = first % TILE_WIDTH
    hashes = _hashes(tile, begin + (1 << low), read)
    return _over(hashes[begin * HASH_BYTES :])


def _hashes(tile: Tile, count: int, read: ReadTile) -> bytes:
    """The first so many of a tile's hashes."""
    hashes = read(tile)[: count * HASH_BYTES]
    if len(hashes) != count * HASH_BYTES:
        raise Damaged(f"tile {tile.level}/{tile.number} has fewer than {count} hashes")
    return hashes


def _over(hashes: bytes) -> bytes:
    """The hash of the node over so many (a power of two) of its descendants."""
    row = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def _split(count: int) -> int:
    """The largest power of two below ``count``."""
    return 1 << ((count - 1).bit_length() - 1)
