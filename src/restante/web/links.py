"""One-time links to a client's own page."""

from __future__ import annotations

from typing import Final

import msgspec

from restante import auth
from restante.engine.broker import Broker
from restante.engine.links import Links
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.once import Once
from restante.http.request import Request
from restante.model import Role
from restante.wire import times
from restante.wire.operator_messages import LinkMade, NewLink

_NEW: Final = msgspec.json.Decoder(NewLink)


def add_routes(routes: Routes, broker: Broker, enter: str) -> None:
    """Attach the call. ``enter`` is the path of the page that a link opens, without the token."""
    links = Links(broker)

    async def make(request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        asked = await request.read(_NEW, NewLink())
        name = request.parameters["name"]
        token = await links.make(name, asked.life_seconds, request.actor)
        expires_at = times.to_text(broker.clock.wall_ms() + asked.life_seconds * 1_000)
        made = LinkMade(client=name, path=f"{enter}/{token}", expires_at=expires_at)
        return envelope(request, made, "link", 201)

    routes.add("POST", "/v1/clients/{name}/links", make, once=Once.SECRET)
