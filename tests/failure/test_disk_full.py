"""A full disk: publishing waits, collecting goes on, and space is enough to publish again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.failure.house import House
from tests.failure.server import serving

from restante.testing.history import Publish

Run = Callable[[Coroutine[Any, Any, None]], None]

DISK_BYTES = 48 * 1024 * 1024
BALLAST_BYTES = 16 * 1024 * 1024
BODY_BYTES = 32 * 1024
RECOVERY_SECONDS = 5
MOST_PUBLISHES = DISK_BYTES // BODY_BYTES


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of DISK_BYTES. Needs root, and fails without it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    assert os.geteuid() == 0, "mounting a small disk needs root"
    options = f"size={DISK_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.timeout(120)
def test_collecting_goes_on_when_the_disk_is_full(small_disk: Path, run: Run) -> None:
    # The history and the log are not kept on the disk that fills up: only the data is.
    with contextlib.closing(House(small_disk.parent)) as house:
        house.data.symlink_to(small_disk)
        run(full_and_free_again(house, small_disk))


async def full_and_free_again(house: House, disk: Path) -> None:
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(BALLAST_BYTES))
    async with serving(house.data) as server:
        await house.furnish(server, ["acme"], lease_seconds=30, max_in_flight=10_000)
        shop, acme = house.caller("shop"), house.caller("acme")

        async def publish() -> Publish:
            return await shop.publish(house.body(BODY_BYTES), queue="acme")

        stored = 0
        while (call := await publish()).outcome == "ok":
            stored += 1
            assert stored < MOST_PUBLISHES, "more was stored than the disk can hold"
        assert call.code == "store_full", call
        assert stored > 50, "the disk was full from the start"

        # Half is collected while it is full: leases, nacks, releases and acks find room.
        leases = await acme.receive("acme", max=stored // 2)
        assert leases
        for number, lease in enumerate(leases):
            action = ("nack", "release", "ack", "ack")[number % 4]
            settled = await acme.settle(lease.lease, action)  # type: ignore[arg-type]
            assert settled.outcome == "ok", (number, settled, usage(disk))
        assert (await publish()).code == "store_full"
        assert server.running

        ballast.unlink()
        async with asyncio.timeout(RECOVERY_SECONDS):
            while (again := await publish()).outcome != "ok":
                assert again.code == "store_full", again
        assert (await publish()).outcome == "ok"

        await house.drain()
        await house.read_everything()
        await house.audit_log()
        house.assert_sound("I1", "I2", "I4", "I9", "I13", "I14", "I15", "I18")


def usage(disk: Path) -> dict[str, int]:
    """Bytes by file, and what is free."""
    files = {path.name: path.stat().st_size for path in disk.iterdir()}
    return files | {"free": shutil.disk_usage(disk).free}
