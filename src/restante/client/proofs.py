"""What can be proved: asking for proofs, heads, and the whole log of receipts; and checking that it is one log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from itertools import pairwise
from urllib.parse import quote

from restante.client.http import Wire
from restante.wire.checkpoints import VerifierKey
from restante.wire.ledger_messages import ConsistencyOut, HeadList, KeyList
from restante.wire.proofs import Consistent, NotProved, check_consistency, origin_of, read_head

NEXT_HEADER = "Restante-Next"


class ProofOperations:
    """Nothing of what these answer has to be believed: see ``docs/ledger.md``."""

    _wire: Wire

    async def proof(self, receipt: str, *, wait_seconds: int = 2) -> bytes:
        """The proof (JSON) that a receipt, ``<queue>~<number>``, is in the log.

        Raises ``ReceiptNotSealed`` and ``TooManyWaiters``.
        """
        path = f"/v1/receipts/{quote(receipt, safe='')}/proof?wait={wait_seconds}"
        return (await self._wire.send("GET", path, repeatable=True)).content

    async def ledger_head(self) -> str:
        """The newest signed head (C2SP tlog-checkpoint). ``LogEmpty``."""
        return (await self._wire.send("GET", "/v1/ledger/head", repeatable=True)).text

    async def ledger_heads(self, *, after: int | None = None, limit: int = 100) -> HeadList:
        """Heads that were kept, of more than ``after`` receipts (None: all)."""
        params: dict[str, str | int | float | None] = {"after": after, "limit": limit}
        return await self._wire.call(HeadList, "GET", "/v1/ledger/heads", params=params)

    async def ledger_keys(self) -> KeyList:
        """The keys that heads are checked with, as the service says; whoever checks holds them already."""
        return await self._wire.call(KeyList, "GET", "/v1/ledger/keys")

    async def ledger_consistency(self, old: int, new: int) -> ConsistencyOut:
        """The proof that the log of ``old`` receipts is the beginning of that of ``new``.

        Raises ``OutOfBounds``, and ``LogEmpty``.
        """
        params: dict[str, str | int | float | None] = {"from": old, "to": new}
        return await self._wire.call(ConsistencyOut, "GET", "/v1/ledger/consistency", params=params)

    async def ledger_export(self) -> AsyncIterator[bytes]:
        """The lines of the whole log (``restante.wire.log_lines``), page by page as it goes."""
        after: str | None = ""
        while after is not None:
            path = f"/v1/ledger/export?after={quote(after, safe='')}"
            page = await self._wire.send("GET", path, repeatable=True)
            for line in page.content.splitlines():
                yield line
            after = page.headers.get(NEXT_HEADER)


async def verify_heads(
    client: ProofOperations, heads: Collection[str], trusted: Collection[VerifierKey]
) -> list[Consistent]:
    """Check that heads which were kept, and the service's newest, are of one log that was only added to.

    One after the other by size, each with the next; nothing is believed but the keys. ``NotProved``; ``LogEmpty``.
    """
    newest = await client.ledger_head()
    notes = [*heads, newest]
    origin = origin_of(notes[0])
    named = [
        *(f"head {number} of those that were kept" for number in range(1, len(notes))),
        "the newest head",
    ]
    read = [
        (read_head(whose, note, origin, trusted).size, note)
        for whose, note in zip(named, notes, strict=True)
    ]
    size = read[-1][0]
    kept = sorted(read[:-1])
    if kept and kept[-1][0] > size:
        raise NotProved(
            f"there was a log of {kept[-1][0]} receipts, and it has {size} now: it was truncated"
        )
    shown = []
    for (old, older), (new, newer) in pairwise([*kept, read[-1]]):
        if 0 < old < new:
            proof = await client.ledger_consistency(old, new)
        else:
            # Of an empty log, and of one of the same size, there is nothing to ask.
            proof = ConsistencyOut(old=old, new=new, path=[], checkpoint=newest)
        shown.append(check_consistency(proof, older, newer, origin, trusted))
    return shown
