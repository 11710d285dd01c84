"""Nodes that share a PostgreSQL, one of which stands still, or is cut off from the database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from tests.failure.house import House
from tests.failure.http import Connection
from tests.failure.load import Load
from tests.failure.server import Server, require

from restante.keyfiles import LEDGER_KEY_FILE
from restante.testing.servers.postgresql import PostgresqlServer

Run = Callable[[Coroutine[Any, Any, None]], None]

QUEUES = ("acme", "globex", "initech", "umbrella")
SPEAKING = ("websocket", "http", "events")
LEASE_SECONDS = 2
SEALING_SECONDS = 20.0
SETTINGS = {
    "lease_seconds": LEASE_SECONDS,
    "max_attempts": 100,
    "backoff_base_seconds": 0.1,
    "backoff_cap_seconds": 0.5,
}
JUDGED = [
    "I1",
    "I2",
    "I3",
    "I4",
    "I5",
    "I6",
    "I7",
    "I8",
    "I9",
    "I11",
    "I13",
    "I14",
    "I15",
    "I16",
    "I18",
]
NAMESPACE = "restante-node"
# The two ends of a line of this test's own, between this machine and a namespace on it.
NEAR, FAR = "10.231.78.1", "10.231.78.2"


@pytest.fixture
def postgresql() -> Iterator[PostgresqlServer]:
    with PostgresqlServer(options={"listen_addresses": "*"}) as server:
        yield server


@contextlib.asynccontextmanager
async def nodes(house: House, *starts: tuple[str, tuple[str, ...]]) -> AsyncIterator[list[Server]]:
    """A node for each URL of the store and wrapper of its command. They sign the log with one key."""
    house.ledger_key = house.data.with_name(LEDGER_KEY_FILE)
    servers: list[Server] = []
    try:
        for number, (url, wrapper) in enumerate(starts):
            servers.append(
                await Server.start(
                    house.data.with_name(f"node-{number}"),
                    wrapper=wrapper,
                    env={
                        "RESTANTE_STORE": url,
                        "RESTANTE_POLL_INTERVAL_SECONDS": "1",
                        "RESTANTE_LEDGER_KEY_FILE": str(house.ledger_key),
                    },
                    arguments=("--listen", "0.0.0.0:0", "--admin-listen", "0.0.0.0:0"),
                )
            )
        yield servers
    finally:
        for server in servers:
            if server.running:
                server.process.send_signal(signal.SIGCONT)
                await server.kill()


async def go_on(load: Load, seconds: float) -> None:
    """Let the load go on for that long: it is what happens meanwhile that is of interest."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await load.busy(answers=load.answers + 20, seconds=60)


async def seals_alone(house: House, server: Server) -> None:
    """Where the other node does nothing, this one seals what there is."""
    await house.sealed(house.caller("admin").use(server))


async def finish(house: House, load: Load, *servers: Server) -> None:
    await load.stop()
    house.use(servers[0])
    await house.drain()
    await house.read_everything()
    await house.audit_log()
    house.assert_sound(*JUDGED)
    for server in servers:
        await can_seal(server)


async def can_seal(server: Server) -> None:
    """Nothing that the other node has sealed was refused by this one, which fails at nothing in the end."""
    assert "log_damaged" not in server.log.read_text()
    connection = await Connection.open(server.admin_port)
    with contextlib.closing(connection):
        async with asyncio.timeout(SEALING_SECONDS):
            while b"restante_log_failing 0" not in await metrics(connection):
                pass


async def metrics(connection: Connection) -> bytes:
    return (await connection.call("GET", "/metrics", key="")).body


@pytest.mark.timeout(180)
def test_a_node_that_stood_still_settles_nothing_that_is_no_longer_its(
    house: House, run: Run, postgresql: PostgresqlServer
) -> None:
    run(standing_still(house, postgresql.create_database(), times=2))


async def standing_still(house: House, url: str, times: int) -> None:
    async with nodes(house, (url, ()), (url, ())) as servers:
        await house.furnish(servers[0], QUEUES, **SETTINGS)
        load = Load(house, publishers=12, consumers=24, seed=21, speaking=SPEAKING)
        load.start()
        load.up(*servers)
        for number in range(times):
            await load.busy(answers=load.answers + 300, seconds=60)
            stopped = servers[number % 2]
            stopped.process.send_signal(signal.SIGSTOP)
            await go_on(load, 2 * LEASE_SECONDS)
            await seals_alone(house, servers[1 - number % 2])
            stopped.process.send_signal(signal.SIGCONT)
        await load.busy(answers=load.answers + 300, seconds=60)
        await finish(house, load, *servers)


class Line:
    """A namespace with a line to it, on which PostgreSQL's packets can be dropped one way or both."""

    def __init__(self, port: int) -> None:
        self._ip, self._nft = require("ip", "iproute2"), require("nft", "nftables")
        self._port = port
        self.inside = (self._ip, "netns", "exec", NAMESPACE)

    def __enter__(self) -> Line:
        assert os.geteuid() == 0, "making a network namespace needs root"
        _run(self._ip, "netns", "add", NAMESPACE)
        far = ("type", "veth", "peer", "name", "rstfar2", "netns", NAMESPACE)
        _run(self._ip, "link", "add", "rstnear2", *far)
        _run(self._ip, "addr", "add", f"{NEAR}/30", "dev", "rstnear2")
        _run(self._ip, "link", "set", "rstnear2", "up")
        _run(*self.inside, self._ip, "addr", "add", f"{FAR}/30", "dev", "rstfar2")
        for device in ("rstfar2", "lo"):
            _run(*self.inside, self._ip, "link", "set", device, "up")
        return self

    def __exit__(self, *_: object) -> None:
        _run(self._ip, "netns", "del", NAMESPACE)

    def cut(self, *ways: str) -> None:
        """Drop what the node sends to the database (``output``), what it is sent (``input``), or both."""
        _run(*self.inside, self._nft, "add", "table", "inet", "cut")
        for way in ways:
            hook = f"type filter hook {way} priority 0;"
            match = f"tcp {'dport' if way == 'output' else 'sport'} {self._port} drop"
            _run(*self.inside, self._nft, f"add chain inet cut {way} {{ {hook} }}")
            _run(*self.inside, self._nft, f"add rule inet cut {way} {match}")

    def heal(self) -> None:
        _run(*self.inside, self._nft, "delete", "table", "inet", "cut")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.mark.timeout(240)
def test_a_node_cut_off_from_the_database_loses_nothing(
    house: House, run: Run, postgresql: PostgresqlServer
) -> None:
    run(cut_off(house, postgresql, [("output",), ("input",), ("input", "output")], seconds=5))


@pytest.mark.long
@pytest.mark.timeout(7_200)
def test_a_hundred_cuts_lose_nothing(house: House, run: Run, postgresql: PostgresqlServer) -> None:
    ways = [("output",), ("input",), ("input", "output"), ("output",)] * 25
    run(cut_off(house, postgresql, ways, seconds=15))


async def cut_off(
    house: House, postgresql: PostgresqlServer, cuts: list[tuple[str, ...]], seconds: float
) -> None:
    with (postgresql.data / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {FAR}/32 trust\n")
    postgresql.query("SELECT pg_reload_conf()", database="postgres")
    near = postgresql.create_database()
    far = near.replace("127.0.0.1", NEAR)
    with Line(postgresql.port) as line:
        async with nodes(house, (near, ()), (far, line.inside)) as servers:
            relays = [await relayed(port) for port in (servers[1].port, servers[1].admin_port)]
            servers[1].port, servers[1].admin_port = map(port_of, relays)
            await house.furnish(servers[0], QUEUES, **SETTINGS)
            load = Load(house, publishers=12, consumers=24, seed=23, speaking=SPEAKING)
            load.start()
            load.up(*servers)
            for ways in cuts:
                await load.busy(answers=load.answers + 200, seconds=60)
                line.cut(*ways)
                await go_on(load, seconds)
                await seals_alone(house, servers[0])
                line.heal()
            await load.busy(answers=load.answers + 300, seconds=60)
            await finish(house, load, *servers)
            for relay in relays:
                relay.close()


async def relayed(port: int) -> asyncio.Server:
    """A port of the loopback for one of the namespace: where the callers of these tests call."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(FAR, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    return await asyncio.start_server(connected, "127.0.0.1", 0)


def port_of(relay: asyncio.Server) -> int:
    port: int = relay.sockets[0].getsockname()[1]
    return port
