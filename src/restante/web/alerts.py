"""Alerts: what needs somebody now, and what did."""

from __future__ import annotations

from typing import Final

from restante import auth
from restante.engine.broker import Broker
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.request import Request
from restante.model import Role
from restante.wire.alert_messages import AlertList, AlertPage, alert_out

PAGE: Final = 100
PAGE_MAXIMUM: Final = 1_000


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls of those who are to see to it."""
    web = AlertBoard(broker)
    routes.add("GET", "/v1/alerts", web.opened)
    routes.add("GET", "/v1/alerts/history", web.history)


class AlertBoard:
    """An administrator sees all, a client those of its own queues."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def opened(self, request: Request) -> Answer:
        owner = _owner(request)
        found = await self._broker.alerts.opened()
        mine = [one for one in found if owner in (None, one.owner)]
        return envelope(
            request, AlertList(alerts=[alert_out(one.alert, one.words) for one in mine]), "alerts"
        )

    async def history(self, request: Request) -> Answer:
        found = await self._broker.alerts.history(
            queue=request.query.get("queue"),
            owner=_owner(request),
            after=request.cursor("after"),
            limit=request.integer("limit", PAGE, 1, PAGE_MAXIMUM),
        )
        page = AlertPage(alerts=[alert_out(alert) for alert in found.alerts], next=found.next)
        return envelope(request, page, "alerts")


def _owner(request: Request) -> str | None:
    auth.require(request.actor, Role.ADMIN, Role.CLIENT)
    return request.actor.name if request.actor.role is Role.CLIENT else None
