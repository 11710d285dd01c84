"""Dead letters: what they died of, queue by queue, and each with its history."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from restante.desk.site import Call, Desk, MenuItem
from restante.engine.broker import Broker
from restante.errors import Malformed
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.http.request import Request
from restante.model import Selection
from restante.operators import Level
from restante.queries import DeadLetter, DeadLetters, DeadReasons, DeadSeqs, ReasonCount
from restante.watching import QueueView
from restante.way import Step, steps_of
from restante.wire.receipts import decode_entry

QUEUES: Final = 10
"""Queues on a page: of each a thousand dead letters are looked at."""
SCANNED: Final = 1_000
REASONS: Final = 10
LETTERS: Final = 25
NOTICES: Final = {
    "redriven": "{} given new attempts. Those that were dead no more were left alone.",
    "discarded": "{} discarded. Their receipts stay.",
    "replaced": "The new body is published in its place.",
    "opened": "What it held up goes on; it stays dead.",
}


class Group(NamedTuple):
    """A queue's dead letters by what they died of; ``whole``: all of them were looked at."""

    view: QueueView
    reasons: Sequence[ReasonCount]
    whole: bool


class Letter(NamedTuple):
    """A dead letter with what happened to it."""

    letter: DeadLetter
    steps: list[Step]


def add_routes(routes: Routes, desk: Desk) -> None:
    """Attach the two pages."""
    desk.menu.append(MenuItem("Dead letters", "/dead-letters"))
    desk.page(routes, "/dead-letters", page)
    desk.page(routes, "/dead-letters/{queue}", queue)


async def page(call: Call) -> Answer:
    """The queues with most of them first."""
    views = [view for view in call.desk.broker.monitor.views() if view.figures.dead]
    views.sort(key=lambda view: (-view.figures.dead, view.queue.name))
    number = call.request.integer("page", 1, 1, 1_000_000)
    shown = views[(number - 1) * QUEUES : number * QUEUES]
    return call.render(
        "dead.html",
        groups=await groups(call.desk.broker, shown),
        number=number,
        more=len(views) > number * QUEUES,
        total=sum(view.figures.dead for view in views),
        queues=len(views),
    )


async def groups(broker: Broker, views: Sequence[QueueView]) -> list[Group]:
    """What the dead letters of these queues died of."""
    found = []
    for view in views:
        reasons = await broker.store.browse(DeadReasons(view.queue.name, SCANNED, REASONS))
        found.append(Group(view, reasons, view.figures.dead <= SCANNED))
    return found


async def queue(call: Call) -> Answer:
    """A page of a queue's dead letters, all or those of one reason."""
    return call.render("dead_queue.html", **await told(call))


async def told(call: Call) -> dict[str, Any]:
    """All that the page shows. ``QueueNotFound``."""
    broker, query = call.desk.broker, call.request.query
    found = await broker.directory.queue(call.request.parameters["queue"])
    chosen = Selection(reason=query.get("reason"), topic=query.get("topic") or None)
    after = call.request.integer("after", 0, 0, 2**62)
    letters, beyond = await letters_of(broker, found.name, chosen, after)
    done = query.get("done", "")
    count = call.request.integer("count", 0, 0, 2**62)
    return {
        "queue": found,
        "chosen": chosen,
        "query": query_of(chosen),
        "letters": letters,
        "after": after,
        "next": beyond,
        "notice": NOTICES[done].format(f"{count:,}") if done in NOTICES else "",
        "may": call.may(Level.OPERATOR),
    }


async def letters_of(
    broker: Broker, name: str, chosen: Selection, after: int
) -> tuple[list[Letter], int | None]:
    """A page of a queue's dead letters beyond ``after``, and what to go on after; None at the end.

    Found by their numbers first, which looks at a bounded number of them however few are chosen: so a page may be
    short, even empty, before the end.
    """
    page = await broker.store.browse(DeadSeqs(name, chosen, after, LETTERS))
    if not page.seqs:
        return [], page.next
    found = await broker.store.browse(
        DeadLetters(name, Selection(seqs=tuple(page.seqs)), limit=LETTERS)
    )
    letters = [
        Letter(letter, steps_of(decode_entry(one.entry) for one in letter.history))
        for letter in found
    ]
    return letters, page.next


def query_of(chosen: Selection) -> str:
    """The query that asks for these again."""
    told = {name: getattr(chosen, name) for name in ("reason", "topic")}
    return urllib.parse.urlencode(
        {name: value for name, value in told.items() if value is not None}
    )


def seq_of(request: Request) -> int:
    """The number of a dead letter in the address. ``Malformed``."""
    text = request.parameters["seq"]
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Malformed("a dead letter's number is a whole number")
    return int(text)
