"""Finding a queue's receipts in the one long table they all share.

Receipts of all queues stand one behind the other, so that a commit appends to a few pages instead of changing one for
every queue it touches. Each has the place of its queue's previous one; every ``SHELF``-th has its own place in
``shelves``. A range is found from the shelf at or after its end, and read backwards.

Where somebody has taken a receipt away, or has given it another number or way to the one before it, what is left is
found by looking through the table: one receipt that is gone hides none of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import apsw

SHELF: Final = 64
STRIDE: Final = 512
_BEYOND: Final = 2**62
"""Above every number, and every place."""

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
        found: list[tuple[Any, ...]] = []
        number, r = self._place(queue, high)
        above = _BEYOND
        while number >= low:
            if chain := self._chain(queue, r, number, low):
                found += chain
                above, number = chain[-1][0], chain[-1][1] - 1
                if number < low:
                    break
            # The chain ends before its time, but what retention has let go of is no gap.
            place = self._before(queue, above, number, max(low, self.pruned_to(queue) + 1))
            if place is None:
                break
            number, r = place
        return [row[1:9] for row in reversed(found) if row[1] <= high]

    def _place(self, queue: int, number: int) -> tuple[int, int]:
        """Number and place of that receipt, or of the nearest above it that has a shelf, else of the newest."""
        place = self._execute(
            "SELECT number, CAST(r AS INTEGER) FROM shelves WHERE queue = ?1 AND number BETWEEN ?2 AND ?3"
            " ORDER BY number LIMIT 1",
            (queue, number, _BEYOND),
        ).fetchone()
        if place is None:
            place = self._execute(
                "SELECT receipts, CAST(last AS INTEGER) FROM tallies WHERE queue = ?", (queue,)
            ).fetchone()
        return (0, 0) if place is None else place

    def _chain(self, queue: int, r: int, number: int, low: int) -> list[tuple[Any, ...]]:
        """``(r, *row, previous)`` of the receipt at ``r``, and of those before it as far as they lead, falling.

        Each has the number that it has to have, ``number`` and those before it, down to ``low``.
        """
        return list(
            self._execute(
                "WITH RECURSIVE"
                " walk (r, number, notification, seq, outcome, fence, at, entry, digest, previous) AS ("
                "  SELECT r, number, notification, seq, outcome, fence, at, entry, digest, previous"
                "  FROM receipts WHERE r = ?2 AND queue = ?1 AND number = ?3"
                "  UNION ALL"
                "  SELECT b.r, b.number, b.notification, b.seq, b.outcome, b.fence, b.at, b.entry, b.digest, b.previous"
                "  FROM walk w JOIN receipts b ON b.r = w.previous AND b.queue = ?1 AND b.number = w.number - 1"
                "  WHERE w.number > ?4)"
                # Bytes, whatever somebody else has written there.
                " SELECT r, number, notification, seq, outcome, fence, at, CAST(entry AS BLOB), CAST(digest AS BLOB),"
                " previous FROM walk",
                (queue, r, number, low),
            )
        )

    def _before(self, queue: int, above: int, number: int, low: int) -> tuple[int, int] | None:
        """Number and place of the highest that is left of ``low`` to ``number``, and stands before ``above``.

        It is looked for from shelf to shelf: wherever those between two stand, they are behind the lower one.
        """
        while number >= low:
            shelf = self._execute(
                "SELECT number, CAST(r AS INTEGER) FROM shelves WHERE queue = ? AND number < ?"
                " ORDER BY number DESC LIMIT 1",
                (queue, number),
            ).fetchone()
            lower, behind = (0, 0) if shelf is None else shelf
            place: tuple[int, int] | None = self._execute(
                "SELECT number, r FROM receipts WHERE r > ?2 AND r < ?3 AND queue = ?1 AND number BETWEEN ?4 AND ?5"
                " ORDER BY number DESC, r DESC LIMIT 1",
                (queue, behind, above, low, number),
            ).fetchone()
            if place is not None:
                return place
            number, above = lower, behind + 1
        return None

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
