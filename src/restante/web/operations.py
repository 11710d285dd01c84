"""Operations that complete later: made and moved on by services, waited for and followed by their clients."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from restante import auth
from restante.engine.attachments import Ending
from restante.engine.broker import Broker
from restante.engine.operation_watches import Kept, Watch
from restante.errors import Malformed
from restante.http.answers import Answer, Header, envelope
from restante.http.api import Routes
from restante.http.events import HEADERS, HEARTBEAT, HEARTBEAT_SECONDS, RETRY_MS, data_of, drain
from restante.http.once import Once
from restante.http.request import Request, SendMessage
from restante.idempotency import REPLAYED, key_of_header
from restante.model import Role
from restante.operation import Asked
from restante.wire.operation_messages import (
    MoveRequest,
    OperationPage,
    OperationRequest,
    operation_out,
    to_move,
)

PAGE: Final = 100
_ASKED: Final = msgspec.json.Decoder(OperationRequest)
_MOVE: Final = msgspec.json.Decoder(MoveRequest)
_VERSION: Final = re.compile(r'"([0-9]{1,15})"', re.ASCII)
_VERSION_MAXIMUM: Final = 10**15


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls."""
    web = OperationCalls(broker)
    routes.add("POST", "/v1/operations", web.make, once=Once.BY_ITSELF)
    routes.add("GET", "/v1/operations", web.list)
    routes.add("GET", "/v1/operations/{id}", web.get)
    routes.add("PATCH", "/v1/operations/{id}", web.move)
    routes.add("GET", "/v1/operations/{id}/events", web.events, "sse")


class OperationCalls:
    """A publisher makes operations and moves its own. Its client may look at one, and an administrator at all."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._operations = broker.operations

    async def make(self, request: Request) -> Answer:
        auth.require(request.actor, Role.PUBLISHER, Role.ADMIN)
        asked = await request.read(_ASKED)
        wanted = Asked(
            title=asked.title,
            client=asked.client,
            queue=asked.queue,
            runner=asked.runner,
            timeout_seconds=asked.timeout_seconds,
            keep_seconds=asked.keep_seconds,
        )
        header = request.header(b"idempotency-key")
        key = "" if header is None else key_of_header(header)
        kept, replayed = await self._operations.make(wanted, request.actor, key)
        place = f"/v1/operations/{kept.operation.id}".encode()
        headers: tuple[Header, ...] = ((b"location", place),)
        if replayed:
            headers = (*headers, REPLAYED)
        return _answer(request, kept, 201, headers)

    async def list(self, request: Request) -> Answer:
        limit = request.integer("limit", PAGE, 1, PAGE)
        runner, after = request.cursor("runner"), request.cursor("after")
        found = await self._operations.page(request.actor, runner, after, limit)
        shown = [operation_out(*kept, for_xml=request.wants_xml) for kept in found.kept]
        page = OperationPage(operations=shown, next=found.next)
        return envelope(request, page, "operations")

    async def get(self, request: Request) -> Answer:
        after = None
        if "after" in request.query:
            after = request.integer("after", 0, 0, _VERSION_MAXIMUM)
        kept = await self._operations.wait(
            request.parameters["id"],
            request.actor,
            after=after,
            seconds=request.number("wait", 0.0),
            hangup=request,
        )
        return _answer(request, kept)

    async def move(self, request: Request) -> Answer:
        id, version = request.parameters["id"], _version(request)
        # Before it is read: whose it is not learns nothing, whatever was sent.
        await self._operations.find(id, request.actor)
        move = to_move(await request.read(_MOVE))
        return _answer(
            request, await self._operations.move(id, move, request.actor, version=version)
        )

    async def events(self, request: Request) -> Answer | OperationEvents:
        kept = await self._operations.find(request.parameters["id"], request.actor)
        seen = request.header(b"last-event-id") or ""
        after = int(seen) if re.fullmatch(r"[0-9]{1,15}", seen, re.ASCII) else 0
        if kept.operation.state.ended and kept.version <= after:
            # There is nothing more to come: this has an EventSource give over.
            return Answer(204)
        # Once the answer has begun it is too late to refuse.
        self._broker.attachments.admit(request.actor)
        return OperationEvents(self._broker, request, kept, after)


class OperationEvents:
    """An event for how it stands and one for each change, to its end, or until its connection, key or service ends."""

    def __init__(self, broker: Broker, request: Request, kept: Kept, after: int) -> None:
        self._broker = broker
        self._request = request
        self._kept = kept
        self._after = after

    async def send(self, send: SendMessage) -> None:
        actor = self._request.actor
        with self._broker.operations.watches.watch(actor.key_id) as watch:
            attachment = self._broker.attachments.attach(actor, lambda _: watch.end())
            with attachment:
                await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS]})
                unwatch = self._request.watch(watch.end)
                try:
                    await _put(send, b"retry: %d\n\n" % RETRY_MS)
                    await self._tell(send, watch)
                    if attachment.ending is Ending.DRAIN:
                        seconds = self._broker.attachments.reconnect_after_seconds()
                        await _put(send, drain(int(seconds * 1_000)))
                finally:
                    unwatch()
                await send({"type": "http.response.body", "body": b""})

    async def _tell(self, send: SendMessage, watch: Watch) -> None:
        id = self._kept.operation.id
        kept = await self._broker.operations.watch(watch, id, self._request.actor)
        if watch.seen(kept) and kept.version > self._after:
            await _put(send, _event(kept))
        while id in watch and not watch.ended:
            news = await watch.next(HEARTBEAT_SECONDS)
            if not watch.ended:
                await _put(send, HEARTBEAT if news is None else _event(news))


def _event(kept: Kept) -> bytes:
    return b"id: %d\nevent: operation\ndata: %b\n\n" % (kept.version, data_of(operation_out(*kept)))


async def _put(send: SendMessage, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


def _answer(
    request: Request, kept: Kept, status: int = 200, headers: tuple[Header, ...] = ()
) -> Answer:
    headers = (*headers, (b"etag", b'"%d"' % kept.version))
    out = operation_out(*kept, for_xml=request.wants_xml)
    return envelope(request, out, "operation", status, headers)


def _version(request: Request) -> int | None:
    """The version that ``If-Match`` asks for; None: any. ``Malformed``."""
    text = request.header(b"if-match")
    if text is None or text.strip() == "*":
        return None
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        raise Malformed('If-Match must be the ETag of an earlier answer, such as "3"')
    return int(match[1])
