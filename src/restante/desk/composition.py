"""The pages there are, put together. The order is that of the menu."""

from __future__ import annotations

from restante.desk import (
    alerts,
    audit,
    charts,
    dead,
    dead_acts,
    jobs,
    live,
    notification,
    overview,
    queue,
    queue_acts,
    receipts,
    signing,
)
from restante.desk.site import Desk
from restante.engine.broker import Broker
from restante.engine.operators import Operators
from restante.http.api import Routes
from restante.http.authentication import Authenticator


def add_routes(
    routes: Routes, broker: Broker, operators: Operators, authenticator: Authenticator, version: str
) -> None:
    """Attach the operators' page: to a listener that only they can reach."""
    desk = Desk(broker, operators, authenticator, version)
    desk.static.add_routes(routes)
    for page in (
        *(signing, live, charts, overview, queue, queue_acts),
        *(alerts, dead, dead_acts, jobs, notification, receipts, audit),
    ):
        page.add_routes(routes, desk)
