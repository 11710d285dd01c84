"""Watching: how all queues fare at a glance and as it changes, and one queue's view, history and consumers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar

from restante import auth
from restante.alerting import Limits
from restante.attention import Order, Sort, find, neediest
from restante.engine.attachments import Ending
from restante.engine.broker import Broker
from restante.errors import Malformed, QueueNotFound
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.events import (
    HEADERS,
    HEARTBEAT,
    HEARTBEAT_SECONDS,
    RETRY_MS,
    data_of,
    drain,
)
from restante.http.request import Request, SendMessage
from restante.model import Queue, Role, check_bounds
from restante.watching import QueueView, Span
from restante.wire import times
from restante.wire.watching import (
    AttentionOut,
    ConsumerList,
    HistoryOut,
    OverviewOut,
    TotalsOut,
    attention_out,
    consumer_counts,
    consumer_out,
    pace,
    point_out,
    queue_seen,
)

ATTENTION: Final = 20
"""So many queues are named as those that need somebody first."""
PAGE: Final = 50
PAGE_MAXIMUM: Final = 500
SEARCH_CHARACTERS: Final = 128
PAUSE_SECONDS: Final = 1.0
"""At least, from one overview of a stream to the next."""
T = TypeVar("T", bound=StrEnum)


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls of those who watch."""
    web = Watch(broker)
    routes.add("GET", "/v1/overview", web.overview)
    routes.add("GET", "/v1/overview/events", web.events, "sse")
    routes.add("GET", "/v1/queues/{queue}/view", web.view)
    routes.add("GET", "/v1/queues/{queue}/history", web.history)
    routes.add("GET", "/v1/queues/{queue}/consumers", web.consumers)


class Wanted(NamedTuple):
    """Which page of the queues is asked for."""

    search: str
    sort: Sort
    order: Order
    offset: int
    limit: int

    @classmethod
    def by(cls, request: Request) -> Wanted:
        """What the query says. Raises ``Malformed`` and ``OutOfBounds``."""
        search = request.query.get("search", "")
        check_bounds("length of search", len(search), 0, SEARCH_CHARACTERS)
        return cls(
            search,
            _choice(request, "sort", Sort, Sort.NAME),
            _choice(request, "order", Order, Order.ASCENDING),
            request.integer("offset", 0, 0, 2**31),
            request.integer("limit", PAGE, 1, PAGE_MAXIMUM),
        )


class Watch:
    """The overview is an administrator's. A client sees how its own queues fare."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._neediest: tuple[int, list[AttentionOut]] = (-1, [])

    @property
    def _limits(self) -> Limits:
        return self._broker.alerts.limits

    async def overview(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        return envelope(request, self._look(Wanted.by(request)), "overview")

    async def events(self, request: Request) -> OverviewStream:
        auth.require(request.actor, Role.ADMIN)
        wanted = Wanted.by(request)
        # Once the answer has begun it is too late to refuse.
        self._broker.attachments.admit(request.actor)
        return OverviewStream(self._broker, request, lambda: self._look(wanted))

    async def view(self, request: Request) -> Answer:
        view = await self._view(await self._own_queue(request))
        return envelope(
            request, queue_seen(view, self._broker.clock.wall_ms(), self._limits), "queue"
        )

    async def history(self, request: Request) -> Answer:
        queue = await self._own_queue(request)
        span = _choice(request, "span", Span, Span.HOUR)
        points = await self._broker.monitor.history(queue.name, span)
        out = HistoryOut(
            queue=queue.name,
            span=span.value,
            step_seconds=span.step_seconds,
            points=[point_out(point) for point in points],
        )
        return envelope(request, out, "history")

    async def consumers(self, request: Request) -> Answer:
        view = await self._view(await self._own_queue(request))
        out = ConsumerList(consumers=[consumer_out(one) for one in view.consumers])
        return envelope(request, out, "consumers")

    def _look(self, wanted: Wanted) -> OverviewOut:
        monitor, now = self._broker.monitor, self._broker.clock.wall_ms()
        views = monitor.views()
        total = monitor.total()
        found = find(
            views,
            search=wanted.search,
            sort=wanted.sort,
            order=wanted.order,
            offset=wanted.offset,
            limit=wanted.limit,
            now_ms=now,
        )
        return OverviewOut(
            at=times.to_text(now),
            totals=TotalsOut(
                queues=total.queues,
                depth=total.depth,
                figures=total.figures,
                pace=pace(total.minute, total.recent),
                consumers=consumer_counts(total.consumers),
            ),
            attention=self._attention(now),
            found=found.number,
            queues=[queue_seen(view, now, self._limits) for view in found.views],
        )

    def _attention(self, now_ms: int) -> list[AttentionOut]:
        # It looks at every queue: once for all who ask between two looks of the monitor.
        monitor = self._broker.monitor
        if self._neediest[0] != monitor.version:
            first = neediest(monitor.views(), now_ms, ATTENTION, self._limits)
            self._neediest = monitor.version, [attention_out(*one) for one in first]
        return self._neediest[1]

    async def _view(self, queue: Queue) -> QueueView:
        monitor = self._broker.monitor
        # One made just now has not been looked at yet.
        view = monitor.view(queue.name) or await monitor.refresh(queue.name)
        if view is None:
            raise QueueNotFound(f"there is no queue {queue.name} here")
        return view

    async def _own_queue(self, request: Request) -> Queue:
        queue = await self._broker.directory.queue(request.parameters["queue"])
        auth.require_collect(request.actor, queue)
        return queue


class OverviewStream:
    """The overview again and again, as things change, until its connection, its key or the service ends."""

    def __init__(self, broker: Broker, request: Request, look: Callable[[], OverviewOut]) -> None:
        self._broker = broker
        self._request = request
        self._look = look

    async def send(self, send: SendMessage) -> None:
        ended = asyncio.Event()
        attachment = self._broker.attachments.attach(self._request.actor, lambda _: ended.set())
        with attachment:
            await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS]})
            unwatch = self._request.watch(ended.set)
            try:
                await _put(send, b"retry: %d\n\n" % RETRY_MS)
                await self._tell(send, ended)
                if attachment.ending is Ending.DRAIN:
                    seconds = self._broker.attachments.reconnect_after_seconds()
                    await _put(send, drain(int(seconds * 1_000)))
            finally:
                unwatch()
            await send({"type": "http.response.body", "body": b""})

    async def _tell(self, send: SendMessage, ended: asyncio.Event) -> None:
        monitor, clock = self._broker.monitor, self._broker.clock
        told = -1
        while not ended.is_set():
            if monitor.version > told:
                told = monitor.version
                await _put(send, b"event: overview\ndata: %b\n\n" % data_of(self._look()))
            else:
                await _put(send, HEARTBEAT)
            await _first(clock.wait(PAUSE_SECONDS), ended.wait())
            await _first(monitor.changed(told), clock.wait(HEARTBEAT_SECONDS), ended.wait())


async def _put(send: SendMessage, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them has come."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _choice(request: Request, name: str, kind: type[T], default: T) -> T:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        return kind(text)
    except ValueError as error:
        raise Malformed(f"{name} must be one of {', '.join(kind)}, not {text[:40]!r}") from error
