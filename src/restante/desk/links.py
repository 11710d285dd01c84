"""A one-time link to the page of a queue's owner, made on the queue's page."""

from __future__ import annotations

from restante.desk.site import Call, Desk
from restante.engine.links import LIFE_SECONDS, Links
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.operators import Level


def add_routes(routes: Routes, desk: Desk, enter: str) -> None:
    """Attach the button. ``enter`` is the path of the page that a link opens, without the token."""
    links = Links(desk.broker)

    async def make(call: Call) -> Answer:
        """The one answer that shows the link."""
        queue = await call.queue()
        token = await links.make(queue.owner, LIFE_SECONDS, call.visitor.actor)
        return call.render("link_made.html", 201, queue=queue, opens=f"{enter}/{token}")

    place = "/queues/{queue}"
    desk.act(routes, f"{place}/link", make, Level.OPERATOR, back=place)
