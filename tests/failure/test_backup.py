"""A backup made under load is the state after some commit: a prefix of what happened, nothing torn."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.failure.house import House
from tests.failure.load import Load
from tests.failure.server import serving

from restante.testing.checker import examine
from restante.testing.history import History, Place, Publish

Run = Callable[[Coroutine[Any, Any, None]], None]

QUEUES = ("acme", "globex")
COPIES = 3


@pytest.mark.timeout(180)
def test_a_restore_is_a_prefix_of_commits(house: House, run: Run, tmp_path: Path) -> None:
    run(backups(house, tmp_path))


async def backups(house: House, folder: Path) -> None:
    async with serving(house.data) as server:
        await house.furnish(server, QUEUES, lease_seconds=2, max_attempts=100)
        for queue in QUEUES:
            await house.admin.must("POST", "/v1/subscriptions", {"pattern": "news", "queue": queue})
        load = Load(house, publishers=24, consumers=24, seed=22, topic="news")
        load.start()
        load.up(server)
        spans = []
        for number in range(COPIES):
            await load.busy(answers=load.answers + 1_000)
            began = time.monotonic_ns()
            await restante("backup", str(house.data), "--to", str(folder / f"copy{number}.db"))
            spans.append((began, time.monotonic_ns()))
        await load.stop()
        await house.drain()
        await house.read_everything()
        await house.audit_log()
        ledgers = {queue: await house.admin.read_receipts(queue) for queue in QUEUES}
    house.assert_sound("I1", "I2", "I14", "I15", "I18")
    publishes = list(History.load(house.history_file).of(Publish))
    lengths = []
    for number, (began, ended) in enumerate(spans):
        restored = {
            queue: prefix(ledger, ledgers[queue])
            for queue, ledger in (await restore(folder, f"copy{number}")).items()
        }
        lengths.append(sum(map(len, restored.values())))
        there = {
            Place(queue, receipt["seq"])
            for queue, ledger in restored.items()
            for receipt in ledger
            if receipt["outcome"] == "published"
        }
        for call in publishes:
            found = {place in there for place in call.deliveries}
            assert len(found) < 2, f"half of a commit: {call}"
            if call.outcome == "ok" and call.end is not None and call.end <= began:
                assert found == {True}, f"acknowledged before the copy, and not in it: {call}"
            if call.start >= ended and not call.replayed:
                assert found <= {False}, f"sent after the copy, and in it: {call}"
    assert lengths == sorted(lengths)
    assert lengths[0] > 0
    print(f"\n{COPIES} copies with {lengths} receipts")


def prefix(ledger: list[dict[str, Any]], whole: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What both ledgers begin with. Beyond it the restored one may only say that leases ran out."""
    pairs = zip(ledger, whole, strict=False)
    differ = (index for index, (one, other) in enumerate(pairs) if one != other)
    length = next(differ, min(len(ledger), len(whole)))
    assert all(receipt["outcome"] == "lease_expired" for receipt in ledger[length:])
    return ledger[:length]


async def restante(*command: str) -> None:
    """A command in a process of its own, as an operator gives it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "restante", *command),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


async def restore(folder: Path, name: str) -> dict[str, list[dict[str, Any]]]:
    """Make a store of a backup, serve it, check what it says of itself, and return its ledgers."""
    with contextlib.closing(House(folder, name)) as copied:
        await restante("restore", str(folder / f"{name}.db"), "--data", str(copied.data))
        async with serving(copied.data) as server:
            copied.use(server)
            ledgers = {}
            for queue in QUEUES:
                await copied.admin.read_figures(queue)
                ledgers[queue] = await copied.admin.read_receipts(queue)
        # Who published and collected is in the original's history; the chain, the figures and
        # each delivery's life have to hold by themselves.
        verdict = examine(History.load(copied.history_file))
        alone = [
            one
            for one in verdict.violations
            if one.invariant in ("I6", "I7", "I9")
            or one.message.endswith(("is missing", "breaks the chain"))
            or "in all states" in one.message
        ]
        assert not alone, "\n".join(map(str, alone[:5]))
        assert min(verdict.judged["I15"], verdict.judged["I7"]) > 0
        return ledgers
