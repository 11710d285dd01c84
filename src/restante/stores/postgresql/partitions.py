"""Partitions by time: made ahead, and dropped whole when nothing in them is needed any more.

Of what is dropped, the few rows that are still needed go to the table's default partition, whose name ends in
``_kept``. What a partition of ``notifications`` told beside the bodies goes to ``archive`` first, before the table is
locked; the lock lasts for as long as the few rows take.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import asyncpg
import msgspec

from restante.logs import get_logger
from restante.stores.postgresql.connections import Connection

_log = get_logger(__name__)

DAY_MS: Final = 86_400_000
AHEAD: Final = 2
"""Partitions beyond the present one that are always there."""
_NAME: Final = re.compile(r"[a-z]+_p(\d+)_(\d+)")
_MOST_KEPT: Final = 20_000
"""A partition of which more than these rows are still needed stays as it is for now."""
_MOST_KEPT_BYTES: Final = 128 * 1024 * 1024
_DROP_SECONDS: Final = 3_600.0
"""How long one statement over a whole partition may take."""
_METADATA: Final = (
    "n, published_at, id, topic, content_type, attributes, publisher, body_sha256, body_bytes"
)


class Partitioned(msgspec.Struct, frozen=True):
    """A table by time. ``needed`` is the condition on a row ``x`` of it by which it must be kept.

    In it ``$1`` is the wall clock, ``{low}`` and ``{high}`` the partition's bounds.
    ``size`` is a row's, in bytes.
    """

    table: str
    column: str
    span_ms: int
    size: str
    needed: str

    def bounds(self, at_ms: int) -> tuple[int, int]:
        """The partition, from and to, of that time."""
        low = at_ms - at_ms % self.span_ms
        return low, low + self.span_ms


_ENDED: Final = "('acked', 'superseded', 'expired', 'discarded')"
NOTIFICATIONS: Final = Partitioned(
    "notifications",
    "published_at",
    DAY_MS,
    "x.body_bytes",
    "(x.n IN (SELECT d.notification FROM restante.deliveries d"  # noqa: S608 (fixed terms)
    " WHERE d.published_at >= {low} AND d.published_at < {high})"
    " OR EXISTS (SELECT 1 FROM restante.receipts r JOIN restante.queues q ON q.id = r.queue"
    f" WHERE r.notification = x.n AND r.outcome IN {_ENDED}"
    " AND r.at > $1 - 1000 * (q.settings::json ->> 'body_retention_seconds')::bigint))",
)
RECEIPTS: Final = Partitioned(
    "receipts",
    "at",
    30 * DAY_MS,
    "octet_length(x.entry)",
    "($1::bigint IS NOT NULL AND x.number >"
    " coalesce((SELECT p.receipts FROM restante.pruned p WHERE p.queue = x.queue), 0))",
)
ARCHIVE: Final = Partitioned(
    "archive",
    "published_at",
    30 * DAY_MS,
    "0",
    "($1::bigint IS NOT NULL AND EXISTS (SELECT 1 FROM restante.receipts r WHERE r.notification = x.n))",
)
ALL: Final = (NOTIFICATIONS, RECEIPTS, ARCHIVE)


async def make_ahead(connection: Connection, wall_ms: int) -> None:
    """Make the present partitions and those to come, within the caller's transaction."""
    there = {(table, low) for table, low, _ in await _found(connection)}
    for kind in ALL:
        for step in range(AHEAD + 1):
            low, high = kind.bounds(wall_ms + step * kind.span_ms)
            if (kind.table, low) not in there:
                await _make(connection, kind, low, high)


async def past(connection: Connection, kind: Partitioned, before_ms: int) -> list[tuple[int, int]]:
    """The bounds of the table's partitions that end before a time, the oldest first."""
    return sorted(
        (low, high)
        for table, low, high in await _found(connection)
        if table == kind.table and high <= before_ms
    )


async def drop(
    connection: Connection, kind: Partitioned, bounds: tuple[int, int], wall_ms: int
) -> bool:
    """Drop a partition, keeping what is still needed of it; False where that is too much as yet."""
    low, high = bounds
    name = _name(kind, low, high)
    needed = kind.needed.format(low=low, high=high)
    weighed = await connection.fetchrow(
        "SELECT count(*), coalesce(sum(k.size), 0) FROM (SELECT"  # noqa: S608 (fixed terms)
        f" {kind.size} AS size FROM restante.{name} x WHERE {needed} LIMIT {_MOST_KEPT + 1}) k",
        wall_ms,
        timeout=_DROP_SECONDS,
    )
    kept, size = weighed or (0, 0)
    if kept > _MOST_KEPT or size > _MOST_KEPT_BYTES:
        return False
    await connection.execute(
        f"CREATE TEMPORARY TABLE needed ON COMMIT DROP AS SELECT * FROM restante.{name} LIMIT 0"  # noqa: S608 (fixed terms)
    )
    await connection.execute(
        f"INSERT INTO needed SELECT x.* FROM restante.{name} x WHERE {needed}",  # noqa: S608 (fixed terms)
        wall_ms,
        timeout=_DROP_SECONDS,
    )
    if kind is NOTIFICATIONS:
        await connection.execute(
            f"INSERT INTO restante.archive ({_METADATA}) SELECT {_METADATA} FROM restante.{name} x"  # noqa: S608 (fixed terms)
            " WHERE NOT EXISTS (SELECT 1 FROM needed k WHERE k.n = x.n)",
            timeout=_DROP_SECONDS,
        )
    await connection.execute(f"ALTER TABLE restante.{kind.table} DETACH PARTITION restante.{name}")
    if kind is NOTIFICATIONS:
        # Nobody writes to it any more: a body that was discarded since it was copied must not come back.
        await connection.execute(
            f"UPDATE needed k SET body = NULL FROM restante.{name} x WHERE x.n = k.n AND x.body IS NULL",  # noqa: S608 (fixed terms)
            timeout=_DROP_SECONDS,
        )
    await connection.execute(f"INSERT INTO restante.{kind.table} SELECT * FROM needed")  # noqa: S608 (fixed terms)
    await connection.execute(f"DROP TABLE restante.{name}")
    _log.info("store.partition_dropped", partition=name, kept=kept)
    return True


async def sweep_kept(
    connection: Connection, kind: Partitioned, before_ms: int, wall_ms: int, limit: int
) -> int:
    """Of what was kept from before a time, delete up to ``limit`` rows that are needed no longer; how many."""
    needed = kind.needed.format(low=0, high=before_ms)
    gone = (
        f"DELETE FROM restante.{kind.table}_kept WHERE ctid IN (SELECT x.ctid FROM restante.{kind.table}_kept x"  # noqa: S608 (fixed terms)
        f" WHERE x.{kind.column} < $2 AND NOT {needed} LIMIT $3)"
    )
    if kind is NOTIFICATIONS:
        gone = (
            f"WITH gone AS ({gone} RETURNING {_METADATA})"  # noqa: S608 (fixed terms)
            f" INSERT INTO restante.archive ({_METADATA}) SELECT {_METADATA} FROM gone"
        )
    status = await connection.execute(gone, wall_ms, before_ms, limit, timeout=_DROP_SECONDS)
    return int(status.rpartition(" ")[2])


async def _make(connection: Connection, kind: Partitioned, low: int, high: int) -> None:
    name = _name(kind, low, high)
    await connection.execute("SAVEPOINT making")
    try:
        await connection.execute(
            f"CREATE TABLE restante.{name} (LIKE restante.{kind.table} INCLUDING ALL)"
        )
        # In place of CREATE ... PARTITION OF, which would lock out everybody who reads or writes.
        await connection.execute(
            f"ALTER TABLE restante.{kind.table} ATTACH PARTITION restante.{name}"
            f" FOR VALUES FROM ({low}) TO ({high})"
        )
    except asyncpg.CheckViolationError:
        # Rows of its time are in the default partition, where they are just as well.
        await connection.execute("ROLLBACK TO making")
        _log.debug("store.partition_not_made", partition=name)


async def _found(connection: Connection) -> Iterator[tuple[str, int, int]]:
    rows = await connection.fetch(
        "SELECT p.relname AS parent, c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace s ON s.oid = p.relnamespace"
        " WHERE s.nspname = 'restante' AND p.relkind = 'p'"
    )
    return (
        (row["parent"], int(match[1]), int(match[2]))
        for row in rows
        if (match := _NAME.fullmatch(row["name"])) is not None
    )


def _name(kind: Partitioned, low: int, high: int) -> str:
    return f"{kind.table}_p{low}_{high}"
