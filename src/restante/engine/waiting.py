"""Who waits for what becomes of notifications: an entry in memory for each, told of whatever ends a delivery.

What is committed through this node is heard of at once, from the store's meter. What other nodes commit is asked for
once a second, by one question for all who wait here, and only where nodes share the store and somebody waits.
Arm before you look: whoever waits begins to listen before it asks the store, so that no end is missed.
What this node watches for itself takes nobody's place.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeVar

from restante.engine.bodies import find_notification
from restante.engine.session import Hangup
from restante.errors import ShuttingDown, StoreError, TooManyWaiters
from restante.logs import get_logger
from restante.metering import Event
from restante.model import WAIT_SECONDS_MAXIMUM, Actor, Appended, Role, State, check_bounds
from restante.outcomes import OVER, Requirement, Result, reckon
from restante.queries import NotificationRecord, ReceiptCounts

if TYPE_CHECKING:
    from restante.engine.broker import Broker

_log = get_logger(__name__)
T = TypeVar("T")

WAITERS: Final = 20_000
"""So many callers may wait on one node at once."""
WAITERS_OF_ONE: Final = 10_000
"""So many of them may have come as one client, publisher or administrator."""
ASK_SECONDS: Final = 1.0
AGAIN_SECONDS: Final = 1.0
"""A store that could not be asked is asked again so much later."""
LOOK_SECONDS: Final = 5.0
"""So long a look may take where something is known without it, also when the time is up."""


class Came(NamedTuple):
    """What a notification had come to when the wait was over."""

    record: NotificationRecord
    result: Result


class Waiter:
    """One who waits. Use it as a context manager: leaving takes the entry away."""

    __slots__ = ("_acks", "_failures", "_future", "_ids", "_receipts", "_waiting")

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._ids: Collection[str] = ()
        self._acks = self._failures = 1
        self._receipts = 0
        self._future: asyncio.Future[bool] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.leave(self, self._ids)

    def look(self, ids: Collection[str]) -> None:
        """About to ask the store how these stand: whatever ends from now on means to ask again."""
        self._future = asyncio.get_running_loop().create_future()
        self._acks = self._failures = 1
        if ids != self._ids:
            self._waiting.attend(self, self._ids, ids)
            self._ids = ids

    def found(self, acks: int, failures: int, receipts: int) -> None:
        """The look's answer: only so many more acks, or failures, are news; so many receipts are known of."""
        self._acks, self._failures = acks, failures
        self._receipts = max(self._receipts, receipts)

    async def wait(self, seconds: float) -> bool:
        """Whether there is news since the last ``look``; waits for it, ``seconds`` at most."""
        if self._future is None:
            return True
        cancel = self._waiting.clock.call_later(seconds, self.time_out)
        try:
            return await self._future
        finally:
            cancel()

    def tell(self, state: State) -> None:
        """A delivery has come to that."""
        if state is State.ACKED:
            self._acks -= 1
        else:
            self._failures -= 1
        if self._acks <= 0 or self._failures <= 0:
            self._resolve(woken=True)

    def count(self, counts: dict[str, int]) -> None:
        """So many receipts there are, by notification."""
        receipts = sum(counts.get(id, 0) for id in self._ids)
        if receipts > self._receipts:
            self._receipts = receipts
            self._resolve(woken=True)

    def news(self) -> None:
        """It is worth another look, whatever it has become."""
        self._resolve(woken=True)

    def time_out(self) -> None:
        """End the wait with nothing."""
        self._resolve(woken=False)

    def _resolve(self, *, woken: bool) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(woken)


class Waiting:
    """Everybody who waits on this node."""

    def __init__(self, broker: Broker) -> None:
        self.clock = broker.clock
        self._broker = broker
        self._store = broker.store
        self._callers: dict[Waiter, Actor] = {}
        self._by_principal: Counter[tuple[Role, str]] = Counter()
        self._by_id: dict[str, list[Waiter]] = {}
        self._cancel_ask: Callable[[], None] | None = None
        self._asking = False

    def __len__(self) -> int:
        """How many callers wait."""
        return len(self._callers)

    def enter(
        self, actor: Actor, wait_seconds: float
    ) -> contextlib.AbstractContextManager[Waiter | None]:
        """A place for a caller; none is taken where nothing is waited for. ``TooManyWaiters`` where there is none."""
        if not wait_seconds > 0:
            return contextlib.nullcontext()
        if len(self._callers) >= WAITERS:
            raise TooManyWaiters(f"{WAITERS} wait on this node already")
        principal = (actor.role, actor.name)
        if self._by_principal[principal] >= WAITERS_OF_ONE:
            raise TooManyWaiters(f"{WAITERS_OF_ONE} of {actor.name} wait on this node already")
        waiter = Waiter(self)
        self._callers[waiter] = actor
        self._by_principal[principal] += 1
        return waiter

    def watch(self) -> Waiter:
        """An entry for this node itself, which takes no caller's place."""
        return Waiter(self)

    def is_off(self, actor: Actor, hangup: Hangup | None) -> bool:
        """Whether that caller is not to wait any more: it has left, its key has ended, or the node is leaving."""
        return (
            self._broker.draining
            or self._broker.directory.has_ended(actor.key_id)
            or (hangup is not None and hangup.gone())
        )

    async def outcome(
        self,
        waiter: Waiter | None,
        id: str,
        actor: Actor,
        requirement: Requirement,
        wait_seconds: float,
        hangup: Hangup | None = None,
    ) -> Came:
        """Wait as ``until`` does until a notification has met the requirement, or cannot any more.

        It is over the deliveries that the actor may see. ``NotificationNotFound``, and what ``until`` raises.
        """

        async def look() -> tuple[Came, bool]:
            return await self._look(waiter, id, actor, requirement)

        return await self.until(look, waiter, id, actor, wait_seconds, hangup)

    async def outcome_of(
        self,
        waiter: Waiter | None,
        appended: Appended,
        actor: Actor,
        requirement: Requirement,
        wait_seconds: float,
        hangup: Hangup | None = None,
    ) -> Came | Appended:
        """As ``outcome``, for who has just published it: given back as it is where the store cannot be asked."""

        async def look() -> tuple[Came | Appended, bool]:
            return await self._look(waiter, appended.id, actor, requirement)

        return await self.until(
            look, waiter, appended.id, actor, wait_seconds, hangup, known=appended
        )

    async def _look(
        self, waiter: Waiter | None, id: str, actor: Actor, requirement: Requirement
    ) -> tuple[Came, bool]:
        record = await find_notification(self._broker, id, actor)
        result, acks, failures = reckon(requirement, (one.state for one in record.deliveries))
        if waiter is not None:
            # Each delivery was published. Who sees only some of them does not know how many receipts that makes.
            seen = 0 if actor.role is Role.CLIENT else len(record.deliveries)
            waiter.found(acks, failures, seen)
        return Came(record, result), result is not Result.PENDING

    async def until(
        self,
        look: Callable[[], Awaitable[tuple[T, bool]]],
        waiter: Waiter | None,
        id: str,
        actor: Actor,
        wait_seconds: float,
        hangup: Hangup | None = None,
        *,
        known: T | None = None,
    ) -> T:
        """What ``look`` finds by that id once it says that it is over, or when ``wait_seconds`` (0 to 60) have passed.

        Of what something is known, also before the first look, that is told where the store cannot be asked: it is
        asked again within the time, and no failure of it is raised. Raises ``OutOfBounds``, and what ``look`` does.
        """
        check_bounds("wait", wait_seconds, 0, WAIT_SECONDS_MAXIMUM)
        now = self.clock.monotonic
        until = now() + wait_seconds
        unwatch: Callable[[], None] | None = None
        timed_out = False
        try:
            while True:
                if waiter is not None:
                    waiter.look((id,))
                over, pause = False, math.inf
                try:
                    if known is None:
                        known, over = await look()
                    else:
                        async with asyncio.timeout(max(until - now(), LOOK_SECONDS)):
                            known, over = await look()
                except (StoreError, TimeoutError):
                    if known is None:
                        raise
                    pause = AGAIN_SECONDS
                left = until - now()
                if over or waiter is None or timed_out or left <= 0 or self.is_off(actor, hangup):
                    return known
                if hangup is not None and unwatch is None:
                    unwatch = hangup.watch(waiter.time_out)
                told = await waiter.wait(min(left, pause))
                if not told and self.is_off(actor, hangup):
                    return known
                # Whose time is up is told how it stands then; whoever is off, how it stood.
                timed_out = not told and left <= pause
        finally:
            if unwatch is not None:
                unwatch()

    def attend(self, waiter: Waiter, before: Collection[str], now: Collection[str]) -> None:
        """From now on the waiter is told of these."""
        self._forget(waiter, before)
        for id in now:
            self._by_id.setdefault(id, []).append(waiter)
        # Where nobody waits, a commit costs one look at this.
        self._store.meter.listener = self._hear
        self._arm()

    def leave(self, waiter: Waiter, ids: Collection[str]) -> None:
        """It waits no longer."""
        actor = self._callers.pop(waiter, None)
        if actor is not None:
            principal = (actor.role, actor.name)
            self._by_principal[principal] -= 1
            if not self._by_principal[principal]:
                del self._by_principal[principal]
        self._forget(waiter, ids)
        if not self._by_id:
            self._store.meter.listener = None
            if self._cancel_ask is not None:
                self._cancel_ask()
                self._cancel_ask = None

    def tell(self, id: str) -> None:
        """There is news of what goes by that id and is no notification."""
        for waiter in self._by_id.get(id, ()):
            waiter.news()

    def dismiss(self, key_id: str | None = None) -> None:
        """End all callers' waits, or those of who came with one key, as if their time were up."""
        for waiter, actor in self._callers.items():
            if key_id is None or actor.key_id == key_id:
                waiter.time_out()

    def key_ids(self) -> set[str]:
        """The keys that those who wait have come with."""
        return {actor.key_id for actor in self._callers.values() if actor.key_id}

    def _forget(self, waiter: Waiter, ids: Collection[str]) -> None:
        for id in ids:
            waiters = self._by_id[id]
            waiters.remove(waiter)
            if not waiters:
                del self._by_id[id]

    def _hear(self, events: Sequence[Event]) -> None:
        for event in events:
            waiters = self._by_id.get(event[7])
            if waiters is not None and event[2] in OVER:
                for waiter in waiters:
                    waiter.tell(event[2])

    # -- other nodes ----------------------------------------------------------------------------

    def _arm(self) -> None:
        # While a question is under way its answer arms the next one: there is one chain, whoever comes and goes.
        if (
            self._cancel_ask is None
            and not self._asking
            and self._by_id
            and self._store.nodes is not None
        ):
            self._cancel_ask = self.clock.call_later(ASK_SECONDS, self._ask)

    def _ask(self) -> None:
        self._cancel_ask = None
        self._asking = True
        self._broker.keep(self._ask_once())

    async def _ask_once(self) -> None:
        try:
            counts = await self._store.browse(ReceiptCounts(tuple(self._by_id)))
            for id in counts:
                for waiter in self._by_id.get(id, ()):
                    waiter.count(counts)
        except (StoreError, ShuttingDown) as error:
            # Asked again in a second; who waits meanwhile may be told late, and never wrongly.
            _log.warning("waiting.store_error", error=str(error))
        except Exception:  # noqa: BLE001 (logged; the next answer may be a better one)
            _log.exception("waiting.failed")
        finally:
            self._asking = False
            self._arm()
