"""One notification: its way through each queue, and its body, each look at which is recorded."""

from __future__ import annotations

import re
from typing import Any, Final

from restante.desk.bodies import show
from restante.desk.site import Call, Desk, MenuItem
from restante.desk.way import way_of
from restante.engine.acts import Act, Wanted, What
from restante.engine.bodies import find_notification, look_into
from restante.engine.dead_letters import REPLACES
from restante.errors import BodyGone, NotificationNotFound
from restante.http.answers import Answer, Header
from restante.http.api import Routes
from restante.lifecycle import ENDED
from restante.model import State
from restante.operators import Level
from restante.queries import NotificationById, NotificationRecord

LOOKS: Final = 50
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]")


def add_routes(routes: Routes, desk: Desk) -> None:
    """Attach the search, the page, and what shows and hands out the body."""
    desk.menu.append(MenuItem("Notifications", "/notifications"))
    desk.page(routes, "/notifications", _search)
    desk.page(routes, "/notifications/{id}", _page)
    desk.page(routes, "/notifications/{id}/way", _way, by_itself=True)
    desk.act(routes, "/notifications/{id}/body", _look, Level.OPERATOR)
    desk.act(routes, "/notifications/{id}/download", _download, Level.OPERATOR)


async def _search(call: Call) -> Answer:
    id = call.request.query.get("id", "").strip().lower()[:100]
    if id and await call.desk.broker.store.browse(NotificationById(id)) is not None:
        return call.go(f"/notifications/{_NOT_IN_NAMES.sub('', id)}")
    return call.render("notifications.html", 404 if id else 200, asked=id)


async def _page(call: Call) -> Answer:
    return call.render("notification.html", **await _told(call))


async def _way(call: Call) -> Answer:
    found = await _find(call)
    return call.render("timeline.html", **await _lines(call, found))


async def _look(call: Call) -> Answer:
    id = call.request.parameters["id"]
    try:
        media, body = await look_into(call.desk.broker, id, call.visitor.actor)
    except BodyGone as error:
        return call.render("notification.html", error.status, **await _told(call) | {"gone": True})
    return call.render("notification.html", **await _told(call) | {"body": show(media, body)})


async def _download(call: Call) -> Answer:
    """As bytes that a browser keeps and does not open: they may be made to harm whoever opens them."""
    id = call.request.parameters["id"]
    _, body = await look_into(call.desk.broker, id, call.visitor.actor)
    name = _NOT_IN_NAMES.sub("_", id)[:100]
    headers: tuple[Header, ...] = (
        (b"content-disposition", f'attachment; filename="{name}.bin"'.encode()),
        (b"content-security-policy", b"sandbox; default-src 'none'"),
    )
    return Answer(200, body, b"application/octet-stream", headers)


async def _find(call: Call) -> NotificationRecord:
    id = call.request.parameters["id"]
    return await find_notification(call.desk.broker, id, call.visitor.actor)


async def _lines(call: Call, found: NotificationRecord) -> dict[str, Any]:
    return {
        "found": found,
        "way": await way_of(call.desk.broker, found),
        "ended": all(one.state in ENDED for one in found.deliveries),
    }


async def _told(call: Call) -> dict[str, Any]:
    found = await _find(call)
    page = await call.desk.broker.acts.page(Wanted(subject=found.id), limit=LOOKS)
    states = {one.state for one in found.deliveries}
    return {
        **await _lines(call, found),
        "replaces": found.attributes.get(REPLACES, ""),
        "replaced_by": await _replacement(call, page.acts),
        "looks": [act for act in page.acts if act.what is What.BODY_VIEWED],
        "body": None,
        "gone": states <= {State.DISCARDED},
    }


async def _replacement(call: Call, acts: list[Act]) -> str:
    """What took its place; an act tells of it also where it then failed."""
    for act in acts:
        if act.what is What.DEAD_REPLACED:
            try:
                await find_notification(
                    call.desk.broker, act.details.get("by", ""), call.visitor.actor
                )
            except NotificationNotFound:
                continue
            return act.details["by"]
    return ""
