"""Whether a request with an idempotency key arrived, and what came of it."""

from __future__ import annotations

from restante import auth
from restante.engine.broker import Broker
from restante.errors import Malformed, RequestNotFound
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.request import Request
from restante.idempotency import publishers_name
from restante.model import Role, check_name
from restante.queries import NotificationById, PublishedWith
from restante.wire.request_messages import RequestOut, told, told_of_made


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the call."""

    async def get(request: Request) -> Answer:
        key = request.parameters["key"]
        who = _who(request)
        try:
            message = told(key, await broker.requests.find(who, key), for_xml=request.wants_xml)
        except RequestNotFound:
            made = await _made(broker, who, key)
            if made is None:
                raise
            message = made
        return envelope(request, message, "request")

    routes.add("GET", "/v1/requests/{key...}", get)


async def _made(broker: Broker, who: str, key: str) -> RequestOut | None:
    """What a publication, a group or an operation with the key made: its key is kept with that."""
    id = await broker.store.browse(PublishedWith(publishers_name(who), key))
    record = None if id is None else await broker.store.browse(NotificationById(id))
    if record is not None:
        return told_of_made(key, record.published_at_ms, notification=record.id)
    group = await broker.groups.made_with(who, key)
    if group is not None:
        return told_of_made(key, group.asked_at_ms, group=group.id)
    operation = await broker.operations.made_with(who, key)
    if operation is not None:
        return told_of_made(key, operation.made_at_ms, operation=operation.id)
    return None


def _who(request: Request) -> str:
    """Whose request it is: the caller's, or, for an administrator, the one's who is named as ``role/name``."""
    asked = request.query.get("principal")
    if asked is None:
        return request.actor.principal
    auth.require(request.actor, Role.ADMIN)
    role, _, name = asked.partition("/")
    if role not in tuple(Role):
        raise Malformed("principal must be a role and a name, such as publisher/shop")
    return f"{role}/{check_name('principal', name)}"
