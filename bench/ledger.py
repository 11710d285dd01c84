"""The log of receipts at size: how fast it is sealed, proved and checked.

    python -m bench.ledger --receipts 10000000 --checked 1000000 FOLDER

Receipts of 64 queues are written into a new store in FOLDER past the service, then sealed by the service's own steps as
fast as they go, proved at random places, and exported and checked as ``restante ledger verify --store`` does it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from restante.changes import AddClient, PutQueue
from restante.clock import SystemClock
from restante.engine.log_export import LogExport
from restante.engine.receipt_log import ReceiptLog
from restante.log_audit import LogAuditor
from restante.model import Actor, Client, Outcome, Queue, Role, State
from restante.stores.sqlite import SqliteStore
from restante.stores.sqlite.folder import FILE_NAME
from restante.stores.sqlite.ledger import SHELF
from restante.wire import proofs
from restante.wire.checkpoints import LogKeys, SignerKey
from restante.wire.receipts import GENESIS, Subject, chain, entry_of

QUEUES = 64
BATCH = 50_000
PROOFS = 300
KEY = SignerKey("bench.example", bytes(32))


def rows(queues: dict[int, str], first: int, last: int, ends: dict[int, Any]) -> Iterator[Any]:
    actor = Actor("acme", Role.CLIENT, "k-acme-0123", "longpoll", "192.0.2.7")
    ids = list(queues)
    for r in range(first, last + 1):
        id = ids[r % len(ids)]
        number, previous, digest = ends.get(id, (0, 0, GENESIS))
        number += 1
        subject = Subject(r, f"019c{r:032d}", 1_790_000_000_000, bytes(32), 700)
        outcome = Outcome.PUBLISHED if number % 2 else Outcome.ACKED
        entry = entry_of(
            queues[id],
            number,
            subject,
            number,
            outcome,
            State.ACKED,
            actor=actor,
            at_ms=1_790_000_000_000 + r,
        )
        digest = chain(digest, entry)
        yield (
            r,
            id,
            number,
            previous,
            r,
            number,
            outcome.value,
            1,
            1_790_000_000_000 + r,
            entry,
            digest,
        )
        ends[id] = (number, r, digest)


def fill(folder: Path, count: int) -> None:
    connection = apsw.Connection(str(folder / FILE_NAME))
    connection.pragma("synchronous", 0)
    queues = dict(connection.execute("SELECT id, name FROM queues"))
    ends: dict[int, Any] = {}
    for first in range(1, count + 1, BATCH):
        with connection:
            lines = list(rows(queues, first, min(first + BATCH - 1, count), ends))
            connection.executemany(
                "INSERT INTO receipts"
                " (r, queue, number, previous, notification, seq, outcome, fence, at, entry, digest)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                lines,
            )
            connection.executemany(
                "INSERT INTO shelves VALUES (?, ?, ?)",
                [(line[1], line[2], line[0]) for line in lines if line[2] % SHELF == 0],
            )
    with connection:
        connection.executemany(
            "INSERT OR REPLACE INTO tallies VALUES (?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0)",
            [(id, number, number, last, digest) for id, (number, last, digest) in ends.items()],
        )
    connection.close()


async def made(folder: Path) -> None:
    async with SqliteStore(folder, SystemClock()) as store:
        await store.configure(
            [
                AddClient(Client("acme", 0)),
                *(PutQueue(Queue(f"queue-{number}", "acme")) for number in range(QUEUES)),
            ]
        )


async def measured(folder: Path, count: int) -> None:
    clock = SystemClock()
    async with SqliteStore(folder, clock) as store:
        log = ReceiptLog(store, clock, "bench", LogKeys((KEY,)))
        begin = time.perf_counter()
        while await log.step():
            pass
        took = time.perf_counter() - begin
        print(f"sealed {count:,} in {took:.1f} s: {count / took:,.0f} receipts/s")
        chance = random.Random(1)  # noqa: S311 (places to look at)
        times = []
        for _ in range(PROOFS):
            place = chance.randrange(count) + 1
            queue, number = f"queue-{place % QUEUES}", place // QUEUES + 1
            begin = time.perf_counter()
            proof = await log.proof(queue, number)
            times.append((time.perf_counter() - begin) * 1_000)
            proofs.check(proof, KEY.verifier.name, [KEY.verifier])
        print(
            f"a proof of {count:,}: median {statistics.median(times):.1f} ms, most {max(times):.1f} ms"
        )


async def checked(folder: Path, count: int) -> None:
    clock = SystemClock()
    async with SqliteStore(folder, clock) as store:
        begin = time.perf_counter()
        auditor = LogAuditor([KEY.verifier])
        export = LogExport(store, clock, ReceiptLog(store, clock, ""))
        cursor: str | None = ""
        while cursor is not None:
            page = await export.page(cursor)
            for line in page.lines:
                auditor.look(line)
            cursor = page.next
        verdict = auditor.verdict()
        took = time.perf_counter() - begin
        if not verdict.sound:
            raise SystemExit(str(verdict.findings[:3]))
        print(f"checked {verdict.receipts:,} of {count:,} in {took:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receipts", type=int, default=10_000_000)
    parser.add_argument("--checked", type=int, default=1_000_000)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    for name, count, work in (("small", asked.checked, checked), ("large", asked.receipts, None)):
        folder = asked.folder / name
        folder.mkdir(parents=True)
        asyncio.run(made(folder))
        fill(folder, count)
        asyncio.run(measured(folder, count))
        if work is not None:
            asyncio.run(work(folder, count))


if __name__ == "__main__":
    main()
