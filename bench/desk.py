"""Measure what the people who run it wait for: the pages over a large store, news on them, and a bulk redrive.

    .venv/bin/python bench/desk.py --queues 10000 --receipts 10000000
    .venv/bin/python bench/desk.py --only redrive --letters 100000

The store is made first: queues with something waiting or dead in every fourth, a ledger of so many receipts, and
charts of a week. Receipts are made once for one queue, by the service, and copied to the others in the file, digests
and all: reading them is the same, verifying them is not. Times are of a client on this machine, which shares it with
the server.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Final

import apsw
import httpx
import msgspec

from restante.app import open_broker
from restante.bench.processes import raise_file_limit
from restante.bench.server import Keys, RestanteServer
from restante.changes import AddClient, PutQueue
from restante.cli.logs import configure
from restante.engine.history import Period
from restante.engine.settling import Settle
from restante.metering import Tally
from restante.model import Actor, Client, Delivery, Publication, Queue, Role, Verb
from restante.papers import Kind
from restante.watching import Span

ADMIN: Final = Actor("bench", Role.ADMIN, "")
BODY: Final = b"<?xml version='1.0'?><order><id>4711</id></order>"
BATCH: Final = 500
TEMPLATE: Final = "queue-00000"
_READY: Final = re.compile(r"<dt>Ready</dt><dd>(\d+)</dd>")
_PORTS: Final = re.compile(r"Health is at (\S+)/healthz")


# -- the store ----------------------------------------------------------------------------------


async def furnish(url: str, queues: int, each: int) -> None:
    """Queues and clients, and one queue's share of the receipts: half published, half acked."""
    async with open_broker(url) as broker:
        for names in batched([f"queue-{number:05}" for number in range(queues)], BATCH):
            changes = [(AddClient(Client(name)), PutQueue(Queue(name, name))) for name in names]
            await broker.store.configure([one for pair in changes for one in pair])
        session = await broker.session(TEMPLATE, ADMIN)
        left = each // 2
        while left > 0:
            count = min(BATCH, left)
            letter = Publication(body=BODY, queue=TEMPLATE, content_type="application/xml")
            await broker.publish_batch([letter] * count, ADMIN)
            taken: list[Delivery] = []
            while len(taken) < count:
                taken += await session.receive(max=100)
            await settle(session, taken, Verb.ACK)
            left -= count


async def settle(session: object, taken: Sequence[object], verb: Verb, reason: str = "") -> None:
    """Settle all of these alike."""
    items = [
        Settle(lease=session.token(one), verb=verb, reason=reason)  # type: ignore[attr-defined]
        for one in taken
    ]
    await (await session.settle(items)).results()  # type: ignore[attr-defined]


def multiply(file: Path) -> int:
    """Give every queue a copy of the template's ledger; the number of receipts there are then."""
    connection = apsw.Connection(str(file))
    connection.pragma("synchronous", 0)
    connection.pragma("cache_size", -1_000_000)
    run = connection.execute
    ((template, each, last),) = run(
        "SELECT q.id, t.receipts, t.last FROM queues q JOIN tallies t ON t.queue = q.id WHERE q.name = ?",
        (TEMPLATE,),
    )
    ((offset,),) = run("SELECT min(r) - 1 FROM receipts WHERE queue = ?", (template,))
    expect(last == offset + each, "nobody else has written")
    with connection:
        run(
            "CREATE TEMP TABLE others AS SELECT id FROM queues WHERE id <> ? ORDER BY id",
            (template,),
        )
        run("DROP INDEX receipts_by_notification")
        run(
            "INSERT INTO receipts SELECT r + o.rowid * ?, o.id, number,"
            " CASE previous WHEN 0 THEN 0 ELSE previous + o.rowid * ? END,"
            " notification, seq, outcome, fence, at, entry, digest"
            " FROM others o CROSS JOIN receipts WHERE queue = ? ORDER BY o.rowid, r",
            (each, each, template),
        )
        run(
            "INSERT INTO shelves SELECT o.id, number, r + o.rowid * ? FROM others o CROSS JOIN shelves s"
            " WHERE s.queue = ?",
            (each, template),
        )
        run(
            "INSERT OR REPLACE INTO tallies SELECT o.id, seq, receipts, last + o.rowid * ?, chain, scheduled, ready,"
            " held, leased, dead, acked, superseded, expired, discarded"
            " FROM others o CROSS JOIN tallies t WHERE t.queue = ?",
            (each, template),
        )
        run("CREATE INDEX receipts_by_notification ON receipts (notification, queue)")
        names = [name for (name,) in run("SELECT name FROM queues")]
        connection.executemany(
            "INSERT OR REPLACE INTO papers VALUES (?, ?, 1, ?, ?)", charts(names)
        )
    ((count,),) = run("SELECT count(*) FROM receipts")
    run("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return int(count)


def charts(names: Sequence[str]) -> Iterator[tuple[str, str, bytes, int]]:
    """A paper for each point of each chart of each queue, and of all together."""
    now = int(time.time())
    tally = Tally(
        published=40, delivered=41, acked=39, redelivered=1, nacked=1, reasons={"HTTP 500": 1}
    )
    tally.count_ack(250)
    encode = msgspec.json.Encoder().encode
    for span in Span:
        step = span.step_seconds
        last = now - now % step
        for back in range(span.seconds // step):
            begin = last - back * step
            period = Period(tally=tally, at_ms=begin * 1_000, depth=back % 17)
            content, expires = encode(period), (begin + span.seconds + 2 * step) * 1_000
            for name in ("", *names):
                key = f"{name}/{step}/{begin:012d}/bench"
                yield Kind.HISTORY.value, key, content, expires


async def liven(url: str, queues: int) -> None:
    """Something waiting in every fourth queue, and a dead letter in every eighth."""
    async with open_broker(url) as broker:
        names = [f"queue-{number:05}" for number in range(0, queues, 4)]
        for some in batched(names, BATCH):
            letters = [
                Publication(body=BODY, queue=name, content_type="application/xml") for name in some
            ]
            await broker.publish_batch(letters, ADMIN)
        for name in names[::2]:
            session = await broker.session(name, ADMIN)
            await settle(session, await session.receive(), Verb.REJECT, "no such article")


def batched(all_of_them: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for begin in range(0, len(all_of_them), size):
        yield all_of_them[begin : begin + size]


# -- a visitor ----------------------------------------------------------------------------------


class Visitor:
    """An administrator's browser, as far as the server sees it."""

    def __init__(self, page: str, key: str) -> None:
        self._key = key
        self._http = httpx.AsyncClient(base_url=page, timeout=120)
        self._cookie = ""

    async def sign_in(self) -> None:
        headers = {"sec-fetch-site": "same-origin"}
        answer = await self._http.post("/sign-in", data={"password": self._key}, headers=headers)
        self._cookie = answer.headers["set-cookie"].partition(";")[0]

    async def see(self, path: str) -> float:
        """Milliseconds until the page was there."""
        began = time.perf_counter()
        answer = await self._http.get(path, headers={"cookie": self._cookie})
        took = 1e3 * (time.perf_counter() - began)
        expect(answer.status_code == 200, (path, answer.status_code, answer.text[:200]))
        return took

    async def text(self, path: str) -> str:
        return (await self._http.get(path, headers={"cookie": self._cookie})).text

    async def news(self) -> AsyncGenerator[None]:
        """Each time that the page is told that there is something new."""
        headers = {"cookie": self._cookie}
        async with self._http.stream("GET", "/live", headers=headers) as answer:
            async for line in answer.aiter_lines():
                if line == "event: changed":
                    yield

    async def close(self) -> None:
        await self._http.aclose()


def expect(true: bool, otherwise: object) -> None:
    """What a measurement cannot go on without."""
    if not true:
        raise SystemExit(f"bench: {otherwise}")


def told(times: Sequence[float], unit: str = "ms") -> str:
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return f"p50 {statistics.median(ordered):.2f} {unit}, p99 {p99:.2f} {unit}, most {ordered[-1]:.2f} {unit}"


async def pages(visitor: Visitor, api: httpx.AsyncClient, rounds: int) -> None:
    """Each page: the first time, and then again and again, with small requests beside it."""
    paths = (
        *("/", "/?sort=depth", "/?q=queue-09", "/overview/now", "/overview/queues"),
        *("/queues/queue-00004", "/queues/queue-00004?span=7d", "/receipts?name=queue-00007"),
        *("/receipts?name=queue-00007&outcome=acked", "/dead-letters", "/alerts"),
    )
    for path in paths:
        first = await visitor.see(path)
        stop = asyncio.Event()
        stalls = asyncio.create_task(probe(api, stop))
        again = [await visitor.see(path) for _ in range(rounds)]
        stop.set()
        print(
            f"page {path}: first {first:.1f} ms; {told(again)}; others meanwhile {told(await stalls)}",
            flush=True,
        )
    for path in ("/v1/overview", "/v1/queues/queue-00004/view", "/v1/queues/queue-00004"):
        took = []
        for _ in range(rounds):
            began = time.perf_counter()
            expect((await api.get(path)).status_code == 200, path)
            took.append(1e3 * (time.perf_counter() - began))
        print(f"call {path}: {told(took)}", flush=True)


async def probe(api: httpx.AsyncClient, stop: asyncio.Event) -> list[float]:
    """How long a request takes that asks for nothing, again and again: what holds the loop shows in it."""
    took = []
    while not stop.is_set():
        began = time.perf_counter()
        await api.get("/openapi.yaml", headers={"range": "bytes=0-0"})
        took.append(1e3 * (time.perf_counter() - began))
    return took


async def others(
    api: httpx.AsyncClient, stop: asyncio.Event, queue: str = "queue-00001"
) -> list[float]:
    """Milliseconds for each lifecycle of somebody else: published, received, acked."""
    took = []
    while not stop.is_set():
        began = time.perf_counter()
        path = f"/v1/queues/{queue}"
        answer = await api.post(
            f"{path}/notifications", content=BODY, headers={"content-type": "application/xml"}
        )
        expect(answer.status_code == 201, answer.text)
        answer = await api.post(f"{path}/receive", json={"wait": 5, "max": 1})
        for one in answer.json()["notifications"]:
            expect(
                (await api.post(f"/v1/leases/{one['lease']}/ack")).status_code == 200,
                "not as it should be",
            )
        took.append(1e3 * (time.perf_counter() - began))
    return took


async def live(visitor: Visitor, api: httpx.AsyncClient, rounds: int) -> None:
    """From a publish until a page that was told to look anew shows it."""
    news, took, path = visitor.news(), [], "/queues/queue-00002"
    for number in range(1, rounds + 1):
        # At another time of the server's second each.
        await asyncio.sleep(2 + 0.07 * number)
        began = time.perf_counter()
        answer = await api.post(f"/v1{path}/notifications", content=BODY)
        expect(answer.status_code == 201, answer.text)
        shown = 0
        while shown != number:
            await anext(news)
            shown = int(_READY.findall(await visitor.text(f"{path}/now"))[0])
        took.append(time.perf_counter() - began)
    print(f"live: {told(took, 's')}", flush=True)
    await news.aclose()


async def redrive(api: httpx.AsyncClient, letters: int, seconds: float) -> None:
    """Bury so many in one queue, redrive them by one job, and see what others notice."""
    queue = "/v1/queues/queue-00003"
    item = {"queue": "queue-00003", "body": BODY.decode(), "content_type": "application/xml"}
    for _ in range(letters // 1_000):
        answer = await api.post("/v1/notifications", json={"notifications": [item] * 1_000})
        expect(answer.status_code == 200, answer.text)
        buried = 0
        while buried < 1_000:
            taken = (await api.post(f"{queue}/receive", json={"max": 100, "wait": 0})).json()
            settles = [
                {"lease": one["lease"], "outcome": "reject", "reason": "HTTP 500"}
                for one in taken["notifications"]
            ]
            expect(
                (await api.post(f"{queue}/settle", json={"settle": settles})).status_code == 200,
                "not as it should be",
            )
            buried += len(settles)
    before = await during(api, seconds)
    began = time.perf_counter()
    stop = asyncio.Event()
    beside = asyncio.create_task(others(api, stop))
    answer = await api.post(
        "/v1/jobs", json={"task": "redrive", "queues": ["queue-00003"], "all": True}
    )
    expect(answer.status_code == 202, answer.text)
    job = answer.json()
    while job["state"] == "running":
        await asyncio.sleep(0.2)
        job = (await api.get(f"/v1/jobs/{job['id']}")).json()
    took = time.perf_counter() - began
    stop.set()
    meanwhile = await beside
    print(f"redrive: {job['done']:,} in {took:.1f} s ({job['state']})", flush=True)
    print(f"others before: {told(before)}; meanwhile: {told(meanwhile)}", flush=True)


async def during(api: httpx.AsyncClient, seconds: float) -> list[float]:
    stop = asyncio.Event()
    work = asyncio.create_task(others(api, stop))
    await asyncio.sleep(seconds)
    stop.set()
    return await work


async def measure(server: RestanteServer, options: argparse.Namespace) -> None:
    page = _PORTS.findall((server.data.parent / "server.log").read_text())[-1]
    target = server.target
    headers = {"authorization": f"Bearer {target.admin_key}"}
    visitor = Visitor(page, target.admin_key)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{target.port}", headers=headers, timeout=120
    ) as api:
        await visitor.sign_in()
        if "pages" in options.only:
            await asyncio.sleep(options.settle)
            await pages(visitor, api, options.rounds)
        if "live" in options.only:
            await live(visitor, api, options.rounds // 2)
        if "redrive" in options.only:
            await redrive(api, options.letters, options.seconds)
    await visitor.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queues", type=int, default=10_000)
    parser.add_argument("--receipts", type=int, default=10_000_000)
    parser.add_argument("--letters", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument(
        "--seconds", type=float, default=15, help="what others do before the redrive"
    )
    parser.add_argument(
        "--settle", type=float, default=15, help="until the server has seen all queues"
    )
    parser.add_argument("--only", nargs="+", default=["pages", "live", "redrive"])
    parser.add_argument("--folder", type=Path, help="keep the store there, and use it again")
    options = parser.parse_args()
    raise_file_limit()
    configure("error", "console")
    with tempfile.TemporaryDirectory(prefix="restante-bench-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{folder / 'data'}"
        file = folder / "data" / "restante.db"
        if not file.exists():
            began = time.perf_counter()
            asyncio.run(furnish(url, options.queues, options.receipts // options.queues))
            count = multiply(file)
            asyncio.run(liven(url, options.queues))
            size = file.stat().st_size / 2**30
            took = time.perf_counter() - began
            print(
                f"store: {options.queues:,} queues, {count:,} receipts, {size:.1f} GiB, made in {took:.0f} s",
                flush=True,
            )
        command = (sys.executable, "-m", "restante", "serve")
        keys = Keys()
        # Nothing is done here by a client, and a store that is used again has one.
        keys.client = "none"
        server = RestanteServer(command, folder, keys=keys)
        started = server.start()
        print(f"start to ready: {started:.2f} s", flush=True)
        try:
            asyncio.run(measure(server, options))
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
