"""Who did what: the acts of operators, the newest first."""

from __future__ import annotations

import urllib.parse
from typing import Final

from restante.desk.site import Call, Desk, MenuItem
from restante.engine.acts import Wanted, What
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.operators import Level

ACTS: Final = 50
FILTERS: Final = ("who", "what", "queue", "subject")
KINDS: Final = (*sorted({what.partition(".")[0] for what in What}), *What)


def add_routes(routes: Routes, desk: Desk) -> None:
    """Attach the page: for those who may also ask for ``/v1/acts``."""
    desk.menu.append(MenuItem("Audit", "/audit", Level.ADMIN))
    desk.page(routes, "/audit", _page, Level.ADMIN)


async def _page(call: Call) -> Answer:
    asked = {name: call.request.query.get(name, "").strip()[:300] for name in FILTERS}
    given = {name: value for name, value in asked.items() if value}
    after = call.request.cursor("after")
    page = await call.desk.broker.acts.page(Wanted(**given), after, ACTS)
    query = urllib.parse.urlencode(given)
    return call.render("audit.html", page=page, asked=asked, after=after, query=query, kinds=KINDS)
