"""Which receipts are in the log: a row for each run of a queue's receipts that was sealed at once.

What is not sealed yet is found by what queues count: ``sealed`` has how far each has come, so that nothing on the way
of a notification tells of the log, and no row of a receipt is looked at twice.
"""

from __future__ import annotations

from typing import Final

from restante.changes import AddSeals
from restante.queries import LogLag, Seals, Unsealed
from restante.receipt_log import Lag, Run, Seal, UnsealedPage
from restante.stores.postgresql.arrays import argument, columns
from restante.stores.postgresql.connections import Connection

_QUEUES: Final = (
    # Of each queue what comes next; and not what retention has let go of before it was sealed.
    "SELECT q.name, t.queue, t.receipts, greatest(coalesce(s.receipts, 0), coalesce(p.receipts, 0)) AS upto"
    " FROM restante.tallies t JOIN restante.queues q ON q.id = t.queue"
    " LEFT JOIN restante.sealed s ON s.queue = t.queue LEFT JOIN restante.pruned p ON p.queue = t.queue"
    " WHERE t.receipts > coalesce(s.receipts, 0) ORDER BY t.queue LIMIT $1"
)
_LAG: Final = (
    f"SELECT coalesce(sum(u.receipts - u.upto), 0)::bigint, min(r.at) FROM ({_QUEUES}) u"  # noqa: S608 (fixed terms)
    " CROSS JOIN LATERAL (SELECT at FROM restante.receipts r WHERE r.queue = u.queue AND r.number > u.upto"
    "  ORDER BY r.number LIMIT 1) r"
)
_BEHIND: Final = (
    f"SELECT u.name, r.number, r.entry FROM ({_QUEUES}) u"  # noqa: S608 (fixed terms)
    " CROSS JOIN LATERAL (SELECT number, entry FROM restante.receipts r WHERE r.queue = u.queue AND r.number > u.upto"
    "  ORDER BY r.number LIMIT $1) r LIMIT $1"
)
_KINDS: Final = ("text", "bigint", "bigint", "bigint")
_ARGUMENTS: Final = ", ".join(argument(number, kind) for number, kind in enumerate(_KINDS, 1))
_RUNS: Final = (
    f"SELECT q.id, u.first, u.count, u.place FROM unnest({_ARGUMENTS}) AS u (name, first, count, place)"  # noqa: S608 (fixed terms)
    " JOIN restante.queues q ON q.name = u.name"
)
_ADD: Final = f"INSERT INTO restante.seals (queue, first, count, place) {_RUNS}"
_ADVANCE: Final = (
    f"INSERT INTO restante.sealed (queue, receipts) SELECT id, max(first + count - 1) FROM ({_RUNS}) x"  # noqa: S608 (fixed terms)
    " GROUP BY id ORDER BY id ON CONFLICT (queue) DO UPDATE SET receipts = excluded.receipts"
)
_SEALS: Final = (
    "SELECT $1, first, count, place FROM restante.seals WHERE queue = (SELECT id FROM restante.queues WHERE name = $1)"
    # The last run that begins at or before it, and those behind.
    " AND first >= coalesce((SELECT max(first) FROM restante.seals WHERE first <= $2"
    "  AND queue = (SELECT id FROM restante.queues WHERE name = $1)), 0)"
    " AND first + count > $2 ORDER BY first LIMIT $3"
)


async def unsealed(connection: Connection, asked: Unsealed) -> UnsealedPage:
    """The answer to ``Unsealed``. There is no cursor: what was sealed says so itself."""
    runs: list[Run] = []
    for name, number, entry in await connection.fetch(_BEHIND, asked.limit):
        if not runs or runs[-1].queue != name or runs[-1].first + len(runs[-1].entries) != number:
            runs.append(Run(name, number, []))
        runs[-1].entries.append(entry)
    return UnsealedPage(runs, 0)


async def lag(connection: Connection, asked: LogLag) -> Lag:
    """The answer to ``LogLag``."""
    count, oldest_at_ms = (await connection.fetch(_LAG, asked.queues))[0]
    return Lag(min(count, asked.limit), oldest_at_ms)


async def seals(connection: Connection, asked: Seals) -> list[Seal]:
    """The answer to ``Seals``."""
    return [
        Seal(*row) for row in await connection.fetch(_SEALS, asked.queue, asked.start, asked.limit)
    ]


async def add(connection: Connection, change: AddSeals) -> None:
    """Put the runs into the log."""
    rows = [(seal.queue, seal.first, seal.count, seal.place) for seal in change.seals]
    await connection.execute(_ADD, *columns(rows, _KINDS))
    await connection.execute(_ADVANCE, *columns(rows, _KINDS))
