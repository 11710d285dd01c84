"""One webhook: leases as far as its endpoint can take, one task for each call, and settles by what was answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from restante.bucket import Bucket
from restante.engine.broker import Broker
from restante.engine.session import Session
from restante.engine.settling import Settle, Settler
from restante.engine.stream import Stream
from restante.engine.webhooks import TRANSPORT, Opened
from restante.errors import (
    LeaseLost,
    RestanteError,
    ShuttingDown,
    SignatureRefused,
    StoreError,
)
from restante.logs import get_logger
from restante.model import BATCH, REASON_CHARACTERS, Actor, Delivery, Role, Settled, Verb
from restante.transports.webhook.breaker import Breaker
from restante.transports.webhook.calls import Caller, delivery_call
from restante.transports.webhook.outcomes import Endpoint, Verdict, judge
from restante.webhooks import Circuit, Webhook

_log = get_logger(__name__)

LEASE_MARGIN_SECONDS: Final = 5.0
"""On top of the call's time-out: for the commits before and after it."""
STORE_PAUSE_SECONDS: Final = 1.0


class Worker:
    """Serves one webhook at one URL for one owner. ``on_gone`` is told when the endpoint is to be called no more."""

    def __init__(
        self,
        broker: Broker,
        caller: Caller,
        webhook: Webhook,
        opened: Opened,
        owner: str,
        on_gone: Callable[[Webhook, str], None],
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.webhook = webhook
        self.owner = owner
        self.stopped = False
        self._broker = broker
        self._clock = broker.clock
        self._caller = caller
        self._opened = opened
        self._on_gone = on_gone
        self._jitter = jitter
        self._breaker = Breaker()
        self._bucket = self._new_bucket()
        self._stream: Stream | None = None
        self._cancel_timer: Callable[[], None] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    def serves(self, webhook: Webhook, owner: str) -> bool:
        """Whether this worker can go on with the webhook as it is now."""
        return not self.stopped and (webhook.url, owner) == (self.webhook.url, self.owner)

    def circuit(self) -> Circuit:
        return self._breaker.state(self._clock.monotonic())

    # -- told by the dispatcher -----------------------------------------------------------------

    def configure(self, webhook: Webhook, opened: Opened) -> None:
        """Go on with these settings; calls under way end as they began."""
        rate_changed = webhook.rate_per_second != self.webhook.rate_per_second
        self.webhook, self._opened = webhook, opened
        if rate_changed:
            self._bucket = self._new_bucket()
        self._adjust()

    def revive(self) -> None:
        """The endpoint is known to be well: do not wait until the cool-down is over."""
        self._breaker.succeeded()
        self._adjust()

    def stop(self) -> None:
        """Lease no more. ``run`` ends when the calls under way have."""
        self.stopped = True
        if self._stream is not None:
            self._stream.end()

    def abandon(self) -> None:
        """Leave what is under way to its leases: they run out, since it may have been processed."""
        self.stop()
        for task in self._calls:
            task.cancel()

    async def run(self) -> None:
        """Until it is stopped, and every call has ended."""
        webhook = self.webhook
        actor = Actor(
            self.owner,
            Role.CLIENT,
            transport=TRANSPORT,
            remote_address=urlsplit(webhook.url).netloc,
        )
        stream = await self._broker.stream(
            webhook.queue, actor, lease_seconds=webhook.timeout_seconds + LEASE_MARGIN_SECONDS
        )
        try:
            with stream:
                self._stream = stream
                self._settler = Settler(self._broker, stream.session.actor)
                self._adjust()
                while not self.stopped:
                    await self._take(stream)
        finally:
            self._stream = None
            self._disarm()
            if self._calls:
                await asyncio.wait(self._calls)

    # -- inside ---------------------------------------------------------------------------------

    async def _take(self, stream: Stream) -> None:
        most = BATCH
        if self._bucket is not None:
            # Where there is no token there is no credit either: it waits until there is one.
            most = min(BATCH, max(1, self._bucket.available(self._clock.monotonic())))
        try:
            deliveries = await stream.next(most=most)
        except ShuttingDown:
            deliveries = []
        except RestanteError as error:
            _log.warning("webhook.store_error", queue=stream.queue, error=str(error))
            await self._clock.wait(STORE_PAUSE_SECONDS)
            return
        if not deliveries:
            self.stopped = True
            return
        if not self._broker.membership.holds(stream.queue):
            # Leased just as it became another node's to call.
            stream.give_back(deliveries)
            self.stopped = True
            return
        if self.circuit() is Circuit.OPEN:
            # Leased just as it opened: not sent, so not counted.
            stream.give_back(deliveries)
            return
        if self._bucket is not None:
            self._bucket.take(len(deliveries), self._clock.monotonic())
        for delivery in deliveries:
            task = asyncio.create_task(self._deliver(stream, delivery))
            self._calls.add(task)
            task.add_done_callback(self._called)
        self._adjust()

    async def _deliver(self, stream: Stream, delivery: Delivery) -> None:
        webhook, session = self.webhook, stream.session
        wall_ms = self._clock.wall_ms()
        answer = await self._caller.call(
            delivery_call(webhook, self._opened, session, delivery, wall_ms)
        )
        verdict = judge(answer, self._clock.wall_ms())
        # Before it is settled: that makes room for the next, which may not be wanted any more.
        delay_seconds = self._note(verdict)
        settle = Settle(
            lease="",
            verb=verdict.verb,
            reason=verdict.reason,
            retry_after_seconds=delay_seconds if verdict.verb is Verb.NACK else None,
            reply=verdict.reply,
            reply_content_type=verdict.reply_content_type,
            signature=verdict.signature,
        )
        result = await self._settle(session, delivery, settle)
        if isinstance(result, SignatureRefused):
            reason = f"{result.code}: {result.detail}"[:REASON_CHARACTERS]
            unsigned = Settle(lease="", verb=Verb.NACK, reason=reason)
            result = await self._settle(session, delivery, unsigned)
        if isinstance(result, RestanteError) and not isinstance(result, LeaseLost):
            # The lease runs out, and it is sent again. (Lost: somebody has settled it by its token.)
            _log.warning("webhook.not_settled", queue=stream.queue, error=str(result))
        if verdict.endpoint is Endpoint.GONE:
            self._on_gone(webhook, verdict.reason)

    async def _settle(
        self, session: Session, delivery: Delivery, settle: Settle
    ) -> Settled | RestanteError:
        """By what the lease is, with no detour over its token."""
        names = (session.queue.name,)
        try:
            settling = await self._settler.begin([settle], [delivery.ref], names)
        except StoreError as error:
            return error
        (result,) = await settling.results()
        return result

    def _called(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("webhook.failed", queue=self.webhook.queue, exc_info=error)

    def _note(self, verdict: Verdict) -> float | None:
        """What the endpoint's state becomes; how long the delivery is to wait, where that is not the queue's to say."""
        now = self._clock.monotonic()
        delay_seconds: float | None = None
        match verdict.endpoint:
            case Endpoint.WELL:
                self._breaker.succeeded()
            case Endpoint.FAILS:
                self._breaker.failed(now, self._jitter())
            case Endpoint.THROTTLES:
                delay_seconds = self._breaker.throttled(
                    now, self._jitter(), verdict.retry_after_seconds
                )
            case Endpoint.GONE:
                self.stop()
        self._adjust()
        return delay_seconds

    def _adjust(self) -> None:
        """Grant the stream what the endpoint can take now, and come back when that changes by itself."""
        self._disarm()
        stream, webhook = self._stream, self.webhook
        if stream is None or self.stopped:
            return
        now = self._clock.monotonic()
        credit, again_in_seconds = 0, 0.0
        match self._breaker.state(now):
            case Circuit.OPEN:
                again_in_seconds = self._breaker.wait_seconds(now)
            case Circuit.HALF_OPEN:
                credit = 1
            case Circuit.CLOSED:
                credit = webhook.concurrency
        if credit and self._bucket is not None and not self._bucket.available(now):
            credit = 0
            again_in_seconds = self._bucket.wait_seconds(now)
        if again_in_seconds:
            self._cancel_timer = self._clock.call_later(again_in_seconds, self._adjust)
        stream.grant(credit, lease_seconds=webhook.timeout_seconds + LEASE_MARGIN_SECONDS)

    def _disarm(self) -> None:
        if self._cancel_timer is not None:
            self._cancel_timer()
            self._cancel_timer = None

    def _new_bucket(self) -> Bucket | None:
        rate = self.webhook.rate_per_second
        return None if rate is None else Bucket(rate, self._clock.monotonic())
