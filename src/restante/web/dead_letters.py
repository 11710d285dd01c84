"""What becomes of dead letters: redriven, discarded, replaced, or passed by."""

from __future__ import annotations

from typing import Final

import msgspec

from restante import auth
from restante.engine.broker import Broker
from restante.engine.dead_letters import DeadLetterDesk
from restante.errors import DeadLetterNotFound, Malformed
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.publishing import to_places
from restante.http.request import Request
from restante.model import BATCH, Role, Selection, check_bounds
from restante.wire import times
from restante.wire.messages import (
    BulkDone,
    DeadFilter,
    DeadRequest,
    Nothing,
    OpenedOut,
    Published,
)

_DEAD: Final = msgspec.json.Decoder(DeadRequest)
_NOTHING: Final = msgspec.json.Decoder(Nothing)
_PATH: Final = "/v1/queues/{queue}/dead"


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls."""
    web = DeadLetters(broker)
    routes.add("POST", f"{_PATH}/redrive", web.redrive)
    routes.add("POST", f"{_PATH}/discard", web.discard)
    routes.add("POST", f"{_PATH}/{{seq}}/replace", web.replace)
    routes.add("POST", f"{_PATH}/{{seq}}/open", web.open)


class DeadLetters:
    """Every call takes an administrator's key."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def redrive(self, request: Request) -> Answer:
        desk = self._desk(request)
        asked = await request.read(_DEAD)
        matched, done = await desk.redrive(
            request.parameters["queue"], _selection(asked), preview=asked.preview
        )
        return envelope(request, BulkDone(matched=matched, done=done), "redriven")

    async def discard(self, request: Request) -> Answer:
        desk = self._desk(request)
        asked = await request.read(_DEAD)
        matched, done = await desk.discard(
            request.parameters["queue"],
            _selection(asked),
            reason=asked.reason,
            preview=asked.preview,
        )
        return envelope(request, BulkDone(matched=matched, done=done), "discarded")

    async def replace(self, request: Request) -> Answer:
        desk = self._desk(request)
        seq = _seq(request)
        queue = await self._broker.directory.queue(request.parameters["queue"])
        # The queue's own limit, before a byte more is read.
        body = await request.body(queue.settings.max_body_bytes)
        media = request.header(b"content-type") or "application/octet-stream"
        appended = await desk.replace(queue.name, seq, body, media)
        made = Published(id=appended.id, deliveries=to_places(appended))
        headers = ((b"idempotency-replayed", b"true"),) if appended.replayed else ()
        return envelope(request, made, "published", 201, headers)

    async def open(self, request: Request) -> Answer:
        desk = self._desk(request)
        await request.read(_NOTHING, Nothing())
        key = await desk.open_ordering_key(request.parameters["queue"], _seq(request))
        return envelope(request, OpenedOut(ordering_key=key), "opened")

    def _desk(self, request: Request) -> DeadLetterDesk:
        auth.require(request.actor, Role.ADMIN)
        return DeadLetterDesk(self._broker, request.actor)


def filtered(asked: DeadFilter | None, everything: bool) -> Selection:
    """What a filter selects: exactly one of ``filter`` and ``all``, so that nobody redrives everything by a slip."""
    if (asked is not None) is everything:
        raise Malformed("give either a filter, or all")
    if asked is None:
        return Selection()
    return Selection(
        reason=asked.reason,
        topic=asked.topic,
        since_ms=None if asked.since is None else times.to_ms(asked.since),
        until_ms=None if asked.until is None else times.to_ms(asked.until),
    )


def _selection(asked: DeadRequest) -> Selection:
    if [asked.seqs is not None, asked.filter is not None, asked.all].count(True) != 1:
        raise Malformed("give exactly one of seqs, filter and all")
    check_bounds("length of reason", len(asked.reason), 0, 1_024)
    if asked.seqs is None:
        return filtered(asked.filter, asked.all)
    check_bounds("number of seqs", len(asked.seqs), 1, BATCH)
    for seq in asked.seqs:
        check_bounds("seq", seq, 1, 2**62)
    return Selection(seqs=tuple(asked.seqs))


def _seq(request: Request) -> int:
    text = request.parameters["seq"]
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text)):
        raise DeadLetterNotFound(f"there is no dead letter {text[:40]} here")
    return int(text)
