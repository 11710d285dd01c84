"""The stream that tells open pages that there is something new: they then fetch what they show of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from restante.desk.site import Call, Site
from restante.errors import TooManyConnections
from restante.http.answers import Header
from restante.http.api import Routes
from restante.http.request import SendMessage
from restante.model import Role
from restante.queries import Queues

STREAMS: Final = 500
"""Open pages, on one node."""
STREAMS_EACH: Final = 50
"""Of them one visitor's."""
LOOK_SECONDS: Final = 5.0
"""How often at least it is seen whether the visit goes on; with each word of news, too."""
QUEUES: Final = 200
"""A client hears of so many of its own."""
HEARTBEAT_SECONDS: Final = 15.0
PAUSE_SECONDS: Final = 0.5
"""Between two words of news, however much happens."""
RETRY_MS: Final = 3_000
_HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    # For nginx: pass each event on as it comes.
    (b"x-accel-buffering", b"no"),
)


def add_routes(routes: Routes, desk: Site) -> None:
    """Attach the stream."""
    desk.page(routes, "/live", Live(desk).stream, by_itself=True)


class Live:
    """All open streams."""

    def __init__(self, desk: Site) -> None:
        self.desk = desk
        self.open = Counter[str]()

    async def stream(self, call: Call) -> Stream:
        if self.open.total() >= STREAMS or self.open[call.visitor.name] >= STREAMS_EACH:
            raise TooManyConnections("too many pages are open")
        return Stream(self, call)


class Stream:
    """One answer that ends with the visit, its connection or the service."""

    def __init__(self, live: Live, call: Call) -> None:
        self._live = live
        self._request = call.request
        self._visitor = call.visitor
        self._owned: list[str] = []

    async def send(self, send: SendMessage) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS]})
        ended = asyncio.Event()
        unwatch = self._request.watch(ended.set)
        name = self._visitor.name
        self._live.open[name] += 1
        try:
            await self._tell(send, ended)
        finally:
            self._live.open[name] -= 1
            if not self._live.open[name]:
                del self._live.open[name]
            unwatch()
        if not self._request.gone():
            await send({"type": "http.response.body", "body": b""})

    async def _tell(self, send: SendMessage, ended: asyncio.Event) -> None:
        desk = self._live.desk
        monitor, clock = desk.broker.monitor, desk.broker.clock
        if self._visitor.role is Role.CLIENT:
            owned = await desk.broker.store.browse(Queues(limit=QUEUES, owner=self._visitor.name))
            self._owned = [queue.name for queue in owned]
        version, seen = monitor.version, self._seen()
        told_at = looked_at = clock.monotonic()
        await _put(send, b"retry: %d\nevent: open\ndata: 0\n\n" % RETRY_MS)
        retiring = desk.broker.retiring
        while not ended.is_set():
            waits = {
                asyncio.ensure_future(one)
                for one in (
                    monitor.changed(version),
                    clock.wait(max(0.0, told_at + HEARTBEAT_SECONDS - clock.monotonic())),
                    ended.wait(),
                    retiring.wait(),
                )
            }
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                await asyncio.gather(*waits, return_exceptions=True)
            if ended.is_set() or retiring.is_set():
                return
            version, before, seen = monitor.version, seen, self._seen()
            now = clock.monotonic()
            if seen != before or now >= looked_at + LOOK_SECONDS:
                looked_at = now
                if await desk.visitors.level(self._visitor.visit) is None:
                    await _put(send, b"event: over\ndata: 0\n\n")
                    return
            if seen != before:
                told_at = now
                await _put(send, b"event: changed\ndata: 0\n\n")
            elif now >= told_at + HEARTBEAT_SECONDS:
                told_at = now
                await _put(send, b": still here\n\n")
            await clock.wait(PAUSE_SECONDS)

    def _seen(self) -> object:
        """What changes with all that the visitor may know of, and with nothing else: a client hears of its own."""
        broker = self._live.desk.broker
        if self._visitor.role is not Role.CLIENT:
            return broker.monitor.version
        found: list[object] = []
        for queue in self._owned:
            view = broker.monitor.view(queue)
            found.append(None if view is None else view.version)
            found += [alert.id for alert in broker.alerts.open_in(queue)]
        return found


async def _put(send: SendMessage, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
