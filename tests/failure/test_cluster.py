"""A whole cluster behind nginx while nodes, database and waker are killed: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.failure.house import House
from tests.failure.load import Load
from tests.failure.server import ADMIN_KEY

from restante.keyfiles import LEDGER_KEY_FILE
from restante.testing.cluster import Cluster
from restante.testing.servers.node import Node

Run = Callable[[Coroutine[Any, Any, None]], None]
Fault = Callable[["Trial"], Awaitable[None]]

QUEUES = ("acme", "globex", "initech", "umbrella")
SPEAKING = ("http", "websocket", "events")
JUDGED = [
    "I1",
    "I2",
    "I3",
    "I4",
    "I5",
    "I6",
    "I7",
    "I8",
    "I9",
    "I11",
    "I13",
    "I14",
    "I15",
    "I16",
    "I18",
]
SETTINGS = {
    "lease_seconds": 5,
    "max_attempts": 1_000,
    "backoff_base_seconds": 0.1,
    "backoff_cap_seconds": 0.5,
}
BUSY_SECONDS = 60.0


class Trial:
    """A cluster under load. What it does to the cluster runs in a thread, so that the load goes on meanwhile."""

    def __init__(self, cluster: Cluster, load: Load, seed: int) -> None:
        self.cluster = cluster
        self.load = load
        self.chance = random.Random(seed)

    async def answered(self, count: int = 150) -> None:
        """Wait for so many more answers than there are now."""
        await self.load.busy(answers=self.load.answers + count, seconds=BUSY_SECONDS)

    def some_node(self) -> Node:
        return self.chance.choice(self.cluster.nodes)


async def kill_a_node(trial: Trial) -> None:
    node = trial.some_node()
    await asyncio.to_thread(node.kill)
    await trial.answered()
    await asyncio.to_thread(node.start)


async def restart_each_node(trial: Trial) -> None:
    """A rolling restart: SIGTERM, one after the other."""
    for node in trial.cluster.nodes:
        assert await asyncio.to_thread(node.stop) == 0, node.log.read_text()[-4_000:]
        await trial.answered()
        await asyncio.to_thread(node.start)


async def freeze_a_node(trial: Trial) -> None:
    """It holds leases and connections, and says nothing; what it does later must not count twice."""
    node = trial.some_node()
    node.pause()
    await trial.answered(60)
    node.resume()


async def fail_over(trial: Trial) -> None:
    """The primary dies in the middle of everything. What was acknowledged is on the standby already."""
    await asyncio.to_thread(trial.cluster.fail_over)
    await trial.answered()
    await asyncio.to_thread(trial.cluster.seed_standby)


async def lose_the_waker(trial: Trial) -> None:
    await asyncio.to_thread(trial.cluster.redis.kill)
    await trial.answered()
    await asyncio.to_thread(trial.cluster.redis.start)


async def freeze_the_waker(trial: Trial) -> None:
    trial.cluster.redis.pause()
    await trial.answered()
    trial.cluster.redis.resume()


ONCE_EACH: tuple[Fault, ...] = (
    kill_a_node,
    fail_over,
    restart_each_node,
    lose_the_waker,
    freeze_a_node,
    fail_over,
    freeze_the_waker,
    kill_a_node,
)


@pytest.mark.timeout(300)
def test_a_cluster_that_is_broken_everywhere_loses_nothing(
    house: House, run: Run, tmp_path: Path
) -> None:
    run(broken(house, tmp_path, ONCE_EACH, seed=21))


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_fifty_failovers_lose_nothing(house: House, run: Run, tmp_path: Path) -> None:
    chance = random.Random(22)
    faults: list[Fault] = []
    for _ in range(50):
        faults += [fail_over, chance.choice(ONCE_EACH)]
    run(broken(house, tmp_path, faults, seed=22))


async def broken(
    house: House, folder: Path, faults: tuple[Fault, ...] | list[Fault], seed: int
) -> None:
    cluster = Cluster(folder / "cluster", admin_key=ADMIN_KEY)
    await asyncio.to_thread(cluster.__enter__)
    try:
        house.ledger_key = cluster.folder / LEDGER_KEY_FILE
        await house.furnish(cluster, QUEUES, **SETTINGS)
        for queue in QUEUES[:2]:
            subscription = {"pattern": "news", "queue": queue}
            await house.admin.must("POST", "/v1/subscriptions", subscription)
        load = Load(house, publishers=16, consumers=24, seed=seed, topic="news", speaking=SPEAKING)
        load.start()
        load.up(cluster)
        trial = Trial(cluster, load, seed)
        for fault in faults:
            await trial.answered()
            await fault(trial)
        await trial.answered()
        await load.stop()
        await house.drain()
        await house.read_everything()
        await house.audit_log()
    finally:
        await asyncio.to_thread(cluster.__exit__, None, None, None)
    verdict = house.assert_sound(*JUDGED)
    print(f"\n{len(faults)} faults; judged {dict(verdict.judged)}")
    for node in cluster.nodes:
        assert "Traceback" not in node.log.read_text()
