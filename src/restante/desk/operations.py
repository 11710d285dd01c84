"""Operations that complete later: those that are open, and one with all that its maker has said of it."""

from __future__ import annotations

import contextlib
import urllib.parse
from typing import Any, Final

from restante.desk.bodies import show
from restante.desk.site import Call, Desk, MenuItem
from restante.engine.bodies import look_into_result
from restante.engine.broker import Broker
from restante.errors import Malformed, OperationNotFound
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.model import Actor
from restante.operators import Level

PAGE: Final = 50
_CURSOR_CHARACTERS: Final = 400


def add_routes(routes: Routes, desk: Desk) -> None:
    """Attach the pages, and the part of one that is fetched anew while its operation is open."""
    desk.menu.append(MenuItem("Operations", "/operations"))
    desk.page(routes, "/operations", page)
    desk.page(routes, "/operations/{id}", one)
    desk.page(routes, "/operations/{id}/now", now, by_itself=True)
    here = "/operations/{id}"
    desk.act(routes, f"{here}/result", look, Level.OPERATOR, back=here)


async def page(call: Call) -> Answer:
    """Those that are open, by their makers; or on to the one whose id was searched for."""
    id = call.request.query.get("id", "").strip()
    if id:
        return call.go(_path(id))
    broker = call.desk.broker
    found = await broker.operations.open(_after(call), PAGE)
    operations = [kept.operation for kept in found.kept]
    return call.render("operations.html", operations=operations, next=found.next)


async def one(call: Call) -> Answer:
    """One operation. ``OperationNotFound``."""
    return call.render("operation.html", **await _told(call))


async def now(call: Call) -> Answer:
    """How it stands."""
    return call.render("operation_now.html", **await _told(call))


async def look(call: Call) -> Answer:
    """The page with the result on it."""
    result = await look_into_result(
        call.desk.broker, call.request.parameters["id"], call.visitor.actor
    )
    shown = None if result is None else show(result.content_type, result.body)
    return call.render("operation.html", **await _told(call) | {"shown": shown})


async def place_of(broker: Broker, id: str, actor: Actor) -> str:
    """The page of the operation of that id; empty where there is none."""
    with contextlib.suppress(OperationNotFound):
        kept = await broker.operations.find(id, actor)
        return _path(kept.operation.id)
    return ""


def _path(id: str) -> str:
    return f"/operations/{urllib.parse.quote(id, safe='')}"


def _after(call: Call) -> str:
    """Where an earlier page has ended: longer than other cursors, since names are in it. ``Malformed``."""
    text = call.request.query.get("after", "")
    if len(text) > _CURSOR_CHARACTERS or not (text.isascii() and text.isprintable()):
        raise Malformed("after must be what an earlier page has led to")
    return text


async def _told(call: Call) -> dict[str, Any]:
    broker = call.desk.broker
    kept = await broker.operations.find(call.request.parameters["id"], call.visitor.actor)
    return {
        "operation": kept.operation,
        "shown": None,
        "left_seconds": (kept.operation.ends_by_ms - broker.clock.wall_ms()) / 1_000,
    }
