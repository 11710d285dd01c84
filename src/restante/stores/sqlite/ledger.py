"""Finding a queue's receipts in the one long table they all share.

Receipts of all queues stand one behind the other, so that a commit appends to a few pages instead of changing one for
every queue it touches. Each has the place of its queue's previous one; every ``SHELF``-th has its own place in
``shelves``. A range is found from the shelf at or after its end, and read backwards.

Where somebody has taken a receipt away, or has bent its way to the one before it, what is left is found by looking
through the table: one receipt that is gone hides none of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import apsw

SHELF: Final = 64
STRIDE: Final = 512

Row = tuple[int, int, int, str, int, int, bytes, bytes]
"""``(number, notification, seq, outcome, fence, at, entry, digest)``"""


class Ledger:
    """Reads ledgers over one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute: Callable[..., Any] = connection.execute

    def end(self, queue: int) -> int:
        """The number of the queue's newest receipt; 0 when it has none."""
        row = self._execute("SELECT receipts FROM tallies WHERE queue = ?", (queue,)).fetchone()
        return 0 if row is None else int(row[0])

    def pruned_to(self, queue: int) -> int:
        """The number up to which retention has let go of receipts; 0: of none."""
        row = self._execute("SELECT receipts FROM pruned WHERE queue = ?", (queue,)).fetchone()
        return 0 if row is None else int(row[0])

    def read(self, queue: int, low: int, high: int) -> list[Row]:
        """The receipts numbered ``low`` to ``high``, rising, as far as they are still kept."""
        (start,) = self._execute(
            "SELECT coalesce("
            " (SELECT r FROM shelves WHERE queue = ?1 AND number >= ?2 ORDER BY number LIMIT 1),"
            " (SELECT last FROM tallies WHERE queue = ?1), 0)",
            (queue, high),
        ).fetchone()
        found = self._chain(queue, start, low)
        number, r = (found[-1][1], found[-1][0]) if found else (high + 1, start + 1)
        if number > low:
            # The chain has ended before: what retention has let go of is no gap.
            low = max(low, self.pruned_to(queue) + 1)
        while number > low and (r := self._below(queue, number, r, low)):
            found += self._chain(queue, r, low)
            number = found[-1][1]
        return [row[1:9] for row in reversed(found) if low <= row[1] <= high]

    def _chain(self, queue: int, start: int, low: int) -> list[tuple[Any, ...]]:
        """``(r, *row, previous)`` of the receipt at ``start`` and of those before it, falling, as far as they lead."""
        return list(
            self._execute(
                "WITH RECURSIVE"
                " walk (r, number, notification, seq, outcome, fence, at, entry, digest, previous) AS ("
                "  SELECT r, number, notification, seq, outcome, fence, at, entry, digest, previous"
                "  FROM receipts WHERE r = ?2 AND queue = ?1"
                "  UNION ALL"
                "  SELECT b.r, b.number, b.notification, b.seq, b.outcome, b.fence, b.at, b.entry, b.digest, b.previous"
                "  FROM walk w JOIN receipts b ON b.r = w.previous AND b.queue = ?1 AND b.number = w.number - 1"
                "  WHERE w.number > ?3)"
                # Bytes, whatever somebody else has written there.
                " SELECT r, number, notification, seq, outcome, fence, at, CAST(entry AS BLOB), CAST(digest AS BLOB),"
                " previous FROM walk",
                (queue, start, low),
            )
        )

    def _below(self, queue: int, number: int, r: int, low: int) -> int:
        """Where the newest receipt is that stands before ``r`` and has a lower ``number``; 0: none that is wanted."""
        row = self._execute(
            "SELECT r FROM receipts WHERE r < ?2 AND queue = ?1 AND number < ?3 AND r > coalesce("
            # What is wanted stands behind the last shelf before it.
            " (SELECT r FROM shelves WHERE queue = ?1 AND number < ?4 ORDER BY number DESC LIMIT 1), 0)"
            " ORDER BY r DESC LIMIT 1",
            (queue, r, number, low),
        ).fetchone()
        return 0 if row is None else int(row[0])

    def rising(self, queue: int, after: int) -> Iterator[Row]:
        """All receipts with a number above ``after``, rising, as far as they are still kept."""
        end = self.end(queue)
        after = max(after, self.pruned_to(queue))
        while after < end:
            yield from self.read(queue, after + 1, min(after + STRIDE, end))
            after += STRIDE

    def falling(self, queue: int, below: int) -> Iterator[Row]:
        """All receipts with a number below ``below``, falling, as far as they are still kept."""
        high = min(below - 1, self.end(queue))
        floor = self.pruned_to(queue)
        while high > floor:
            low = max(floor, high - STRIDE) + 1
            yield from reversed(self.read(queue, low, high))
            high = low - 1
