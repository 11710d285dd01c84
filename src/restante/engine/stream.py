"""A consumer that stays: it is handed deliveries as they come, as far as its credit reaches.

Credit is a window, not a counter that has to be topped up: so many messages and bytes may be unsettled at once. A
lease that ends, however it ends, makes room for the next. So a consumer that stops settling is handed no more, and
none can get the sum wrong.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from restante.engine.contacts import Visit
from restante.engine.session import Session
from restante.engine.settling import Settle, Settling
from restante.errors import OutcomeUnknown, StoreUnavailable
from restante.model import BATCH, RECEIVE_BYTES, Delivery, LeaseRef, LeaseRequest, check_bounds
from restante.queries import LeasedTo

if TYPE_CHECKING:
    from restante.engine.broker import Broker

CREDIT_MESSAGES: Final = 10
CREDIT_MESSAGES_MAXIMUM: Final = 10_000
CREDIT_BYTES: Final = RECEIVE_BYTES
CREDIT_BYTES_MAXIMUM: Final = 16 * RECEIVE_BYTES
BATCH_BYTES: Final = 1024 * 1024
"""Bodies of one batch: what a connection that takes nothing can keep in memory, and as much again."""
AWAY_SECONDS: Final = 1.0
"""How long after a store could not be reached, or did not say what came of it, it is asked again."""
RECALL_SECONDS: Final = (0.25, 8.0)
"""When a stream without credit asks a shared store what it still holds: first, and at most; doubled each time."""
_ID_BYTES: Final = 12


class _Held(NamedTuple):
    """A lease that this consumer has not settled. ``until`` is on the monotonic clock."""

    fence: int
    bytes: int
    until: float


class Stream:
    """Made by ``Broker.stream``, which has checked that the actor may collect. Enter it to attach it to its queue.

    One task asks for ``next``; ``grant``, ``settle`` and ``end`` may be called from elsewhere meanwhile. ``id`` names
    the stream in the leases it holds: whoever opens another with the same id finds them again (``held_before``).
    """

    __slots__ = (
        "_broker",
        "_bytes",
        "_bytes_held",
        "_displaced",
        "_first_until",
        "_found_seq",
        "_held",
        "_lease_seconds",
        "_messages",
        "_pause",
        "_recall_seconds",
        "_ticket",
        "_turn_taken",
        "_turns",
        "_visit",
        "ended",
        "id",
        "session",
    )

    def __init__(
        self,
        broker: Broker,
        session: Session,
        lease_seconds: float | None,
        id: str | None,
        turns: asyncio.Semaphore | None,
    ) -> None:
        self._broker = broker
        self.id = id or secrets.token_urlsafe(_ID_BYTES)
        self.session = session.named(self.id)
        self._lease_seconds = session.lease_seconds(lease_seconds)
        self._messages = 0
        self._bytes = 0
        self._held: dict[int, _Held] = {}
        self._bytes_held = 0
        # No lease held runs out before this: a bound, so that it need not be kept exact.
        self._first_until = math.inf
        self._recall_seconds = RECALL_SECONDS[0]
        self._pause: asyncio.Future[None] | None = None
        self._ticket = broker.wakeups.attend(session.queue.name, session.actor.key_id)
        self._turns = turns
        self._turn_taken = False
        # How far the leases of an earlier stream have been found.
        self._found_seq = 0
        self.ended = False
        self._displaced = False
        self._visit: Visit | None = None

    def __enter__(self) -> Self:
        self._ticket.__enter__()
        self._visit = self._broker.contacts.enter(self.session.queue, self.session.actor)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
        self._broker.contacts.leave(self.session.queue, self._visit)
        self._end_turn()
        self._broker.holders.forget(self, self._held)
        # It may have been woken, in vain: the work is another's.
        self._ticket.pass_on()
        self._ticket.__exit__(None, None, None)

    @property
    def queue(self) -> str:
        return self.session.queue.name

    @property
    def unsettled(self) -> int:
        """How many leases it holds."""
        return len(self._held)

    def grant(
        self, messages: int, bytes: int = CREDIT_BYTES, lease_seconds: float | None = None
    ) -> None:
        """Let up to so many messages (0 to 10,000) and bytes of bodies (1 to 256 MiB) be unsettled from now on.

        Fewer than are unsettled already: none is handed out until enough are settled. The message that crosses the
        limit in bytes is still handed out, so that none is too large ever to come. Raises ``OutOfBounds``.
        """
        check_bounds("credit", messages, 0, CREDIT_MESSAGES_MAXIMUM)
        check_bounds("credit in bytes", bytes, 1, CREDIT_BYTES_MAXIMUM)
        if lease_seconds is not None:
            self._lease_seconds = self.session.lease_seconds(lease_seconds)
        self._messages = messages
        self._bytes = bytes
        if not self._has_room():
            # Who may take nothing more stands in nobody's way: a wake has to find another.
            self._ticket.time_out()
        self._go_on()

    async def next(self, wait_seconds: float | None = None, most: int = BATCH) -> list[Delivery]:
        """Lease what is ready and fits in the credit, waiting for it; empty when the time is up or it has ended.

        ``most`` (1 to 1,000) is a limit for this once, whatever room there comes to be meanwhile. The bodies are
        ``BATCH_BYTES`` together at most; the first one comes whatever its size. When the caller is cancelled, what was
        leased for it meanwhile is released. A store that is away for a while looks as one where nothing is ready.
        """
        # Who asks for more is done with what it was handed before.
        self._end_turn()
        clock = self._broker.clock
        until = math.inf if wait_seconds is None else clock.monotonic() + wait_seconds
        while not self.ended:
            away = False
            if self._has_room():
                try:
                    deliveries = await self._look(most)
                except (StoreUnavailable, OutcomeUnknown):
                    # Who stays connected stays: the store comes back. What it may have leased comes again by itself.
                    self._end_turn()
                    away = True
                else:
                    if deliveries:
                        return deliveries
            left = until - clock.monotonic()
            if left <= 0 or self.ended:
                break
            if away:
                await self._rest(min(AWAY_SECONDS, left))
            elif self._has_room():
                woken = await self._ticket.wait(None if left == math.inf else left)
                if woken and not self._has_room():
                    # Its credit was taken back just as it was woken: the work is another's.
                    self._ticket.pass_on()
            else:
                await self._wait_for_room(left)
        return []

    async def held_before(self, max_bytes: int = BATCH_BYTES) -> list[Delivery]:
        """What an earlier stream of this id was handed and has not settled: it counts as this one's from now on.

        The leases are the same, and go on; nothing is leased anew and no attempt is counted. The bodies are
        ``max_bytes`` together at most, the first one whatever its size: ask again, until nothing is left.
        """
        deliveries = await self._broker.store.browse(
            LeasedTo(self.queue, self.id, self._found_seq, max_bytes)
        )
        if deliveries:
            self._found_seq = deliveries[-1].ref.seq
        wall_ms = self._broker.clock.wall_ms()
        for delivery in deliveries:
            self._hold(delivery, max(0.0, (delivery.lease_until_ms - wall_ms) / 1_000))
        return deliveries

    async def settle(self, items: Sequence[Settle]) -> Settling:
        """As ``Session.settle``."""
        return await self.session.settle(items)

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Release what was leased and cannot be shown any more, begun by the call, however long it takes.

        What a displaced stream holds is its successor's, which may have been shown it already.
        """
        if deliveries and not self._displaced:
            self._broker.keep(self.session.give_back(deliveries))

    def end(self, *, displaced: bool = False) -> None:
        """Hand out no more; who waits in ``next`` comes back with nothing. What is leased stays leased.

        ``displaced``: another stream of the same id goes on where this one was.
        """
        self.ended = True
        self._displaced = self._displaced or displaced
        self._ticket.time_out()
        self._go_on()

    # -- told by the engine ---------------------------------------------------------------------

    def lease_ended(self, ref: LeaseRef) -> None:
        """A lease was settled, over whatever transport: it counts no more."""
        held = self._held.get(ref.seq)
        if held is not None and held.fence == ref.fence:
            self._let_go(ref.seq)
            self._go_on()

    def lease_extended(self, ref: LeaseRef, seconds: float) -> None:
        """A lease was extended, over whatever transport."""
        held = self._held.get(ref.seq)
        if held is not None and held.fence == ref.fence:
            until = self._broker.clock.monotonic() + seconds
            self._held[ref.seq] = held._replace(until=until)
            self._first_until = min(self._first_until, until)

    # -- inside ---------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        held = len(self._held)
        return self._messages > held and (self._bytes > self._bytes_held or not held)

    async def _look(self, most: int) -> list[Delivery]:
        session, ticket = self.session, self._ticket
        if not await self._take_turn():
            return []
        ticket.look()
        leased = await session.lease(
            LeaseRequest(
                queue=session.queue.name,
                max=min(self._messages - len(self._held), most),
                lease_seconds=self._lease_seconds,
                actor=session.actor,
                max_bytes=min(self._bytes - self._bytes_held, BATCH_BYTES),
            )
        )
        if leased.at_limit:
            ticket.limited()
        deliveries = leased.deliveries
        if deliveries:
            if self.ended:
                self.give_back(deliveries)
                return []
            ticket.found(more=leased.more)
            for delivery in deliveries:
                self._hold(delivery, self._lease_seconds)
            self._broker.sweeper.arm(self._lease_seconds)
        else:
            self._end_turn()
        return deliveries

    async def _take_turn(self) -> bool:
        """Wait for a turn to look; False where there is nothing to look for any more."""
        if self._turns is None:
            return True
        if self._turns.locked():
            # It may have been woken, and cannot say for how long it waits: whoever can look now should.
            self._ticket.pass_on()
        await self._turns.acquire()
        self._turn_taken = True
        if self.ended or not self._has_room():
            self._end_turn()
            return False
        return True

    def _end_turn(self) -> None:
        if self._turns is not None and self._turn_taken:
            self._turn_taken = False
            self._turns.release()

    def _hold(self, delivery: Delivery, seconds: float) -> None:
        ref = delivery.ref
        until = self._broker.clock.monotonic() + seconds
        earlier = self._held.pop(ref.seq, None)
        if earlier is not None:
            self._bytes_held -= earlier.bytes
        self._held[ref.seq] = _Held(ref.fence, len(delivery.body), until)
        self._bytes_held += len(delivery.body)
        self._first_until = min(self._first_until, until)
        self._recall_seconds = RECALL_SECONDS[0]
        self._broker.holders.hold(self, ref.seq)

    def _let_go(self, seq: int) -> None:
        self._bytes_held -= self._held.pop(seq).bytes
        self._broker.holders.let_go(self, seq)

    async def _wait_for_room(self, seconds: float) -> None:
        """Until a lease ends, credit is granted, the earliest lease held may have run out, or the time is up.

        A lease that was settled on another node ends without a word to this one: the store is asked, now and then.
        """
        clock = self._broker.clock
        seconds = min(seconds, self._first_until - clock.monotonic())
        shared = self._broker.store.nodes is not None
        await self._rest(min(seconds, self._recall_seconds) if shared else seconds)
        if shared and not self.ended and not self._has_room():
            await self._recall()
        now = clock.monotonic()
        if now >= self._first_until:
            for seq in [seq for seq, held in self._held.items() if held.until <= now]:
                self._let_go(seq)
            self._first_until = min((h.until for h in self._held.values()), default=math.inf)

    async def _recall(self) -> None:
        """Let go of what it holds no longer, by what the store says."""
        self._recall_seconds = min(2 * self._recall_seconds, RECALL_SECONDS[1])
        current: set[tuple[int, int]] = set()
        after = 0
        try:
            while found := await self._broker.store.browse(
                LeasedTo(self.queue, self.id, after, BATCH_BYTES)
            ):
                current.update((one.ref.seq, one.ref.fence) for one in found)
                after = found[-1].ref.seq
        except (StoreUnavailable, OutcomeUnknown):
            return
        for seq, held in list(self._held.items()):
            if (seq, held.fence) not in current:
                self._let_go(seq)

    async def _rest(self, seconds: float) -> None:
        """For so long, or until something has changed for this stream."""
        self._pause = asyncio.get_running_loop().create_future()
        cancel: Callable[[], None] | None = None
        if seconds != math.inf:
            cancel = self._broker.clock.call_later(max(0.0, seconds), self._go_on)
        try:
            await self._pause
        finally:
            self._pause = None
            if cancel is not None:
                cancel()

    def _go_on(self) -> None:
        if self._pause is not None and not self._pause.done():
            self._pause.set_result(None)


class Holders:
    """Which stream of this node holds which lease, so that a settle over any transport makes room for the next."""

    def __init__(self) -> None:
        self._queues: dict[str, dict[int, Stream]] = {}

    def hold(self, stream: Stream, seq: int) -> None:
        self._queues.setdefault(stream.queue, {})[seq] = stream

    def let_go(self, stream: Stream, seq: int) -> None:
        holders = self._queues.get(stream.queue)
        if holders is not None and holders.get(seq) is stream:
            del holders[seq]
            if not holders:
                del self._queues[stream.queue]

    def forget(self, stream: Stream, seqs: Sequence[int] | dict[int, _Held]) -> None:
        for seq in seqs:
            self.let_go(stream, seq)

    def ended(self, ref: LeaseRef) -> None:
        """A lease is no longer the current one."""
        stream = self._of(ref)
        if stream is not None:
            stream.lease_ended(ref)

    def extended(self, ref: LeaseRef, seconds: float) -> None:
        stream = self._of(ref)
        if stream is not None:
            stream.lease_extended(ref, seconds)

    def _of(self, ref: LeaseRef) -> Stream | None:
        holders = self._queues.get(ref.queue)
        return None if holders is None else holders.get(ref.seq)
