"""The pages there are, put together. The order is that of the menu."""

from __future__ import annotations

from restante.desk import (
    alerts,
    audit,
    charts,
    dead,
    dead_acts,
    groups,
    jobs,
    links,
    live,
    log,
    notification,
    operations,
    overview,
    printed,
    proofs,
    queue,
    queue_acts,
    receipts,
    signing,
    signing_keys,
    webhook_acts,
)
from restante.desk.openid import flow
from restante.desk.openid.provider import Provider
from restante.desk.site import Desk
from restante.engine.broker import Broker
from restante.engine.operators import Operators
from restante.http.api import Routes
from restante.http.authentication import Authenticator


def add_routes(
    routes: Routes,
    broker: Broker,
    operators: Operators,
    authenticator: Authenticator,
    version: str,
    provider: Provider | None = None,
    enter: str = "",
) -> None:
    """Attach the operators' page: to a listener that only they can reach.

    ``provider`` is who else vouches for them, by OpenID Connect; ``enter`` the path that a client's one-time link has
    before its token, where clients have a page.
    """
    openid = None if provider is None else provider.openid
    desk = Desk(broker, operators, authenticator, version, openid)
    desk.static.add_routes(routes)
    for page in (
        *(signing, live, charts, overview, queue, queue_acts, webhook_acts),
        *(
            alerts,
            dead,
            dead_acts,
            jobs,
            operations,
            groups,
            notification,
            receipts,
            proofs,
            log,
            audit,
        ),
    ):
        page.add_routes(routes, desk)
    signing_keys.add_page(routes, desk)
    signing_keys.add_acts(routes, desk)
    printed.add_routes(routes, desk, version)
    if enter:
        links.add_routes(routes, desk, enter)
    if provider is not None:
        flow.add_routes(routes, desk, provider)
    desk.rest(routes)
