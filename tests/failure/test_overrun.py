"""Too many, too slow, too large: the service stays small, and serves the others.

Sizes are for CI; the long lane has those of docs/performance.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.failure.house import House
from tests.failure.server import Server, serving

from restante.bench.http import request_bytes
from restante.bench.specs import Target
from restante.bench.ways import WAYS, Collecting
from restante.bench.ways.websocket import frame, handshake

Run = Callable[[Coroutine[Any, Any, None]], None]

KIB, MIB = 1024, 1024 * 1024
# A wait for what the server does by itself after its own time-outs (15 s for a head, 30 s for a write).
CLOSED_SECONDS = 60.0
NEVER_READS_BYTES = 4 * MIB
"""A batch of about 1 MiB in the connection's buffer, another that waits to get there, and what makes them."""


def rss(server: Server) -> int:
    text = Path(f"/proc/{server.process.pid}/statm").read_text()
    return int(text.split()[1]) * 4096


class Ended(asyncio.Protocol):
    """A connection that sends what it is told, reads nothing it is not made to, and hears of its end."""

    def __init__(self, *, reads: bool = True) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = b""
        self._reads = reads
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if not self._reads:
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.began.done():
            self.began.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def connect(server: Server, *, reads: bool = True) -> Ended:
    _, protocol = await asyncio.get_running_loop().create_connection(
        lambda: Ended(reads=reads), "127.0.0.1", server.port
    )
    return protocol


@contextlib.asynccontextmanager
async def others(house: House, server: Server) -> AsyncIterator[None]:
    """Somebody else's notifications come and are signed for all the while."""
    shop, other = house.caller("shop"), house.caller("other", "websocket")
    done = 0

    async def live() -> None:
        nonlocal done
        while True:
            await shop.publish(house.body(), queue="other")
            for lease in await other.receive("other", wait=10):
                settled = await other.settle(lease.lease, "ack")
                assert settled.outcome == "ok", settled
                done += 1

    living = asyncio.create_task(live())
    try:
        yield
        before = done
        while done < before + 20:
            assert not living.done(), living.result()
            await asyncio.sleep(0)
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
    assert server.running
    assert "Traceback" not in server.log.read_text()


# -- 15: idle, and never reading ----------------------------------------------------------------


@pytest.mark.timeout(300)
def test_the_idle_cost_little_and_those_who_never_read_are_bounded(house: House, run: Run) -> None:
    run(idle_and_never_reading(house, idle=1_000, never=20))


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_ten_thousand_idle_and_two_hundred_that_never_read(house: House, run: Run) -> None:
    run(idle_and_never_reading(house, idle=9_000, never=200))


async def idle_and_never_reading(house: House, *, idle: int, never: int) -> None:
    async with serving(house.data, arguments=LIMITS) as server:
        await house.furnish(server, ["acme", "other"], max_in_flight=100_000)
        target = Target(
            system="restante", port=server.port, pids=[], client_key=house.key_of("acme")
        )
        before = rss(server)
        for start in range(0, idle, 100):
            await asyncio.gather(
                *(
                    WAYS["websocket" if number % 2 else "events"].connect_consumer(
                        target, "acme", Collecting()
                    )
                    for number in range(start, min(start + 100, idle))
                )
            )
        assert rss(server) - before < idle * 40 * KIB
        # Each of the idle takes one notification and no more: the rest is for those who never read.
        await house.admin.put_queue("fat", "acme", max_in_flight=100_000)
        house.queues.append("fat")
        shop = house.caller("shop")
        for _ in range(4 * never):
            await shop.publish(house.body(900 * KIB), queue="fat")
        before = rss(server)
        silent = [await _never_reading(server, house.key_of("acme"), "fat") for _ in range(never)]
        async with others(house, server):
            # They are given up once their buffers have been full for too long.
            await asyncio.wait_for(asyncio.gather(*(one.ended for one in silent)), CLOSED_SECONDS)
            assert rss(server) - before < never * NEVER_READS_BYTES
    house.assert_sound("I1", "I2", "I4", "I6", "I7")


async def _never_reading(server: Server, key: str, queue: str) -> Ended:
    """A WebSocket with all the credit there is, that answers nothing and takes nothing."""
    link = await connect(server, reads=False)
    link.transport.write(handshake(f"/v1/queues/{queue}/socket", key, "restante.v1"))
    credit = json.dumps({"type": "credit", "messages": 10_000, "bytes": 256 * MIB}).encode()
    link.transport.write(frame(1, credit))
    return link


# -- 16: slow, large and many -------------------------------------------------------------------


@pytest.mark.timeout(180)
def test_who_sends_too_slowly_is_disconnected(house: House, run: Run) -> None:
    run(slow(house, 400))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_thousand_who_send_too_slowly(house: House, run: Run) -> None:
    run(slow(house, 2_000))


async def slow(house: House, count: int) -> None:
    """Nothing at all, half a head that never ends, and a body that never comes."""
    async with serving(house.data) as server:
        await house.furnish(server, ["acme", "other"])
        head = request_bytes("POST", "/v1/queues/acme/receive", key=house.key_of("acme"), body=b"x")
        links = []
        for number in range(count):
            link = await connect(server)
            link.transport.write((b"", head[:20], head[:-20])[number % 3])
            links.append(link)
        before = rss(server)
        async with others(house, server):
            await asyncio.wait_for(asyncio.gather(*(link.ended for link in links)), CLOSED_SECONDS)
        assert rss(server) - before < 32 * MIB
        answers = {link.received.split(b"\r\n")[0] for link in links}
        assert answers == {b"HTTP/1.1 408 Request Timeout"}


@pytest.mark.timeout(120)
def test_what_is_too_large_is_refused_before_it_is_kept(house: House, run: Run) -> None:
    run(large(house))


async def large(house: House) -> None:
    async with serving(house.data) as server:
        await house.furnish(server, ["acme", "other"])
        shop, acme = house.key_of("shop"), house.key_of("acme")
        publish = f"POST /v1/queues/acme/notifications HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {shop}\r\n"
        before = rss(server)
        async with others(house, server):
            told = await _ask(server, publish + "Content-Length: 99999999999\r\n\r\n")
            assert told.startswith(b"HTTP/1.1 413 ")
            untold = await _ask(
                server, publish + "Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n" % (64 * KIB)
            )
            assert untold.startswith(b"HTTP/1.1 413 ")
            headers = "".join(f"X-{number}: {'y' * 100}\r\n" for number in range(1_000))
            assert (await _ask(server, publish + headers)).startswith(b"HTTP/1.1 431 ")
            one_header = f"X-Long: {'y' * 200_000}"
            assert (await _ask(server, publish + one_header)).startswith(b"HTTP/1.1 431 ")
            # The length is enough: nobody waits for what it announces.
            for announced in (2**62, 5 * MIB):
                head = b"\x81\xff" + announced.to_bytes(8, "big") + b"\0\0\0\0"
                assert await _closed(server, acme, head) == 1009
            # One message in pieces without end.
            piece = b"\x01\xfe\xf0\x00\0\0\0\0" + b"x" * 0xF000
            assert await _closed(server, acme, piece + (b"\x00" + piece[1:]) * 100) == 1009
        assert rss(server) - before < 64 * MIB


async def _ask(server: Server, head: str, endless: bytes = b"") -> bytes:
    """Send a head, and a body without end behind it, until the answer has come and the connection is over."""
    link = await connect(server)
    link.transport.write(head.encode())
    sent = 0
    while endless and not link.ended.done() and sent < 64 * MIB:
        link.transport.write(endless + b"z" * (64 * KIB) + b"\r\n")
        sent += 64 * KIB
        await asyncio.sleep(0)
    await asyncio.wait_for(link.ended, 30)
    return link.received


async def _closed(server: Server, key: str, frames: bytes) -> int:
    """The code with which a WebSocket is closed after such frames."""
    link = await connect(server)
    link.transport.write(handshake("/v1/queues/acme/socket", key, "restante.v1"))
    await asyncio.wait_for(link.began, 30)
    link.transport.write(frames)
    await asyncio.wait_for(link.ended, 30)
    close = link.received.partition(b"\r\n\r\n")[2]
    assert close[0] == 0x88, close
    return int.from_bytes(close[2:4], "big")


@pytest.mark.timeout(120)
def test_a_flood_of_pings_from_who_never_reads(house: House, run: Run) -> None:
    run(pings(house))


async def pings(house: House) -> None:
    async with serving(house.data) as server:
        await house.furnish(server, ["acme", "other"])
        before = rss(server)
        link = await connect(server, reads=False)
        link.transport.write(
            handshake("/v1/queues/acme/socket", house.key_of("acme"), "restante.v1")
        )
        flood = frame(9, b"x" * 125) * 500
        async with others(house, server):
            for _ in range(1_500):
                # In the end it is given up, for the pongs it never takes.
                if link.ended.done():
                    break
                link.transport.write(flood)
                await asyncio.sleep(0)
            assert rss(server) - before < 32 * MIB
        link.transport.abort()


# -- 17: all at once ----------------------------------------------------------------------------


@pytest.mark.timeout(180)
def test_everybody_comes_back_at_once(house: House, run: Run) -> None:
    run(storm(house, 1_000))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_five_thousand_come_back_at_once(house: House, run: Run) -> None:
    run(storm(house, 5_000))


class _Waiting(Collecting):
    """One of the many, who wants to hear of one notification."""

    def __init__(self) -> None:
        self.came_back: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def came(self) -> None:
        if not self.came_back.done():
            self.came_back.set_result(None)

    def failed(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    @property
    def running(self) -> bool:
        # It keeps what it gets: so each gets one.
        return not self.came_back.done()


async def storm(house: House, count: int) -> None:
    server = await Server.start(house.data, arguments=LIMITS)
    await house.furnish(server, ["acme"], max_in_flight=100_000, lease_seconds=300)
    port = server.port
    target = Target(system="restante", port=port, pids=[], client_key=house.key_of("acme"))
    ways = [WAYS[name] for name in ("websocket", "events", "longpoll")]

    async def attach(number: int, waiting: _Waiting) -> None:
        await ways[number % 3].connect_consumer(target, "acme", waiting)

    first = [_Waiting() for _ in range(count)]
    for start in range(0, count, 100):
        await asyncio.gather(*(attach(n, first[n]) for n in range(start, min(start + 100, count))))
    await server.kill()
    await asyncio.gather(*(waiting.lost for waiting in first))

    async def come_back(number: int, waiting: _Waiting) -> None:
        pause = 0.0
        while True:
            with contextlib.suppress(OSError):
                await attach(number, waiting)
                return
            # As the guides say: with a growing pause.
            pause = min(pause * 2 or 0.05, 2.0)
            await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=pause)

    again = [_Waiting() for _ in range(count)]
    began = time.monotonic()
    storming = asyncio.gather(*(come_back(number, one) for number, one in enumerate(again)))
    server = await Server.start(house.data, arguments=(*LIMITS, "--listen", f"127.0.0.1:{port}"))
    await asyncio.wait_for(storming, 30)
    took = time.monotonic() - began
    # Each of them is really there: it is handed one when there is one for each.
    house.use(server)
    shop = house.caller("shop")
    for start in range(0, count, 200):
        bodies = [house.body() for _ in range(start, min(start + 200, count))]
        await shop.publish_batch("acme", bodies)
    await asyncio.wait_for(asyncio.gather(*(one.came_back for one in again)), 60)
    print(f"\n{count} back {took:.1f} s after they began, the server's start included")
    await server.stop()
    assert "Traceback" not in server.log.read_text()


LIMITS = ("--connections-per-principal", "20000")
