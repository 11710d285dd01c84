"""Other people's programs, run as they run them: by a command, with lines of output to wait for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.e2e.conftest import Mailbox

EXAMPLES = Path(__file__).parents[2] / "examples"
NODE_MODULES = Path(__file__).parents[1] / "clients" / "node" / "node_modules"
SECONDS = 40
"""How long a line may take that has to come: a client may pause for ten seconds before it comes back."""


class Program:
    """One that runs. ``lines`` is all that it has printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.lines: list[str] = []
        self._process = process

    async def until(self, is_enough: Callable[[list[str]], bool]) -> None:
        """Read lines until there are enough of them."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(SECONDS):
                while not is_enough(self.lines):
                    line = await self._process.stdout.readline()
                    assert line, f"it has ended: {self.lines}"
                    self.lines.append(line.decode().rstrip("\n"))
        except TimeoutError:
            raise AssertionError(f"not enough came: {self.lines}") from None

    def of(self, word: str) -> list[list[str]]:
        """The words of each line that begins with that one."""
        return [line.split() for line in self.lines if line.split()[:1] == [word]]

    async def wait(self) -> int:
        """Its exit code, once it has ended by itself."""
        async with asyncio.timeout(SECONDS):
            await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


@contextlib.asynccontextmanager
async def running(
    command: list[str], folder: Path, environment: dict[str, str]
) -> AsyncIterator[Program]:
    """What it says on stderr is among its lines."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    program = Program(process)
    try:
        yield program
    finally:
        await program.end()


def environment_of(mailbox: Mailbox) -> dict[str, str]:
    """What each example is told."""
    service = mailbox.service
    return {
        "URL": service.url,
        "GRPC": service.grpc,
        "QUEUE": mailbox.name,
        "KEY": mailbox.key,
    }


def node(
    script: str, folder: Path, environment: dict[str, str]
) -> contextlib.AbstractAsyncContextManager[Program]:
    """An example in JavaScript, in a folder where its packages are, as if they had been installed there."""
    return running(installed(EXAMPLES / "node" / script, folder), folder, environment)


def installed(script: Path, folder: Path) -> list[str]:
    """The command that runs it there."""
    program = shutil.which("node")
    assert program is not None, "needs Node.js: run `make test`, or install the package nodejs"
    assert NODE_MODULES.is_dir(), "needs its packages: run scripts/node-clients.sh"
    shutil.copy(script, folder)
    (folder / "node_modules").symlink_to(NODE_MODULES, target_is_directory=True)
    return [program, script.name]


def python(
    script: str, folder: Path, environment: dict[str, str]
) -> contextlib.AbstractAsyncContextManager[Program]:
    """An example in Python."""
    return running([sys.executable, str(EXAMPLES / "python" / script)], folder, environment)
