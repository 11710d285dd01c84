"""The pages there are, put together. The order is that of the menu."""

from __future__ import annotations

from typing import Final

from restante.desk import (
    charts,
    live,
    notification,
    printed,
    proofs,
    queue,
    receipts,
    signing_keys,
    webhook_acts,
)
from restante.desk.site import Site
from restante.engine.broker import Broker
from restante.http.api import Routes
from restante.http.authentication import Authenticator
from restante.portal import pages, signing
from restante.portal.visitors import ClientVisits

ROOT: Final = "/portal"
ENTER: Final = f"{ROOT}/enter"
"""Where a one-time link leads, without its token."""


def add_routes(routes: Routes, broker: Broker, keys: Authenticator, version: str) -> None:
    """Attach the clients' page: to the listener that clients reach."""
    visits = ClientVisits(broker)
    packages = ("restante.portal", "restante.desk")
    site = Site(broker, visits, version, root=ROOT, packages=packages)
    site.static.add_routes(routes)
    signing.add_routes(routes, site, visits, keys)
    pages.add_routes(routes, site)
    charts.add_queue_routes(routes, site)
    webhook_acts.add_routes(routes, site)
    for page in (live, queue, notification, receipts, proofs):
        page.add_routes(routes, site)
    signing_keys.add_page(routes, site)
    printed.add_routes(routes, site, version)
    site.rest(routes)
