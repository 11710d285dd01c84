"""Whether a request with an idempotency key arrived, and what came of it."""

from __future__ import annotations

from restante import auth
from restante.engine.broker import Broker
from restante.errors import Malformed
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.once import who_of
from restante.http.request import Request
from restante.model import Role, check_name
from restante.wire.request_messages import told


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the call."""

    async def get(request: Request) -> Answer:
        key = request.parameters["key"]
        record = await broker.requests.find(_who(request), key)
        return envelope(request, told(key, record, for_xml=request.wants_xml), "request")

    routes.add("GET", "/v1/requests/{key}", get)


def _who(request: Request) -> str:
    """Whose request it is: the caller's, or, for an administrator, the one's who is named as ``role/name``."""
    asked = request.query.get("principal")
    if asked is None:
        return who_of(request.actor)
    auth.require(request.actor, Role.ADMIN)
    role, _, name = asked.partition("/")
    if role not in tuple(Role):
        raise Malformed("principal must be a role and a name, such as publisher/shop")
    return f"{role}/{check_name('principal', name)}"
