"""Webhooks at targets that hang, drip, stream without end and redirect inside, and a server that is killed meanwhile.

Nothing is lost, nothing inside is reached, the good one gets all of its own, and the bad ones hold no more connections
than they may.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

import pytest
from tests.e2e.hooks import Conduct, Rogue, answers, read_call, starts
from tests.failure.house import House
from tests.failure.server import Server

from restante.testing.history import Lease, Receive, Settle, digest
from restante.testing.transports.drivers.webhook import Receiver, delivered_of

Run = Callable[[Coroutine[Any, Any, None]], None]

OUTSIDE: Final = "127.0.0.2"
"""The only address that is allowed: 127.0.0.1 is inside."""
CONCURRENCY: Final = 4
TIMEOUT_SECONDS: Final = 1
LEASE_SECONDS: Final = TIMEOUT_SECONDS + 5
FINE: Final = "fine"


async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_call(reader)
    writer.write(b"HTTP/1.1 500 No\r\n\r\n")
    while True:
        writer.write(b"s" * 65_536)
        await writer.drain()


def redirect(port: int) -> Conduct:
    head = f"HTTP/1.1 307 Inside\r\nlocation: http://127.0.0.1:{port}/\r\ncontent-length: 0\r\n\r\n"
    return answers(head.encode())


class Good:
    """An endpoint that signs for everything, and writes down what it was handed and what it said."""

    def __init__(self, house: House) -> None:
        self.receiver = Receiver(OUTSIDE)
        self.seen: set[str] = set()
        self._house = house
        self._changed = asyncio.Event()

    async def run(self) -> None:
        recorder = self._house.recorder
        while True:
            call = await self.receiver.requests.get()
            one = delivered_of(call)
            lease = Lease(
                notification=one.id,
                queue=one.queue,
                seq=one.seq,
                lease=one.lease,
                attempt=one.attempt,
                body_sha256=digest(one.body),
                content_type=one.content_type,
                lease_seconds=LEASE_SECONDS,
            )
            handed = recorder.begin(Receive(queue=FINE, who=FINE, role="client", leases=[lease]))
            recorder.end(handed, "ok")
            said = recorder.begin(Settle(lease=one.lease, action="ack", who=FINE, role="client"))
            with contextlib.suppress(ConnectionError):
                await self.receiver.answer(call, 200)
            # Who is called does not learn what became of its answer.
            recorder.end(said, "unknown", "no_answer")
            self.seen.add(one.id)
            self._changed.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.seen) < count:
                self._changed.clear()
                await self._changed.wait()


@pytest.mark.timeout(180)
def test_bad_targets_and_a_killed_server(house: House, run: Run) -> None:
    run(bad_targets(house, notifications=40))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_bad_targets_and_a_killed_server_with_many(house: House, run: Run) -> None:
    run(bad_targets(house, notifications=2_000))


async def bad_targets(house: House, notifications: int) -> None:
    inside, good = Rogue(answers(b"")), Good(house)
    port = await inside.open()
    bad = {
        "hangs": Rogue(starts(b"")),
        "drips": Rogue(starts(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx")),
        "streams": Rogue(stream),
        "redirects": Rogue(redirect(port)),
    }
    url = await good.receiver.open()
    signing = asyncio.create_task(good.run())
    allow = ("--webhook-allow", f"{OUTSIDE}/32")
    server = await Server.start(house.data, arguments=allow)
    try:
        await house.furnish(
            server,
            [FINE, *bad],
            max_attempts=1_000,
            backoff_base_seconds=0.1,
            backoff_cap_seconds=1,
        )
        for name, endpoint in bad.items():
            target = f"http://{OUTSIDE}:{await endpoint.open(OUTSIDE)}/"
            await set_webhook(house, name, target)
        await set_webhook(house, FINE, url)
        refused = await house.admin.call(
            "PUT", f"/v1/queues/{FINE}/webhook", {"url": f"http://127.0.0.1:{port}/"}
        )
        assert refused.status == 422
        await publish(house, notifications // 2)
        for endpoint in bad.values():
            await endpoint.until_called()
        await good.until(notifications // 4)
        await server.kill()
        server = await Server.start(house.data, arguments=allow)
        house.use(server)
        await publish(house, notifications - notifications // 2)
        await good.until(notifications)
        for name in (FINE, *bad):
            await house.admin.must("POST", f"/v1/queues/{name}/webhook/disable")
        for endpoint in bad.values():
            assert endpoint.most_at_once <= 2 * CONCURRENCY, "before and after the kill"
        # Whoever could not be called comes and collects.
        await house.drain()
        await house.read_everything()
        assert await server.stop() == 0
    finally:
        if server.running:
            await server.kill()
        signing.cancel()
        await asyncio.gather(signing, return_exceptions=True)
        for endpoint in (inside, *bad.values()):
            await endpoint.close()
        await good.receiver.close()
    assert inside.connections == 0
    house.assert_sound("I1", "I2", "I9", "I14", "I15")


async def set_webhook(house: House, queue: str, url: str) -> None:
    asked = {"url": url, "concurrency": CONCURRENCY, "timeout_seconds": TIMEOUT_SECONDS}
    await house.admin.must("PUT", f"/v1/queues/{queue}/webhook", asked)


async def publish(house: House, count: int) -> None:
    shop = house.caller("shop")
    for queue in house.queues:
        for _ in range(count):
            published = await shop.publish(house.body(), queue=queue)
            assert published.outcome == "ok", published
