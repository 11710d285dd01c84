"""Measure many who publish and wait for the signature: their memory, how soon all are answered, and a round trip.

    .venv/bin/python bench/waiters.py --count 10000 --round-trip 2000

One server on a SQLite file, in a process of its own, and this one for the load. Each who waits has a connection of its
own. Once all wait a client attaches by WebSocket and signs all of it, as it comes; it is timed from then on. A round
trip is one publish-and-wait at a time, with an idle WebSocket that signs at once, and nobody else there. Prints rows of
tables, as they stand in docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import uvloop

from restante.bench.http import HttpConnection, request_bytes
from restante.bench.lanes import LoadFailed
from restante.bench.processes import raise_file_limit, rss_bytes
from restante.bench.restante_wire import find_leases, xml_body
from restante.bench.server import RestanteServer
from restante.bench.specs import Target
from restante.bench.stats import percentile
from restante.bench.ways.websocket import SocketConnection

BODY: Final = xml_body(1_024)
AT_ONCE: Final = 100
"""So many connections are opened at a time: no more than a listener has waiting."""
WARMING_UP: Final = 100
"""So many round trips come first and are not counted."""
WAIT_SECONDS: Final = 60
WAITERS_MAXIMUM: Final = 10_000
"""So many of one publisher may wait on a node."""
MIB: Final = 1_048_576
_ADMIN: Final = re.compile(r"Health is at (\S+)/healthz")
_WAITERS: Final = re.compile(r"^restante_waiters (\S+)$", re.MULTILINE)


def request_of(target: Target) -> bytes:
    """A publish to the client's queue that waits for its signature."""
    path = f"/v1/queues/{target.client}/notifications"
    headers = {"Prefer": f"wait={WAIT_SECONDS}"}
    return request_bytes(
        *("POST", path),
        key=target.publisher_key,
        body=BODY,
        content_type="application/xml",
        headers=headers,
    )


class Answers:
    """What those who wait are told, and when the last that is expected was told it."""

    def __init__(self) -> None:
        self._left = 0
        self._done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def expect(self, count: int) -> asyncio.Future[float]:
        """From now on so many answers, each of which says that all have signed; ``LoadFailed`` for any other."""
        self._left = count
        self._done = asyncio.get_running_loop().create_future()
        return self._done

    def take(self, status: int, body: bytes) -> None:
        if status != 200 or b'"result":"met"' not in body:
            self.fail(f"a wait was answered {status} {body[:300]!r}")
            return
        self._left -= 1
        if not self._left and not self._done.done():
            self._done.set_result(time.perf_counter())

    def fail(self, reason: str) -> None:
        if not self._done.done():
            self._done.set_exception(LoadFailed(reason))


async def consumer(
    target: Target, credit: int, on_error: Callable[[str], None]
) -> SocketConnection:
    """A client on a WebSocket that signs whatever it is sent, each frame of it by one frame."""
    path = f"/v1/queues/{target.client}/socket"
    connection = await SocketConnection.open(
        target, path, target.client_key, "restante.v1", on_error
    )

    def received(message: bytes) -> None:
        if message.startswith(b'{"type":"notifications"'):
            items = b",".join(b'{"lease":"%b"}' % lease for lease in find_leases(message))
            connection.send(connection.message(b'{"type":"ack","items":[%b]}' % items))
        elif not message.startswith(b'{"type":"settled"') or b'"ok":false' in message:
            on_error(f"a client was told {message[:300]!r}")

    connection.on_message = received
    connection.send(connection.message(b'{"type":"credit","messages":%d}' % credit))
    return connection


async def round_trips(target: Target, count: int) -> None:
    """Publish and wait, one at a time."""
    times: list[float] = []
    answers = Answers()
    publisher = await HttpConnection.open(target.port, answers.take, answers.fail)
    client = await consumer(target, 1, answers.fail)
    request = request_of(target)
    for number in range(WARMING_UP + count):
        done = answers.expect(1)
        begun = time.perf_counter()
        publisher.send(request)
        took = await done - begun
        if number >= WARMING_UP:
            times.append(took * 1_000)
    publisher.close()
    client.close()
    print("| publish-and-wait, one at a time | p50 | p99 | most |")
    print("|---|---:|---:|---:|")
    p50, p99, most = (percentile(times, percent) for percent in (50, 99, 100))
    print(f"| {count:,} | {p50:.2f} ms | {p99:.2f} ms | {most:.2f} ms |")


async def crowd(target: Target, admin: str, count: int) -> None:
    """So many wait at once, and are all signed for."""
    pids = target.pids
    before = rss_bytes(pids)
    answers = Answers()
    done = answers.expect(count)
    waiters: list[HttpConnection] = []
    while len(waiters) < count:
        opening = [
            HttpConnection.open(target.port, answers.take, answers.fail)
            for _ in range(min(AT_ONCE, count - len(waiters)))
        ]
        waiters += await asyncio.gather(*opening)
    request = request_of(target)
    begun = time.perf_counter()
    for waiter in waiters:
        waiter.send(request)
    await until_waited_for(admin, count, done)
    all_wait = time.perf_counter()
    waiting = rss_bytes(pids)
    client = await consumer(target, WAITERS_MAXIMUM, answers.fail)
    signing = time.perf_counter()
    last = await done
    client.close()
    for waiter in waiters:
        waiter.close()
    print(
        "| who wait | all published in | all answered in | memory before | with them | for each |"
    )
    print("|---:|---:|---:|---:|---:|---:|")
    print(
        f"| {count:,} | {all_wait - begun:.2f} s | {last - signing:.2f} s"
        f" | {before / MIB:.0f} MiB | {waiting / MIB:.0f} MiB | {(waiting - before) / count / 1_024:.1f} KiB |"
    )


async def until_waited_for(admin: str, count: int, done: asyncio.Future[float]) -> None:
    """By the server's own figures. ``LoadFailed`` where a wait was answered meanwhile, or a connection lost."""
    async with httpx.AsyncClient(base_url=admin, timeout=WAIT_SECONDS) as http:
        found = 0.0
        while found < count:
            if done.done():
                await done
            (text,) = _WAITERS.findall((await http.get("/metrics")).text)
            found = float(text)
            await asyncio.sleep(0.05)


async def measure(target: Target, admin: str, count: int, round_trip: int) -> None:
    if round_trip:
        await round_trips(target, round_trip)
    await crowd(target, admin, count)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=WAITERS_MAXIMUM, help="who wait at once")
    parser.add_argument("--round-trip", type=int, default=0, help="so many, one at a time, first")
    options = parser.parse_args()
    if not 1 <= options.count <= WAITERS_MAXIMUM:
        parser.error(f"--count is 1 to {WAITERS_MAXIMUM:,}: so many of one publisher may wait")
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="restante-bench-") as folder:
        server = RestanteServer((sys.executable, "-m", "restante", "serve"), Path(folder))
        server.start()
        try:
            (admin,) = _ADMIN.findall((Path(folder) / "server.log").read_text())
            uvloop.run(measure(server.target, admin, options.count, options.round_trip))
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
