"""One group: what was published together, what became of each part, and what follows from it."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.parse
from typing import Any, NamedTuple

from restante.desk.site import Call, Desk
from restante.engine.broker import Broker
from restante.engine.group import Group, Member
from restante.errors import GroupNotFound
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.model import Actor, Role
from restante.queries import NotificationById, NotificationRecord


class Part(NamedTuple):
    """A member, and how it and its compensation stand: states' labels, empty where nothing was sent or is kept."""

    member: Member
    state: str
    compensation: str


class Membership(NamedTuple):
    """The group that a notification is of: a member, or else the compensation of one."""

    group: Group
    compensates: bool


def add_routes(routes: Routes, desk: Desk) -> None:
    """Attach the page, and the part of it that is fetched anew."""
    desk.page(routes, "/groups/{id}", page)
    desk.page(routes, "/groups/{id}/now", now, by_itself=True)


async def page(call: Call) -> Answer:
    """The whole page. ``GroupNotFound``."""
    return call.render("group.html", **await _told(call))


async def now(call: Call) -> Answer:
    """How it stands."""
    return call.render("group_now.html", **await _told(call))


async def membership(broker: Broker, found: NotificationRecord, actor: Actor) -> Membership | None:
    """The group that the notification is truly of: anybody may write a group's id into an attribute.

    Of whose else's queues it is tells a client nothing.
    """
    id = found.attributes.get("group", "")
    if not id or actor.role is Role.CLIENT:
        return None
    with contextlib.suppress(GroupNotFound):
        group = await broker.groups.group(id, actor)
        if any(member.notification == found.id for member in group.members):
            return Membership(group, compensates=False)
        if any(member.compensation == found.id for member in group.members):
            return Membership(group, compensates=True)
    return None


async def place_of(broker: Broker, id: str, actor: Actor) -> str:
    """The page of the group of that id; empty where there is none."""
    with contextlib.suppress(GroupNotFound):
        return f"/groups/{urllib.parse.quote((await broker.groups.group(id, actor)).id, safe='')}"
    return ""


async def _told(call: Call) -> dict[str, Any]:
    broker = call.desk.broker
    group = await broker.groups.group(call.request.parameters["id"], call.visitor.actor)
    parts = await asyncio.gather(*(_part(broker, group, member) for member in group.members))
    left_ms = group.until_ms - broker.clock.wall_ms()
    return {"group": group, "parts": parts, "left_seconds": left_ms / 1_000}


async def _part(broker: Broker, group: Group, member: Member) -> Part:
    state = member.state.label if member.notification or member.reason else ""
    if not group.closed:
        # The group itself has noted no more of it than it needs.
        state = await _state(broker, member.notification) or state
    return Part(member, state, await _state(broker, member.compensation))


async def _state(broker: Broker, notification: str) -> str:
    record = await broker.store.browse(NotificationById(notification)) if notification else None
    if record is None or not record.deliveries:
        return ""
    return record.deliveries[0].state.label
