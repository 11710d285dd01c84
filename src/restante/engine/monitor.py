"""What is seen of queues: how each stands, what happened in it lately, on all nodes, and who comes for it.

About every second the store's meter is drained, and the queues in which something happened are looked at; now and then
all are, in pages, for what other nodes did. So a look costs what happened since the last one, not what waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from restante.changes import PutPaper
from restante.engine.history import ALL, History
from restante.engine.seen import Sightings
from restante.engine.sums import Sums
from restante.engine.windows import BUCKET_SECONDS, Window
from restante.errors import ShuttingDown, StoreError
from restante.logs import get_logger
from restante.metering import Tally
from restante.queries import FiguresOfQueues, QueueFigures, Webhooks
from restante.watching import Consumer, Failure, Point, QueueView, Span, Total, WebhookHealth

if TYPE_CHECKING:
    from restante.engine.broker import Broker

_log = get_logger(__name__)

LOOK_SECONDS: Final = 1.0
ROUND_SECONDS: Final = 10.0
"""How often all queues are looked at: what other nodes did is seen that late."""
HISTORY_SECONDS: Final = 60.0
"""How often what happened is written down. A crash loses as much of the charts, and nothing else."""
PAGE: Final = 500
OVER: Final = 50_000
"""So many periods are kept for a store that is away; of more the oldest are let go."""
AT_ONCE: Final = 50
"""Queues done without letting others go on, and papers in one transaction: some two milliseconds' worth."""


class Monitor:
    """One endless job, ``watch``. What it gives out is its own: look, do not change.

    ``version`` rises with a look that found something new, and with each round, for what has merely grown older.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._store = broker.store
        self._clock = broker.clock
        self._shared = broker.store.nodes is not None
        self.version = 0
        self.is_complete = False
        """Whether all queues and their webhooks have been seen since the start."""
        self.counters: dict[str, Tally] = {ALL: Tally()}
        """What happened through this node since it was started, by queue; ``ALL``: in all."""
        self._views: dict[str, QueueView] = {}
        self._sums = Sums()
        self._windows: dict[str, Window] = {ALL: Window()}
        node = broker.membership.id
        self._sightings = Sightings(
            self._store, self._clock.wall_ms, node if self._shared else None
        )
        self._history = History(self._store, self._clock.wall_ms, node)
        self._touched: set[str] = set()
        """Queues to be looked at."""
        self._over: list[PutPaper] = []
        """Periods that have ended, to be written."""
        self._untold: set[str] = set()
        """Queues of which something was seen that has not been written yet."""
        self._alive: set[str] = set()
        """Other nodes that were heard of lately."""
        self._bucket = -1
        self._is_new = False
        """Whether something was found that the version does not tell of yet."""
        self._next_round = self._next_history = 0.0
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
        await self._take_in(self._store.meter.drain())
        for found in await self._store.browse(FiguresOfQueues((queue,))):
            self._see(found)
        self._rise()
        return self._views.get(queue)

    async def history(self, queue: str, span: Span) -> list[Point]:
        """What happened in the queue (``ALL``: in all), oldest first: ``span.seconds / span.step_seconds`` points.

        Raises ``StoreError``.
        """
        depth, age = self._standing(queue)
        return await self._history.points(queue, span, depth, age)

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
        """Write down what was seen and not written yet, as far as the store still takes it."""
        try:
            await self._take_in(self._store.meter.drain())
            await self._write_over()
            untold = self._untold | self._broker.contacts.changed
            await self._write(self._sightings.papers(untold))
            await self._write(self._history.flush(self._standing))
        except StoreError as error:
            _log.warning("monitor.not_written", error=str(error))

    async def _write_over(self) -> None:
        over, self._over = self._over, []
        try:
            await self._write(over)
        except StoreError:
            self._over = (over + self._over)[-OVER:]
            raise

    async def _look(self) -> None:
        await self._take_in(self._store.meter.drain())
        await self._write_over()
        now = self._clock.monotonic()
        if self._shared:
            self._alive = {node.id for node in self._broker.membership.nodes()}
        if now >= self._next_round:
            # From now, whatever comes of it: a store that fails is not asked for everything each second.
            self._next_round = now + ROUND_SECONDS
            await self._go_round()
        else:
            await self._see_touched()
        if now >= self._next_history:
            self._next_history = now + HISTORY_SECONDS
            await self._write(self._history.flush(self._standing))
        await self._age()
        self._rise()

    async def _see_touched(self) -> None:
        # What is touched from here on is for the next look.
        names, self._touched = list(self._touched), set()
        for begin in range(0, len(names), PAGE):
            page = tuple(names[begin : begin + PAGE])
            try:
                found = await self._store.browse(FiguresOfQueues(page))
            except StoreError:
                self._touched.update(names[begin:])
                raise
            await self._see_all(found)

    async def _go_round(self) -> None:
        await self._sightings.read()
        self._touched = set()
        self._is_new = True
        after = ""
        while page := await self._store.browse(FiguresOfQueues(after=after, limit=PAGE)):
            await self._see_all(page)
            after = page[-1].queue.name
        await self._see_webhooks()
        untold = self._untold | self._broker.contacts.changed
        self._untold, self._broker.contacts.changed = set(), set()
        try:
            await self._write(self._sightings.papers(untold))
        except StoreError:
            self._untold |= untold
            raise

    async def _see_all(self, found: Iterable[QueueFigures]) -> None:
        for count, one in enumerate(found, 1):
            self._see(one)
            if not count % AT_ONCE:
                await asyncio.sleep(0)

    async def _see_webhooks(self) -> None:
        seen: dict[str, WebhookHealth] = {}
        courier, after = self._broker.webhooks.courier, ""
        while page := await self._store.browse(Webhooks(after, PAGE)):
            for webhook in page:
                seen[webhook.queue] = WebhookHealth(
                    url=webhook.url,
                    enabled=webhook.enabled,
                    reason=webhook.reason,
                    since_ms=webhook.since_ms,
                    disabled_by_service=webhook.disabled_by_service,
                    circuit=None if courier is None else courier.circuit(webhook.queue),
                )
            after = page[-1].queue
        for name, view in self._views.items():
            health = seen.get(name)
            if health != view.webhook:
                view.webhook, view.version = health, self.version + 1
        self.is_complete = True

    async def _take_in(self, drained: Mapping[str, Tally]) -> None:
        bucket, now = self._now_bucket(), self._clock.wall_ms()
        everything = Tally()
        for count, (queue, tally) in enumerate(drained.items(), 1):
            everything.add(tally)
            self._over += self._count(queue, tally, bucket)
            seen = self._sightings.own(queue)
            if tally.acked:
                seen.ack_ms = now
            if tally.failed:
                seen.failure = Failure(now, max(tally.reasons, key=lambda one: tally.reasons[one]))
            self._touched.add(queue)
            self._untold.add(queue)
            if not count % AT_ONCE:
                await asyncio.sleep(0)
        if drained:
            self._is_new = True
            self._over += self._count(ALL, everything, bucket)
            if self._shared:
                self._untold.add(ALL)
                self._see_own(ALL)

    def _count(self, queue: str, tally: Tally, bucket: int) -> Iterable[PutPaper]:
        counted = self.counters.get(queue)
        if counted is None:
            counted = self.counters[queue] = Tally()
        counted.add(tally)
        window = self._windows.get(queue)
        if window is None:
            window = self._windows[queue] = Window()
        window.add(bucket, tally)
        return map(PutPaper, self._history.count(queue, tally))

    def _see(self, found: QueueFigures) -> None:
        """Take in how a queue stands. What merely grows older is nothing new."""
        name, now = found.queue.name, self._clock.wall_ms()
        view = self._views.get(name)
        if view is None:
            view = QueueView(queue=found.queue, figures=found.figures, as_of_ms=now)
            self._views[name] = view
        is_new = self._sums.see(name, found.figures, now) or view.queue != found.queue
        view.queue, view.figures, view.as_of_ms = found.queue, found.figures, now
        is_new = self._tell(view) or is_new
        if is_new:
            view.version = self.version + 1
            # Here and not by who asked: somebody else may raise the version in the middle of a look.
            self._is_new = True

    def _tell(self, view: QueueView) -> bool:
        """Have the view say what all nodes have seen; whether any of it is new."""
        name = view.queue.name
        self._see_own(name)
        seen = self._sightings.merged(name, self._alive)
        if seen is None:
            return False
        # While somebody is here, the time of contact is that of asking.
        is_new = (
            not _are_same(view.consumers, seen.consumers)
            or (view.last_contact != seen.contact and not any(c.attached for c in seen.consumers))
            or (view.last_ack_ms, view.last_failure) != (seen.ack_ms, seen.failure)
            or view.recent != seen.recent
        )
        view.last_contact, view.last_ack_ms = seen.contact, seen.ack_ms
        view.last_failure, view.consumers = seen.failure, seen.consumers
        view.minute, view.recent = seen.minute, seen.recent
        self._sums.attach(name, view.consumers)
        return is_new

    def _see_own(self, name: str) -> None:
        """Keep what this node itself has seen."""
        window = self._windows.get(name)
        contact = self._broker.contacts.last(name)
        consumers = self._broker.contacts.consumers(name, self._broker.membership.name)
        if contact is not None or window is not None or consumers or self._sightings.is_own(name):
            own = self._sightings.own(name)
            own.contact = contact or own.contact
            own.consumers = consumers
            own.minute = Tally() if window is None else window.minute
            own.recent = Tally() if window is None else window.recent

    async def _age(self) -> None:
        """Let go of what is too old, and see who came and went meanwhile."""
        bucket = self._now_bucket()
        contacts = self._broker.contacts
        lately, contacts.moved = contacts.moved, set()
        if bucket != self._bucket:
            self._bucket = bucket
            lately |= self._windows.keys() - {ALL}
            lately.update(contacts.queues())
            self._windows[ALL].forget(bucket)
        for count, name in enumerate(lately, 1):
            self._age_one(name, bucket)
            if not count % AT_ONCE:
                await asyncio.sleep(0)

    def _age_one(self, name: str, bucket: int) -> None:
        self._broker.contacts.forget(name)
        window = self._windows.get(name)
        left = window is not None and window.forget(bucket)
        if window is not None and not left:
            del self._windows[name]
        view = self._views.get(name)
        if view is not None and (self._tell(view) or window is not None):
            view.version = self.version + 1
            self._is_new = True

    # -- inside ---------------------------------------------------------------------------------

    async def _write(self, papers: Iterable[PutPaper]) -> None:
        for batch in _batches(papers):
            await self._store.configure(batch)

    def _standing(self, queue: str) -> tuple[int, float | None]:
        if queue == ALL:
            total = self.total()
            return total.depth, total.figures.oldest_age_seconds
        view = self._views.get(queue)
        if view is None:
            return 0, None
        return view.depth, view.oldest_age_seconds(self._clock.wall_ms())

    def _now_bucket(self) -> int:
        return int(self._clock.monotonic() // BUCKET_SECONDS)

    def _sum(self) -> Total:
        now = self._clock.wall_ms()
        minute, recent = self._windows[ALL].minute, self._windows[ALL].recent
        if self._shared:
            seen = self._sightings.merged(ALL, self._alive)
            if seen is not None:
                minute, recent = seen.minute, seen.recent
        return Total(
            figures=self._sums.figures(now),
            as_of_ms=now,
            minute=minute,
            recent=recent,
            queues=self._sums.queues,
            consumers=self._sums.consumers(),
        )

    def _rise(self) -> None:
        if not self._is_new:
            return
        self._is_new = False
        self.version += 1
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)


def _are_same(before: tuple[Consumer, ...], after: tuple[Consumer, ...]) -> bool:
    """Whether these are the same programs, attached or not as they were: when they were seen last is no news."""
    return len(before) == len(after) and all(
        (a.since_ms, a.attached, a.node, a.transport, a.address, a.agent)
        == (b.since_ms, b.attached, b.node, b.transport, b.address, b.agent)
        for a, b in zip(before, after, strict=True)
    )


def _batches(papers: Iterable[PutPaper]) -> Iterator[list[PutPaper]]:
    batch: list[PutPaper] = []
    for paper in papers:
        batch.append(paper)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
