"""One notification: who has it and who signed, its whole way, and its body."""

from __future__ import annotations

from typing import Final

import msgspec

from restante.engine.bodies import find_notification, look_into
from restante.engine.broker import Broker
from restante.http.answers import Answer, Header, envelope
from restante.http.api import Routes
from restante.http.request import Request
from restante.http.waiting import to_delivery
from restante.model import Role
from restante.outcomes import Requirement
from restante.queries import ReceiptsOf
from restante.wire import times
from restante.wire.messages import NotificationStatus, WayOut
from restante.wire.receipts import to_json

RECEIPTS: Final = 1_000
# A body is somebody's document, and may be made to harm whoever opens it: a browser is to keep it and not show it, and
# where it shows it all the same it may run, load and send nothing.
_HARMLESS: Final[tuple[Header, ...]] = (
    (b"content-disposition", b"attachment"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
)


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls."""
    web = Notifications(broker)
    routes.add("GET", "/v1/notifications/{id}", web.status)
    routes.add("GET", "/v1/notifications/{id}/receipts", web.receipts)
    routes.add("GET", "/v1/notifications/{id}/body", web.body)


class Notifications:
    """A client sees its own, an administrator everything, a publisher what it published."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def status(self, request: Request) -> Answer:
        requirement = Requirement.parse(request.query.get("require", "all"))
        wait_seconds = request.number("wait", 0.0)
        waiting = self._broker.waiting
        with waiting.enter(request.actor, wait_seconds) as waiter:
            found, result = await waiting.outcome(
                waiter,
                request.parameters["id"],
                request.actor,
                requirement,
                wait_seconds,
                hangup=request,
            )
        status = NotificationStatus(
            id=found.id,
            topic=found.topic,
            content_type=found.content_type,
            body_bytes=found.body_bytes,
            body_sha256=found.body_sha256.hex(),
            published_at=times.to_text(found.published_at_ms),
            publisher=found.publisher,
            attributes=found.attributes,
            result=result.value,
            deliveries=[
                to_delivery(record, for_xml=request.wants_xml) for record in found.deliveries
            ],
        )
        return envelope(request, status, "notification")

    async def receipts(self, request: Request) -> Answer:
        actor = request.actor
        found = await find_notification(self._broker, request.parameters["id"], actor)
        owner = actor.name if actor.role is Role.CLIENT else None
        told = await self._broker.store.browse(ReceiptsOf(found.id, owner, RECEIPTS + 1))
        out = WayOut(
            receipts=[msgspec.Raw(to_json(receipt)) for receipt in told[:RECEIPTS]],
            complete=len(told) <= RECEIPTS,
        )
        return envelope(request, out, "receipts")

    async def body(self, request: Request) -> Answer:
        media, content = await look_into(self._broker, request.parameters["id"], request.actor)
        return Answer(200, content, media.encode(), _HARMLESS)
