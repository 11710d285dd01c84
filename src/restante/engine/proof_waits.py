"""Who waits on this node for a receipt to come into the log.

What this node seals is heard of at once. What other nodes seal is asked for twice a second, by one question for all who
wait here, and only where nodes share the store and somebody waits. While nothing is sealed nobody asks for himself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from restante.engine.receipt_log import SEAL_SECONDS
from restante.engine.session import Hangup
from restante.errors import ReceiptNotSealed, ShuttingDown, StoreError
from restante.logs import get_logger
from restante.model import Actor
from restante.papers import Kind
from restante.queries import PaperVersions
from restante.receipt_log import STATE_KEY

if TYPE_CHECKING:
    from restante.engine.broker import Broker
    from restante.engine.waiting import Waiter

_log = get_logger(__name__)


class ProofWaits:
    """All of them on a node."""

    def __init__(self, broker: Broker) -> None:
        self._clock = broker.clock
        self._store = broker.store
        self._waiting = broker.waiting
        self._receipts = broker.log
        self._waiters: set[Waiter] = set()
        self._sealed: asyncio.Future[None] | None = None
        self._alarm: asyncio.Future[None] | None = None

    async def proof(
        self,
        waiter: Waiter | None,
        queue: str,
        number: int,
        actor: Actor,
        wait_seconds: float,
        hangup: Hangup | None = None,
    ) -> bytes:
        """As ``ReceiptLog.proof``, once the receipt is in the log, waited for if there is a waiter.

        ``ReceiptNotSealed`` when ``wait_seconds`` are over, or the caller is not to wait any more.
        """
        if waiter is None:
            return await self._receipts.proof(queue, number)
        until = self._clock.monotonic() + wait_seconds
        unwatch: Callable[[], None] | None = None
        timed_out = False
        self._enter(waiter)
        try:
            while True:
                waiter.look(())
                try:
                    return await self._receipts.proof(queue, number)
                except ReceiptNotSealed:
                    left = until - self._clock.monotonic()
                    if timed_out or left <= 0 or self._waiting.is_off(actor, hangup):
                        raise
                    if hangup is not None and unwatch is None:
                        unwatch = hangup.watch(waiter.time_out)
                    timed_out = not await waiter.wait(left)
                    if timed_out and self._waiting.is_off(actor, hangup):
                        raise
        finally:
            self._waiters.discard(waiter)
            if unwatch is not None:
                unwatch()

    async def look(self) -> None:
        """Until cancelled: find what other nodes have sealed. Alone with its store, a node seals all itself."""
        version = 0
        while self._store.nodes is not None:
            self._alarm = asyncio.get_running_loop().create_future()
            if not self._waiters:
                version = 0
                await self._alarm
            await self._clock.wait(SEAL_SECONDS)
            try:
                found = await self._store.browse(PaperVersions(Kind.LOG, (STATE_KEY,)))
            except ShuttingDown:
                return
            except StoreError as error:
                _log.warning("proofs.store_error", error=str(error))
            except Exception:  # noqa: BLE001 (logged; the next look may succeed)
                _log.exception("proofs.failed")
            else:
                before, version = version, found.get(STATE_KEY, 0)
                if version != before:
                    self._tell()

    def _enter(self, waiter: Waiter) -> None:
        """Before its first look: so that nothing is sealed in between, unheard."""
        self._waiters.add(waiter)
        self._listen()
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    def _listen(self) -> None:
        if self._waiters and self._sealed is None:
            self._sealed = self._receipts.sealed()
            self._sealed.add_done_callback(self._hear)

    def _hear(self, _: asyncio.Future[None]) -> None:
        self._sealed = None
        self._listen()
        self._tell()

    def _tell(self) -> None:
        for waiter in self._waiters:
            waiter.news()
