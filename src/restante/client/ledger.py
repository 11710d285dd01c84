"""Verifying a queue's ledger from outside, as an auditor does."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from restante.client.operations import Operations
from restante.wire.receipts import GENESIS, receipt_digest


class LedgerBroken(Exception):
    """A receipt is missing, or was changed after it was written."""


class Verified(msgspec.Struct, frozen=True):
    """Receipts ``first`` to ``last`` are all there, and each digest follows from the one before."""

    count: int
    first: int = 0
    last: int = 0


async def verify_ledger(
    client: Operations,
    queue: str,
    page_size: int = 1_000,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Verified:
    """Read the whole ledger of a queue and recompute its chain; raises ``LedgerBroken``.

    What retention has taken from the front is not there to be checked: then the chain begins with the first receipt
    that is left, whose own digest is taken as given. How far that is, and where the ledger ends, the server says.
    """
    previous = GENESIS
    first = last = newest = 0
    after: int | None = None
    while True:
        page = await client.receipts(queue, limit=page_size, after=after)
        for receipt in page.receipts:
            if receipt.number > max(last, page.pruned_to) + 1:
                raise _missing(queue, max(last, page.pruned_to) + 1, receipt.number - 1)
            if receipt.number > last + 1:
                # Those before it are past their retention by now, be it since the page before was read.
                first = 0
            elif last or receipt.number == 1:
                digest = receipt_digest(previous, msgspec.to_builtins(receipt))
                if digest.hex() != receipt.digest:
                    raise LedgerBroken(
                        f"receipt {receipt.id} was changed: its digest does not follow"
                    )
            first = first or receipt.number
            last = receipt.number
            previous = bytes.fromhex(receipt.digest)
        on_progress(last)
        after = page.next
        if after is None:
            if last < newest:
                raise _missing(queue, last + 1, newest)
            if last >= page.newest:
                return Verified(last - first + 1 if last else 0, first, last)
            # Written since the page was read, or missing: another look tells.
            newest, after = page.newest, last


def _missing(queue: str, first: int, last: int) -> LedgerBroken:
    if first == last:
        return LedgerBroken(f"receipt {queue}~{first} is missing")
    return LedgerBroken(f"receipts {queue}~{first} to {last} are missing")
