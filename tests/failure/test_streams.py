"""Clients that stay connected, while servers are killed, stopped and overrun, and lines go dead."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.failure.house import House
from tests.failure.load import Load
from tests.failure.server import Server, serving
from tests.failure.streams import StreamCaller

Run = Callable[[Coroutine[Any, Any, None]], None]

QUEUES = ("acme", "globex", "initech", "umbrella")
SPEAKING = ("websocket", "events", "http")
JUDGED = ["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I11", "I13", "I14", "I15", "I16"]
SETTINGS = {
    "lease_seconds": 2,
    "max_attempts": 100,
    "backoff_base_seconds": 0.1,
    "backoff_cap_seconds": 0.5,
}


@pytest.mark.timeout(300)
def test_kills_in_mid_stream_lose_nothing(house: House, run: Run) -> None:
    run(restarts(house, cycles=20, seed=11, gently=False))


@pytest.mark.timeout(300)
def test_rolling_restarts_lose_nothing(house: House, run: Run) -> None:
    """SIGTERM: streams are told to leave, settle what they hold, and come back to the next."""
    run(restarts(house, cycles=10, seed=12, gently=True))


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("gently", [True, False])
def test_a_hundred_restarts_lose_nothing(house: House, run: Run, gently: bool) -> None:
    run(restarts(house, cycles=100, seed=13, gently=gently))


async def restarts(house: House, *, cycles: int, seed: int, gently: bool) -> None:
    chance = random.Random(seed)
    server = await Server.start(house.data)
    await house.furnish(server, QUEUES, **SETTINGS)
    load = Load(house, publishers=20, consumers=48, seed=seed, speaking=SPEAKING)
    load.start()
    for _ in range(cycles):
        load.up(server)
        await load.busy(answers=chance.randrange(100, 500))
        if gently:
            # The load goes on while it stops: that is what rolling is.
            assert await server.stop() == 0, server.tail()
        else:
            await server.kill()
        load.down()
        await load.quiet()
        server = await Server.start(house.data)
    load.up(server)
    await load.stop()
    await house.drain()
    await house.read_everything()
    assert await server.stop() == 0, server.tail()
    verdict = house.assert_sound(*JUDGED)
    print(f"\n{cycles} restarts; judged {dict(verdict.judged)}")
    assert "Traceback" not in server.log.read_text()


@pytest.mark.timeout(300)
def test_disconnects_at_any_moment_lose_nothing(house: House, run: Run) -> None:
    run(disconnects(house, times=600, seed=14))


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_ten_thousand_disconnects_lose_nothing(house: House, run: Run) -> None:
    run(disconnects(house, times=10_000, seed=15))


async def disconnects(house: House, *, times: int, seed: int) -> None:
    """Consumers that vanish in the middle of whatever they are doing, and come back."""
    chance = random.Random(seed)
    async with serving(house.data) as server:
        await house.furnish(server, QUEUES, **SETTINGS)
        callers = [
            house.caller(queue, speaks) for queue in QUEUES for speaks in ("websocket", "events")
        ]
        load = Load(house, publishers=12, consumers=4, seed=seed)
        load.start()
        load.up(server)
        left = times

        async def come_and_go(caller: StreamCaller, mine: random.Random) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                task = asyncio.create_task(_collect(caller, mine))
                # So many turns of the loop: anywhere between the connect and the second settle.
                for _ in range(mine.randrange(1, 400)):
                    await asyncio.sleep(0)
                    if task.done():
                        break
                caller.disconnect()
                await task
            # Gone in the middle of connecting, it may have been connected after all.
            caller.disconnect()

        async with asyncio.TaskGroup() as group:
            for caller in callers:
                assert isinstance(caller, StreamCaller)
                group.create_task(come_and_go(caller, random.Random(chance.random())))
        await load.stop()
        await house.drain()
        await house.read_everything()
        verdict = house.assert_sound(*JUDGED)
        print(f"\n{times} disconnects; judged {dict(verdict.judged)}")
        assert "Traceback" not in server.log.read_text()


async def _collect(caller: StreamCaller, chance: random.Random) -> None:
    try:
        if not caller.attached:
            await caller.attach()
    except OSError:
        return
    for lease in await caller.receive(caller.who, wait=0.2):
        if not caller.attached:
            return
        await caller.settle(lease.lease, chance.choice(["ack", "ack", "nack", "release"]))
