"""Where a scenario plays: an open store, a clock to turn, and the verbs in short form."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec

from restante.changes import AddClient, Change, PutQueue
from restante.errors import RestanteError
from restante.lifecycle import ENDED, TABLE, WAITING
from restante.metering import Tally
from restante.model import (
    Actor,
    Appended,
    Client,
    Delivery,
    Draft,
    Figures,
    Idempotency,
    Leased,
    LeaseRequest,
    Outcome,
    Queue,
    Receipt,
    Role,
    Selection,
    Settings,
    Settled,
    Settlement,
    State,
    Verb,
)
from restante.ports import Store
from restante.queries import FiguresOf, NotificationById, Queues, Receipts, StoredReceipt
from restante.testing.clock import FakeClock
from restante.testing.conformance.adapters import Opener
from restante.wire.receipts import GENESIS, decode_entry, receipt_digest, to_json

SHOP: Final = Actor("shop", Role.PUBLISHER, "k-shop", "http", "192.0.2.1")
ACME: Final = Actor("acme", Role.CLIENT, "k-acme", "http", "192.0.2.2")
OPERATOR: Final = Actor("op", Role.ADMIN, "k-op", "web", "192.0.2.3")
E = TypeVar("E", bound=RestanteError)
T = TypeVar("T")


class Stage:
    """A store with one client, ``acme``, and its queue. Time is the stage's own; jitter is ``jitter``."""

    def __init__(self, opener: Opener, folder: Path) -> None:
        self.clock = FakeClock()
        self.jitter = 0.5
        self._opener = opener
        self._folder = folder
        self._ids: dict[tuple[str, int], str] = {}
        self._count = itertools.count(1)
        self._tallies: dict[str, Tally] = {}

    async def __aenter__(self) -> Self:
        await self._open()
        await self.configure(AddClient(Client("acme", self.clock.wall_ms())))
        await self.put_queue("acme")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._context.__aexit__(kind, error, trace)

    async def _open(self) -> None:
        self._context = self._opener(self._folder, self.clock, lambda: self.jitter)
        self.store: Store = await self._context.__aenter__()

    async def reopen(self) -> None:
        """Close the store and open it again, as a restart does."""
        self.drain()
        await self._context.__aexit__(None, None, None)
        await self._open()

    # -- administration -------------------------------------------------------------------------

    async def configure(self, *changes: Change) -> None:
        await self.store.configure(changes)

    async def put_queue(self, name: str = "acme", owner: str = "acme", **settings: Any) -> None:
        """Create the queue, or give it these settings and the defaults."""
        await self.configure(PutQueue(Queue(name, owner, Settings(**settings))))

    # -- publishing -----------------------------------------------------------------------------

    def draft(
        self, body: bytes = b"<hello/>", *, queues: tuple[str, ...] = ("acme",), **fields: Any
    ) -> Draft:
        """A draft ready to be appended; ``idempotency_key`` stands for its digest, too."""
        digest = hashlib.sha256(body).digest()
        key = fields.pop("idempotency_key", None)
        if key is not None:
            fields["idempotency"] = Idempotency("shop", key, digest)
        values: dict[str, Any] = {
            "id": f"n-{next(self._count)}",
            "body_sha256": digest,
            "content_type": "application/xml",
            "actor": SHOP,
        }
        return Draft(body=body, queues=queues, **(values | fields))

    async def append(self, *drafts: Draft) -> list[Appended | RestanteError]:
        results = await self.store.append(drafts)
        assert len(results) == len(drafts), "an answer for each draft, in their order"
        for result in results:
            if isinstance(result, Appended):
                self._ids.update({(p.queue, p.seq): result.id for p in result.deliveries})
        return results

    async def publish(self, body: bytes = b"<hello/>", **fields: Any) -> Appended:
        """Append one draft; raises what became of it instead."""
        return value((await self.append(self.draft(body, **fields)))[0])

    # -- collecting -----------------------------------------------------------------------------

    async def look(
        self,
        max: int = 10,
        *,
        queue: str = "acme",
        seconds: float = 30,
        actor: Actor = ACME,
        **fields: Any,
    ) -> Leased:
        return await self.store.lease(
            LeaseRequest(queue=queue, max=max, lease_seconds=seconds, actor=actor, **fields)
        )

    async def lease(self, max: int = 10, **fields: Any) -> list[Delivery]:
        return (await self.look(max, **fields)).deliveries

    async def one(self, **fields: Any) -> Delivery:
        """Lease the next delivery, which must be there."""
        (delivery,) = await self.lease(1, **fields)
        return delivery

    async def settle(
        self, delivery: Delivery, verb: Verb, *, actor: Actor = ACME, **fields: Any
    ) -> Settled:
        """Settle one lease; raises what became of it instead."""
        asked = Settlement(ref=delivery.ref, verb=verb, actor=actor, **fields)
        (result,) = await self.store.settle([asked])
        return value(result)

    async def ack(self, delivery: Delivery, **fields: Any) -> Settled:
        return await self.settle(delivery, Verb.ACK, **fields)

    async def nack(self, delivery: Delivery, **fields: Any) -> Settled:
        return await self.settle(delivery, Verb.NACK, **fields)

    async def reject(self, delivery: Delivery, **fields: Any) -> Settled:
        return await self.settle(delivery, Verb.REJECT, **fields)

    async def release(self, delivery: Delivery, **fields: Any) -> Settled:
        return await self.settle(delivery, Verb.RELEASE, **fields)

    async def bury(self, body: bytes = b"<poison/>", *, reason: str = "", **fields: Any) -> int:
        """Publish a notification and reject it: the ``seq`` of the dead letter. Nothing else may be ready."""
        await self.publish(body, **fields)
        dead = await self.one()
        await self.reject(dead, reason=reason)
        return dead.ref.seq

    # -- time and operators ---------------------------------------------------------------------

    async def overdue(self, limit: int = 100) -> dict[str, int]:
        return await self.store.overdue(limit)

    async def pass_time(self, seconds: float) -> dict[str, int]:
        """Let time pass, then do what is overdue."""
        self.clock.advance(seconds)
        return await self.overdue()

    async def redrive(self, *seqs: int, limit: int = 100) -> tuple[int, dict[str, int]]:
        return await self.store.redrive("acme", Selection(seqs=seqs), OPERATOR, limit)

    async def discard(self, *seqs: int, limit: int = 100) -> tuple[int, dict[str, int]]:
        return await self.store.discard("acme", Selection(seqs=seqs), OPERATOR, limit, "stale")

    async def prune_all(self) -> None:
        """Prune until nothing is left to do, from the beginning of the store to its end."""
        for _ in range(2):
            while await self.store.prune(100) >= 100:
                pass

    # -- asking ---------------------------------------------------------------------------------

    async def state(self, seq: int, queue: str = "acme") -> State:
        record = await self.store.browse(NotificationById(self._ids[queue, seq]))
        assert record is not None, "a published notification is known"
        (found,) = [d for d in record.deliveries if (d.queue, d.seq) == (queue, seq)]
        return found.state

    async def states(self, queue: str = "acme") -> list[State]:
        """Where each delivery published so far stands, by ``seq``."""
        return [await self.state(seq, queue) for name, seq in sorted(self._ids) if name == queue]

    async def figures(self, queue: str = "acme") -> Figures:
        figures = await self.store.browse(FiguresOf(queue))
        assert figures is not None
        return figures

    async def stored_receipts(self, queue: str = "acme") -> list[StoredReceipt]:
        found: list[StoredReceipt] = []
        after: int | None = None
        while True:
            page = await self.store.browse(Receipts(queue, after=after, limit=7))
            found += page.receipts
            if page.next is None:
                return found
            after = page.next

    async def ledger(self, queue: str = "acme") -> list[Receipt]:
        return [decode_entry(stored.entry) for stored in await self.stored_receipts(queue)]

    async def story(self, seq: int, queue: str = "acme") -> list[str]:
        """What the ledger tells of a delivery: ``["published ready", "acked acked"]``."""
        ledger = await self.ledger(queue)
        return [f"{one.outcome} {one.state}" for one in ledger if one.seq == seq]

    def tally(self, queue: str = "acme") -> Tally:
        """What the store's meter has counted of a queue so far."""
        self.drain()
        return self._tallies.get(queue, Tally())

    def drain(self) -> dict[str, Tally]:
        """What the store's meter has counted since it was last asked."""
        drained = self.store.meter.drain()
        for name, tally in drained.items():
            self._tallies.setdefault(name, Tally()).add(tally)
        return drained

    # -- what always holds ----------------------------------------------------------------------

    async def check(self) -> None:
        """The invariants that can be seen at any moment, for every queue."""
        for queue in await self.store.browse(Queues(limit=10_000)):
            figures = await self.figures(queue.name)
            by_state = {state: getattr(figures, state.label) for state in State}
            assert figures.published == sum(by_state.values()), f"I15: {figures}"
            receipts = await self.stored_receipts(queue.name)
            check_chain(receipts)
            if receipts and receipts[0].number == 1:
                check_story([decode_entry(one.entry) for one in receipts], by_state)

    async def check_meter(self) -> None:
        """The store's meter has counted what its ledger tells: for those that it alone has written."""
        for queue in await self.store.browse(Queues(limit=10_000)):
            ledger = await self.ledger(queue.name)
            if not ledger or ledger[0].number > 1:
                continue
            tally = self.tally(queue.name)
            told = Counter(receipt.outcome for receipt in ledger)
            counted = {one.value: getattr(tally, one.value) for one in Outcome}
            assert counted == {one.value: told[one.value] for one in Outcome}, "counted as told"
            dead = sum(receipt.state == State.DEAD.label for receipt in ledger)
            late = sum(
                receipt.outcome == Outcome.LATE_ACK and receipt.state == State.DEAD.label
                for receipt in ledger
            )
            assert tally.died == dead - late, "each death is counted once"
            assert sum(tally.ack_classes or ()) == tally.acked, "each ack has its time"


def check_chain(receipts: list[StoredReceipt]) -> None:
    """I14: dense numbers, and each digest over the one before. What was pruned at the beginning may be missing."""
    digest = receipts[0].digest if receipts and receipts[0].number > 1 else GENESIS
    for number, receipt in enumerate(receipts, receipts[0].number if receipts else 1):
        assert receipt.number == number, "I14: the ledger is dense"
        assert decode_entry(receipt.entry).number == number
        if number > 1 and receipt is receipts[0]:
            continue
        digest = receipt_digest(digest, json.loads(to_json(receipt)))
        assert digest == receipt.digest, f"I14: the chain verifies at {number}"


def check_story(ledger: list[Receipt], by_state: dict[State, int]) -> None:
    """I7 and I14: each delivery's receipts follow the lifecycle, and what they tell is what the figures say."""
    last: dict[int, State] = {}
    for receipt in ledger:
        outcome, after = Outcome(receipt.outcome), State[receipt.state.upper()]
        if outcome is Outcome.LATE_ACK:
            continue
        start, end = TABLE[outcome]
        assert after in end, f"I14: {receipt.outcome} does not lead to {receipt.state}"
        before = last.get(receipt.seq)
        assert (before is None) == (outcome is Outcome.PUBLISHED), "published is the first receipt"
        if before is not None:
            # What waits may have become ready and been leased since: neither has a receipt.
            possible = {*WAITING, State.LEASED} if before in WAITING else {before}
            assert possible & start, f"I7: {receipt.outcome} after {before.label}"
        last[receipt.seq] = after
    assert sorted(last) == list(range(1, len(last) + 1)), "seq is dense"
    for state in (*ENDED, State.DEAD):
        told = sum(one is state for one in last.values())
        assert told == by_state[state], f"I14: the ledger tells of {told} {state.label}"


class Scenario(msgspec.Struct, frozen=True):
    """Something that is true of every store (every durable one)."""

    name: str
    play: Callable[[Stage], Coroutine[Any, Any, None]]
    durable: bool

    def __str__(self) -> str:
        return self.name

    def run(self, opener: Opener, folder: Path) -> None:
        """Play it on a new store in ``folder``; ``AssertionError`` where the store does otherwise."""

        async def evening() -> None:
            async with Stage(opener, folder) as stage:
                await self.play(stage)
                await stage.check()
                await stage.check_meter()

        asyncio.run(evening())


def value(result: T | RestanteError) -> T:
    """The result, raised where it is an error."""
    if isinstance(result, RestanteError):
        raise result
    return result


async def refused(kind: type[E], work: Any) -> E:
    """The error of that kind which ``work`` must raise."""
    try:
        result = await work
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got {result!r}")


def seqs(deliveries: Iterable[Delivery]) -> list[int]:
    return [delivery.ref.seq for delivery in deliveries]


def attempts(deliveries: Iterable[Delivery]) -> list[int]:
    return [delivery.attempt for delivery in deliveries]
