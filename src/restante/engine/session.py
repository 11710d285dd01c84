"""One consumer attached to one queue: what every transport drives.

A lease is committed before ``receive`` returns it, and returning it is not acknowledging it. What was leased for a
consumer that left before it was shown anything is released: ready again at once, its attempt not counted. What had
been sent, and might have been processed, waits for its lease to run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog

from restante.errors import LeaseLost, LeaseNotFound, RestanteError, StoreError
from restante.model import (
    BATCH,
    LEASE_SECONDS_MAXIMUM,
    REASON_CHARACTERS,
    REPLY_BYTES,
    WAIT_SECONDS_MAXIMUM,
    Actor,
    Delivery,
    Leased,
    LeaseRef,
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

_log = structlog.get_logger(__name__)


class Hangup(Protocol):
    """How a transport tells that its consumer has left."""

    def gone(self) -> bool:
        """Whether it is known to have left."""

    def watch(self, on_gone: Callable[[], None]) -> Callable[[], None]:
        """Call back when it leaves; returns what ends the watch."""


class Settle(msgspec.Struct, frozen=True, kw_only=True):
    """What a consumer says of one lease, by its token.

    ``lease_seconds`` is for extend, ``retry_after_seconds`` for nack.
    """

    lease: str
    verb: Verb
    reason: str = ""
    retry_after_seconds: float | None = None
    lease_seconds: float | None = None
    reply: bytes | None = None
    reply_content_type: str = ""


class Settling:
    """Settlements under way. Ask for ``results`` once, now or later; not asking undoes nothing."""

    __slots__ = ("_extending", "_places", "_results", "_settled")

    def __init__(
        self,
        results: list[Settled | RestanteError | None],
        places: list[int],
        settled: asyncio.Future[list[Settled | RestanteError]] | None,
        extending: list[tuple[int, asyncio.Future[Settled]]],
    ) -> None:
        self._results = results
        self._places = places
        self._settled = settled
        self._extending = extending

    async def results(self) -> list[Settled | RestanteError]:
        """For each item its result, or why not: its own reason, or the store's for all it could not do."""
        results = self._results
        for index, future in self._extending:
            try:
                results[index] = await asyncio.shield(future)
            except RestanteError as error:
                results[index] = error
        if self._settled is not None:
            try:
                settled: Sequence[Settled | RestanteError] = await asyncio.shield(self._settled)
            except StoreError as error:
                settled = [error] * len(self._places)
            for index, result in zip(self._places, settled, strict=True):
                results[index] = result
        return [result for result in results if result is not None]


class Session:
    """Made by ``Broker.session``, which has checked that ``actor`` may collect from ``queue``."""

    __slots__ = ("_broker", "actor", "queue")

    def __init__(self, broker: Broker, queue: Queue, actor: Actor) -> None:
        self._broker = broker
        self.queue = queue
        self.actor = actor

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
        hangup: Hangup | None = None,
    ) -> list[Delivery]:
        """Lease up to ``max`` (1 to 1,000) deliveries; wait up to ``wait_seconds`` (0 to 60) for the first.

        When the consumer hangs up, the wait ends, and what was leased meanwhile is released again. Cancelling does
        the same. Raises ``OutOfBounds``.
        """
        lease_seconds = self.check(max, wait_seconds, lease_seconds)
        broker = self._broker
        request = LeaseRequest(
            queue=self.queue.name, max=max, lease_seconds=lease_seconds, actor=self.actor
        )
        until = broker.clock.monotonic() + wait_seconds
        unwatch: Callable[[], None] | None = None
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
                    if hangup is not None and unwatch is None:
                        # Only who has to wait is worth watching: most requests never come here.
                        unwatch = hangup.watch(ticket.time_out)
                    if not await ticket.wait(left):
                        return []
                    if hangup is not None and hangup.gone():
                        ticket.pass_on()
                        return []
            finally:
                if unwatch is not None:
                    unwatch()

    def token(self, delivery: Delivery) -> str:
        """The lease token under which the consumer settles this delivery."""
        return tokens.seal(self._broker.store.token_secret, delivery.ref)

    def settle(self, items: Sequence[Settle]) -> Settling:
        """Settle or extend leases of this queue, started by the call and in the order of calls."""
        results: list[Settled | RestanteError | None] = [None] * len(items)
        places: list[int] = []
        ending: list[Settlement] = []
        extending: list[tuple[int, asyncio.Future[Settled]]] = []
        for index, item in enumerate(items):
            try:
                ref = self._ref(item.lease)
                if item.verb is Verb.EXTEND:
                    seconds = self.lease_seconds(item.lease_seconds)
                    extending.append((index, self._extend(ref, seconds)))
                else:
                    ending.append(self._settlement(ref, item))
                    places.append(index)
            except RestanteError as error:
                results[index] = error
        settled = self._end(ending) if ending else None
        return Settling(results, places, settled, extending)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give back what was leased and never shown: ready again, attempt not counted."""
        await asyncio.shield(
            self._end(
                [Settlement(ref=d.ref, verb=Verb.RELEASE, actor=self.actor) for d in deliveries]
            )
        )

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """As ``release``, for who has nobody to tell that it failed."""
        try:
            await self.release(deliveries)
        except RestanteError as error:
            # The leases, if there are any, run out by themselves.
            _log.warning("session.release_failed", queue=self.queue.name, error=str(error))

    def _extend(self, ref: LeaseRef, seconds: float) -> asyncio.Future[Settled]:
        future = self._broker.store.extend(ref, seconds)

        def extended(done: asyncio.Future[Settled]) -> None:
            # Looked at here, too, since the caller need not ask.
            if not done.cancelled() and done.exception() is None:
                self._broker.sweeper.arm(seconds)
                self._broker.holders.extended(ref, seconds)

        future.add_done_callback(extended)
        return future

    def _end(
        self, settlements: Sequence[Settlement]
    ) -> asyncio.Future[list[Settled | RestanteError]]:
        future = self._broker.store.settle(settlements)
        future.add_done_callback(lambda done: self._after_settle(settlements, done))
        return future

    def _after_settle(
        self,
        settlements: Sequence[Settlement],
        done: asyncio.Future[list[Settled | RestanteError]],
    ) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        broker, name = self._broker, self.queue.name
        ready = 0
        for settlement, result in zip(settlements, done.result(), strict=True):
            if isinstance(result, Settled):
                ready += result.ready
                if result.due_in_seconds is not None:
                    broker.sweeper.arm(result.due_in_seconds)
                broker.holders.ended(settlement.ref)
            elif isinstance(result, LeaseLost):
                broker.holders.ended(settlement.ref)
        if ready:
            broker.wake({name: ready})
        broker.wakeups.settled(name)

    def lease_seconds(self, asked: float | None) -> float:
        """How long leases run: as asked (1 to 43,200 seconds), else as the queue says. Raises ``OutOfBounds``."""
        seconds = self.queue.settings.lease_seconds if asked is None else asked
        check_bounds("lease", seconds, 1, LEASE_SECONDS_MAXIMUM)
        return seconds

    def _ref(self, token: str) -> LeaseRef:
        ref = tokens.unseal(self._broker.store.token_secret, token)
        if ref.queue != self.queue.name:
            raise LeaseNotFound("there is no such lease")
        return ref

    def _settlement(self, ref: LeaseRef, item: Settle) -> Settlement:
        check_bounds("length of reason", len(item.reason), 0, REASON_CHARACTERS)
        check_bounds("length of reply", len(item.reply or b""), 0, REPLY_BYTES)
        if item.retry_after_seconds is not None:
            check_bounds("retry_after", item.retry_after_seconds, 0, 86_400)
        return Settlement(
            ref=ref,
            verb=item.verb,
            actor=self.actor,
            reason=item.reason,
            retry_after_seconds=item.retry_after_seconds,
            reply=item.reply,
            reply_content_type=item.reply_content_type,
        )

    async def lease(self, request: LeaseRequest) -> Leased:
        """One look, without waiting. When the caller is cancelled meanwhile, what comes of it is released."""
        broker = self._broker
        look = broker.store.lease(request)
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
