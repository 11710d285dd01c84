"""Groups: published together, waited for, and undone together."""

from __future__ import annotations

from typing import Final

import msgspec

from restante import auth
from restante.engine.broker import Broker
from restante.engine.group import Group, GroupState, Member
from restante.engine.group_request import Payload, Wanted
from restante.errors import Malformed
from restante.http.answers import Answer, Header, envelope
from restante.http.api import Routes
from restante.http.once import Once
from restante.http.request import Request
from restante.http.waiting import wanted_of
from restante.idempotency import REPLAYED, key_of_header
from restante.model import Role
from restante.wire import times
from restante.wire.group_messages import (
    GroupItem,
    GroupOut,
    GroupPage,
    GroupRequest,
    MemberOut,
    PayloadIn,
)
from restante.wire.messages import bytes_of

PAGE: Final = 100
PAGE_MAXIMUM: Final = 1_000
_GROUP: Final = msgspec.json.Decoder(GroupRequest)


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls."""
    web = GroupCalls(broker)
    routes.add("POST", "/v1/groups", web.ask, once=Once.BY_ITSELF)
    routes.add("GET", "/v1/groups", web.list)
    routes.add("GET", "/v1/groups/{id}", web.get)


class GroupCalls:
    """A publisher sees its own, an administrator everything."""

    def __init__(self, broker: Broker) -> None:
        self._groups = broker.groups
        self._waiting = broker.waiting

    async def ask(self, request: Request) -> Answer:
        auth.require(request.actor, Role.PUBLISHER, Role.ADMIN)
        header = request.header(b"idempotency-key")
        key = "" if header is None else key_of_header(header)
        wanted = wanted_of(request)
        asked = await request.read(_GROUP)
        members = [_wanted(item) for item in asked.members]
        wait_seconds = 0 if wanted is None else wanted.wait_seconds
        # A place first: what there is none for is refused before it is published.
        with self._waiting.enter(request.actor, wait_seconds) as waiter:
            group, replayed = await self._groups.ask(
                members, asked.timeout_seconds, request.actor, key
            )
            if wait_seconds:
                # It is written down: from here on nothing but that is answered.
                group = await self._groups.outcome(
                    waiter, group.id, request.actor, wait_seconds, hangup=request, known=group
                )
        headers: tuple[Header, ...] = ((b"location", f"/v1/groups/{group.id}".encode()),)
        if wanted is not None:
            headers = (*headers, wanted.applied())
        if replayed:
            headers = (*headers, REPLAYED)
        status = 202 if group.state is GroupState.PENDING else 200
        return envelope(request, _group(group), "group", status, headers)

    async def list(self, request: Request) -> Answer:
        limit = request.integer("limit", PAGE, 1, PAGE_MAXIMUM)
        page = await self._groups.page(request.actor, request.cursor("after"), limit)
        out = GroupPage(groups=[_group(group) for group in page.groups], next=page.next)
        return envelope(request, out, "groups")

    async def get(self, request: Request) -> Answer:
        wait_seconds = request.number("wait", 0.0)
        with self._waiting.enter(request.actor, wait_seconds) as waiter:
            group = await self._groups.outcome(
                waiter, request.parameters["id"], request.actor, wait_seconds, hangup=request
            )
        return envelope(request, _group(group), "group")


def _wanted(item: GroupItem) -> Wanted:
    compensation = None if item.compensation is None else _payload(item.compensation)
    return Wanted(item.queue, _payload(item), compensation, item.required)


def _payload(given: PayloadIn) -> Payload:
    body = bytes_of("body", given.body, given.body_base64)
    if body is None:
        raise Malformed("a member and a compensation have a body or a body_base64")
    return Payload(body, given.content_type)


def _group(group: Group) -> GroupOut:
    return GroupOut(
        id=group.id,
        asked_by=group.asked_by.name,
        asked_at=times.to_text(group.asked_at_ms),
        until=times.to_text(group.until_ms),
        state=group.state.value,
        reason=group.reason,
        members=[_member(member) for member in group.members],
        ended_at=None if group.ended_at_ms is None else times.to_text(group.ended_at_ms),
    )


def _member(member: Member) -> MemberOut:
    return MemberOut(
        queue=member.queue,
        required=member.required,
        notification=member.notification or None,
        state=member.state.label,
        reason=member.reason,
        compensation=member.compensation or None,
    )
