"""What the tests of requests that count once share: what is asked, what is run, and a process that is killed."""

import asyncio

from tests.unit.engine.house import turns

from restante.engine.broker import Broker
from restante.engine.requests import Ran
from restante.idempotency import Asked, Fate, Reply

WHO = "admin/op"


def asked(key="k1", fingerprint=b"f", who=WHO, **more):
    return Asked(who=who, key=key, method="POST", path="/x", fingerprint=fingerprint, **more)


class Work:
    """What is run: counts how often, and ends when the test says so."""

    def __init__(self, reply=None, fate=Fate.KEEP, held=False):
        self.runs = 0
        self.reply = reply or Reply(201, ((b"x", b"y"),), b"made")
        self.fate = fate
        self.gate = asyncio.Event()
        if not held:
            self.gate.set()

    async def __call__(self):
        self.runs += 1
        await self.gate.wait()
        return Ran(self.reply, self.fate)


async def crash(store, clock, work, request=None, **options):
    """A process that is killed in the middle of a request: what it had in hand is never heard of again."""
    dead = await Broker(store, clock, **options).__aenter__()
    task = asyncio.create_task(dead.requests.once(request or asked(), work))
    await turns()
    await kill(dead, task)


async def kill(broker, *callers):
    for one in list(broker.requests._running.values()):
        one.work.cancel()
    for caller in callers:
        caller.cancel()
    await turns()
    await broker.__aexit__(None, None, None)
