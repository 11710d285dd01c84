"""Alerts: those that are open, and those that were, with whom could not be told of them."""

from __future__ import annotations

import urllib.parse
from typing import Final

from restante.desk.site import Call, Desk, MenuItem
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.model import NAME

PAGE: Final = 50


def add_routes(routes: Routes, desk: Desk) -> None:
    """Attach the page, and the part of it that is fetched anew."""
    desk.menu.append(MenuItem("Alerts", "/alerts"))
    desk.page(routes, "/alerts", page)
    desk.page(routes, "/alerts/now", now, by_itself=True)


async def page(call: Call) -> Answer:
    """Those that are open, the worst first, then what was, the newest first; all, or a queue's."""
    queue = call.request.query.get("queue", "").strip()
    queue = queue if NAME.fullmatch(queue) else ""
    alerts = call.desk.broker.alerts
    found = await alerts.history(
        queue=queue or None, after=call.request.cursor("after"), limit=PAGE
    )
    return call.render(
        "alerts.html",
        opened=await alerts.opened(),
        queue=queue,
        query=urllib.parse.urlencode({"queue": queue}) if queue else "",
        history=found.alerts,
        next=found.next,
        destinations=alerts.destinations,
    )


async def now(call: Call) -> Answer:
    """Those that are open."""
    return call.render("alerts_now.html", opened=await call.desk.broker.alerts.opened())
