"""A broker over the memory store, with the clock in hand. Nothing here waits for real time."""

import asyncio

from restante.changes import AddClient, PutQueue
from restante.engine.acts import Wanted
from restante.engine.settling import Settle
from restante.model import Actor, Client, Publication, Queue, Role, Settings, Verb
from restante.queries import FiguresOf
from restante.stores.memory import MemoryStore

SHOP = Actor("shop", Role.PUBLISHER, "k-shop")
ACME = Actor("acme", Role.CLIENT, "k-acme")
BOB = Actor("bob", Role.CLIENT, "k-bob")
OPERATOR = Actor("op", Role.ADMIN, "k-op")


class GatedStore(MemoryStore):
    """Leases at once, and answers a ``lease`` when the test says so: what happens in between is the test's choice."""

    def __init__(self, clock, **options):
        super().__init__(clock, **options)
        self.gated = False
        self._gates = []

    def lease(self, request):
        done = super().lease(request)
        if not self.gated:
            return done
        answer = asyncio.get_running_loop().create_future()
        self._gates.append((answer, done))
        return answer

    @property
    def looking(self):
        """How many looks have not been answered."""
        return len(self._gates)

    def answer(self):
        """Answer the look that has waited longest."""
        answer, done = self._gates.pop(0)
        if done.exception() is None:
            answer.set_result(done.result())
        else:
            answer.set_exception(done.exception())


async def furnish(store):
    """Clients acme and bob, with their queues."""
    await store.configure(
        [
            AddClient(Client("acme")),
            PutQueue(Queue("acme", "acme")),
            AddClient(Client("bob")),
            PutQueue(Queue("bob", "bob")),
        ]
    )


async def settings(broker, queue="acme", **changed):
    """Give a queue these settings, as an administrator does."""
    await broker.store.configure([PutQueue(Queue(queue, queue, Settings(**changed)))])
    broker.directory.forget_queue(queue)


async def turns(count=20):
    """Let every task go on until none can: with the memory store, nothing takes longer than some turns."""
    for _ in range(count):
        await asyncio.sleep(0)


def slow(monkeypatch, store, verb):
    """Have the store answer that verb some turns after it has done it, as one with a disk does."""
    method = getattr(store, verb)

    async def late(done):
        await turns(5)
        return await done

    monkeypatch.setattr(store, verb, lambda *asked: asyncio.ensure_future(late(method(*asked))))


def failing(monkeypatch, store, verb, *answers):
    """Have the store answer that verb, of so many calls, with these errors; None: as it does. Then it is well."""
    method = getattr(store, verb)
    left = list(answers)

    def answer(*asked):
        error = left.pop(0) if left else None
        if error is None:
            return method(*asked)
        done = asyncio.get_running_loop().create_future()
        done.set_exception(error)
        return done

    monkeypatch.setattr(store, verb, answer)


def letter(body=b"<hello/>", queue="acme", **fields):
    return Publication(body=body, queue=queue, **fields)


async def bury(broker, count, queue="acme", reason="bad", **fields):
    """So many dead letters."""
    session = await broker.session(queue, OPERATOR)
    for done in range(0, count, 100):
        batch = [letter(queue=queue, **fields)] * min(100, count - done)
        await broker.publish_batch(batch, SHOP)
        items = [
            Settle(lease=session.token(one), verb=Verb.REJECT, reason=reason)
            for one in await session.receive(max=100)
        ]
        await (await session.settle(items)).results()


async def figures(broker, queue="acme"):
    return await broker.store.browse(FiguresOf(queue))


async def acts(broker, **wanted):
    """Who did what, the newest last."""
    page = await broker.acts.page(Wanted(**wanted), limit=1_000)
    return list(reversed(page.acts))
