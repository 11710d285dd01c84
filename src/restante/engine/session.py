"""One consumer attached to one queue: what every transport drives.

A lease is committed before ``receive`` returns it, and returning it is not acknowledging it. What was leased for a
consumer that left before it was shown anything is released: ready again at once, its attempt not counted. What had
been sent, and might have been processed, waits for its lease to run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from restante.engine import settling
from restante.engine.settling import Settle, Settler, Settling
from restante.errors import RestanteError
from restante.logs import get_logger
from restante.model import (
    BATCH,
    RECEIVE_BYTES,
    WAIT_SECONDS_MAXIMUM,
    Actor,
    Delivery,
    Leased,
    LeaseRequest,
    Queue,
    Settled,
    Settlement,
    Verb,
    check_bounds,
)
from restante.wire import tokens

if TYPE_CHECKING:
    from restante.engine.broker import Broker

_log = get_logger(__name__)


class Hangup(Protocol):
    """How a transport tells that its consumer has left."""

    def gone(self) -> bool:
        """Whether it is known to have left."""

    def watch(self, on_gone: Callable[[], None]) -> Callable[[], None]:
        """Call back when it leaves; returns what ends the watch."""


class Session:
    """Made by ``Broker.session``, which has checked that ``actor`` may collect from ``queue``."""

    __slots__ = ("_broker", "actor", "queue")

    def __init__(self, broker: Broker, queue: Queue, actor: Actor) -> None:
        self._broker = broker
        self.queue = queue
        self.actor = actor

    def lease_seconds(self, asked: float | None) -> float:
        """As ``settling.lease_seconds``, of this queue."""
        return settling.lease_seconds(self.queue, asked)

    def named(self, consumer: str) -> Session:
        """The same for one of the actor's consumers, whose name its leases bear."""
        return Session(
            self._broker, self.queue, msgspec.structs.replace(self.actor, consumer=consumer)
        )

    def check(self, max: int, wait_seconds: float, lease_seconds: float | None) -> float:
        """Raise ``OutOfBounds`` for what ``receive`` would refuse; else the lease's length in seconds.

        For who settles and receives in one request: nothing may be settled by a request that is refused.
        """
        check_bounds("max", max, 1, BATCH)
        check_bounds("wait", wait_seconds, 0, WAIT_SECONDS_MAXIMUM)
        return self.lease_seconds(lease_seconds)

    async def receive(
        self,
        *,
        max: int = 10,
        wait_seconds: float = 0.0,
        lease_seconds: float | None = None,
        max_bytes: int = RECEIVE_BYTES,
        hangup: Hangup | None = None,
    ) -> list[Delivery]:
        """Lease up to ``max`` (1 to 1,000) deliveries; wait up to ``wait_seconds`` (0 to 60) for the first.

        Their bodies are ``max_bytes`` together at most; the first one comes whatever its size.
        When the consumer hangs up, the wait ends, and what was leased meanwhile is released again. Cancelling does
        the same. Raises ``OutOfBounds``.
        """
        lease_seconds = self.check(max, wait_seconds, lease_seconds)
        broker = self._broker
        request = LeaseRequest(
            queue=self.queue.name,
            max=max,
            lease_seconds=lease_seconds,
            actor=self.actor,
            max_bytes=max_bytes,
        )
        until = broker.clock.monotonic() + wait_seconds
        unwatch: Callable[[], None] | None = None
        visit = broker.contacts.enter(self.queue, self.actor)
        with broker.wakeups.attend(self.queue.name, self.actor.key_id) as ticket:
            try:
                while True:
                    ticket.look()
                    leased = await self.lease(request)
                    if leased.at_limit:
                        ticket.limited()
                    if leased.deliveries:
                        if hangup is not None and hangup.gone():
                            await self.release(leased.deliveries)
                            return []
                        ticket.found(more=leased.more)
                        broker.sweeper.arm(lease_seconds)
                        return leased.deliveries
                    left = until - broker.clock.monotonic()
                    if left <= 0 or broker.draining:
                        return []
                    if broker.directory.has_ended(self.actor.key_id):
                        # While it was let in, or looked.
                        return []
                    if hangup is not None and unwatch is None:
                        # Only who has to wait is worth watching: most requests never come here.
                        unwatch = hangup.watch(ticket.time_out)
                    if not await ticket.wait(left):
                        return []
                    if hangup is not None and hangup.gone():
                        ticket.pass_on()
                        return []
            finally:
                broker.contacts.leave(self.queue, visit)
                if unwatch is not None:
                    unwatch()

    def token(self, delivery: Delivery) -> str:
        """The lease token under which the consumer settles this delivery."""
        return tokens.seal(self._broker.store.token_secret, delivery.ref)

    async def settle(self, items: Sequence[Settle]) -> Settling:
        """Settle or extend leases of this queue, as its settings are now; begun when this returns."""
        broker = self._broker
        refs = [broker.ref_of(item.lease) for item in items]
        return await Settler(broker, self.actor).begin(items, refs, (self.queue.name,))

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give back what was leased and never shown: ready again, attempt not counted."""
        await asyncio.shield(self._release(deliveries))

    def give_back(self, deliveries: Sequence[Delivery]) -> Coroutine[None, None, None]:
        """As ``release``, begun by the call, for who has nobody to tell that it failed."""
        return self._note(self._release(deliveries))

    def _release(
        self, deliveries: Sequence[Delivery]
    ) -> asyncio.Future[list[Settled | RestanteError]]:
        settlements = [
            Settlement(ref=one.ref, verb=Verb.RELEASE, actor=self.actor) for one in deliveries
        ]
        return Settler(self._broker, self.actor).end(settlements)

    async def _note(self, releasing: asyncio.Future[list[Settled | RestanteError]]) -> None:
        try:
            await releasing
        except RestanteError as error:
            # The leases, if there are any, run out by themselves.
            _log.warning("session.release_failed", queue=self.queue.name, error=str(error))

    async def lease(self, request: LeaseRequest) -> Leased:
        """One look, without waiting. When the caller is cancelled meanwhile, what comes of it is released."""
        broker = self._broker
        look = broker.store.lease(request)
        if broker.tracer is not None:
            look.add_done_callback(broker.tracer.leasing(request))
        try:
            return await asyncio.shield(look)
        except asyncio.CancelledError:
            broker.keep(self._release_late(look))
            raise

    async def _release_late(self, look: asyncio.Future[Leased]) -> None:
        try:
            leased = await look
        except RestanteError:
            return
        if leased.deliveries:
            await self.give_back(leased.deliveries)
