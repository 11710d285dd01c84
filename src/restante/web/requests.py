"""Whether a request with an idempotency key arrived, and what came of it."""

from __future__ import annotations

from restante import auth
from restante.engine.broker import Broker
from restante.errors import Malformed, RequestNotFound
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.once import who_of
from restante.http.request import Request
from restante.idempotency import publishers_name
from restante.model import Role, check_name
from restante.queries import NotificationById, PublishedWith
from restante.wire.request_messages import RequestOut, told, told_of_publication


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the call."""

    async def get(request: Request) -> Answer:
        key = request.parameters["key"]
        who = _who(request)
        try:
            message = told(key, await broker.requests.find(who, key), for_xml=request.wants_xml)
        except RequestNotFound:
            published = await _published(broker, who, key)
            if published is None:
                raise
            message = published
        return envelope(request, message, "request")

    routes.add("GET", "/v1/requests/{key...}", get)


async def _published(broker: Broker, who: str, key: str) -> RequestOut | None:
    """What a publication with the key made: its key is kept with the notification."""
    id = await broker.store.browse(PublishedWith(publishers_name(who), key))
    record = None if id is None else await broker.store.browse(NotificationById(id))
    return None if record is None else told_of_publication(key, record)


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
