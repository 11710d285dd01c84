"""All webhooks that this node calls: a worker for each, begun and ended as they are changed.

The node takes part in the drain like a connection does: it leases no more, and leaves when its calls have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from restante.engine.attachments import Ending
from restante.engine.broker import Broker
from restante.engine.ids import new_id
from restante.engine.webhooks import Opened, Pinged
from restante.errors import RestanteError, WebhookNotFound
from restante.logs import get_logger
from restante.model import SYSTEM
from restante.queries import WebhookOf, Webhooks
from restante.transports.webhook.calling import HttpCaller
from restante.transports.webhook.calls import Answered, Caller, ping_call
from restante.transports.webhook.outcomes import judge
from restante.transports.webhook.worker import STORE_PAUSE_SECONDS, Worker
from restante.webhooks import Circuit, Webhook
from restante.wire.sealing import SealBroken

_log = get_logger(__name__)
PINGS: Final = 16
"""Test calls at a time, of all webhooks."""
_PAGE: Final = 500


class Dispatcher:
    """``async with Dispatcher(broker)`` calls webhooks as long as it is open; it is the broker's ``Courier``.

    ``agent`` is what it calls itself, and ``caller`` stands for calls over HTTP.
    At the end, calls under way have ``shutdown_seconds`` from the drain on; then they are left to their leases.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        agent: str = "Restante",
        shutdown_seconds: float = 0.0,
        caller: Caller | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._broker = broker
        self._agent = agent
        self._shutdown_seconds = shutdown_seconds
        self._caller = caller
        self._jitter = jitter
        self._workers: dict[str, Worker] = {}
        self._running: dict[asyncio.Task[None], Worker] = {}
        self._changed: set[str] = set()
        self._search = True
        self._pings: dict[tuple[str, int], asyncio.Task[Pinged]] = {}
        self._ping_room = asyncio.Semaphore(PINGS)
        self._alarm = asyncio.Event()
        self._draining = False
        self._attachment = broker.attachments.attach(SYSTEM, self._drain)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._caller is None:
            caller = HttpCaller(self._broker.webhooks.allowed, self._agent)
            self._caller = await self._stack.enter_async_context(caller)
        self._attachment.__enter__()
        self._alarm.set()
        self._broker.webhooks.courier = self
        self._broker.membership.hurry()
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drain(Ending.DRAIN)
        self._broker.webhooks.courier = None
        if self._broker.store.failed.done():
            # Nothing that is answered now could be settled.
            self._give_up()
        for task in (self._following, *self._pings.values()):
            task.cancel()
        await asyncio.gather(self._following, *self._pings.values(), return_exceptions=True)
        while self._running:
            await asyncio.wait(self._running)
        await self._stack.aclose()

    # -- the courier ----------------------------------------------------------------------------

    def refresh(self, queue: str) -> None:
        self._changed.add(queue)
        self._alarm.set()

    def refresh_all(self) -> None:
        self._changed.update(self._workers)
        self._search = True
        self._alarm.set()

    @property
    def count(self) -> int:
        return len(self._workers)

    @property
    def done(self) -> bool:
        return self._draining and not self._running

    def circuit(self, queue: str) -> Circuit | None:
        worker = self._workers.get(queue)
        return None if worker is None else worker.circuit()

    async def ping(self, webhook: Webhook) -> Pinged:
        # One at a time: who asks meanwhile is told of the same. Else whoever has a webhook could have anybody flooded.
        key = (webhook.queue, webhook.version)
        pinging = self._pings.get(key)
        if pinging is None:
            pinging = self._pings[key] = asyncio.create_task(self._ping(webhook))
            pinging.add_done_callback(lambda _: self._pings.pop(key, None))
        return await asyncio.shield(pinging)

    async def _ping(self, webhook: Webhook) -> Pinged:
        async with self._ping_room:
            return await self._ping_now(webhook)

    async def _ping_now(self, webhook: Webhook) -> Pinged:
        opened = self._open(webhook)
        if opened is None or self._caller is None:
            return Pinged(ok=False, status=None, reason="its secrets cannot be opened", seconds=0)
        clock = self._broker.clock
        started = clock.monotonic()
        call = ping_call(webhook, opened, new_id(clock.wall_ms()), clock.wall_ms())
        answer = await self._caller.call(call)
        status = answer.status if isinstance(answer, Answered) else None
        ok = status is not None and 200 <= status < 300
        worker = self._workers.get(webhook.queue)
        if ok and worker is not None and worker.webhook.url == webhook.url:
            worker.revive()
        return Pinged(
            ok=ok,
            status=status,
            reason="" if ok else judge(answer, clock.wall_ms()).reason,
            seconds=clock.monotonic() - started,
        )

    # -- following changes ----------------------------------------------------------------------

    async def _follow(self) -> None:
        """Until cancelled: have each webhook that was changed served as it is now."""
        while True:
            await self._alarm.wait()
            self._alarm.clear()
            if self._search:
                await self._find()
            while self._changed:
                queue = self._changed.pop()
                try:
                    await self._serve(queue)
                except RestanteError as error:
                    _log.warning("webhook.store_error", queue=queue, error=str(error))
                    self._changed.add(queue)
                    await self._broker.clock.wait(STORE_PAUSE_SECONDS)
                except Exception:  # noqa: BLE001 (logged; the others must go on for one defect)
                    _log.exception("webhook.failed", queue=queue)

    async def _find(self) -> None:
        """Have all webhooks looked at that are this node's to call."""
        self._search = False
        holds, after = self._broker.membership.holds, ""
        try:
            while page := await self._broker.store.browse(Webhooks(after, _PAGE)):
                self._changed.update(one.queue for one in page if holds(one.queue))
                after = page[-1].queue
        except RestanteError as error:
            _log.warning("webhook.store_error", error=str(error))
            self._search = True
            self._broker.clock.call_later(STORE_PAUSE_SECONDS, self._alarm.set)

    async def _serve(self, queue: str) -> None:
        worker = self._workers.get(queue)
        if not self._broker.membership.holds(queue):
            # Without asking the store: there may be as many as there are webhooks.
            if worker is not None:
                worker.stop()
                del self._workers[queue]
            return
        webhook = await self._broker.store.browse(WebhookOf(queue))
        owner = (await self._broker.directory.queue(queue)).owner
        opened: Opened | None = None
        if webhook is not None and webhook.enabled:
            opened = self._open(webhook)
        if worker is not None and (
            webhook is None or opened is None or not worker.serves(webhook, owner)
        ):
            worker.stop()
            del self._workers[queue]
            worker = None
        if webhook is None or opened is None or self._draining or self._caller is None:
            return
        if worker is not None:
            worker.configure(webhook, opened)
            return
        worker = Worker(
            self._broker, self._caller, webhook, opened, owner, self._gone, jitter=self._jitter
        )
        self._workers[queue] = worker
        task = asyncio.create_task(worker.run())
        self._running[task] = worker
        task.add_done_callback(self._ended)

    def _open(self, webhook: Webhook) -> Opened | None:
        try:
            return self._broker.webhooks.open(webhook)
        except SealBroken as error:
            _log.error("webhook.not_opened", queue=webhook.queue, error=str(error))
            return None

    def _gone(self, webhook: Webhook, reason: str) -> None:
        """The endpoint wants no more: that is written down, and stands until its owner enables it again."""
        self._broker.keep(self._disable(webhook, reason))

    async def _disable(self, webhook: Webhook, reason: str) -> None:
        _log.warning("webhook.disabled", queue=webhook.queue, reason=reason)
        try:
            await self._broker.webhooks.disable(webhook.queue, reason, seen=webhook)
        except WebhookNotFound:
            return
        except RestanteError as error:
            # Then it is called again, and says so again.
            _log.warning("webhook.store_error", queue=webhook.queue, error=str(error))
        finally:
            self.refresh(webhook.queue)

    def _ended(self, task: asyncio.Task[None]) -> None:
        worker = self._running.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            queue = worker.webhook.queue
            _log.error("webhook.failed", queue=queue, exc_info=error)
            worker.stopped = True
            self._broker.clock.call_later(STORE_PAUSE_SECONDS, lambda: self.refresh(queue))
        if self.done:
            self._left()

    # -- the end --------------------------------------------------------------------------------

    def _drain(self, _: Ending) -> None:
        """Lease no more, and leave when the last call has ended, or the time is up."""
        if self._draining:
            return
        self._draining = True
        for worker in self._running.values():
            worker.stop()
        if self.done:
            self._left()
        if self._shutdown_seconds > 0:
            later = self._broker.clock.call_later(self._shutdown_seconds, self._give_up)
            self._stack.callback(later)
        else:
            self._give_up()

    def _left(self) -> None:
        self._attachment.__exit__(None, None, None)
        # Others may have the webhooks now.
        self._broker.membership.hurry()

    def _give_up(self) -> None:
        for worker in self._running.values():
            worker.abandon()
