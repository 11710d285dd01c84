"""The audit: what operators did, and clients to their own webhooks, the newest first."""

from __future__ import annotations

import urllib.parse
from typing import Final

from restante.desk.site import Call, Desk, MenuItem
from restante.engine.acts import Wanted
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.operators import Level

PAGE: Final = 50
_FIELDS: Final = ("who", "what", "queue", "subject")


def add_routes(routes: Routes, desk: Desk) -> None:
    """Attach the page."""
    desk.menu.append(MenuItem("Audit", "/audit", Level.ADMIN))
    desk.page(routes, "/audit", page, Level.ADMIN)


async def page(call: Call) -> Answer:
    """A page of acts that match every field given."""
    query = call.request.query
    given = {name: query.get(name, "").strip()[:300] for name in _FIELDS}
    wanted = Wanted(**{name: value or None for name, value in given.items()})
    found = await call.desk.broker.acts.page(wanted, call.request.cursor("after"), PAGE)
    return call.render(
        "audit.html",
        given=given,
        acts=found.acts,
        next=found.next,
        query=urllib.parse.urlencode({name: value for name, value in given.items() if value}),
    )
