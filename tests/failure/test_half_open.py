"""A line that goes dead without a word: the service notices, and the queue goes on with who is there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.failure.house import House
from tests.failure.server import PROJECT, Server, require, serving

Run = Callable[[Coroutine[Any, Any, None]], None]

NAMESPACE = "restante-far"
# The two ends of a line of this test's own, between this machine and a namespace on it.
NEAR, FAR = "10.231.77.1", "10.231.77.2"
NOTICED_SECONDS = 45.0

CLIENT = """
import asyncio, sys, httpx, websockets

async def main(url, key):
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        websockets.connect(
            url.replace("http", "ws") + "/v1/queues/acme/socket",
            subprotocols=["restante.v1"], additional_headers=headers, ping_interval=None,
        ) as socket,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=None) as http,
        http.stream("GET", "/v1/queues/acme/events?credit=1") as events,
    ):
        await socket.send('{"type": "credit", "messages": 1}')
        lines = events.aiter_lines()
        async for line in lines:
            if "attached" in line:
                break
        print("attached", flush=True)
        await socket.recv()
        async for line in lines:
            if "notification" in line:
                break
        print("leased", flush=True)
        await asyncio.get_running_loop().create_future()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def line() -> Iterator[Callable[[], None]]:
    """A namespace with a line to it; what it gives cuts the line, so that nothing passes and nobody is told."""
    ip, nft = require("ip", "iproute2"), require("nft", "nftables")
    assert os.geteuid() == 0, "making a network namespace needs root"

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, text=True)

    inside = (ip, "netns", "exec", NAMESPACE)
    run(ip, "netns", "add", NAMESPACE)
    try:
        run(
            ip,
            "link",
            "add",
            "rstnear",
            "type",
            "veth",
            "peer",
            "name",
            "rstfar",
            "netns",
            NAMESPACE,
        )
        run(ip, "addr", "add", f"{NEAR}/30", "dev", "rstnear")
        run(ip, "link", "set", "rstnear", "up")
        run(*inside, ip, "addr", "add", f"{FAR}/30", "dev", "rstfar")
        run(*inside, ip, "link", "set", "rstfar", "up")

        def cut() -> None:
            for way in ("input", "output"):
                hook = f"type filter hook {way} priority 0; policy drop;"
                run(*inside, nft, "add", "table", "inet", "cut")
                run(*inside, nft, f"add chain inet cut {way} {{ {hook} }}")

        yield cut
    finally:
        run(ip, "netns", "del", NAMESPACE)


@pytest.mark.timeout(180)
def test_a_dead_line_is_noticed(house: House, run: Run, line: Callable[[], None]) -> None:
    run(dead_line(house, line))


async def dead_line(house: House, cut: Callable[[], None]) -> None:
    # On both: the far client comes by the line, the others by the loopback.
    arguments = ("--listen", "0.0.0.0:0", "--log-level", "debug")
    async with serving(house.data, arguments=arguments) as server:
        await house.furnish(server, ["acme"], lease_seconds=5, max_attempts=50)
        shop, successor = house.caller("shop"), house.caller("acme")
        async with (
            far_client(server, house.key_of("acme")) as says,
            following(server.log) as logged,
        ):
            assert await says() == "attached"
            await shop.publish(house.body(), queue="acme")
            await shop.publish(house.body(), queue="acme")
            assert await says() == "leased"
            cut()
            async with asyncio.timeout(NOTICED_SECONDS):
                # The line of the log is the signal: both connections are given up.
                for _ in range(2):
                    await logged("connection.closed")
            # From here on nothing is handed to the dead; what was comes with the end of its lease.
            await shop.publish(house.body(), queue="acme")
            await house.drain()
            leases = await successor.receive("acme")
            assert leases == []
        await house.read_everything()
    house.assert_sound("I1", "I2", "I4", "I14", "I15")


@contextlib.asynccontextmanager
async def far_client(
    server: Server, key: str
) -> AsyncIterator[Callable[[], Coroutine[Any, Any, str]]]:
    """A client at the far end of the line; what it gives reads the next word it says."""
    process = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", NAMESPACE, sys.executable, "-c", CLIENT),
        *(f"http://{NEAR}:{server.port}", key),
        stdout=subprocess.PIPE,
        cwd=PROJECT,
    )
    assert process.stdout is not None
    stdout = process.stdout

    async def says() -> str:
        return (await asyncio.wait_for(stdout.readline(), 30)).decode().strip()

    try:
        yield says
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def following(path: Path) -> AsyncIterator[Callable[[str], Coroutine[Any, Any, None]]]:
    """A log as it is written; what it gives waits for the next line with a text in it."""
    process = await asyncio.create_subprocess_exec(
        "tail", "--lines=0", "--follow", str(path), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    stdout = process.stdout

    async def line(text: str) -> None:
        while text.encode() not in await stdout.readline():
            pass

    try:
        yield line
    finally:
        process.kill()
        await process.wait()
