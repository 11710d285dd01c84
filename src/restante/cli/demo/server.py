"""The demo's server: ``restante serve`` in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from restante.errors import RestanteError, StartupError

READY_SECONDS: Final = 20.0
STOP_SECONDS: Final = 15.0
_PAGE: Final = re.compile("The operators' page is at (http.+)")
"""What the server says in its log before it is ready."""
_PORTS: Final = (7070, 7071)


class ServerEnded(RestanteError):
    """The server ended by itself."""

    code = "server_ended"
    title = "The demo's server ended"


class Server:
    """A running server; ``ended`` resolves when its process does. ``page_url`` is empty where it serves no page."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, data: Path) -> None:
        self.url = url
        self.pid = process.pid
        self.data = data
        page = _PAGE.findall((data / "server.log").read_text(errors="replace"))
        self.page_url: str = page[-1] if page else ""
        self.admin_key = (data / "admin.key").read_text().strip()
        self.ended = asyncio.ensure_future(process.wait())


@contextlib.asynccontextmanager
async def serving(data: Path) -> AsyncIterator[Server]:
    """A server on this folder (an absolute path) as long as the block runs; its log is ``server.log`` in there."""
    public, private = _PORTS if all(map(_is_free, _PORTS)) else (0, 0)
    # Settings of the caller's own server are not for this one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RESTANTE_")}
    with (data / "server.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "restante", "serve", "--data", str(data)),
            *("--listen", f"127.0.0.1:{public}", "--admin-listen", f"127.0.0.1:{private}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=environment,
            # A folder without a restante.toml, and not in the way of Ctrl-C: the demo stops it when it is done.
            cwd=data,
            start_new_session=True,
        )
    try:
        url = await _ready(process, data)
        server = Server(process, url, data)
        yield server
    finally:
        await asyncio.shield(_stop(process))


async def _ready(process: asyncio.subprocess.Process, data: Path) -> str:
    if process.stdout is None:
        raise AssertionError("stdout was asked for")
    try:
        async with asyncio.timeout(READY_SECONDS):
            while line := await process.stdout.readline():
                if line.startswith(b"ready "):
                    return line.split()[1].decode()
    except TimeoutError as error:
        raise StartupError(f"the server was not ready in {READY_SECONDS:g} s") from error
    lines = (data / "server.log").read_text(errors="replace").strip().splitlines()
    raise StartupError(f"the server did not start: {' '.join(lines[-3:])}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
