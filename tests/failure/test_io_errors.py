"""The disk says no: what failed is never acknowledged, and a broken store does not go on."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any

import pytest
from tests.failure.house import House
from tests.failure.load import Load
from tests.failure.server import DidNotStart, serving
from tests.failure.strace import SYNCS, faults, traced

from restante.testing.history import History, Publish

Run = Callable[[Coroutine[Any, Any, None]], None]

POSITIONS = 100
STRIDE = 9
"""Of the positions, CI takes the first few and then every ninth."""
IN_CI = [*range(1, 5), *range(5, POSITIONS + 1, STRIDE)]
ALL = range(1, POSITIONS + 1)
WRITES = "pwrite64"
STORAGE_FAILED = 7
REFUSED_TO_START = (1, 5, STORAGE_FAILED)
UNHEALTHY_SECONDS = 1.0
"""From the error to the line of the log by which nothing more is accepted."""
ENDED_SECONDS = 10.0
"""From the error to the process's end, which strace and a busy machine draw out."""
FAILED_LINE = re.compile(r"(\S+Z) \[critical\s*\] store\.failed")
RECOVERY_SECONDS = 5
JUDGED = ("I1", "I2", "I4", "I9", "I14", "I15", "I16", "I18")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("calls", [SYNCS, WRITES])
def test_an_io_error_ends_it_and_loses_nothing(house: House, run: Run, calls: str) -> None:
    run(io_errors(house, calls, IN_CI))


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("calls", [SYNCS, WRITES])
def test_an_io_error_anywhere_ends_it_and_loses_nothing(house: House, run: Run, calls: str) -> None:
    run(io_errors(house, calls, ALL))


async def io_errors(house: House, calls: str, positions: Sequence[int]) -> None:
    """Each start on the same data meets one EIO in the WAL, and has to end itself."""
    async with serving(house.data) as server:
        await house.furnish(server, ["acme", "globex"], lease_seconds=1, max_attempts=1_000)
    load = Load(house, publishers=8, consumers=8, seed=6)
    load.start()
    slowest, latest, met = 0.0, 0.0, 0
    wal = house.data / "restante.db-wal"
    for position in positions:
        try:
            async with traced(house.data, *faults(calls, "error=EIO", position, [wal])) as run:
                load.up(run.server)
                code = await run.server.ended(60)
                ended_at, now = time.monotonic(), time.time()
                load.down()
                await load.quiet()
                assert run.watch.injected.is_set(), run.server.tail()
                ended_after = ended_at - run.watch.injected_at
                latest = max(latest, ended_after)
                told = FAILED_LINE.findall(run.server.log.read_text())[-1]
                unhealthy_at = datetime.fromisoformat(told).timestamp()
                slowest = max(slowest, unhealthy_at - (now - ended_after))
                met += 1
                assert code == STORAGE_FAILED, f"{run.watch.line}\n{run.server.tail()}"
        except DidNotStart as error:
            # It met the error while it opened the store, and did not go on.
            if error.code not in REFUSED_TO_START:
                raise
    assert met > len(positions) // 2
    assert slowest < UNHEALTHY_SECONDS
    assert latest < ENDED_SECONDS
    await _sound_after(house, load)
    print(
        f"\n{met} of {len(positions)} met while running; unhealthy within {slowest:.2f} s, ended within {latest:.2f} s"
    )


@pytest.mark.timeout(300)
def test_a_write_without_space_fails_alone(house: House, run: Run) -> None:
    run(no_space(house, IN_CI))


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_a_write_without_space_anywhere_fails_alone(house: House, run: Run) -> None:
    run(no_space(house, ALL))


async def no_space(house: House, positions: Sequence[int]) -> None:
    """Each start on the same data meets one ENOSPC in the WAL; it goes on, and stores again."""
    async with serving(house.data) as server:
        await house.furnish(server, ["acme", "globex"], lease_seconds=1, max_attempts=1_000)
    load = Load(house, publishers=8, consumers=8, seed=7)
    load.start()
    met = 0
    shop = house.caller("shop")
    wal = house.data / "restante.db-wal"
    for position in positions:
        options = faults(WRITES, "error=ENOSPC", position, [wal])
        try:
            async with traced(house.data, *options) as (server, watch):
                load.up(server)
                while not watch.injected.is_set():
                    await load.busy(answers=load.answers + 1)
                met += 1
                await load.busy(answers=load.answers + 50)
                load.down()
                assert server.running, server.tail()
                async with asyncio.timeout(RECOVERY_SECONDS):
                    while (after := await shop.publish(house.body(), queue="acme")).code:
                        assert after.code == "store_full", (watch.line, after)
                assert await server.stop() == 0, server.tail()
                await load.quiet()
        except DidNotStart as error:
            if error.code not in REFUSED_TO_START:
                raise
    assert met > len(positions) // 2
    await _sound_after(house, load)
    codes = {str(call.code) for call in History.load(house.history_file).of(Publish) if call.code}
    print(f"\n{met} of {len(positions)} met while running; publishes answered {sorted(codes)}")


async def _sound_after(house: House, load: Load) -> None:
    async with serving(house.data) as server:
        load.up(server)
        await load.busy(answers=100)
        await load.stop()
        await house.drain()
        await house.read_everything()
        await house.audit_log()
    house.assert_sound(*JUDGED)
