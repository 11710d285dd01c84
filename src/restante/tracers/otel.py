"""Spans by OpenTelemetry, sent over OTLP/HTTP: one for each publish, delivery and settle of a notification.

Names and attributes are those of OpenTelemetry's semantic conventions for messaging; what they have no word for begins
with ``restante.``. A delivery's span is a child of the context that came with the notification, and a settle's span a
child of its delivery's, so that a whole way is one trace; both are linked to that context, too, as the conventions ask.
Nothing here is global: neither the provider nor the context.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from restante.engine.tracing import WhenAppended, WhenLeased, WhenSettled
from restante.errors import RestanteError
from restante.model import (
    Appended,
    Delivery,
    Draft,
    Leased,
    LeaseRef,
    LeaseRequest,
    Settled,
    Settlement,
)
from restante.tracecontext import NAMES

REMEMBERED: Final = 10_000
"""Deliveries whose settle is still awaited; of more, the oldest are forgotten, and their settles make no span."""
EXPORT_SECONDS: Final = 10.0
"""How long one try to send spans may take, and how long a stop waits for the last of them."""
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_NOWHERE: Final = Context()
"""The empty context: whatever runs around us has no part in our spans."""
R = TypeVar("R", Appended, Settled)


class _Leased(NamedTuple):
    id: str
    context: SpanContext
    links: tuple[Link, ...]


@contextlib.asynccontextmanager
async def exporting(
    endpoint: str, sample_ratio: float, *, version: str, node: str
) -> AsyncIterator[OtelTracer]:
    """A tracer whose spans go to ``endpoint``, the URL for traces of a collector. What is left is sent at the end.

    ``sample_ratio`` (0 to 1) is the share of the traces that begin here; of those begun elsewhere their maker decides.
    """
    resource = Resource.create(
        {"service.name": "restante", "service.version": version, "service.instance.id": node}
    )
    provider = TracerProvider(
        ParentBased(TraceIdRatioBased(sample_ratio)), resource, shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(endpoint, timeout=EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield OtelTracer(provider.get_tracer("restante", version))
    finally:
        # It waits for the network, in a thread of its own making.
        await asyncio.to_thread(provider.shutdown)


class OtelTracer:
    """A ``Tracer`` of the engine's over one of OpenTelemetry's."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._leased: OrderedDict[LeaseRef, _Leased] = OrderedDict()

    def publishing(self, drafts: Sequence[Draft]) -> tuple[list[Draft], WhenAppended]:
        """One PRODUCER span each, whose context is what goes with the notification from now on."""
        spans: list[Span] = []
        stored: list[Draft] = []
        for draft in drafts:
            target = draft.topic or draft.queues[0]
            span = self._tracer.start_span(
                f"publish {target}",
                _PROPAGATOR.extract(draft.attributes, _NOWHERE),
                SpanKind.PRODUCER,
                _attributes(
                    "send",
                    "publish",
                    target,
                    draft.id,
                    {
                        "messaging.message.body.size": len(draft.body),
                        "restante.transport": draft.actor.transport,
                    },
                ),
            )
            spans.append(span)
            context: dict[str, str] = {}
            _PROPAGATOR.inject(context, trace.set_span_in_context(span, _NOWHERE))
            rest = {n: v for n, v in draft.attributes.items() if n not in NAMES}
            stored.append(msgspec.structs.replace(draft, attributes={**rest, **context}))

        def appended(done: asyncio.Future[list[Appended | RestanteError]]) -> None:
            for span, result in zip(spans, _results(done, len(spans)), strict=True):
                if isinstance(result, Appended):
                    # A repeat is told the id that the first one was given.
                    span.set_attribute("messaging.message.id", result.id)
                    span.set_attribute("restante.replayed", result.replayed)
                    span.set_attribute("restante.queues", len(result.deliveries))
                _end(span, result)

        return stored, appended

    def leasing(self, request: LeaseRequest) -> WhenLeased:
        """One CONSUMER span for each delivery that comes of it, as long as the look took."""
        began_ns = time.time_ns()

        def leased(done: asyncio.Future[Leased]) -> None:
            if done.cancelled() or done.exception() is not None:
                return
            for delivery in done.result().deliveries:
                self._deliver(delivery, request, began_ns)

        return leased

    def settling(self, settlements: Sequence[Settlement]) -> WhenSettled:
        """One CLIENT span each, of those whose delivery was traced on this node."""
        begun: list[tuple[int, Span]] = []
        for index, settlement in enumerate(settlements):
            found = self._leased.get(settlement.ref)
            if found is not None:
                begun.append((index, self._settle(settlement, found)))

        def settled(done: asyncio.Future[list[Settled | RestanteError]]) -> None:
            results = _results(done, len(settlements))
            for index, span in begun:
                result = results[index]
                if isinstance(result, Settled):
                    self._leased.pop(settlements[index].ref, None)
                    span.set_attribute("restante.outcome", result.outcome)
                    span.set_attribute("restante.state", result.state.label)
                _end(span, result)

        return settled

    def _deliver(self, delivery: Delivery, request: LeaseRequest, began_ns: int) -> None:
        carried = _PROPAGATOR.extract(delivery.attributes, _NOWHERE)
        origin = trace.get_current_span(carried).get_span_context()
        links = (Link(origin),) if origin.is_valid else ()
        span = self._tracer.start_span(
            f"deliver {request.queue}",
            carried,
            SpanKind.CONSUMER,
            _attributes(
                "receive",
                "deliver",
                request.queue,
                delivery.id,
                {
                    "messaging.message.body.size": len(delivery.body),
                    "restante.seq": delivery.ref.seq,
                    "restante.attempt": delivery.attempt,
                    "restante.transport": request.actor.transport,
                },
            ),
            links,
            start_time=began_ns,
        )
        span.end()
        if span.is_recording() or span.get_span_context().trace_flags.sampled:
            self._leased[delivery.ref] = _Leased(delivery.id, span.get_span_context(), links)
            if len(self._leased) > REMEMBERED:
                self._leased.popitem(last=False)

    def _settle(self, settlement: Settlement, leased: _Leased) -> Span:
        queue = settlement.ref.queue
        parent = trace.set_span_in_context(trace.NonRecordingSpan(leased.context), _NOWHERE)
        return self._tracer.start_span(
            f"settle {queue}",
            parent,
            SpanKind.CLIENT,
            _attributes(
                "settle",
                settlement.verb.value,
                queue,
                leased.id,
                {
                    "restante.seq": settlement.ref.seq,
                    "restante.transport": settlement.actor.transport,
                },
            ),
            leased.links,
        )


def _attributes(
    type: str, operation: str, destination: str, id: str, more: Mapping[str, str | int]
) -> dict[str, str | int]:
    return {
        "messaging.system": "restante",
        "messaging.operation.type": type,
        "messaging.operation.name": operation,
        "messaging.destination.name": destination,
        "messaging.message.id": id,
        **more,
    }


def _results(
    done: asyncio.Future[list[R | RestanteError]], count: int
) -> Sequence[R | RestanteError | None]:
    """What became of each; None where nobody knows."""
    if done.cancelled():
        return [None] * count
    error = done.exception()
    if error is None:
        return done.result()
    return [error if isinstance(error, RestanteError) else None] * count


def _end(span: Span, result: object) -> None:
    match result:
        case RestanteError():
            span.set_attribute("error.type", result.code)
            span.set_status(Status(StatusCode.ERROR, result.detail))
        case None:
            span.set_attribute("error.type", "_OTHER")
            span.set_status(Status(StatusCode.ERROR))
    span.end()
