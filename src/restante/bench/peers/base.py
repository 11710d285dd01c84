"""What a peer is to the benchmark: a server to start, and a pair of connections for each lane."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from restante.bench.lanes import Tally
from restante.bench.processes import Server

# Where Debian puts daemons, and where `go install` puts its programs, on the path or not.
_PLACES = ("/usr/sbin", "/usr/local/bin", "~/go/bin")


def find_program(name: str) -> str | None:
    """The full path of a program, or None when it is not installed."""
    places = [str(Path(place).expanduser()) for place in _PLACES]
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))


def first_line(command: list[str]) -> str:
    """The first line a program prints, for its version; empty when it fails."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout.decode(errors="replace").splitlines() or [""])[0].strip()


class Running:
    """A started peer: the port that clients use, and its processes, the last one the server."""

    def __init__(self, port: int, servers: list[Server]) -> None:
        self.port = port
        self._servers = servers

    @property
    def pids(self) -> list[int]:
        return [server.pid for server in self._servers]

    def wait_until_ready(self, ready: Callable[[], bool]) -> None:
        """Wait for the server, the last to be started. Raises ServerFailed, with all stopped."""
        try:
            self._servers[-1].wait_until(ready)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all, the server first."""
        for server in reversed(self._servers):
            server.stop()


class Peer(ABC):
    """One other system, set to be as durable as Restante and otherwise as it comes."""

    name: str
    title: str
    settings: str
    """What was set, and what its acknowledgement means; for the report."""
    is_store: bool = False
    """Whether it is the database that others keep their notifications in."""

    @abstractmethod
    def program(self) -> str | None:
        """The server's program, or None when it is not installed."""

    @abstractmethod
    def version(self) -> str:
        """The version installed."""

    @abstractmethod
    def start(self, directory: Path) -> Running:
        """Start it on an empty directory and a free loopback port, and wait until it is ready.

        Raises ServerFailed.
        """

    @abstractmethod
    async def open_lanes(self, port: int, tally: Tally, lanes: int, body: bytes) -> None:
        """Make the queues, connect everyone, and begin."""


class PeerConnection(asyncio.Protocol):
    """A connection of a load generator; an unexpected end fails the run."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # By its behaviour alone: uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.tally.fail(f"the server closed a connection ({exc or 'no error'})")

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


Connection = TypeVar("Connection", bound=PeerConnection)


async def connect(port: int, connection: Connection) -> Connection:
    """Connect a protocol object to a loopback port."""
    await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", port)
    return connection
