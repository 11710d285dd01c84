"""Settling leases: checked here for every transport, fenced in the store, told to whoever it concerns."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from restante import auth
from restante.engine.signing_keys import Signed, Verdict
from restante.engine.under_way import UnderWay
from restante.errors import (
    LeaseLost,
    LeaseNotFound,
    QueueNotFound,
    RestanteError,
    SignatureRefused,
    SignatureRequired,
    StoreError,
)
from restante.model import (
    KEY_CHARACTERS,
    LEASE_SECONDS_MAXIMUM,
    REASON_CHARACTERS,
    REPLY_BYTES,
    Actor,
    LeaseRef,
    Queue,
    Settled,
    Settlement,
    Signature,
    Verb,
    check_bounds,
)

if TYPE_CHECKING:
    from restante.engine.broker import Broker

_CONCLUDING: Final = frozenset({Verb.ACK, Verb.REJECT})
_NO_VERDICTS: Final[Mapping[int, Verdict]] = {}


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
    signature: Signature | None = None

    @property
    def said(self) -> bytes:
        """What a signature is over: the reply with an ack, else the reason."""
        return (self.reply or b"") if self.verb is Verb.ACK else self.reason.encode()


class Settling(UnderWay[Settled]):
    """Settlements under way. Not asking for their results undoes nothing.

    ``queues`` names the queue of each item, and is empty for one that is not the actor's.
    """

    __slots__ = ("_extending", "_places", "_settled", "queues")

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.queues = [""] * count
        self._places: list[int] = []
        self._settled: asyncio.Future[list[Settled | RestanteError]] | None = None
        self._extending: list[tuple[int, asyncio.Future[Settled]]] = []

    def extends(self, index: int, future: asyncio.Future[Settled]) -> None:
        """That item's result will be the future's."""
        self._extending.append((index, future))
        self._futures.append(future)

    def ends(
        self, places: list[int], future: asyncio.Future[list[Settled | RestanteError]]
    ) -> None:
        """The results of the items at those places will be the future's, in that order."""
        self._places = places
        self._settled = future
        self._futures.append(future)

    def known(self) -> list[Settled | RestanteError]:
        """For each item its result, or why not: its own reason, or the store's for all it could not do."""
        results = self._results
        for index, future in self._extending:
            try:
                results[index] = future.result()
            except RestanteError as error:
                results[index] = error
        if self._settled is not None:
            try:
                settled: Sequence[Settled | RestanteError] = self._settled.result()
            except StoreError as error:
                settled = [error] * len(self._places)
            for index, result in zip(self._places, settled, strict=True):
                results[index] = result
        return [result for result in results if result is not None]


def lease_seconds(queue: Queue, asked: float | None) -> float:
    """How long leases run: as asked (1 to 43,200 seconds), else as the queue says. Raises ``OutOfBounds``."""
    seconds = queue.settings.lease_seconds if asked is None else asked
    check_bounds("lease", seconds, 1, LEASE_SECONDS_MAXIMUM)
    return seconds


class Settler:
    """What settles for one actor. Cheap to make."""

    __slots__ = ("_actor", "_broker")

    def __init__(self, broker: Broker, actor: Actor) -> None:
        self._broker = broker
        self._actor = actor

    async def begin(
        self,
        items: Sequence[Settle],
        refs: Sequence[LeaseRef | None],
        names: Iterable[str],
    ) -> Settling:
        """Settle or extend leases of those queues where the actor may collect; begun when this returns.

        ``refs`` is what the items' tokens name (None: nothing). The queues are as they are now. Where they are
        remembered and nothing is signed, it begins in the same breath.
        """
        queues: dict[str, Queue] = {}
        directory = self._broker.directory
        for name in names:
            with contextlib.suppress(QueueNotFound):
                queue = directory.known_queue(name) or await directory.queue(name)
                auth.require_collect(self._actor, queue)
                queues[name] = queue
        verdicts = _NO_VERDICTS
        if any(item.signature is not None for item in items):
            verdicts = await self._verdicts(items, refs, queues)
        return self._begin(items, refs, queues, verdicts)

    async def _verdicts(
        self,
        items: Sequence[Settle],
        refs: Sequence[LeaseRef | None],
        queues: Mapping[str, Queue],
    ) -> dict[int, Verdict]:
        """By the places of the items that are signed. A lease that comes again is not verified again."""
        firsts: dict[LeaseRef, int] = {}
        repeats: list[tuple[int, int]] = []
        signed: list[Signed] = []
        for index, (item, ref) in enumerate(zip(items, refs, strict=True)):
            queue = None if ref is None else queues.get(ref.queue)
            if ref is None or queue is None or item.signature is None or item.verb is Verb.EXTEND:
                continue
            first = firsts.setdefault(ref, index)
            if first == index:
                signed.append(Signed(item.signature, queue, item.verb, item.said))
            else:
                repeats.append((index, first))
        found = await self._broker.signing_keys.verdicts(signed)
        verdicts = dict(zip(firsts.values(), found, strict=True))
        for index, first in repeats:
            if _same(items[index], items[first]):
                verdicts[index] = verdicts[first]
            else:
                verdicts[index] = SignatureRefused("a batch has one signature for a lease")
        return verdicts

    def _begin(
        self,
        items: Sequence[Settle],
        refs: Sequence[LeaseRef | None],
        queues: Mapping[str, Queue],
        verdicts: Mapping[int, Verdict],
    ) -> Settling:
        settling = Settling(len(items))
        places: list[int] = []
        ending: list[Settlement] = []
        for index, (item, ref) in enumerate(zip(items, refs, strict=True)):
            queue = None if ref is None else queues.get(ref.queue)
            if ref is None or queue is None:
                settling.refuse(index, LeaseNotFound("there is no such lease"))
                continue
            settling.queues[index] = ref.queue
            try:
                if item.verb is Verb.EXTEND:
                    if item.signature is not None:
                        raise SignatureRefused("an extension is not signed")
                    seconds = lease_seconds(queue, item.lease_seconds)
                    settling.extends(index, self._extend(ref, seconds))
                else:
                    ending.append(self._settlement(ref, item, queue, verdicts.get(index)))
                    places.append(index)
            except RestanteError as error:
                settling.refuse(index, error)
        if ending:
            settling.ends(places, self.end(ending))
        return settling

    def end(
        self, settlements: Sequence[Settlement]
    ) -> asyncio.Future[list[Settled | RestanteError]]:
        """End leases, and tell those whom it concerns."""
        broker = self._broker
        future = broker.store.settle(settlements)
        if broker.tracer is not None:
            future.add_done_callback(broker.tracer.settling(settlements))
        future.add_done_callback(lambda done: self._ended(settlements, done))
        return future

    def _extend(self, ref: LeaseRef, seconds: float) -> asyncio.Future[Settled]:
        future = self._broker.store.extend(ref, seconds)

        def extended(done: asyncio.Future[Settled]) -> None:
            # Looked at here, too, since the caller need not ask.
            if not done.cancelled() and done.exception() is None:
                self._broker.sweeper.arm(seconds)
                self._broker.holders.extended(ref, seconds)

        future.add_done_callback(extended)
        return future

    def _ended(
        self,
        settlements: Sequence[Settlement],
        done: asyncio.Future[list[Settled | RestanteError]],
    ) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        broker = self._broker
        ready: dict[str, int] = {}
        for settlement, result in zip(settlements, done.result(), strict=True):
            ref = settlement.ref
            ready.setdefault(ref.queue, 0)
            if isinstance(result, Settled):
                ready[ref.queue] += result.ready
                if result.due_in_seconds is not None:
                    broker.sweeper.arm(result.due_in_seconds)
                broker.holders.ended(ref)
            elif isinstance(result, LeaseLost):
                broker.holders.ended(ref)
        broker.wake({queue: count for queue, count in ready.items() if count})
        for queue in ready:
            broker.wakeups.settled(queue)

    def _settlement(
        self, ref: LeaseRef, item: Settle, queue: Queue, verdict: Verdict | None
    ) -> Settlement:
        check_bounds("length of reason", len(item.reason), 0, REASON_CHARACTERS)
        check_bounds("length of reply", len(item.reply or b""), 0, REPLY_BYTES)
        check_bounds(
            "length of reply_content_type", len(item.reply_content_type), 0, KEY_CHARACTERS
        )
        if item.retry_after_seconds is not None:
            check_bounds("retry_after", item.retry_after_seconds, 0, 86_400)
        if isinstance(verdict, RestanteError):
            raise verdict
        if verdict is None and queue.settings.signature == "required" and item.verb in _CONCLUDING:
            raise SignatureRequired(
                f"in {queue.name} an ack or a reject bears the client's own signature"
            )
        return Settlement(
            ref=ref,
            verb=item.verb,
            actor=self._actor,
            reason=item.reason,
            retry_after_seconds=item.retry_after_seconds,
            reply=item.reply,
            reply_content_type=item.reply_content_type,
            signature=verdict,
        )


def _same(one: Settle, other: Settle) -> bool:
    return (one.signature, one.verb, one.said) == (other.signature, other.verb, other.said)
