"""A copy that is killed, wherever that is, goes on with the same command; half a copy is never served."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.failure.server import DidNotStart, require, serving

from restante.changes import AddClient, PutQueue
from restante.clock import SystemClock
from restante.model import Actor, Client, Draft, LeaseRequest, Queue, Role, Settlement, Verb
from restante.ports import Store
from restante.queries import FiguresOf, Receipts
from restante.stores.postgresql import PostgresqlStore
from restante.stores.sqlite import SqliteStore
from restante.testing.servers.postgresql import PostgresqlServer

Run = Callable[[Coroutine[Any, Any, None]], None]
NOTIFICATIONS = 6_000
KILLS = 3
SHOP = Actor("shop", Role.PUBLISHER)
QUEUES = ("acme", "globex", "initech")


@pytest.mark.timeout(120)
def test_a_copy_killed_while_it_writes_its_file(run: Run, tmp_path: Path) -> None:
    async def killing() -> None:
        await furnish(tmp_path / "old")
        new = tmp_path / "new"
        # The first commits make the file's tables; each later run finds them there.
        for when in (14, 6, 5):
            kill_at(f"sqlite:///{new}", tmp_path, "fdatasync", when)
            with pytest.raises(DidNotStart) as refused:
                async with serving(new):
                    pass
            assert refused.value.code == 5
        finish(f"sqlite:///{new}", tmp_path)
        async with (
            SqliteStore(tmp_path / "old", SystemClock()) as old,
            SqliteStore(new, SystemClock()) as copied,
        ):
            await compare(old, copied)

    run(killing())


@pytest.mark.timeout(120)
def test_a_copy_killed_while_it_sends_to_a_database(run: Run, tmp_path: Path) -> None:
    async def killing() -> None:
        await furnish(tmp_path / "old")
        chance = random.Random(6)
        with PostgresqlServer() as server:
            url = server.create_database()
            for _ in range(KILLS):
                kill_at(url, tmp_path, "sendto", chance.randrange(30, 70))
            finish(url, tmp_path)
            async with (
                SqliteStore(tmp_path / "old", SystemClock()) as old,
                PostgresqlStore(url) as copied,
            ):
                await compare(old, copied)

    run(killing())


async def furnish(folder: Path) -> None:
    """A store with thousands of notifications, some of them collected and signed for."""
    async with SqliteStore(folder, SystemClock()) as store:
        await store.configure(
            [AddClient(Client("acme")), *(PutQueue(Queue(name, "acme")) for name in QUEUES)]
        )
        for start in range(0, NOTIFICATIONS, 500):
            drafts = []
            for number in range(start, start + 500):
                body = b"<notification number='%d'/>" % number
                drafts.append(
                    Draft(
                        id=f"n-{number}",
                        queues=QUEUES[: 1 + number % 3],
                        body=body,
                        body_sha256=hashlib.sha256(body).digest(),
                        content_type="application/xml",
                        actor=SHOP,
                    )
                )
            await store.append(drafts)
            request = LeaseRequest(queue="acme", max=300, lease_seconds=3_600, actor=SHOP)
            leased = await store.lease(request)
            await store.settle(
                [
                    Settlement(ref=delivery.ref, verb=Verb.ACK, actor=SHOP)
                    for delivery in leased.deliveries[:250]
                ]
            )


def kill_at(target: str, folder: Path, call: str, when: int) -> None:
    """Copy the store, and be killed at that one of the calls of the copying thread."""
    strace = [require("strace", "strace"), "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    done = copying(target, folder, *strace, "-e", f"inject={call}:signal=KILL:when={when}")
    assert done.returncode == -signal.SIGKILL, f"{when}: {done.returncode} {done.stderr.decode()}"


def finish(target: str, folder: Path) -> None:
    done = copying(target, folder)
    assert done.returncode == 0, done.stderr.decode()
    assert b"copied and verified" in done.stdout


def copying(target: str, folder: Path, *wrapper: str) -> subprocess.CompletedProcess[bytes]:
    command = ("-m", "restante", "copy", "--from", f"sqlite:///{folder / 'old'}", "--to", target)
    return subprocess.run(
        [*wrapper, sys.executable, *command], capture_output=True, check=False, timeout=60
    )


async def compare(old: Store, new: Store) -> None:
    """Figures and ledgers, from end to end."""
    for queue in QUEUES:
        for store_answers in (figures, ledger):
            assert await store_answers(old, queue) == await store_answers(new, queue)


async def figures(store: Store, queue: str) -> Any:
    found = await store.browse(FiguresOf(queue))
    assert found is not None
    return found.published, found.ready, found.leased, found.acked


async def ledger(store: Store, queue: str) -> list[Any]:
    found: list[Any] = []
    after: int | None = 0
    while after is not None:
        page = await store.browse(Receipts(queue, after=after, limit=1_000))
        found += page.receipts
        after = page.next
    return found
