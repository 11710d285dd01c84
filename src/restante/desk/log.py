"""The log of receipts: how far it has come, whether this node can seal, its keys, its heads, the newest as a file."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from restante.desk.site import HEADERS, Call, Desk, MenuItem
from restante.engine.receipt_log import ReceiptLog
from restante.errors import LogDamaged, LogEmpty
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.receipt_log import LogKey, LogState
from restante.wire.checkpoints import CONTENT_TYPE, NotSigned, TreeHead, VerifierKey, of_note

PAGE: Final = 20
COUNTED: Final = 10_000
"""So many heads are counted: of one every ten minutes, those of ten weeks."""


class Kept(NamedTuple):
    """A signed head, and by which of the keys on record it was signed; None where by none of them."""

    head: TreeHead | None
    keys: tuple[VerifierKey, ...]


def add_routes(routes: Routes, desk: Desk) -> None:
    """Attach the page, the part of it that is fetched anew, and the file."""
    desk.menu.append(MenuItem("Log", "/log"))
    desk.page(routes, "/log", page)
    desk.page(routes, "/log/now", now, by_itself=True)
    desk.page(routes, "/log/head", download)


async def page(call: Call) -> Answer:
    """The whole page; ``before`` is the size of the log from which on older heads are told."""
    log = call.desk.broker.log
    before = call.request.integer("before", 0, 0, 2**62) or None
    notes = await log.newest_heads(before, PAGE + 1)
    keys, damage = await log.readable_keys()
    told = await _now(log, keys, damage)
    # Where it cannot be said whose log this is, each says it itself.
    origin = told["state"].origin if told["state"] is not None else None
    heads = [_kept(note, origin or note.partition("\n")[0], keys) for _, note in notes[:PAGE]]
    return call.render(
        "log.html",
        **told,
        known=sorted(keys, key=lambda one: -one.since_ms),
        heads=heads,
        before=before,
        next=notes[PAGE - 1][0] if len(notes) > PAGE else None,
    )


async def now(call: Call) -> Answer:
    """How far the log has come."""
    log = call.desk.broker.log
    return call.render("log_now.html", **await _now(log, *await log.readable_keys()))


async def download(call: Call) -> Answer:
    """The newest head as it is signed, as a file. ``LogEmpty``."""
    state = await call.desk.broker.log.state()
    disposition = f'attachment; filename="head-{state.size}.txt"'.encode()
    headers = (*HEADERS, (b"content-disposition", disposition))
    return Answer(200, state.checkpoint.encode(), CONTENT_TYPE.encode(), headers)


async def _now(
    log: ReceiptLog, keys: Sequence[LogKey], damage: LogDamaged | None
) -> dict[str, Any]:
    state: LogState | None = None
    unread: LogDamaged | None = None
    try:
        state = await log.state()
    except LogEmpty:
        pass
    except LogDamaged as error:
        unread = error
    return {
        "log": log,
        "damage": [one.detail for one in (unread, damage) if one is not None],
        "unread": unread is not None,
        "state": state,
        "signed": None if state is None else _kept(state.checkpoint, state.origin, keys),
        "number": await log.count_heads(COUNTED),
        "counted": COUNTED,
    }


def _kept(note: str, origin: str, keys: Sequence[LogKey]) -> Kept:
    head: TreeHead | None = None
    signers: list[VerifierKey] = []
    for one in keys:
        with contextlib.suppress(NotSigned, ValueError):
            key = VerifierKey.parse(one.key)
            head = of_note(note, origin, [key])
            signers.append(key)
    return Kept(head, tuple(signers))
