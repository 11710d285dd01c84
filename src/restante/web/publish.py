"""Publishing: to a queue, to a topic, in batches."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from restante import auth
from restante.engine.broker import Broker
from restante.errors import InvalidHeader, OutcomeUnknown, RestanteError, StoreError
from restante.http.answers import Answer, Header, envelope
from restante.http.api import Routes
from restante.http.once import Once, Replay, answer_in_parts
from restante.http.publishing import to_places, to_publication, to_result
from restante.http.request import Request
from restante.http.waiting import to_awaited, wanted_of
from restante.idempotency import HEADER, REPLAYED, Asked, Fate, key_of_header
from restante.model import BATCH, Actor, Appended, Publication, Role, check_bounds
from restante.outcomes import Result
from restante.tracecontext import with_context
from restante.wire.messages import (
    PublishBatch,
    Published,
    PublishedAndAwaited,
    PublishedBatch,
    PublishedItem,
    bytes_of,
)

_BATCH: Final = msgspec.json.Decoder(PublishBatch)
_LARGEST_BODY: Final = 16_777_216
_ATTRIBUTE: Final = "restante-attribute-"


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls of a publisher."""
    web = Publish(broker)
    # Their keys are kept by the store, in the transaction that publishes; a batch's, part by part.
    routes.add("POST", "/v1/queues/{queue}/notifications", web.to_queue, once=Once.BY_ITSELF)
    routes.add("POST", "/v1/topics/{topic}/notifications", web.to_topic, once=Once.BY_ITSELF)
    routes.add("POST", "/v1/notifications", web.batch, once=Once.BY_ITSELF)


class Publish:
    """The three calls."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def to_queue(self, request: Request) -> Answer:
        name = request.parameters["queue"]
        directory = self._broker.directory
        queue = directory.known_queue(name) or await directory.queue(name)
        auth.require_publish(request.actor, queue)
        # The queue's own limit, before a byte more is read.
        body = await request.body(queue.settings.max_body_bytes)
        publication = _publication(request, body, queue=name)
        return await self._publish(request, publication, self._broker.publish)

    async def to_topic(self, request: Request) -> Answer:
        auth.require(request.actor, Role.PUBLISHER, Role.ADMIN)
        body = await request.body(_LARGEST_BODY)
        publication = _publication(request, body, topic=request.parameters["topic"])
        return await self._publish(request, publication, self._broker.publish_to_topic)

    async def _publish(
        self,
        request: Request,
        publication: Publication,
        publish: Callable[[Publication, Actor], Awaitable[Appended]],
    ) -> Answer:
        wanted = wanted_of(request)
        if wanted is None:
            return _published(request, await publish(publication, request.actor))
        if publication.queue:
            wanted.requirement.check_one_queue()
        waiting = self._broker.waiting
        # A place first: what there is none for is refused before it is published.
        with waiting.enter(request.actor, wanted.wait_seconds) as waiter:
            appended = await publish(publication, request.actor)
            # It is published: from here on nothing but that is answered.
            came = await waiting.outcome_of(
                waiter,
                appended,
                request.actor,
                wanted.requirement,
                wanted.wait_seconds,
                hangup=request,
            )
        result = Result.PENDING if isinstance(came, Appended) else came.result
        out = PublishedAndAwaited(
            id=appended.id,
            result=result.value,
            deliveries=to_awaited(came, for_xml=request.wants_xml),
        )
        headers = (*_replayed(appended), wanted.applied())
        if result is not Result.PENDING:
            return envelope(request, out, "published", 200, headers)
        place = (b"location", f"/v1/notifications/{appended.id}".encode())
        return envelope(request, out, "published", 202, (*headers, place))

    async def batch(self, request: Request) -> Answer | Replay:
        header = request.header(HEADER)
        if header is None:
            answer, _ = await self._batch(request)
            return answer
        requests = self._broker.requests
        return await answer_in_parts(requests, request, key_of_header(header), self._batch)

    async def _batch(self, request: Request, once: Asked | None = None) -> tuple[Answer, Fate]:
        auth.require(request.actor, Role.PUBLISHER, Role.ADMIN)
        asked = await request.read(_BATCH)
        check_bounds("number of notifications", len(asked.notifications), 1, BATCH)
        results: list[PublishedItem | None] = [None] * len(asked.notifications)
        publications: list[Publication] = []
        places: list[int] = []
        context = request.trace_context()
        for index, item in enumerate(asked.notifications):
            try:
                body = bytes_of("body", item.body, item.body_base64)
                publication = to_publication(item, body, context)
                if once is not None and not publication.idempotency_key:
                    publication = msgspec.structs.replace(
                        publication, idempotency_key=once.key_of_part(index)
                    )
                publications.append(publication)
                places.append(index)
            except RestanteError as error:
                results[index] = to_result(error)
        appended: list[Appended | RestanteError] = []
        if publications:
            appended = await self._broker.publish_batch(publications, request.actor)
            for index, result in zip(places, appended, strict=True):
                results[index] = to_result(result)
        batch = PublishedBatch(results=[result for result in results if result is not None])
        return envelope(request, batch, "published"), _fate(appended)


def _fate(results: list[Appended | RestanteError]) -> Fate:
    """What becomes of a batch's key. A refusal is an answer; what the store could not do now is missing."""
    if not any(isinstance(result, StoreError) for result in results):
        return Fate.KEEP
    if any(isinstance(result, Appended | OutcomeUnknown) for result in results):
        return Fate.INCOMPLETE
    return Fate.FREE


def _publication(request: Request, body: bytes, *, queue: str = "", topic: str = "") -> Publication:
    content_type = "application/octet-stream"
    idempotency_key = ordering_key = collapse_key = ""
    deliver_after_seconds = 0.0
    expires_after_seconds: float | None = None
    attributes: dict[str, str] = {}
    traced = False
    for raw_name, raw_value in request.headers:
        if raw_name == b"content-type":
            content_type = raw_value.decode("latin-1")
        elif raw_name == b"idempotency-key":
            idempotency_key = key_of_header(raw_value.decode("latin-1"))
        elif raw_name.startswith(b"ce-"):
            attributes[raw_name.decode("latin-1")] = raw_value.decode("latin-1")
        elif raw_name.startswith(b"restante-"):
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            if name == "restante-ordering-key":
                ordering_key = _given(name, value)
            elif name == "restante-collapse-key":
                collapse_key = _given(name, value)
            elif name == "restante-deliver-after":
                deliver_after_seconds = _seconds(name, value)
            elif name == "restante-expires-after":
                expires_after_seconds = _seconds(name, value)
            elif name == "restante-require":
                pass  # of the request, and nothing of the notification: see wanted_of
            elif name.startswith(_ATTRIBUTE):
                attributes[name.removeprefix(_ATTRIBUTE)] = value
            else:
                raise InvalidHeader(f"there is no header {name[:100]}")
        elif raw_name == b"traceparent":
            traced = True
    if traced:
        attributes = with_context(attributes, request.trace_context())
    return Publication(
        body=body,
        queue=queue,
        topic=topic,
        content_type=content_type,
        attributes=attributes,
        idempotency_key=idempotency_key,
        ordering_key=ordering_key,
        collapse_key=collapse_key,
        deliver_after_seconds=deliver_after_seconds,
        expires_after_seconds=expires_after_seconds,
    )


def _given(name: str, value: str) -> str:
    if not value:
        raise InvalidHeader(f"{name} must not be empty")
    return value


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise InvalidHeader(f"{name} must be a number of seconds")
    return seconds


def _published(request: Request, appended: Appended) -> Answer:
    return envelope(
        request,
        Published(id=appended.id, deliveries=to_places(appended)),
        "published",
        201,
        _replayed(appended),
    )


def _replayed(appended: Appended) -> tuple[Header, ...]:
    return (REPLAYED,) if appended.replayed else ()
