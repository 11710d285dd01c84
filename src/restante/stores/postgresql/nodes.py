"""Nodes in the database: their heartbeats, the slots of webhooks that they claim, and what was changed meanwhile.

A claim is a row with a time until which it holds. Whoever renews it and whoever takes it over lock the row, and look at
it again once they have it, so that one of them finds that it came too late. All times are the server's.

Changes are numbered under a row's lock, which each keeps until it has committed: who sees a number has all before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from restante.nodes import (
    CLAIM_SECONDS,
    Beat,
    Changed,
    Node,
    NodeReport,
    Subject,
    fair_share,
)
from restante.stores.postgresql.connections import Connection
from restante.stores.postgresql.transactor import Transactor
from restante.stores.postgresql.unit import Unit

KEPT: Final = 10_000
"""Changes that are told one by one. Who knows less is told that it knows nothing."""
SECRETS: Final = "secrets_key_id"
REMEMBERED_SECONDS: Final = 3_600.0

# Its own rows first, which it may have to wait for; it waits for nothing once it has locked any that are not.
_SAY: Final = """
    WITH said AS (
        INSERT INTO restante.nodes (id, name, version, url, started_at, draining, connections, webhooks,
            calls_webhooks, beat_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp())
        ON CONFLICT (id) DO UPDATE SET draining = excluded.draining, connections = excluded.connections,
            webhooks = excluded.webhooks, calls_webhooks = excluded.calls_webhooks, beat_at = excluded.beat_at
    ), kept AS (
        UPDATE restante.webhook_slots SET
            holder = CASE WHEN slot = ANY($10::smallint[]) THEN holder END,
            held_until = CASE WHEN slot = ANY($10::smallint[])
                THEN clock_timestamp() + $11::float8 * interval '1 second' END
        WHERE holder = $1
        RETURNING slot, holder
    )
    SELECT version, ARRAY(SELECT slot FROM kept WHERE holder IS NOT NULL) AS slots
    FROM restante.change_count
"""
_LIST: Final = """
    WITH gone AS (
        DELETE FROM restante.nodes WHERE id IN (
            SELECT id FROM restante.nodes WHERE beat_at < clock_timestamp() - $1::float8 * interval '1 second'
            FOR UPDATE SKIP LOCKED
        )
    )
    SELECT id, name, version, url, started_at, draining, connections, webhooks, calls_webhooks,
        greatest(0, extract(epoch FROM clock_timestamp() - beat_at))::float8 AS silent
    FROM restante.nodes WHERE beat_at >= clock_timestamp() - $1::float8 * interval '1 second'
    ORDER BY name, id
"""
_TAKE: Final = """
    WITH free AS MATERIALIZED (
        SELECT slot FROM restante.webhook_slots WHERE holder IS NULL OR held_until < clock_timestamp()
        ORDER BY slot LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    UPDATE restante.webhook_slots AS slots
    SET holder = $1, held_until = clock_timestamp() + $3::float8 * interval '1 second'
    FROM free WHERE slots.slot = free.slot
    RETURNING slots.slot
"""
_LEAVE: Final = """
    WITH gone AS (DELETE FROM restante.nodes WHERE id = $1)
    UPDATE restante.webhook_slots SET holder = NULL, held_until = NULL WHERE holder = $1
"""
_RECORD: Final = """
    WITH counted AS (UPDATE restante.change_count SET version = version + 1 RETURNING version),
    pruned AS (
        DELETE FROM restante.changelog USING counted WHERE changelog.version <= counted.version - $3
    )
    INSERT INTO restante.changelog (version, item, subject, name)
    SELECT counted.version, told.item, told.subject, told.name
    FROM counted, unnest($1::text[], $2::text[]) WITH ORDINALITY AS told (subject, name, item)
"""


class SharedNodes:
    """The ``Nodes`` of the store; ``start`` is what begins its work. Beats wait for nothing but one another."""

    def __init__(
        self, start: Callable[[Coroutine[Any, Any, Any]], Any], transactor: Transactor
    ) -> None:
        self._start = start
        self._transactor = transactor

    def beat(self, report: NodeReport) -> asyncio.Future[Beat]:
        async def work(unit: Unit) -> Beat:
            unit.written = True
            return await beat(unit.connection, report)

        future: asyncio.Future[Beat] = self._start(self._transactor.run(work))
        return future

    def agree(self, key_ids: Sequence[bytes]) -> asyncio.Future[bool]:
        async def work(unit: Unit) -> bool:
            unit.written = True
            return await agree(unit.connection, key_ids)

        future: asyncio.Future[bool] = self._start(self._transactor.run(work))
        return future

    def leave(self, node: str) -> asyncio.Future[None]:
        async def work(unit: Unit) -> None:
            unit.written = True
            await leave(unit.connection, node)

        future: asyncio.Future[None] = self._start(self._transactor.run(work))
        return future


async def beat(connection: Connection, report: NodeReport) -> Beat:
    """``Nodes.beat``, within the caller's transaction: three statements, one more where something is new."""
    (said,) = await connection.fetch(
        _SAY,
        report.id,
        report.name,
        report.version,
        report.url,
        report.started_at_ms,
        report.draining,
        report.connections,
        report.webhooks,
        report.calls_webhooks,
        sorted(report.holding),
        CLAIM_SECONDS,
    )
    rows = await connection.fetch(_LIST, REMEMBERED_SECONDS)
    claims = set(said["slots"])
    if report.calls_webhooks and not report.draining:
        share = fair_share(
            sum(
                row["calls_webhooks"] and not row["draining"] and row["silent"] < CLAIM_SECONDS
                for row in rows
            )
        )
        if len(claims) > share:
            # It lets go of these now, and says so with its next beat: nobody has them before.
            claims = set(sorted(claims)[:share])
        elif len(claims) < share:
            taken = await connection.fetch(_TAKE, report.id, share - len(claims), CLAIM_SECONDS)
            claims.update(row["slot"] for row in taken)
    return Beat(
        seen=said["version"],
        changes=await _changes(connection, report.seen, said["version"]),
        nodes=[
            Node(
                id=row["id"],
                name=row["name"],
                version=row["version"],
                url=row["url"],
                started_at_ms=row["started_at"],
                draining=row["draining"],
                connections=row["connections"],
                webhooks=row["webhooks"],
                silent_seconds=row["silent"],
            )
            for row in rows
        ],
        claims=frozenset(claims),
    )


async def agree(connection: Connection, key_ids: Sequence[bytes]) -> bool:
    """``Nodes.agree``, within the caller's transaction."""
    await connection.execute(
        "INSERT INTO restante.meta VALUES ($1, $2) ON CONFLICT DO NOTHING", SECRETS, key_ids[0]
    )
    known = await connection.fetchval(
        "SELECT value FROM restante.meta WHERE name = $1 FOR UPDATE", SECRETS
    )
    if known not in key_ids:
        return False
    await connection.execute(
        "UPDATE restante.meta SET value = $2 WHERE name = $1 AND value <> $2", SECRETS, key_ids[0]
    )
    return True


async def leave(connection: Connection, node: str) -> None:
    """``Nodes.leave``, within the caller's transaction."""
    await connection.execute(_LEAVE, node)


async def record(connection: Connection, changes: Sequence[Changed]) -> None:
    """Tell other nodes what is changed in this transaction; whoever records at the same time waits for its end."""
    subjects = [change.subject.value for change in changes]
    await connection.execute(_RECORD, subjects, [change.name for change in changes], KEPT)


async def _changes(connection: Connection, seen: int, version: int) -> list[Changed] | None:
    """What came after ``seen``. None for a node that is new, too far behind, or ahead: of a store that was restored."""
    if seen == version:
        return []
    if not seen or not version - KEPT <= seen <= version:
        return None
    rows = await connection.fetch(
        "SELECT subject, name FROM restante.changelog WHERE version > $1 AND version <= $2"
        " ORDER BY version, item",
        seen,
        version,
    )
    return [Changed(Subject(row["subject"]), row["name"]) for row in rows]
