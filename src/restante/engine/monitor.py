"""What is seen of queues on this node: how each stands, what happened in it lately, and who comes for it.

About every second the store's meter is drained, and the queues in which something happened are looked at; now and then
all are, in pages. So a look costs what happened since the last one, not what waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import structlog

from restante.engine.windows import BUCKET_SECONDS, Window
from restante.errors import ShuttingDown, StoreError
from restante.metering import Tally
from restante.model import Figures
from restante.queries import FiguresOfQueues, QueueFigures
from restante.watching import Point, QueueView, Span, Total

if TYPE_CHECKING:
    from restante.engine.broker import Broker

_log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 1.0
ROUND_SECONDS: Final = 10.0
"""How often all queues are looked at: what other nodes did is seen that late."""
PAGE: Final = 500
ALL: Final = ""
"""Stands for all queues together, where a queue's name may."""
_SUMMED: Final = tuple(name for name in Figures.__struct_fields__ if name != "oldest_age_seconds")


class Monitor:
    """One endless job, ``watch``. What it gives out is its own: look, do not change."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._store = broker.store
        self._clock = broker.clock
        self.version = 0
        self.counters: dict[str, Tally] = {ALL: Tally()}
        self._views: dict[str, QueueView] = {}
        self._windows: dict[str, Window] = {ALL: Window()}
        self._untold: dict[str, Tally] = {}
        self._next_round = 0.0
        self._waiting: list[asyncio.Future[None]] = []
        self._callbacks: list[Callable[[], Awaitable[None]]] = []
        self._total: tuple[int, Total] | None = None

    # -- asking ---------------------------------------------------------------------------------

    async def changed(self, since: int) -> int:
        """Wait until ``version`` is above ``since``; it, then."""
        while self.version <= since:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
        return self.version

    def view(self, queue: str) -> QueueView | None:
        """As last seen; None for a queue that is not known yet."""
        return self._views.get(queue)

    def views(self) -> Collection[QueueView]:
        """All queues, as last seen."""
        return self._views.values()

    def total(self) -> Total:
        """All queues together, as last seen."""
        if self._total is None or self._total[0] != self.version:
            self._total = (self.version, self._sum())
        return self._total[1]

    async def refresh(self, queue: str) -> QueueView | None:
        """Ask the store now; None where there is no such queue. Raises ``StoreError``."""
        self._take_in(self._store.meter.drain())
        for found in await self._store.browse(FiguresOfQueues((queue,))):
            self._see(found)
        self._rose()
        return self._views.get(queue)

    async def history(self, queue: str, span: Span) -> list[Point]:
        """What happened in the queue ("": in all), oldest first: ``span.seconds / span.step_seconds`` points."""
        step = span.step_seconds
        last = self._clock.wall_ms() // 1_000 // step
        count = span.seconds // step
        return [Point((last - back) * step * 1_000, Tally()) for back in reversed(range(count))]

    def after_look(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call back after each look, about every second. Its errors are logged."""
        self._callbacks.append(callback)

    # -- looking --------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Until cancelled: look, and look again."""
        while True:
            try:
                await self._look()
            except ShuttingDown:
                return
            except StoreError as error:
                _log.warning("monitor.store_error", error=str(error))
            except Exception:  # noqa: BLE001 (logged; the next look may succeed)
                _log.exception("monitor.failed")
            for callback in self._callbacks:
                try:
                    await callback()
                except Exception:  # noqa: BLE001 (logged; who watches does not stop what it watches)
                    _log.exception("monitor.callback_failed")
            await self._clock.wait(LOOK_SECONDS)

    async def close(self) -> None:
        """Count what is left."""
        self._take_in(self._store.meter.drain())

    async def _look(self) -> None:
        drained = self._store.meter.drain()
        self._take_in(drained)
        if self._clock.monotonic() >= self._next_round:
            await self._see_all()
            self._next_round = self._clock.monotonic() + ROUND_SECONDS
        else:
            await self._see_some(self._untold)
        self._untold.clear()
        self._age()
        self._rose()

    async def _see_some(self, queues: Iterable[str]) -> None:
        names = list(queues)
        for begin in range(0, len(names), PAGE):
            asked = FiguresOfQueues(tuple(names[begin : begin + PAGE]))
            for found in await self._store.browse(asked):
                self._see(found)
            await asyncio.sleep(0)

    async def _see_all(self) -> None:
        after = ""
        while page := await self._store.browse(FiguresOfQueues(after=after, limit=PAGE)):
            for found in page:
                self._see(found)
            after = page[-1].queue.name
            await asyncio.sleep(0)

    def _take_in(self, drained: Mapping[str, Tally]) -> None:
        bucket = self._bucket()
        for queue, tally in drained.items():
            self.counters.setdefault(queue, Tally()).add(tally)
            self.counters[ALL].add(tally)
            self._windows.setdefault(queue, Window()).add(bucket, tally)
            self._windows[ALL].add(bucket, tally)
            self._untold.setdefault(queue, Tally()).add(tally)

    def _see(self, found: QueueFigures) -> None:
        name, now = found.queue.name, self._clock.wall_ms()
        view = self._views.get(name)
        if view is None:
            view = QueueView(queue=found.queue, figures=found.figures, as_of_ms=now)
            self._views[name] = view
        view.queue, view.figures, view.as_of_ms = found.queue, found.figures, now

    def _age(self) -> None:
        bucket = self._bucket()
        for queue, window in list(self._windows.items()):
            left = window.forget(bucket)
            view = self._views.get(queue)
            if view is not None:
                view.minute, view.recent = window.minute(bucket), window.recent(bucket)
            if not left and queue != ALL:
                del self._windows[queue]

    def _bucket(self) -> int:
        return int(self._clock.monotonic() // BUCKET_SECONDS)

    def _sum(self) -> Total:
        sums = dict.fromkeys(_SUMMED, 0)
        oldest: float | None = None
        consumers: dict[str, int] = {}
        for view in self._views.values():
            figures = view.figures
            for name in _SUMMED:
                sums[name] += getattr(figures, name)
            age = figures.oldest_age_seconds
            if age is not None and (oldest is None or age > oldest):
                oldest = age
            for consumer in view.consumers:
                if consumer.attached:
                    consumers[consumer.transport] = consumers.get(consumer.transport, 0) + 1
        bucket = self._bucket()
        return Total(
            figures=Figures(oldest_age_seconds=oldest, **sums),
            as_of_ms=self._clock.wall_ms(),
            minute=self._windows[ALL].minute(bucket),
            recent=self._windows[ALL].recent(bucket),
            queues=len(self._views),
            consumers=consumers,
        )

    def _rose(self) -> None:
        self.version += 1
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)
