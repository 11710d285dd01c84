"""The wall clock jumps while the monotonic clock does not: leases neither run out together nor stick."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.failure.clients import Caller
from tests.failure.house import House
from tests.failure.server import install, serving

from restante.testing.history import Lease
from restante.testing.servers.postgresql import PostgresqlServer

Run = Callable[[Coroutine[Any, Any, None]], None]

HOUR = 3_600
JUMPS = (HOUR, 0, -HOUR, 0, 2 * 24 * HOUR, -HOUR)
"""Seconds from the true time, one after the other: an hour on, back, an hour back, ..., two days on."""
HELD = 200
LONG_LEASE_SECONDS = 600
SHORT_LEASE_SECONDS = 2
LATEST_SECONDS = SHORT_LEASE_SECONDS + 5 + 10


class FalseClock:
    """A wall clock for another process, set by writing a file."""

    def __init__(self, folder: Path) -> None:
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            install("libfaketime")
            libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        assert libraries, "libfaketime is needed for this test"
        self._file = folder / "clock"
        self.env = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        }
        self.set(0)

    def set(self, seconds: int) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self._file)


@pytest.mark.timeout(240)
def test_clock_jumps_end_no_lease_and_stick_none(house: House, run: Run, tmp_path: Path) -> None:
    run(clock_jumps(house, FalseClock(tmp_path)))


@pytest.mark.timeout(240)
def test_nor_do_they_where_it_is_the_clock_of_a_database_that_nodes_share(
    house: House, run: Run
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="restante-clock-"))
    folder.chmod(0o755)
    try:
        clock = FalseClock(folder)
        with PostgresqlServer(environment=clock.env) as postgresql:
            store = {"RESTANTE_STORE": postgresql.create_database()}
            run(clock_jumps(house, clock, env=store, other=house.data.with_name("other")))
    finally:
        shutil.rmtree(folder)


async def clock_jumps(
    house: House,
    clock: FalseClock,
    *,
    env: Mapping[str, str] | None = None,
    other: Path | None = None,
) -> None:
    """With ``other``, the data of a second node, what is published on the first is collected on that."""
    env = env or clock.env
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(house.data, env=env))
        await house.furnish(server, ["acme"], lease_seconds=SHORT_LEASE_SECONDS)
        shop, acme = house.caller("shop"), house.caller("acme")
        if other is not None:
            key = {"RESTANTE_LEDGER_KEY_FILE": str(house.ledger_key)}
            acme.use(await stack.enter_async_context(serving(other, env={**env, **key})))
        for _ in range(HELD):
            await shop.publish(house.body(), queue="acme")
        held = await acme.receive("acme", max=HELD, lease=LONG_LEASE_SECONDS)
        assert len(held) == HELD
        before = await _wall_clock(house, shop, acme)
        for seconds in JUMPS:
            clock.set(seconds)
            # The jump has reached the server: what it says of the time is as far off.
            assert abs(await _wall_clock(house, shop, acme) - before - seconds) < HOUR // 2
            await _lease_and_abandon(house, shop, acme, held)
        for lease in held:
            settled = await acme.settle(lease.lease, "ack")
            assert settled.outcome == "ok", settled
        clock.set(0)
        await house.drain()
        await house.read_everything()
        await house.audit_log()
        # I5: nothing was handed out before its lease had run out; I6: no running lease was lost.
        house.assert_sound("I5", "I6", "I8", "I9", "I13", "I14", "I15", "I18")


async def _wall_clock(house: House, shop: Caller, acme: Caller) -> float:
    """Seconds since 1970 by the server's wall clock, off a notification that is then collected."""
    made = await shop.publish(house.body(), queue="acme")
    record = await house.admin.must("GET", f"/v1/notifications/{made.notification}")
    (lease,) = await acme.receive("acme", max=1, wait=5)
    assert lease.notification == made.notification
    await acme.settle(lease.lease, "ack")
    return datetime.fromisoformat(record["published_at"]).timestamp()


async def _lease_and_abandon(house: House, shop: Caller, acme: Caller, held: list[Lease]) -> None:
    """One lease runs out after the jump, in its time; a scheduled one comes; the held ones stay away."""
    abandoned = await shop.publish(house.body(), queue="acme")
    assert len(await acme.receive("acme", max=10, wait=5)) == 1
    scheduled = await shop.publish(house.body(), queue="acme", deliver_after_seconds=1)
    wanted = {abandoned.notification, scheduled.notification}
    while wanted:
        leases = await acme.receive("acme", max=10, wait=LATEST_SECONDS)
        assert leases, f"not within {LATEST_SECONDS} s: {wanted}"
        for lease in leases:
            assert lease.notification in wanted, (lease, "came back though its lease runs")
            wanted.remove(lease.notification)
            await acme.settle(lease.lease, "ack")
    figures = await house.admin.read_figures("acme")
    assert figures["leased"] == len(held)
