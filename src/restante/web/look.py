"""Looking: queues and their figures, what is in them, dead letters, receipts, clients."""

from __future__ import annotations

from typing import Final

import msgspec

from restante import auth
from restante.engine.broker import Broker
from restante.errors import (
    ClientNotFound,
    Malformed,
    QueueNotFound,
    ReceiptNotFound,
)
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.request import Request
from restante.metering import Tally
from restante.model import Actor, Figures, Outcome, Queue, Role, Selection, State
from restante.queries import (
    ClientByName,
    Clients,
    DeadLetters,
    DeadReasons,
    FiguresOf,
    LedgerSpan,
    OpenDeliveries,
    OpenDelivery,
    Queues,
    ReceiptByNumber,
    Receipts,
)
from restante.watching import MINUTE_SECONDS
from restante.wire import times
from restante.wire.messages import (
    ClientOut,
    ClientPage,
    DeadOut,
    DeadPage,
    ErrorCount,
    FiguresOut,
    HolderOut,
    OpenOut,
    OpenPage,
    QueueOut,
    QueuePage,
    QueueWithFigures,
    Rates,
    ReasonList,
    ReasonOut,
    ReceiptPage,
)
from restante.wire.receipts import parse_receipt_id, to_json

PAGE: Final = 100
PAGE_MAXIMUM: Final = 1_000
SCANNED: Final = 10_000
"""Of so many dead letters the reasons are counted."""
ERRORS: Final = 10
"""Of the reasons of failures, the most frequent."""
_OPEN: Final = (State.READY, State.LEASED, State.SCHEDULED, State.HELD, State.DEAD)


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls that change nothing."""
    web = Look(broker)
    routes.add("GET", "/v1/queues", web.queues)
    routes.add("GET", "/v1/queues/{queue}", web.queue)
    routes.add("GET", "/v1/queues/{queue}/deliveries", web.deliveries)
    routes.add("GET", "/v1/queues/{queue}/dead", web.dead)
    routes.add("GET", "/v1/queues/{queue}/dead/reasons", web.reasons)
    routes.add("GET", "/v1/queues/{queue}/receipts", web.receipts)
    routes.add("GET", "/v1/receipts/{id}", web.receipt)
    routes.add("GET", "/v1/clients", web.clients)
    routes.add("GET", "/v1/clients/{name}", web.client)


class Look:
    """A client sees its own, an administrator everything."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._browse = broker.store.browse

    async def queues(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN, Role.CLIENT)
        owner = request.actor.name if request.actor.role is Role.CLIENT else None
        limit = _limit(request)
        found = await self._browse(Queues(request.query.get("after", ""), limit, owner))
        page = QueuePage(
            queues=[QueueOut(name=q.name, owner=q.owner, settings=q.settings) for q in found],
            next=found[-1].name if len(found) == limit else None,
        )
        return envelope(request, page, "queues")

    async def queue(self, request: Request) -> Answer:
        queue = await self._own_queue(request)
        view = await self._broker.monitor.refresh(queue.name)
        if view is None:
            raise QueueNotFound(f"there is no queue {queue.name} here")
        out = QueueWithFigures(
            name=queue.name,
            owner=queue.owner,
            settings=queue.settings,
            figures=_figures(view.figures, view.minute),
        )
        return envelope(request, out, "queue")

    async def dead(self, request: Request) -> Answer:
        queue = await self._own_queue(request)
        limit = _limit(request)
        selection = Selection(
            reason=request.query.get("reason"),
            topic=request.query.get("topic"),
            since_ms=_time(request, "since"),
            until_ms=_time(request, "until"),
        )
        after = request.integer("after", 0, 0, 2**62)
        found = await self._browse(DeadLetters(queue.name, selection, after, limit))
        page = DeadPage(
            dead=[
                DeadOut(
                    id=letter.id,
                    seq=letter.seq,
                    attempt=letter.attempt,
                    topic=letter.topic,
                    content_type=letter.content_type,
                    published_at=times.to_text(letter.published_at_ms),
                    dead_at=times.to_text(letter.dead_at_ms),
                    reason=letter.reason,
                    ordering_key=letter.ordering_key,
                    parked=letter.parked,
                    history=[msgspec.Raw(to_json(receipt)) for receipt in letter.history],
                )
                for letter in found
            ],
            next=found[-1].seq if len(found) == limit else None,
        )
        return envelope(request, page, "dead")

    async def deliveries(self, request: Request) -> Answer:
        queue = await self._own_queue(request)
        asked = request.query.get("state", State.READY.label)
        states = {state.label: state for state in _OPEN}
        if asked not in states:
            raise Malformed(f"state must be one of {', '.join(states)}, not {asked[:40]!r}")
        limit = _limit(request)
        after = request.integer("after", 0, 0, 2**62)
        found = await self._browse(OpenDeliveries(queue.name, states[asked], after, limit))
        page = OpenPage(
            deliveries=[_open_delivery(one, self._broker.clock.wall_ms()) for one in found],
            next=found[-1].seq if len(found) == limit else None,
        )
        return envelope(request, page, "deliveries")

    async def reasons(self, request: Request) -> Answer:
        queue = await self._own_queue(request)
        limit = _limit(request)
        figures = await self._browse(FiguresOf(queue.name))
        found = await self._browse(DeadReasons(queue.name, SCANNED, limit))
        dead = 0 if figures is None else figures.dead
        out = ReasonList(
            reasons=[
                ReasonOut(
                    reason=one.reason,
                    count=one.count,
                    last_dead_at=times.to_text(one.last_dead_at_ms),
                )
                for one in found
            ],
            dead=dead,
            scanned=min(dead, SCANNED),
        )
        return envelope(request, out, "reasons")

    async def receipts(self, request: Request) -> Answer:
        queue = await self._own_queue(request)
        outcome = request.query.get("outcome")
        if outcome is not None and outcome not in set(Outcome):
            raise Malformed(f"outcome must be one of {', '.join(Outcome)}, not {outcome[:40]!r}")
        found = await self._browse(
            Receipts(
                queue.name,
                request.integer("after", 0, 0, 2**62),
                _limit(request),
                outcome=outcome,
                since_ms=_time(request, "since"),
                until_ms=_time(request, "until"),
            )
        )
        # Behind the page: what was let go of meanwhile is told with what was before.
        span = await self._browse(LedgerSpan(queue.name))
        page = ReceiptPage(
            receipts=[msgspec.Raw(to_json(receipt)) for receipt in found.receipts],
            next=found.next,
            pruned_to=span.pruned_to,
            newest=span.newest,
        )
        return envelope(request, page, "receipts")

    async def receipt(self, request: Request) -> Answer:
        text = request.parameters["id"]
        name, number = parse_receipt_id(text)
        try:
            queue = await self._broker.directory.queue(name)
            auth.require_collect(request.actor, queue)
        except QueueNotFound as error:
            raise ReceiptNotFound(f"there is no receipt {text} here") from error
        found = await self._browse(ReceiptByNumber(name, number))
        if found is None:
            raise ReceiptNotFound(f"there is no receipt {text} here")
        return envelope(request, msgspec.Raw(to_json(found)), "receipt")

    async def clients(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        limit = _limit(request)
        found = await self._browse(Clients(request.query.get("after", ""), limit))
        page = ClientPage(
            clients=[
                ClientOut(name=c.name, created_at=times.to_text(c.created_at_ms)) for c in found
            ],
            next=found[-1].name if len(found) == limit else None,
        )
        return envelope(request, page, "clients")

    async def client(self, request: Request) -> Answer:
        name = request.parameters["name"]
        found = None
        if request.actor.role is Role.ADMIN or _is_self(request.actor, name):
            found = await self._browse(ClientByName(name))
        if found is None:
            raise ClientNotFound(f"there is no client {name[:128]} here")
        out = ClientOut(name=found.name, created_at=times.to_text(found.created_at_ms))
        return envelope(request, out, "client")

    async def _own_queue(self, request: Request) -> Queue:
        queue = await self._broker.directory.queue(request.parameters["queue"])
        auth.require_collect(request.actor, queue)
        return queue


def _is_self(actor: Actor, name: str) -> bool:
    return actor.role is Role.CLIENT and actor.name == name


def _limit(request: Request) -> int:
    return request.integer("limit", PAGE, 1, PAGE_MAXIMUM)


def _time(request: Request, name: str) -> int | None:
    text = request.query.get(name)
    return None if text is None else times.to_ms(text)


def _open_delivery(one: OpenDelivery, now_ms: int) -> OpenOut:
    def at(seconds: float | None) -> str | None:
        return None if seconds is None else times.to_text(now_ms + int(seconds * 1_000))

    return OpenOut(
        id=one.id,
        seq=one.seq,
        state=one.state.label,
        attempt=one.attempt,
        topic=one.topic,
        content_type=one.content_type,
        body_bytes=one.body_bytes,
        published_at=times.to_text(one.published_at_ms),
        ordering_key=one.ordering_key,
        collapse_key=one.collapse_key,
        due_at=at(one.due_in_seconds),
        expires_at=at(one.expires_in_seconds),
        leased_at=None if one.leased_at_ms is None else times.to_text(one.leased_at_ms),
        holder=None
        if one.holder is None
        else HolderOut(
            client=one.holder.name,
            transport=one.holder.transport,
            address=one.holder.remote_address,
        ),
    )


def _figures(figures: Figures, minute: Tally) -> FiguresOut:
    reasons = sorted(minute.reasons.items(), key=lambda item: -item[1])
    return FiguresOut(
        **{name: getattr(figures, name) for name in figures.__struct_fields__},
        rates=Rates(
            published=round(minute.published / MINUTE_SECONDS, 3),
            acked=round(minute.acked / MINUTE_SECONDS, 3),
            failed=round(minute.failed / MINUTE_SECONDS, 3),
        ),
        errors=[ErrorCount(reason=reason, count=count) for reason, count in reasons[:ERRORS]],
    )
