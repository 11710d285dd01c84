"""The nodes that share the store, as this one last heard of them."""

from __future__ import annotations

from restante import auth
from restante.engine.broker import Broker
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.request import Request
from restante.model import Role
from restante.wire import times
from restante.wire.messages import NodeList, NodeOut


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the call."""

    async def nodes(request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        found = [
            NodeOut(
                id=node.id,
                name=node.name,
                version=node.version,
                url=node.url,
                started_at=times.to_text(node.started_at_ms),
                draining=node.draining,
                connections=node.connections,
                webhooks=node.webhooks,
                silent_seconds=round(node.silent_seconds, 3),
            )
            for node in broker.membership.nodes()
        ]
        return envelope(request, NodeList(nodes=found), "nodes")

    routes.add("GET", "/v1/nodes", nodes)
