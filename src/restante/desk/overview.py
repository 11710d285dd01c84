"""The first page: what needs attention, how it all stands, and every client's queue in one table."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Sequence
from typing import Any, Final

from markupsafe import Markup

from restante.attention import Health
from restante.desk.board import SORTS, Board, Row, Wanted
from restante.desk.charts import SPANS, span_of
from restante.desk.site import Call, Desk, MenuItem
from restante.desk.sparkline import sparkline
from restante.errors import Malformed
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.watching import Span

ATTENTION: Final = 8
SPARKLINES: Final = 5_000
"""So many are remembered, each for the minute in which it was drawn."""
_COLUMNS: Final = (
    ("health", "Health", ""),
    ("name", "Queue", ""),
    ("depth", "Waiting", "number"),
    ("oldest", "Oldest", "number wide"),
    ("leased", "Leased", "number wide"),
    ("dead", "Dead", "number"),
    ("acked", "Signed/min", "number wide"),
    ("failed", "Failed, 5 min", "number wide"),
    ("silent", "Last seen", "number"),
)


def add_routes(routes: Routes, desk: Desk) -> None:
    """Attach the page, and the two parts of it that are fetched anew when something has changed."""
    overview = Overview(desk)
    desk.menu.append(MenuItem("Overview", "/"))
    desk.page(routes, "/", overview.page)
    desk.page(routes, "/overview/now", overview.now, by_itself=True)
    desk.page(routes, "/overview/queues", overview.queues, by_itself=True)


class Overview:
    """Nothing here asks the store for more than the charts' points: the monitor has the rest in hand."""

    def __init__(self, desk: Desk) -> None:
        self._monitor = desk.broker.monitor
        self._clock = desk.broker.clock
        self._alerts = desk.broker.alerts
        self._log = desk.broker.log
        self._board = Board(self._monitor, self._clock, self._alerts.limits)
        self._sparklines: dict[str, tuple[int, Markup]] = {}

    async def page(self, call: Call) -> Answer:
        span = span_of(call)
        points = await self._monitor.history("", span)
        return call.render(
            "overview.html",
            **await self._now(),
            **await self._table(call),
            charts="/charts",
            points=points,
            span=span,
            spans=SPANS,
        )

    async def now(self, call: Call) -> Answer:
        return call.render("overview_now.html", **await self._now())

    async def queues(self, call: Call) -> Answer:
        return call.render("overview_queues.html", **await self._table(call))

    async def _now(self) -> dict[str, Any]:
        attention, needing = await self._board.needing_attention(ATTENTION)
        return {
            "attention": attention,
            "needing": needing,
            "total": self._monitor.total(),
            "alerts": self._alerts.number_open(),
            "log": self._log,
        }

    async def _table(self, call: Call) -> dict[str, Any]:
        wanted = _wanted(call)
        shown = await self._board.page(wanted)
        return {
            "wanted": wanted,
            "shown": shown,
            "sparklines": await self._draw(shown.rows),
            "columns": _COLUMNS,
            "link": lambda **changed: _link(wanted, **changed),
            "query": _query(wanted),
            "now_ms": self._clock.wall_ms(),
        }

    async def _draw(self, rows: Sequence[Row]) -> dict[str, Markup]:
        """What was waiting in each queue over the last hour."""
        minute = self._clock.wall_ms() // 60_000
        names = [row.name for row in rows]
        missing = [
            name for name in names if self._sparklines.get(name, (-1, Markup()))[0] != minute
        ]
        histories = await asyncio.gather(
            *(self._monitor.history(name, Span.HOUR) for name in missing)
        )
        if len(self._sparklines) + len(missing) > SPARKLINES:
            self._sparklines.clear()
        for name, points in zip(missing, histories, strict=True):
            depths = [point.depth for point in points]
            label = f"waiting over the last hour: at most {max(depths, default=0):,}"
            self._sparklines[name] = minute, sparkline(depths, label)
        return {name: self._sparklines[name][1] for name in names}


def _wanted(call: Call) -> Wanted:
    query = call.request.query
    sort = query.get("sort", "health")
    if sort not in SORTS:
        raise Malformed(f"sort must be one of {', '.join(SORTS)}")
    order = query.get("order", "down" if SORTS[sort][1] else "up")
    health = query.get("health", "").upper()
    return Wanted(
        words=query.get("q", "").strip()[:128],
        health=Health[health] if health in Health.__members__ else None,
        sort=sort,
        down=order == "down",
        page=call.request.integer("page", 1, 1, 1_000_000),
    )


def _query(wanted: Wanted) -> str:
    """The query that asks for the same again; what is as by default is left out."""
    told: dict[str, str] = {}
    if wanted.words:
        told["q"] = wanted.words
    if wanted.health is not None:
        told["health"] = wanted.health.label
    if wanted.sort != "health":
        told["sort"] = wanted.sort
    if wanted.down is not SORTS[wanted.sort][1]:
        told["order"] = "down" if wanted.down else "up"
    if wanted.page > 1:
        told["page"] = str(wanted.page)
    return urllib.parse.urlencode(told)


def _link(wanted: Wanted, **changed: Any) -> str:
    """A link to the table in another way: sorted by what it is sorted by already, the other way round."""
    sort = changed.get("sort")
    if sort is not None:
        down = not wanted.down if sort == wanted.sort else SORTS[sort][1]
        changed |= {"down": down, "page": 1}
    query = _query(wanted._replace(**changed))
    return f"/?{query}#queues" if query else "/#queues"
