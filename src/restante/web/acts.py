"""Acts: who did what, when."""

from __future__ import annotations

from typing import Final

from restante import auth
from restante.engine.acts import Act, Wanted
from restante.engine.broker import Broker
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.request import Request
from restante.model import Role
from restante.wire import times
from restante.wire.messages import ActOut, ActPage

PAGE: Final = 100
PAGE_MAXIMUM: Final = 1_000


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the call."""

    async def acts(request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        asked = request.query
        wanted = Wanted(
            who=asked.get("who"),
            what=asked.get("what"),
            queue=asked.get("queue"),
            subject=asked.get("subject"),
        )
        limit = request.integer("limit", PAGE, 1, PAGE_MAXIMUM)
        page = await broker.acts.page(wanted, request.cursor("after"), limit)
        out = ActPage(acts=[_act(act) for act in page.acts], next=page.next)
        return envelope(request, out, "acts")

    routes.add("GET", "/v1/acts", acts)


def _act(act: Act) -> ActOut:
    return ActOut(
        id=act.id,
        at=times.to_text(act.at_ms),
        who=act.who.name,
        role=act.who.role,
        key_id=act.who.key_id,
        transport=act.who.transport,
        address=act.who.remote_address,
        what=act.what.value,
        queue=act.queue,
        subject=act.subject,
        details=act.details,
    )
