"""What somebody would write who has the database and the key of the log: another history, without a fault in itself."""

from typing import NamedTuple

import msgspec
from tests.unit.engine.test_receipt_log import KEY

from restante.merkle import Tile, consistency, grown, leaf_hash, root
from restante.papers import Kind
from restante.queries import PaperOf, Papers, Queues, Receipts, Seals
from restante.receipt_log import STATE_KEY, decode_state, encode_state, tile_key
from restante.wire.checkpoints import of_note, to_note
from restante.wire.ledger_messages import ConsistencyOut
from restante.wire.receipts import GENESIS, chain

ORIGIN = KEY.verifier.name


class Forgery(NamedTuple):
    """Rows to be put in place of others.

    ``receipts`` are entries and digests by queue and number, ``papers`` contents by kind and key, ``heads`` are those
    that were kept before, by their sizes, ``forked`` the sizes of those that are of what was changed, ``proofs`` what a
    server of the forgery would say to whoever holds a head.
    """

    receipts: dict[tuple[str, int], tuple[bytes, bytes]]
    papers: dict[tuple[str, str], bytes]
    heads: dict[int, str]
    forked: set[int]
    proofs: dict[int, ConsistencyOut]


async def forged(store, queue, number, old, new):
    """One receipt says ``new`` for ``old``; the chain of its queue, the log and its heads are made anew of that."""
    receipts, leaves, changed = {}, {}, 0
    for one in await store.browse(Queues("", limit=100)):
        seals = await store.browse(Seals(one.name, 1, limit=1_000))
        digest = GENESIS
        page = await store.browse(Receipts(one.name, 0, limit=1_000))
        assert page.next is None
        for receipt in page.receipts:
            entry = receipt.entry
            places = (seal.place_of(receipt.number) for seal in seals)
            place = next(place for place in places if place is not None)
            if (one.name, receipt.number) == (queue, number):
                assert old in entry
                entry, changed = entry.replace(old, new), place
            digest = chain(digest, entry)
            if digest != receipt.digest:
                receipts[one.name, receipt.number] = (entry, digest)
            leaves[place] = leaf_hash(entry)
    tree: dict[Tile, bytes] = {}
    tree.update(grown(0, [leaves[place] for place in range(len(leaves))], tree.__getitem__))
    read = tree.__getitem__

    def signed(head):
        return to_note(ORIGIN, head._replace(root=root(head.size, read)), [KEY])

    papers = {("log_tile", tile_key(tile)): hashes for tile, hashes in tree.items()}
    heads = {}
    for paper in await store.browse(Papers(Kind.LOG_HEAD, "", limit=100)):
        head = of_note(paper.content.decode(), ORIGIN, [KEY.verifier])
        papers["log_head", paper.key] = signed(head).encode()
        if head.size:
            heads[head.size] = paper.content.decode()
    paper = await store.browse(PaperOf(Kind.LOG, STATE_KEY))
    state = decode_state(paper.content)
    note = signed(state.head)
    state = msgspec.structs.replace(state, root=root(state.size, read), checkpoint=note)
    papers["log", STATE_KEY] = encode_state(state)
    proofs = {}
    for size in heads:
        path = [one.hex() for one in consistency(size, state.size, read)]
        proofs[size] = ConsistencyOut(old=size, new=state.size, path=path, checkpoint=note)
    forked = {size for size in heads if size > changed}
    return Forgery(receipts, papers, heads, forked, proofs)
