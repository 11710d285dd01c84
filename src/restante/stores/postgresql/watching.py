"""What is asked by those who watch: how queues stand, what is open in them, and what became of a notification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from restante import queries as query
from restante.model import Actor, Figures, Queue, Settings, State
from restante.stores.postgresql.books import COUNTS
from restante.stores.postgresql.clocks import SharedTimeline
from restante.stores.postgresql.connections import Connection

KEPT: Final = (
    "r.number > coalesce((SELECT p.receipts FROM restante.pruned p WHERE p.queue = r.queue), 0)"
)
"""Of receipts ``r``: those that have not been pruned. They are dropped some time later, with their partition."""
_SERVER_MS: Final = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_OLDEST: Final = ", ".join(
    # By name, so that the index of that state alone serves; where the tally has none, nothing is looked for.
    f"CASE WHEN t.{state.label} > 0 THEN (SELECT d.published_at FROM restante.deliveries d"  # noqa: S608 (fixed terms)
    f" WHERE d.queue = q.id AND d.state = {state.value} ORDER BY d.seq LIMIT 1) END"
    for state in (State.SCHEDULED, State.READY, State.HELD, State.LEASED)
)
FIGURES: Final = (
    f"SELECT q.name, q.owner, q.settings, {_SERVER_MS}, least({_OLDEST}), t.seq,"  # noqa: S608 (fixed terms)
    f" {', '.join(f't.{count}' for count in COUNTS)}"
    " FROM restante.queues q JOIN restante.tallies t ON t.queue = q.id"
)
_decode_settings = msgspec.json.Decoder(Settings).decode
_decode_actor = msgspec.json.Decoder(Actor).decode


class Watching:
    """Answers over one connection, one method a question."""

    def __init__(self, connection: Connection, timeline: SharedTimeline) -> None:
        self._connection = connection
        self._timeline = timeline

    async def figures(self, name: str) -> Figures | None:
        row = await self._connection.fetchrow(f"{FIGURES} WHERE q.name = $1", name)
        return None if row is None else self._figures_in(row)

    async def figures_of_queues(self, asked: query.FiguresOfQueues) -> list[query.QueueFigures]:
        chosen, names = "", list[Sequence[str]]()
        if asked.names is not None:
            chosen, names = "AND q.name = ANY($3::text[])", [asked.names]
        rows = await self._connection.fetch(
            f"{FIGURES} WHERE q.name > $1 {chosen} ORDER BY q.name LIMIT $2",
            *(asked.after, asked.limit, *names),
        )
        return [
            query.QueueFigures(
                Queue(row[0], row[1], _decode_settings(row[2])), self._figures_in(row)
            )
            for row in rows
        ]

    def _figures_in(self, row: Any) -> Figures:
        _, _, _, server_ms, oldest, published, *by_state = row
        age = None
        if oldest is not None:
            age = max(0, self._timeline.wall_ms(server_ms) - oldest) / 1_000
        figures = dict(zip(COUNTS, by_state, strict=True))
        return Figures(published=published, oldest_age_seconds=age, **figures)

    async def body(self, asked: query.BodyOf) -> query.Body | None:
        row = await self._connection.fetchrow(
            "SELECT n, content_type, body FROM restante.notifications WHERE id = $1", asked.id
        ) or await self._connection.fetchrow(
            "SELECT n, content_type, NULL FROM restante.archive WHERE id = $1", asked.id
        )
        if row is None:
            return None
        n, content_type, content = row
        told = await self._connection.fetch(
            "SELECT q.owner, bool_or(r.outcome = 'published') FROM restante.receipts r"  # noqa: S608 (fixed terms)
            f" JOIN restante.queues q ON q.id = r.queue WHERE r.notification = $1 AND {KEPT} GROUP BY q.owner",
            n,
        )
        if not told and not await self.went_nowhere(n):
            return None
        owners = [owner for owner, published in told if published]
        mine = asked.owner is None or asked.owner in owners
        return query.Body(content_type, content) if mine else None

    async def went_nowhere(self, n: int) -> bool:
        """Whether a notification went to no queue, so that no receipt ever told of it."""
        found = await self._connection.fetchval(
            "SELECT 1 FROM restante.receipts WHERE notification = $1 LIMIT 1", n
        )
        return found is None

    async def receipts_of(self, asked: query.ReceiptsOf) -> list[query.StoredReceipt]:
        rows = await self._connection.fetch(
            "SELECT q.name, r.number, r.entry, r.digest FROM restante.receipts r"  # noqa: S608 (fixed terms)
            " JOIN restante.queues q ON q.id = r.queue WHERE r.notification = coalesce("
            "  (SELECT n FROM restante.notifications WHERE id = $1), (SELECT n FROM restante.archive WHERE id = $1))"
            f" AND ($3::text IS NULL OR q.owner = $3) AND {KEPT} ORDER BY q.name, r.number LIMIT $2",
            *(asked.id, asked.limit, asked.owner),
        )
        return [query.StoredReceipt(*row) for row in rows]

    async def receipt_counts(self, ids: tuple[str, ...]) -> dict[str, int]:
        rows = await self._connection.fetch(
            "SELECT n.id, count(*) FROM (SELECT id, n FROM restante.notifications WHERE id = ANY($1::text[])"  # noqa: S608 (fixed terms)
            "  UNION SELECT id, n FROM restante.archive WHERE id = ANY($1::text[])) n"
            f" JOIN restante.receipts r ON r.notification = n.n WHERE {KEPT} GROUP BY n.id",
            list(ids),
        )
        return dict(rows)

    async def open_deliveries(self, asked: query.OpenDeliveries) -> list[query.OpenDelivery]:
        rows = await self._connection.fetch(
            "SELECT d.seq, d.attempt, d.due, d.expires, d.ordering_key, d.collapse_key, d.leased_at, d.holder, n.id,"  # noqa: S608 (fixed terms)
            f" n.topic, n.content_type, n.body_bytes, n.published_at, {_SERVER_MS} AS server_ms, t.offset_ms"
            " FROM (SELECT * FROM restante.deliveries"
            "  WHERE queue = (SELECT id FROM restante.queues WHERE name = $1)"
            f"  AND state = {asked.state.value} AND seq > $2 ORDER BY seq LIMIT $3) d"
            " JOIN restante.notifications n ON n.n = d.notification AND n.published_at = d.published_at"
            " CROSS JOIN restante.timeline t ORDER BY d.seq",
            *(asked.queue, asked.after, asked.limit),
        )
        return [self._open_delivery(asked.state, row) for row in rows]

    def _open_delivery(self, state: State, row: Any) -> query.OpenDelivery:
        now_ms = self._timeline.wall_ms(row["server_ms"]) + row["offset_ms"]
        waits = state in (State.SCHEDULED, State.LEASED)
        return query.OpenDelivery(
            id=row["id"],
            seq=row["seq"],
            state=state,
            attempt=row["attempt"],
            topic=row["topic"],
            content_type=row["content_type"],
            body_bytes=row["body_bytes"],
            published_at_ms=row["published_at"],
            ordering_key=row["ordering_key"] or "",
            collapse_key=row["collapse_key"] or "",
            due_in_seconds=_until(row["due"], now_ms) if waits else None,
            expires_in_seconds=_until(row["expires"], now_ms),
            leased_at_ms=row["leased_at"],
            holder=_decode_actor(row["holder"]) if row["holder"] else None,
        )

    async def dead_reasons(self, asked: query.DeadReasons) -> list[query.ReasonCount]:
        rows = await self._connection.fetch(
            "SELECT reason, count(*), max(dead_at) FROM (SELECT reason, dead_at FROM restante.deliveries"
            "  WHERE queue = (SELECT id FROM restante.queues WHERE name = $1) AND state = 4 ORDER BY seq LIMIT $2) d"
            " GROUP BY reason ORDER BY 2 DESC, 1 LIMIT $3",
            *(asked.queue, asked.scanned, asked.limit),
        )
        return [query.ReasonCount(reason.decode(), count, last) for reason, count, last in rows]


def _until(at_ms: int | None, now_ms: int) -> float | None:
    return None if at_ms is None else max(0, at_ms - now_ms) / 1_000
