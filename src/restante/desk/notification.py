"""One notification: its way through each queue, and its body for those who may see it, whose looks are recorded."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from restante import auth
from restante.desk import groups, operations
from restante.desk.bodies import Shown, show
from restante.desk.site import HEADERS, Call, Site
from restante.engine.bodies import find_notification, look_into
from restante.engine.broker import Broker
from restante.errors import BodyGone, QueueNotFound, ReceiptNotFound
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.model import Actor, Outcome, Role, State
from restante.operators import Level
from restante.queries import (
    DeliveryRecord,
    NotificationById,
    OpenDeliveries,
    OpenDelivery,
    ReceiptByNumber,
    ReceiptsOf,
)
from restante.way import Step, steps_of
from restante.wire.receipts import decode_entry, parse_receipt_id

RECEIPTS: Final = 500
"""So many are told of one notification."""
QUEUES: Final = 50
"""What was published to a topic may have gone to thousands: a page tells of so many, by name."""
_REPLACED: Final = re.compile("replaced by ([0-9a-f-]{36})")
_ENDINGS: Final = {"xml": "xml", "json": "json", "text": "txt"}


class Way(NamedTuple):
    """What became of it in one queue. ``reply`` is what the client signed with, if it said something.

    ``lease`` is where it stands while somebody has it, and ``replaced_by`` the notification that came in its place.
    ``places`` are where in the log each of its receipts is, by their ids; None: not sealed yet.
    """

    delivery: DeliveryRecord
    steps: list[Step]
    reply: Shown | None
    lease: OpenDelivery | None
    replaced_by: str
    places: dict[str, int | None]


def add_routes(routes: Routes, desk: Site) -> None:
    """Attach the page, the search by id, and what shows and hands out the body."""
    desk.page(routes, "/notifications", find)
    desk.page(routes, "/notifications/{id}", page)
    for path, act in (("body", look), ("download", download)):
        here = "/notifications/{id}"
        desk.act(routes, f"{here}/{path}", act, Level.OPERATOR, back=here)


async def find(call: Call) -> Answer:
    """On to the notification of that id, or of the receipt of that id; for operators to the group or operation, too."""
    id = call.request.query.get("id", "").strip()
    if not id:
        return call.go("/receipts")
    if "~" in id:
        queue, number = parse_receipt_id(id)
        try:
            auth.require_collect(call.visitor.actor, await call.desk.broker.directory.queue(queue))
        except QueueNotFound as error:
            raise ReceiptNotFound(f"there is no receipt {id[:160]} here") from error
        found = await call.desk.broker.store.browse(ReceiptByNumber(queue, number))
        if found is None:
            raise ReceiptNotFound(f"there is no receipt {id[:160]} here")
        id = decode_entry(found.entry).notification
    elif call.visitor.role is Role.ADMIN and (place := await _elsewhere(call, id)):
        return call.go(place)
    return call.go(f"/notifications/{urllib.parse.quote(id, safe='')}")


async def _elsewhere(call: Call, id: str) -> str:
    """The page of what else has that id; empty where it is a notification's, or nothing's."""
    broker, actor = call.desk.broker, call.visitor.actor
    if await broker.store.browse(NotificationById(id)) is not None:
        return ""
    return await groups.place_of(broker, id, actor) or await operations.place_of(broker, id, actor)


async def page(call: Call) -> Answer:
    """The whole page, without the body."""
    return call.render("notification.html", **await _told(call))


async def look(call: Call) -> Answer:
    """The page with the body on it."""
    told = await _told(call)
    try:
        media, body = await look_into(call.desk.broker, told["found"].id, call.visitor.actor)
    except BodyGone:
        return call.render("notification.html", **told | {"gone": True})
    return call.render("notification.html", **told | {"shown": show(media, body)})


async def download(call: Call) -> Answer:
    """The body, byte for byte, as a file that no browser shows."""
    id = call.request.parameters["id"]
    media, body = await look_into(call.desk.broker, id, call.visitor.actor)
    name = f"{id}.{_ENDINGS.get(show(media, body).form, 'bin')}"
    disposition = f'attachment; filename="{name}"'.encode()
    headers = (*HEADERS, (b"content-disposition", disposition))
    return Answer(200, body, b"application/octet-stream", headers)


async def _told(call: Call) -> dict[str, Any]:
    told = await told_of(call.desk.broker, call.request.parameters["id"], call.visitor.actor)
    return told | {"shown": None, "gone": False}


async def told_of(broker: Broker, id: str, actor: Actor) -> dict[str, Any]:
    """All that the actor may know of a notification but its body. ``NotificationNotFound``."""
    found = await find_notification(broker, id, actor)
    owner = actor.name if actor.role is Role.CLIENT else None
    receipts = await broker.store.browse(ReceiptsOf(found.id, owner, RECEIPTS + 1))
    group = await groups.membership(broker, found, actor)
    all_steps = steps_of(decode_entry(receipt.entry) for receipt in receipts[:RECEIPTS])
    taken = {
        place: list(some)
        for place, some in groupby(all_steps, key=lambda one: (one.queue, one.seq))
    }
    ways = [
        Way(
            one,
            steps := taken.get((one.queue, one.seq), []),
            _reply(one),
            await _lease(broker, one),
            _replaced_by(steps),
            await _places(broker, one.queue, steps),
        )
        for one in found.deliveries[:QUEUES]
    ]
    complete = len(receipts) <= RECEIPTS
    return {"found": found, "ways": ways, "complete": complete, "group": group}


def _reply(delivery: DeliveryRecord) -> Shown | None:
    if delivery.last is None:
        return None
    last = decode_entry(delivery.last.entry)
    if last.reply is None:
        return None
    return show(last.reply_content_type, last.reply.encode())


async def _lease(broker: Broker, delivery: DeliveryRecord) -> OpenDelivery | None:
    if delivery.state is not State.LEASED:
        return None
    asked = OpenDeliveries(delivery.queue, State.LEASED, delivery.seq - 1, 1)
    found = await broker.store.browse(asked)
    return found[0] if found and found[0].seq == delivery.seq else None


async def _places(broker: Broker, queue: str, steps: Sequence[Step]) -> dict[str, int | None]:
    numbers = {parse_receipt_id(step.receipt)[1]: step.receipt for step in steps if step.receipt}
    places = await broker.log.places(queue, numbers)
    return {id: places.get(number) for number, id in numbers.items()}


def _replaced_by(steps: Sequence[Step]) -> str:
    """The id that the reason for discarding it names; empty where it was not replaced."""
    found = None
    if steps and steps[-1].what == Outcome.DISCARDED:
        found = _REPLACED.fullmatch(steps[-1].reason)
    return "" if found is None else found[1]
