"""Hundreds of publishers and consumers that go on across restarts, doing a bit of everything."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tests.failure.clients import Caller
from tests.failure.house import House
from tests.failure.server import Reachable

from restante.testing.history import Action, Lease

T = TypeVar("T")
MOSTLY_ACK: tuple[Action, ...] = ("ack", "ack", "nack")


class Load:
    """Workers with one call in flight each. They rest while the server is down.

    ``speaking``: what the consumers speak, in turn.
    """

    def __init__(
        self,
        house: House,
        *,
        publishers: int,
        consumers: int,
        seed: int,
        topic: str | None = None,
        speaking: Sequence[str] = ("http",),
    ) -> None:
        self.house = house
        self.in_flight = 0
        self.answers = 0
        self._chance = random.Random(seed)
        self._topic = topic
        self._speaking = speaking
        self._up = asyncio.Event()
        self._progress = asyncio.Event()
        self._stopping = False
        self._publishers = publishers
        self._consumers = consumers
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Make the workers; they wait for ``up``."""
        shop = [
            self._work(self.house.caller("shop"), self._publish) for _ in range(self._publishers)
        ]
        queues = self.house.queues
        clients = [
            self._work(
                self.house.caller(
                    queues[number % len(queues)],
                    # Not in step with the queues: each queue gets each.
                    self._speaking[number // len(queues) % len(self._speaking)],
                ),
                self._consume,
            )
            for number in range(self._consumers)
        ]
        self._tasks = [asyncio.create_task(work) for work in (*shop, *clients)]

    def up(self, *servers: Reachable) -> None:
        """The server is there: go on. Where there are several, the workers are spread over them."""
        self.house.use(*servers)
        self.answers = 0
        self._up.set()

    def down(self) -> None:
        """Begin nothing any more, from this instant on."""
        self._up.clear()

    async def busy(self, *, answers: int = 0, in_flight: int = 0, seconds: float = 30.0) -> None:
        """Wait until so many calls were answered since ``up``, and so many are in flight.

        Fails after ``seconds``, or when a worker has failed.
        """
        await self._until(lambda: self.answers >= answers and self.in_flight >= in_flight, seconds)

    async def quiet(self, seconds: float = 30.0) -> None:
        """Wait until no call is in flight."""
        await self._until(lambda: self.in_flight == 0, seconds)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._progress.clear()
                await self._progress.wait()
                for task in self._tasks:
                    if task.done() and not self._stopping:
                        task.result()
                        raise AssertionError("a worker stopped by itself")

    async def stop(self) -> None:
        """End all workers after their current call."""
        self._stopping = True
        self._up.set()
        await asyncio.gather(*self._tasks)

    async def _work(
        self, caller: Caller, step: Callable[[Caller, random.Random], Awaitable[None]]
    ) -> None:
        chance = random.Random(self._chance.random())
        try:
            while not self._stopping:
                await self._up.wait()
                if not self._stopping:
                    await step(caller, chance)
        finally:
            caller.disconnect()
            self._progress.set()

    async def _call(self, call: Awaitable[T]) -> T:
        """One call, counted; waits for the server to be up before it, so that none is wasted."""
        await self._up.wait()
        self.in_flight += 1
        self._progress.set()
        try:
            return await call
        finally:
            self.in_flight -= 1
            self.answers += 1
            self._progress.set()

    async def _publish(self, caller: Caller, chance: random.Random) -> None:
        queue = chance.choice(self.house.queues)
        body = self.house.body(chance.choice([0, 0, 200, 3_000]))
        kind = chance.random()
        if kind < 0.6:
            key = f"key-{chance.getrandbits(64):x}"
            ordering = f"order-{chance.randrange(20)}" if chance.random() < 0.2 else None
            for _ in range(3):
                call = await self._call(
                    caller.publish(body, queue=queue, key=key, ordering_key=ordering)
                )
                if call.outcome != "unknown" and chance.random() < 0.95:
                    return
        elif kind < 0.7 and self._topic is not None:
            await self._call(caller.publish(body, topic=self._topic))
        elif kind < 0.8:
            bodies = [self.house.body() for _ in range(chance.randrange(1, 6))]
            await self._call(caller.publish_batch(queue, bodies))
        elif kind < 0.9:
            delay = chance.choice([0.2, 1.0])
            await self._call(caller.publish(body, queue=queue, deliver_after_seconds=delay))
        else:
            binary = body + bytes(chance.randrange(256) for _ in range(20))
            await self._call(
                caller.publish(binary, queue=queue, content_type="application/octet-stream")
            )

    async def _consume(self, caller: Caller, chance: random.Random) -> None:
        queue, wait = caller.who, chance.choice([0.5, 2])
        if chance.random() < 0.2:
            lease = await self._call(caller.next(queue, wait=wait))
            leases = [lease] if lease is not None else []
        else:
            leases = await self._call(caller.receive(queue, max=chance.randrange(1, 6), wait=wait))
        if chance.random() < 0.05:
            await self._call(caller.read_head())
        if len(leases) > 1 and chance.random() < 0.3:
            pairs = [(lease.lease, chance.choice(MOSTLY_ACK)) for lease in leases]
            await self._call(caller.settle_batch(queue, pairs))
            return
        for lease in leases:
            await self._settle(caller, lease, chance)

    async def _settle(self, caller: Caller, lease: Lease, chance: random.Random) -> None:
        kind = chance.random()
        if kind < 0.04:
            return  # its lease runs out
        if kind < 0.10:
            await self._call(
                caller.settle(lease.lease, "nack", retry_after=chance.choice([0, 0.3]))
            )
            return
        if kind < 0.15:
            await self._call(caller.settle(lease.lease, "release"))
            return
        if kind < 0.17:
            await self._call(caller.settle(lease.lease, "reject", reason="no"))
            return
        if kind < 0.20:
            await self._call(caller.settle(lease.lease, "extend", lease_seconds=3))
        reply = b"thanks" if kind > 0.9 else b""
        await self._call(caller.settle(lease.lease, "ack", reply=reply))
        if chance.random() < 0.1:
            await self._call(caller.settle(lease.lease, "ack", reply=reply))
