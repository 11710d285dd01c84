"""The tree against RFC 9162 as it is written down there, without anything of ours."""

import hashlib
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from restante import merkle
from restante.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    TILE_WIDTH,
    Damaged,
    Tile,
    consistency,
    extends,
    grown,
    includes,
    inclusion,
    leaf_hash,
    root,
)

# -- section 2.1 of RFC 9162, recursive as it is defined --------------------------------------------


def sha(data):
    return hashlib.sha256(data).digest()


def largest_power_below(n):
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(d):
    if not d:
        return sha(b"")
    if len(d) == 1:
        return sha(b"\x00" + d[0])
    k = largest_power_below(len(d))
    return sha(b"\x01" + mth(d[:k]) + mth(d[k:]))


def path(m, d):
    if len(d) == 1:
        return []
    k = largest_power_below(len(d))
    if m < k:
        return [*path(m, d[:k]), mth(d[k:])]
    return [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m, d, b):
    if m == len(d):
        return [] if b else [mth(d)]
    k = largest_power_below(len(d))
    if m <= k:
        return [*subproof(m, d[:k], b), mth(d[k:])]
    return [*subproof(m - k, d[k:], False), mth(d[:k])]


# -- trees ------------------------------------------------------------------------------------------


class Tree:
    """Tiles as a store would keep them."""

    def __init__(self):
        self.tiles = {}
        self.size = 0
        self.data = []

    def add(self, data):
        changed = grown(self.size, [leaf_hash(one) for one in data], self.read)
        self.tiles.update(changed)
        self.size += len(data)
        self.data += data
        return changed

    def read(self, tile):
        return self.tiles.get(tile, b"")


def data_of(count, seed=b"d"):
    return [seed + b"%d" % number for number in range(count)]


@pytest.fixture(scope="module")
def tree():
    """Larger than two levels of tiles: 70,000 leaves, added in steps of all sizes."""
    tree, dice = Tree(), random.Random(9162)
    data = data_of(70_000)
    while tree.size < len(data):
        step = dice.choice((1, 2, 3, 100, 255, 256, 257, 1_000, 9_000))
        tree.add(data[tree.size : tree.size + step])
    return tree


# The test vectors of Certificate Transparency's own implementations: eight leaves, and the root of all of them.
VECTORS = [
    bytes.fromhex(text)
    for text in (
        *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
        "606162636465666768696a6b6c6d6e6f",
    )
]


def test_known_roots():
    tree = Tree()
    assert root(0, tree.read) == EMPTY_ROOT == mth([])
    tree.add(VECTORS)
    assert root(8, tree.read).hex() == (
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    )


@given(st.integers(0, 600), st.data())
@settings(max_examples=150, deadline=None)
def test_roots_and_proofs_are_those_of_the_rfc(size, data):
    tree, leaves = Tree(), data_of(size)
    while tree.size < size:
        tree.add(leaves[tree.size : tree.size + data.draw(st.integers(1, 300))])
    assert root(size, tree.read) == mth(leaves)
    if not size:
        return
    index = data.draw(st.integers(0, size - 1))
    assert inclusion(index, size, tree.read) == path(index, leaves)
    old = data.draw(st.integers(1, size))
    assert consistency(old, size, tree.read) == subproof(old, leaves, True)
    # Of a tree that is growing any earlier one can be had.
    assert root(old, tree.read) == mth(leaves[:old])


@given(st.integers(1, 70_000), st.data())
@example(65_536, None)
@example(65_537, None)
@settings(max_examples=60, deadline=None)
def test_proofs_hold_and_only_for_what_they_are_of(tree, size, data):
    def draw(low, high):
        return high if data is None else data.draw(st.integers(low, high))

    index, old = draw(0, size - 1), draw(1, size)
    top, before = root(size, tree.read), root(old, tree.read)
    leaf = leaf_hash(tree.data[index])
    proof = inclusion(index, size, tree.read)
    assert includes(leaf, index, size, proof, top)
    step = consistency(old, size, tree.read)
    assert extends(old, size, step, before, top)
    wrong = sha(b"another")
    assert not includes(wrong, index, size, proof, top)
    assert not includes(leaf, index, size, proof, wrong)
    assert not includes(leaf, index, size, [*proof, wrong], top)
    assert not extends(old, size, step, wrong, top)
    assert not extends(old, size, step, before, wrong)
    assert not extends(old, size, [*step, wrong], before, top)
    if proof:
        assert not includes(leaf, index, size, proof[:-1], top)
        assert not includes(leaf, index, size, [wrong, *proof[1:]], top)
    if index + 1 < size:
        assert not includes(leaf, index + 1, size, proof, top)
    if step:
        assert not extends(old, size, step[:-1], before, top)
        assert not extends(old, size, [*step[:-1], wrong], before, top)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0), (2**70, 2**60)])
def test_there_is_no_proof_of_what_is_not_there(tree, index, size):
    assert not includes(b"", index, size, [], EMPTY_ROOT)
    with pytest.raises(ValueError, match="no such leaf"):
        inclusion(index, size, tree.read)


def test_trees_that_are_not_there_extend_nothing(tree):
    for old, new in ((0, 3), (4, 3), (-1, 3)):
        assert not extends(old, new, [], EMPTY_ROOT, EMPTY_ROOT)
        with pytest.raises(ValueError, match="no such trees"):
            consistency(old, new, tree.read)


def test_a_tree_grows_at_its_edge_alone():
    """What is full is never written again, and never read to go on."""
    tree = Tree()
    tree.add(data_of(TILE_WIDTH * 3 + 5))
    full = {tile for tile, hashes in tree.tiles.items() if len(hashes) == TILE_WIDTH * HASH_BYTES}
    assert full == {Tile(0, 0), Tile(0, 1), Tile(0, 2)}
    seen = []

    def read(tile):
        seen.append(tile)
        return tree.read(tile)

    changed = grown(tree.size, [leaf_hash(b"x")] * TILE_WIDTH, read)
    assert set(changed) == {Tile(0, 3), Tile(0, 4), Tile(1, 0)}
    assert set(seen) == {Tile(0, 3), Tile(1, 0)}


def test_a_proof_takes_few_tiles(tree):
    seen = set()

    def read(tile):
        seen.add(tile)
        return tree.read(tile)

    inclusion(12_345, 70_000, read)
    assert len(seen) <= 6


def test_a_tile_that_is_cut_short_is_found_out(tree):
    def read(tile):
        return tree.read(tile)[:-HASH_BYTES] if tile == Tile(0, 3) else tree.read(tile)

    with pytest.raises(Damaged, match="tile 0/3"):
        inclusion(3 * TILE_WIDTH + 1, 70_000, read)


def test_names_are_what_they_say():
    assert merkle.node_hash(b"a" * 32, b"b" * 32) == sha(b"\x01" + b"a" * 32 + b"b" * 32)
