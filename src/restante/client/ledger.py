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
    that is left, whose own digest is taken as given.
    """
    previous = GENESIS
    first = last = 0
    after: int | None = None
    while True:
        page = await client.receipts(queue, limit=page_size, after=after)
        for receipt in page.receipts:
            if last and receipt.number != last + 1:
                raise LedgerBroken(
                    f"receipts {queue}~{last + 1} to {receipt.number - 1} are missing"
                )
            if last or receipt.number == 1:
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
            return Verified(last - first + 1 if last else 0, first, last)
