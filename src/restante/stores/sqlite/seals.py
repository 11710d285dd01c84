"""Which receipts are in the log: a row for each run of a queue's receipts that was sealed at once.

What is not sealed yet stands behind what is, in the one long table that all receipts share: ``meta`` has the place up
to which everything is sealed. Of a store that was copied here that is the beginning, and what is sealed is passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import apsw

from restante.changes import AddSeals
from restante.errors import StoreUnavailable
from restante.queries import LogLag, Seals, Unsealed
from restante.receipt_log import Lag, Run, Seal, UnsealedPage

SEALED: Final = "sealed"
"""In ``meta``: the receipt (``r``) up to which all are sealed."""


_NOT_SEALED: Final = (
    "r.number > coalesce("
    "(SELECT first + count - 1 FROM seals WHERE queue = r.queue ORDER BY first DESC LIMIT 1), 0)"
)


class SealReads:
    """Answers about the log over one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute: Callable[..., Any] = connection.execute

    def unsealed(self, asked: Unsealed) -> UnsealedPage:
        by_queue: dict[str, Run] = {}
        runs: list[Run] = []
        try:
            cursor = self._cursor()
            rows = self._execute(
                "SELECT r.r, q.name, r.number, CAST(r.entry AS BLOB) FROM receipts r JOIN queues q ON q.id = r.queue"  # noqa: S608 (fixed terms)
                f" WHERE r.r > ? AND {_NOT_SEALED} ORDER BY r.r LIMIT ?",
                (cursor, asked.limit),
            ).fetchall()
        except apsw.CorruptError as error:
            # Asked among the writes, where what is damaged ends all: here it ends the sealing.
            raise StoreUnavailable("what is to be sealed is damaged") from error
        for r, name, number, entry in rows:
            run = by_queue.get(name)
            if run is None or run.first + len(run.entries) != number:
                run = by_queue[name] = Run(name, number, [])
                runs.append(run)
            run.entries.append(entry)
            cursor = r
        return UnsealedPage(runs, cursor)

    def lag(self, asked: LogLag) -> Lag:
        count, oldest_at_ms = self._execute(
            "SELECT count(*), min(at) FROM"  # noqa: S608 (fixed terms)
            f" (SELECT at FROM receipts r WHERE r.r > ? AND {_NOT_SEALED} ORDER BY r.r LIMIT ?)",
            (self._cursor(), asked.limit),
        ).fetchone()
        return Lag(count, oldest_at_ms)

    def seals(self, asked: Seals) -> list[Seal]:
        queue = self._execute("SELECT id FROM queues WHERE name = ?", (asked.queue,)).fetchone()
        if queue is None:
            return []
        rows = self._execute(
            "SELECT first, count, place FROM seals WHERE queue = ?1"
            # The last run that begins at or before it, and those behind.
            " AND first >= coalesce((SELECT max(first) FROM seals WHERE queue = ?1 AND first <= ?2), 0)"
            " AND first + count > ?2 ORDER BY first LIMIT ?3",
            (queue[0], asked.start, asked.limit),
        )
        return [Seal(asked.queue, *row) for row in rows]

    def _cursor(self) -> int:
        row = self._execute("SELECT value FROM meta WHERE name = ?", (SEALED,)).fetchone()
        return 0 if row is None else int(row[0])


def add(connection: apsw.Connection, change: AddSeals) -> None:
    """Put the runs into the log, within the caller's transaction."""
    connection.executemany(
        "INSERT INTO seals (queue, first, count, place)"
        " SELECT id, ?2, ?3, ?4 FROM queues WHERE name = ?1",
        [(seal.queue, seal.first, seal.count, seal.place) for seal in change.seals],
    )
    connection.execute(
        "INSERT OR REPLACE INTO meta VALUES (?, ?)", (SEALED, str(change.cursor).encode())
    )


def sealed_to(connection: apsw.Connection) -> int:
    """The receipt (``r``) up to which all are sealed, found by looking at each."""
    found = connection.execute(
        f"SELECT coalesce((SELECT min(r.r) - 1 FROM receipts r WHERE {_NOT_SEALED}), max(r), 0) FROM receipts"  # noqa: S608 (fixed terms)
    ).fetchone()
    return 0 if found is None else int(found[0])
