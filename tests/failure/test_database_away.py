"""A server whose PostgreSQL goes away, or is full, while it runs: what it answers meanwhile, and afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.e2e.conftest import Mailbox, Service

from restante.testing.servers.postgresql import USER, PostgresqlServer

SECONDS = 30.0
DISK_BYTES = 48 * 1024 * 1024
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def database() -> Iterator[PostgresqlServer]:
    with PostgresqlServer() as server:
        yield server


@contextlib.contextmanager
def serving(folder: Path, url: str) -> Iterator[Mailbox]:
    service = Service(folder / "data", "--store", url)
    service.start()
    box = Mailbox(service)
    yield box
    box.close()
    assert service.end(signal.SIGTERM) == 0, service.log()
    assert "Traceback" not in service.log()


def status(box: Mailbox, path: str) -> int:
    return httpx.get(f"{box.service.admin_url}{path}").status_code


def becomes(box: Mailbox, ready: int) -> None:
    deadline = time.monotonic() + SECONDS
    while status(box, "/readyz") != ready:
        assert time.monotonic() < deadline


def test_a_database_that_goes_away_is_waited_for(
    tmp_path: Path, database: PostgresqlServer
) -> None:
    with serving(tmp_path, database.create_database()) as box:
        assert box.publish().status_code == 201
        database.kill()
        for _ in range(3):
            answer = box.publish()
            assert answer.status_code == 503
            assert answer.json()["code"] in {"store_unavailable", "outcome_unknown"}
            assert float(answer.headers["retry-after"]) > 0
        becomes(box, 503)
        assert status(box, "/healthz") == 200
        database.start()
        becomes(box, 200)
        assert box.publish().status_code == 201
        assert [one["seq"] for one in box.receive(wait=5)][:1] == [1]


def becomes_published(box: Mailbox, count: int) -> None:
    deadline = time.monotonic() + SECONDS
    while box.figures()["ready"] != count:
        assert time.monotonic() < deadline


async def test_what_is_published_and_waited_for_is_told_as_published(
    tmp_path: Path, database: PostgresqlServer
) -> None:
    """Whose time is up meanwhile is told that it is pending; whoever has more waits on, and is told of the end."""
    with serving(tmp_path, database.create_database()) as box:
        async with box.service.async_caller(box.publisher_key) as caller:
            path = f"/v1/queues/{box.name}/notifications"
            short, long = [
                asyncio.create_task(
                    caller.post(path, content=b"<a/>", headers={"prefer": f"wait={wait}"})
                )
                for wait in (5, 60)
            ]
            # A place to wait is taken before it is published.
            await asyncio.to_thread(becomes_published, box, 2)
            database.kill()
            answer = await short
            assert (answer.status_code, answer.json()["result"]) == (202, "pending"), answer.text
            database.start()
            await asyncio.to_thread(becomes, box, 200)
            for lease in await asyncio.to_thread(box.receive, max=2, wait=20):
                assert box.settle(lease["lease"], "ack").status_code == 200
            assert ((await long).status_code, (await long).json()["result"]) == (200, "met")
            found = await caller.get(answer.headers["location"])
            assert found.json()["result"] == "met"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of DISK_BYTES, which PostgreSQL may write to. Needs root, and fails without it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    for above in (tmp_path, *tmp_path.parents):
        if not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o011)
    options = f"size={DISK_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    shutil.chown(folder, USER)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_database_that_is_full_refuses_what_is_new_and_serves_what_is_there(
    tmp_path: Path, small_disk: Path, database: PostgresqlServer
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES // 4))
    database.query(f"CREATE TABLESPACE small LOCATION '{small_disk}'", database="postgres")
    database.query("CREATE DATABASE full_soon TABLESPACE small", database="postgres")
    with serving(tmp_path, database.url("full_soon")) as box:
        taken = 0
        while (answer := box.publish(os.urandom(1_000_000))).status_code == 201:
            taken += 1
            assert taken < DISK_BYTES // 1_000_000
        assert (answer.status_code, answer.json()["code"]) == (507, "store_full")
        assert taken > 0
        ballast.unlink()
        assert box.publish().status_code == 201
        (first,) = box.receive(max=1)
        assert box.settle(first["lease"], "ack").status_code == 200
    # Before its disk is.
    database.stop()
