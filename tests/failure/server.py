"""A real server in its own process, to be killed, starved and lied to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

ADMIN_KEY = "test-admin-key-of-the-failure-tests"
READY_SECONDS = 20.0
END_SECONDS = 20.0
PROJECT = Path(__file__).resolve().parents[2]
_HEALTH = re.compile(r"^Health is at http://[^:]+:(\d+)/healthz$", re.MULTILINE)


class DidNotStart(Exception):
    """The server ended before it was ready; ``code`` is its exit code, negative for a signal."""

    def __init__(self, code: int, stderr: str) -> None:
        super().__init__(f"exit code {code}\n{stderr}")
        self.code = code


class Reachable(Protocol):
    """What callers are told to talk to, on the loopback."""

    port: int


class Server:
    """One run of ``restante serve`` on a data directory."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, started: float) -> None:
        self.process = process
        self.log = log
        self.port = 0
        self.admin_port = 0
        self.ready_seconds = 0.0
        self._started = started

    @classmethod
    async def start(
        cls,
        data: Path,
        *,
        wrapper: Sequence[str] = (),
        env: Mapping[str, str] = {},
        module: str = "restante",
        pass_fds: Sequence[int] = (),
        arguments: Sequence[str] = (),
    ) -> Server:
        """Start it and wait until it says that it is ready. Raises DidNotStart.

        ``wrapper`` is put before the command, such as strace; ``module`` is what Python runs.
        """
        log = data.parent / f"{data.name}.log"
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *wrapper,
                *(sys.executable, "-m", module, "serve", "--data", str(data)),
                *("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"),
                # One client alone is most of the load.
                *("--client-requests-per-second", "0", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=_clean_environment()
                | {"RESTANTE_ADMIN_KEY": ADMIN_KEY, "PYTHONPATH": str(PROJECT)}
                | dict(env),
                pass_fds=pass_fds,
                cwd=data.parent,
            )
        server = cls(process, log, time.monotonic())
        try:
            await asyncio.wait_for(server._ready(), READY_SECONDS)
        except BaseException:
            await server.kill()
            raise
        return server

    async def _ready(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if line.startswith(b"ready "):
                self.port = int(line.rsplit(b":", 1)[1])
                # It is told to stderr, before.
                self.admin_port = int(_HEALTH.findall(self.log.read_text(errors="replace"))[-1])
                self.ready_seconds = time.monotonic() - self._started
                return
        raise DidNotStart(await self.process.wait(), self.tail())

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    def tail(self) -> str:
        """The end of what it wrote to stderr."""
        return self.log.read_text(errors="replace")[-4000:]

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, and wait until it is gone; its exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        return await self.ended()

    async def ended(self, seconds: float = END_SECONDS) -> int:
        """Wait until it has ended by itself; its exit code, negative for a signal."""
        try:
            return await asyncio.wait_for(self.process.wait(), seconds)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise AssertionError(f"the server did not end in {seconds} s\n{self.tail()}") from None


@contextlib.asynccontextmanager
async def serving(data: Path, **options: object) -> AsyncIterator[Server]:
    """A server for the length of a block, stopped gently at its end."""
    server = await Server.start(data, **options)  # type: ignore[arg-type]
    try:
        yield server
    except BaseException:
        await server.kill()
        raise
    await server.stop()


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RESTANTE_")}


def require(tool: str, package: str) -> str:
    """The path of a tool, its Debian package installed where it is missing. Fails when it cannot be had."""
    found = shutil.which(tool)
    if found is None:
        install(package)
        found = shutil.which(tool)
    assert found is not None, f"{tool} is needed for this test (Debian package {package})"
    return found


def install(package: str) -> None:
    subprocess.run([PROJECT / "scripts" / "ensure-debian-packages.sh", package], check=True)
