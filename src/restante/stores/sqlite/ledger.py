"""Finding a queue's receipts in the one long table they all share.

Receipts of all queues stand one behind the other, so that a commit appends to a few pages instead of changing one for
every queue it touches. Each has the place of its queue's previous one; every ``SHELF``-th has its own place in
``shelves``. A range is found from the shelf at or after its end, and read backwards.
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

    def read(self, queue: int, low: int, high: int) -> list[Row]:
        """The receipts numbered ``low`` to ``high``, rising, as far as they are still kept."""
        found = self._execute(
            "WITH RECURSIVE"
            " start (r) AS (SELECT coalesce("
            "  (SELECT r FROM shelves WHERE queue = ?1 AND number >= ?3 ORDER BY number LIMIT 1),"
            "  (SELECT last FROM tallies WHERE queue = ?1))),"
            " walk (number, notification, seq, outcome, fence, at, entry, digest, previous) AS ("
            "  SELECT number, notification, seq, outcome, fence, at, entry, digest, previous"
            "  FROM receipts JOIN start USING (r)"
            "  UNION ALL"
            "  SELECT b.number, b.notification, b.seq, b.outcome, b.fence, b.at, b.entry, b.digest, b.previous"
            "  FROM walk w JOIN receipts b ON b.r = w.previous AND b.queue = ?1 WHERE w.number > ?2)"
            # Bytes, whatever somebody else has written there.
            " SELECT number, notification, seq, outcome, fence, at, CAST(entry AS BLOB), CAST(digest AS BLOB) FROM walk"
            " WHERE number BETWEEN ?2 AND ?3",
            (queue, low, high),
        ).fetchall()
        found.reverse()
        return list(found)

    def rising(self, queue: int, after: int) -> Iterator[Row]:
        """All receipts with a number above ``after``, rising."""
        end = self.end(queue)
        while after < end:
            yield from self.read(queue, after + 1, min(after + STRIDE, end))
            after += STRIDE

    def falling(self, queue: int, below: int) -> Iterator[Row]:
        """All receipts with a number below ``below``, falling, as far as they are still kept."""
        high = min(below - 1, self.end(queue))
        while high > 0:
            rows = self.read(queue, max(1, high - STRIDE + 1), high)
            if not rows:
                return
            yield from reversed(rows)
            high = rows[0][0] - 1
