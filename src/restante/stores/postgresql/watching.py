"""What those ask who watch: how queues stand, what is open in them, what became of a notification. No cost of these
grows with a backlog.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from restante import queries as query
from restante.model import Actor, Figures, Queue, Settings, State
from restante.stores.postgresql.books import COUNTS
from restante.stores.postgresql.clocks import SharedTimeline
from restante.stores.postgresql.connections import Connection

_decode_settings = msgspec.json.Decoder(Settings).decode
_decode_actor = msgspec.json.Decoder(Actor).decode
KEPT: Final = (
    "r.number > coalesce((SELECT p.receipts FROM restante.pruned p WHERE p.queue = r.queue), 0)"
)
"""Of receipts ``r``: those that have not been pruned. They are dropped some time later, with their partition."""
_OPEN: Final = (State.SCHEDULED, State.READY, State.HELD, State.LEASED)
# The first of each state that has not ended: a step into an index of that state for each that has any.
_OLDEST: Final = ", ".join(
    f"CASE WHEN t.{state.label} > 0 THEN (SELECT d.published_at FROM restante.deliveries d"  # noqa: S608 (fixed terms)
    f" WHERE d.queue = q.id AND d.state = {state.value} ORDER BY d.seq LIMIT 1) END"
    for state in _OPEN
)
_FIGURES: Final = (
    f"SELECT q.name, q.owner, q.settings, {', '.join(f't.{count}' for count in COUNTS)}, t.seq,"  # noqa: S608 (fixed terms)
    f" least({_OLDEST}), (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    " FROM restante.queues q JOIN restante.tallies t ON t.queue = q.id"
)
_WHOSE: Final = (
    "SELECT n, content_type, {body} FROM restante.{table} x WHERE id = $1 AND ($2::text IS NULL OR EXISTS ("  # noqa: S608 (fixed terms)
    " SELECT 1 FROM restante.receipts r JOIN restante.queues q ON q.id = r.queue"
    f" WHERE r.notification = x.n AND r.outcome = 'published' AND q.owner = $2 AND {KEPT}))"
)
_GONE: Final = (
    "EXISTS (SELECT 1 FROM restante.receipts r WHERE r.notification = $1) AND NOT EXISTS ("  # noqa: S608 (fixed terms)
    f" SELECT 1 FROM restante.receipts r WHERE r.notification = $1 AND {KEPT})"
)
_NUMBER: Final = (
    "coalesce((SELECT n FROM restante.notifications WHERE id = $1),"
    " (SELECT n FROM restante.archive WHERE id = $1))"
)


class Watching:
    """Answers over one connection."""

    def __init__(self, connection: Connection, timeline: SharedTimeline) -> None:
        self._connection = connection
        self._timeline = timeline

    async def figures(self, name: str) -> Figures | None:
        row = await self._connection.fetchrow(f"{_FIGURES} WHERE q.name = $1", name)
        return None if row is None else self._figures(row)

    async def figures_of_queues(self, asked: query.FiguresOfQueues) -> list[query.QueueFigures]:
        rows = await self._connection.fetch(
            f"{_FIGURES} WHERE q.name > $1 AND ($3::text[] IS NULL OR q.name = ANY($3::text[]))"
            " ORDER BY q.name LIMIT $2",
            *(asked.after, asked.limit, None if asked.names is None else list(asked.names)),
        )
        return [
            query.QueueFigures(Queue(row[0], row[1], _decode_settings(row[2])), self._figures(row))
            for row in rows
        ]

    def _figures(self, row: Any) -> Figures:
        _, _, _, *by_state, published, oldest, server_ms = row
        age = None
        if oldest is not None:
            age = max(0, self._timeline.wall_ms(server_ms) - oldest) / 1_000
        figures = dict(zip(COUNTS, by_state, strict=True))
        return Figures(published=published, oldest_age_seconds=age, **figures)

    async def body(self, asked: query.BodyOf) -> query.Body | None:
        for table, body in (("notifications", "body"), ("archive", "NULL::bytea")):
            row = await self._connection.fetchrow(
                _WHOSE.format(table=table, body=body), asked.id, asked.owner
            )
            if row is not None:
                n, content_type, content = row
                # One of which every receipt has been pruned is no longer known.
                gone = await self._connection.fetchval(f"SELECT {_GONE}", n)
                return None if gone else query.Body(content_type, content)
        return None

    async def receipts_of(self, asked: query.ReceiptsOf) -> list[query.StoredReceipt]:
        rows = await self._connection.fetch(
            "SELECT q.name, r.number, r.entry, r.digest FROM restante.receipts r"  # noqa: S608 (fixed terms)
            f" JOIN restante.queues q ON q.id = r.queue WHERE r.notification = {_NUMBER} AND {KEPT}"
            " AND ($2::text IS NULL OR q.owner = $2) ORDER BY q.name, r.number LIMIT $3",
            *(asked.id, asked.owner, asked.limit),
        )
        return [query.StoredReceipt(*row) for row in rows]

    async def open_deliveries(self, asked: query.OpenDeliveries) -> list[query.OpenDelivery]:
        # The state stands in the statement, so that the index of that state serves it.
        rows = await self._connection.fetch(
            "SELECT d.seq, d.attempt, d.due, d.expires, d.ordering_key, d.collapse_key, d.leased_at, d.holder, n.id,"  # noqa: S608 (a number)
            " n.topic, n.content_type, n.body_bytes, n.published_at,"
            " (extract(epoch FROM clock_timestamp()) * 1000)::bigint, t.offset_ms"
            " FROM restante.timeline t CROSS JOIN (SELECT * FROM restante.deliveries WHERE"
            "  queue = (SELECT id FROM restante.queues WHERE name = $1)"
            f"  AND state = {asked.state.value} AND seq > $2 ORDER BY seq LIMIT $3) d"
            " JOIN restante.notifications n ON n.n = d.notification AND n.published_at = d.published_at ORDER BY d.seq",
            *(asked.queue, asked.after, asked.limit),
        )
        return [_open_delivery(asked.state, row, self._timeline) for row in rows]

    async def dead_reasons(self, asked: query.DeadReasons) -> list[query.ReasonCount]:
        rows = await self._connection.fetch(
            "SELECT reason, count(*), max(dead_at) FROM (SELECT reason, dead_at FROM restante.deliveries"
            "  WHERE queue = (SELECT id FROM restante.queues WHERE name = $1) AND state = 4 ORDER BY seq LIMIT $2) d"
            " GROUP BY reason ORDER BY 2 DESC, 1 LIMIT $3",
            *(asked.queue, asked.scanned, asked.limit),
        )
        return [query.ReasonCount(reason.decode(), count, last) for reason, count, last in rows]


def _open_delivery(state: State, row: Any, timeline: SharedTimeline) -> query.OpenDelivery:
    seq, attempt, due, expires, ordering_key, collapse_key, leased_at, holder, *subject = row
    id, topic, content_type, body_bytes, published_at, server_ms, offset_ms = subject
    now_ms = timeline.wall_ms(server_ms) + offset_ms
    waits = state in (State.SCHEDULED, State.LEASED)
    return query.OpenDelivery(
        id=id,
        seq=seq,
        state=state,
        attempt=attempt,
        topic=topic,
        content_type=content_type,
        body_bytes=body_bytes,
        published_at_ms=published_at,
        ordering_key=ordering_key or "",
        collapse_key=collapse_key or "",
        due_in_seconds=max(0, due - now_ms) / 1_000 if waits and due is not None else None,
        expires_in_seconds=None if expires is None else max(0, expires - now_ms) / 1_000,
        leased_at_ms=leased_at,
        holder=_decode_actor(holder) if holder else None,
    )
