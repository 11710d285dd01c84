"""One queue: how it stands and did over time, what waits in it, who comes for it, its settings, keys and webhook."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from restante.attention import assess
from restante.desk.charts import SPANS, span_of
from restante.desk.site import Call, Desk
from restante.errors import Malformed
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.model import SETTING_BOUNDS, Role, State
from restante.operators import Level
from restante.queries import KeysOf, OpenDeliveries, WebhookOf
from restante.watching import QueueView

DELIVERIES: Final = 25
_OPEN: Final = {
    state.label: state for state in (State.READY, State.LEASED, State.SCHEDULED, State.HELD)
}
LIMITS: Final = tuple(name for name in SETTING_BOUNDS if "_limit" in name)
"""The settings that say when somebody is to be told."""
NOTICES: Final = {
    "settings": "The settings are changed.",
    "revoked": "The key is revoked. Who was connected with it is disconnected.",
    "paused": "The webhook is paused: what comes in waits.",
    "resumed": "The webhook is called again, and what has waited is sent.",
}
"""What a page says was done, by what its address says."""


def add_routes(routes: Routes, desk: Desk) -> None:
    """Attach the page and the parts of it that are fetched anew."""
    desk.page(routes, "/queues/{queue}", page)
    desk.page(routes, "/queues/{queue}/now", _now, by_itself=True)
    desk.page(routes, "/queues/{queue}/deliveries", _deliveries, by_itself=True)


async def page(call: Call) -> Answer:
    """The whole page."""
    return call.render("queue.html", **await told(call))


async def told(call: Call) -> dict[str, Any]:
    """All that the page shows."""
    broker = call.desk.broker
    view = await _view(call)
    name, owner = view.queue.name, view.queue.owner
    span = span_of(call)
    webhook = await broker.store.browse(WebhookOf(name))
    keys = []
    if call.may(Level.ADMIN):
        keys = await broker.store.browse(KeysOf(Role.CLIENT, owner))
    return {
        **_figures(call, view),
        **await _waiting(call, view),
        "span": span,
        "spans": SPANS,
        "points": await broker.monitor.history(name, span),
        "charts": f"/queues/{name}/charts",
        "webhook": webhook,
        "standing": None if webhook is None else await broker.webhooks.standing(webhook),
        "pinged": None,
        "limits": LIMITS,
        "keys": [key for key in keys if key.active(broker.clock.wall_ms())],
        "notice": NOTICES.get(call.request.query.get("done", ""), ""),
    }


async def _now(call: Call) -> Answer:
    return call.render("queue_now.html", **_figures(call, await _view(call)))


async def _deliveries(call: Call) -> Answer:
    return call.render("queue_deliveries.html", **await _waiting(call, await _view(call)))


async def _view(call: Call) -> QueueView:
    """As the monitor has it; asked of the store where it has not looked yet. ``QueueNotFound``."""
    broker = call.desk.broker
    queue = await broker.directory.queue(call.request.parameters["queue"])
    view = broker.monitor.view(queue.name) or await broker.monitor.refresh(queue.name)
    if view is None:
        raise AssertionError("a queue that is there can be looked at")
    # Its settings as they are: they may have been changed a moment ago, on this page.
    view = msgspec.structs.replace(view, queue=queue)
    return view


def _figures(call: Call, view: QueueView) -> dict[str, Any]:
    broker = call.desk.broker
    now_ms = broker.clock.wall_ms()
    assessment = assess(view, now_ms, broker.alerts.limits)
    return {"view": view, "assessment": assessment, "now_ms": now_ms}


async def _waiting(call: Call, view: QueueView) -> dict[str, Any]:
    """A page of what stands in one state."""
    state = call.request.query.get("state", State.READY.label)
    if state not in _OPEN:
        raise Malformed(f"state must be one of {', '.join(_OPEN)}")
    after = call.request.integer("after", 0, 0, 2**62)
    found = await call.desk.broker.store.browse(
        OpenDeliveries(view.queue.name, _OPEN[state], after, DELIVERIES + 1)
    )
    return {
        "view": view,
        "now_ms": call.desk.broker.clock.wall_ms(),
        "state": state,
        "states": tuple(_OPEN),
        "after": after,
        "deliveries": found[:DELIVERIES],
        "next": found[DELIVERIES - 1].seq if len(found) > DELIVERIES else None,
    }
