"""What a transaction has changed, written in one statement with a column of values for each column of the tables.

Under the lock on a queue's tally nobody else changes its deliveries. The statement holds to that all the same: it finds
a row under the fence with which it was read, or it finds too few, and the transaction is undone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

from restante.model import State
from restante.stores.postgresql.arrays import Column, argument, columns
from restante.stores.postgresql.books import COUNTS, QueueBook
from restante.stores.postgresql.connections import Connection
from restante.stores.postgresql.rows import Row

_NOTIFICATIONS: Final = (
    ("n", "bigint"),
    ("published_at", "bigint"),
    ("id", "text"),
    ("topic", "text"),
    ("content_type", "text"),
    ("attributes", "bytea"),
    ("publisher", "text"),
    ("body_sha256", "bytea"),
    ("body_bytes", "integer"),
    ("body", "bytea"),
)
_STANDING: Final = (
    ("queue", "bigint"),
    ("seq", "bigint"),
    ("state", "smallint"),
    ("due", "bigint"),
    ("attempt", "integer"),
    ("fence", "bigint"),
    ("forgiving", "boolean"),
    ("parked", "boolean"),
    ("overtaken", "boolean"),
    ("leased_at", "bigint"),
    ("consumer", "text"),
    ("holder", "bytea"),
    ("dead_at", "bigint"),
    ("reason", "bytea"),  # PostgreSQL's texts hold no zero character
)
_CHANGED: Final = (*_STANDING, ("was", "bigint"))
_PLACE: Final = (("queue", "bigint"), ("seq", "bigint"), ("was", "bigint"))
_FIXED: Final = (
    ("notification", "bigint"),
    ("published_at", "bigint"),
    ("body_bytes", "integer"),
    ("ordering_key", "text"),
    ("collapse_key", "text"),
    ("expires", "bigint"),
)
_RECEIPTS: Final = (
    ("queue", "bigint"),
    ("number", "bigint"),
    ("at", "bigint"),
    ("notification", "bigint"),
    ("seq", "bigint"),
    ("outcome", "text"),
    ("fence", "bigint"),
    ("entry", "bytea"),
    ("digest", "bytea"),
)
_KEYS: Final = (
    ("publisher", "text"),
    ("key", "text"),
    ("fingerprint", "bytea"),
    ("notification", "bigint"),
    ("id", "text"),
    ("places", "text"),
    ("at", "bigint"),
)
_TALLIES: Final = (
    ("queue", "bigint"),
    ("seq", "bigint"),
    ("receipts", "bigint"),
    ("chain", "bytea"),
    *((name, "bigint") for name in COUNTS),
)


class _Statement:
    """One statement that writes several tables, each from columns of its own; it is numbered as it grows."""

    def __init__(self) -> None:
        self._count = 0
        self.parts: list[str] = []
        self.counts: list[str] = []

    def unnest(self, wanted: Sequence[Column]) -> str:
        arrays = []
        for _, kind in wanted:
            self._count += 1
            arrays.append(argument(self._count, kind))
        return f"unnest({', '.join(arrays)}) AS u ({', '.join(name for name, _ in wanted)})"

    def insert(self, table: str, wanted: Sequence[Column]) -> None:
        names = ", ".join(column for column, _ in wanted)
        self._add(
            f"INSERT INTO restante.{table} ({names}) SELECT {names} FROM {self.unnest(wanted)}"  # noqa: S608 (fixed terms)
        )

    def change(self, what: str, where: str) -> None:
        """Rows that it should find and does not are counted."""
        name = self._add(f"{what} WHERE {where} RETURNING 1")
        self.counts.append(f"(SELECT count(*) FROM {name})")  # noqa: S608 (fixed terms)

    def _add(self, text: str) -> str:
        name = f"part{len(self.parts)}"
        self.parts.append(f"{name} AS ({text})")
        return name


_THE_SAME: Final = "d.queue = u.queue AND d.seq = u.seq AND d.fence = u.was"
_INSERTED: Final = {
    "notifications": _NOTIFICATIONS,
    "deliveries": _STANDING + _FIXED,
    "receipts": _RECEIPTS,
    "idempotency": _KEYS,
}


def _sets(wanted: Sequence[Column]) -> str:
    return ", ".join(f"{name} = u.{name}" for name, _ in wanted)


_LOCK_NOTIFICATIONS: Final = (
    "SELECT 1 FROM unnest($1::text::bigint[], $2::text::bigint[]) AS asked (n, at)"
    " JOIN restante.notifications x ON x.n = asked.n AND x.published_at = asked.at ORDER BY x.n FOR UPDATE OF x"
)
_DROP_BODIES: Final = (
    "UPDATE restante.notifications x SET body = NULL"
    " FROM unnest($1::text::bigint[], $2::text::bigint[]) AS asked (n, at)"
    " WHERE x.n = asked.n AND x.published_at = asked.at AND NOT EXISTS (SELECT 1 FROM restante.receipts r"
    "  JOIN restante.deliveries d ON d.queue = r.queue AND d.seq = r.seq"
    "  WHERE r.notification = x.n AND r.outcome = 'published')"
)


@functools.cache
def _writing(parts: tuple[str, ...]) -> str:
    """The statement that writes these parts of what a transaction has changed; what it counts comes in their order.

    What is empty is left out, since each part costs the server some time even so; there are few combinations.
    """
    statement = _Statement()
    for part in parts:
        if part in _INSERTED:
            statement.insert(part, _INSERTED[part])
        elif part == "changed":
            source = statement.unnest(_CHANGED)
            statement.change(
                f"UPDATE restante.deliveries d SET {_sets(_STANDING[2:])} FROM {source}",  # noqa: S608 (fixed terms)
                _THE_SAME,
            )
        elif part == "ended":
            source = statement.unnest(_PLACE)
            statement.change(f"DELETE FROM restante.deliveries d USING {source}", _THE_SAME)  # noqa: S608 (fixed terms)
        else:
            source = statement.unnest(_TALLIES)
            statement.change(
                f"UPDATE restante.tallies t SET {_sets(_TALLIES[1:])} FROM {source}",  # noqa: S608 (fixed terms)
                "t.queue = u.queue",
            )
    return f"WITH {', '.join(statement.parts)} SELECT {', '.join(statement.counts)}"


async def write(
    connection: Connection,
    *,
    published: Sequence[tuple[Any, ...]],
    new: Sequence[Row],
    receipts: Sequence[tuple[Any, ...]],
    keys: Sequence[tuple[Any, ...]],
    changed: Sequence[Row],
    ended: Sequence[Row],
    books: Sequence[QueueBook],
) -> None:
    """Write notifications published, new deliveries, receipts, idempotency keys, changed and ended deliveries, tallies.

    ``AssertionError`` where a row to be changed is not there as it was read.
    """
    counted = {"changed": len(changed), "ended": len(ended), "tallies": len(books)}
    written: dict[str, tuple[Sequence[tuple[Any, ...]], Sequence[Column]]] = {
        "notifications": (published, _NOTIFICATIONS),
        "deliveries": ([_standing(row) + _fixed(row) for row in new], _STANDING + _FIXED),
        "receipts": (receipts, _RECEIPTS),
        # In one order on every node: one that is being taken by another is waited for.
        "idempotency": (sorted(keys), _KEYS),
        "changed": ([(*_standing(row), row.was) for row in changed], _CHANGED),
        "ended": ([(row.book.id, row.seq, row.was) for row in ended], _PLACE),
        "tallies": ([(b.id, b.seq, b.receipts, b.chain, *b.counts) for b in books], _TALLIES),
    }
    parts = tuple(part for part, (values, _) in written.items() if values)
    arguments: list[Any] = []
    for part in parts:
        arguments += _columns(*written[part])
    found = await connection.fetchrow(_writing(parts), *arguments)
    expected = tuple(counted[part] for part in parts if part in counted)
    if found is None or tuple(found) != expected:
        raise AssertionError("a delivery was changed by somebody who did not hold its queue")


def _standing(row: Row) -> tuple[Any, ...]:
    standing = row.standing
    leased = standing.state is State.LEASED or standing.forgiving
    # Who had it last, and since when, stays to be seen after the lease; to whom it is leased must not.
    return (
        row.book.id,
        row.seq,
        standing.state,
        row.due,
        standing.attempt,
        standing.fence,
        standing.forgiving,
        standing.parked,
        row.overtaken,
        row.leased_at,
        row.consumer if leased else None,
        row.holder,
        row.dead_at,
        None if row.reason is None else row.reason.encode(),
    )


def _fixed(row: Row) -> tuple[Any, ...]:
    return (
        row.n,
        row.published_at,
        row.body_bytes,
        row.ordering_key,
        row.collapse_key,
        row.expires,
    )


def _columns(rows: Sequence[tuple[Any, ...]], kinds: Sequence[Column]) -> list[Any]:
    return columns(rows, [kind for _, kind in kinds])


async def drop_bodies(connection: Connection, notifications: Sequence[tuple[int, int]]) -> None:
    """Drop the bodies of those, by number and time of publishing, of which no delivery is open in any queue.

    Two nodes may end the last two deliveries of one notification, each seeing the other's there still: the second
    waits for the notification, and only then looks, so that it sees what the first has done.
    """
    places = columns(notifications, ["bigint"] * 2)
    await connection.execute(_LOCK_NOTIFICATIONS, *places)
    await connection.execute(_DROP_BODIES, *places)
