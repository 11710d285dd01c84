"""What is let go of after its time: idempotency keys, papers, receipts from each ledger's start, whole partitions.

A receipt past its time is first counted as gone (``pruned``), and no answer tells of it any more; its row goes with
its partition. Bodies go with the partition of their day, once every queue has kept them for as long as it says.
"""

from __future__ import annotations

from typing import Final

from restante.stores.postgresql import partitions
from restante.stores.postgresql.partitions import ARCHIVE, DAY_MS, NOTIFICATIONS, RECEIPTS
from restante.stores.postgresql.unit import Unit

_RETENTION_LOCK: Final = 0x52535446
_MOST_BODY_DAYS: Final = 30
"""After these a partition of bodies is looked at, whatever a queue says: what that one needs is kept apart."""
_SETTLED_MS: Final = 3_600_000
"""A partition that ended this long ago has no transaction under way that writes to it."""
_KEYS: Final = (
    "DELETE FROM restante.idempotency WHERE ctid IN"
    " (SELECT ctid FROM restante.idempotency WHERE at < $1 ORDER BY at LIMIT $2)"
)
_PAPERS: Final = (
    "DELETE FROM restante.papers WHERE ctid IN"
    # One that is being put again is let be: who puts many locks them in another order.
    " (SELECT ctid FROM restante.papers WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)"
)
_PAGE: Final = (
    "WITH page AS (SELECT q.id, t.receipts AS last, coalesce(p.receipts, 0) AS before,"
    "  $1 - 1000 * (q.settings::json ->> 'receipt_retention_seconds')::bigint AS until"
    "  FROM restante.queues q JOIN restante.tallies t ON t.queue = q.id LEFT JOIN restante.pruned p ON p.queue = q.id"
    "  WHERE q.id > $2 ORDER BY q.id LIMIT $3)"
    " SELECT page.id, page.before, w.upto FROM page"
    # Most ledgers begin with a receipt that is not past its time: no more of them is looked at.
    " CROSS JOIN LATERAL (SELECT r.at FROM restante.receipts r WHERE r.queue = page.id AND r.number > page.before"
    "  ORDER BY r.number LIMIT 1) f"
    # The newest receipt stays, so that the ledger's end can always be seen; so does all that tells of a delivery
    # which has not ended, and all behind that.
    " CROSS JOIN LATERAL (SELECT max(s.number) AS upto FROM (SELECT r.number, bool_or(r.at > page.until"
    "   OR r.number = page.last OR EXISTS (SELECT 1 FROM restante.deliveries d WHERE d.queue = page.id"
    "   AND d.seq = r.seq)) OVER (ORDER BY r.number) AS needed"
    "   FROM (SELECT * FROM restante.receipts r WHERE r.queue = page.id AND r.number > page.before"
    "    ORDER BY r.number LIMIT $3) r) s WHERE NOT s.needed) w"
    " WHERE f.at <= page.until"
)
_PRUNED: Final = (
    "INSERT INTO restante.pruned SELECT * FROM unnest($1::bigint[], $2::bigint[])"
    " ON CONFLICT (queue) DO UPDATE SET receipts = excluded.receipts"
)
_LIMITS: Final = (
    "SELECT coalesce(max((settings::json ->> 'body_retention_seconds')::bigint), 0) AS bodies,"
    " coalesce(max((settings::json ->> 'receipt_retention_seconds')::bigint), 0) AS receipts FROM restante.queues"
)


class Retention:
    """Goes from queue to queue, page by page; once round, it sees to the partitions."""

    def __init__(self, idempotency_retention_seconds: int) -> None:
        self._idempotency_retention_seconds = idempotency_retention_seconds
        self._after = 0

    async def prune(self, unit: Unit, limit: int) -> int:
        """As ``Store.prune``. Does nothing while another node is at it."""
        await unit.lock(())
        connection, reading = unit.connection, unit.reading
        if not await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({_RETENTION_LOCK})"):
            return 0
        unit.written = True
        before = reading.now_ms - self._idempotency_retention_seconds * 1_000
        status = await connection.execute(_KEYS, before, limit)
        done = int(status.rpartition(" ")[2])
        status = await connection.execute(_PAPERS, reading.wall_ms, max(0, limit - done))
        done += int(status.rpartition(" ")[2])
        ids = await connection.fetch(
            "SELECT id FROM restante.queues WHERE id > $1 ORDER BY id LIMIT $2", self._after, limit
        )
        moved: list[tuple[int, int, int]] = [
            (row["id"], row["upto"], row["upto"] - row["before"])
            for row in await connection.fetch(_PAGE, reading.wall_ms, self._after, limit)
            if row["upto"] is not None
        ]
        if moved:
            await connection.execute(_PRUNED, [m[0] for m in moved], [m[1] for m in moved])
        done += len(ids) + sum(count for _, _, count in moved)
        if len(ids) < limit:
            self._after = 0
            done += await self._see_to_partitions(unit, limit)
        else:
            self._after = ids[-1]["id"]
        return done

    async def _see_to_partitions(self, unit: Unit, limit: int) -> int:
        """Make those to come, and drop at most one that is past."""
        connection, wall = unit.connection, unit.reading.wall_ms
        # A statement that waits for a lock on a whole table holds up all that come after it.
        await connection.execute(
            "SET LOCAL lock_timeout = 1000; SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = on;"
            " SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on;"
            " SET LOCAL plan_cache_mode = force_custom_plan"
        )
        await partitions.make_ahead(connection, wall)
        limits = await connection.fetchrow(_LIMITS)
        if limits is None:
            return 0
        # Not those that a transaction which began a moment ago may still write to.
        bodies_ms = max(_SETTLED_MS, min(limits["bodies"] * 1_000, _MOST_BODY_DAYS * DAY_MS))
        receipts_ms = max(_SETTLED_MS, limits["receipts"] * 1_000)
        done = 0
        for kind, before in (
            (NOTIFICATIONS, wall - bodies_ms),
            (RECEIPTS, wall - receipts_ms),
            (ARCHIVE, wall - receipts_ms - RECEIPTS.span_ms),
        ):
            for bounds in await partitions.past(connection, kind, before):
                if await partitions.drop(connection, kind, bounds, wall):
                    return limit
            done += await partitions.sweep_kept(connection, kind, before, wall, limit)
        return done
