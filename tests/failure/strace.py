"""A server under strace: what it asks of the kernel is written down, or answered with a fault."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.failure.server import Server, require

SYNCS = "fdatasync,fsync"
END_SECONDS = 30.0
FAST = "--seccomp-bpf"
"""Leaves the calls that are not traced at full speed."""


class Watch:
    """Reads strace's output as it comes; knows when a fault was injected."""

    def __init__(self) -> None:
        self.injected = asyncio.Event()
        self.injected_at = 0.0
        self.line = ""

    async def read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            if b"(INJECTED)" in line and not self.injected.is_set():
                self.injected_at = time.monotonic()
                self.line = line.decode(errors="replace").strip()
                self.injected.set()


class Traced(NamedTuple):
    """A running server and what strace saw of it so far."""

    server: Server
    watch: Watch


def faults(syscalls: str, action: str, when: int, paths: Sequence[Path] = ()) -> list[str]:
    """Options that inject a fault at the ``when``-th of these calls, counted by thread."""
    on_paths = [option for path in paths for option in ("-P", str(path))]
    # strace 6.1 injects errors but no signals when it leaves the choice of calls to seccomp.
    fast = [] if action.startswith("signal") else [FAST]
    inject = f"inject={syscalls}:{action}:when={when}"
    return [*fast, "-e", f"trace={syscalls}", "-e", inject, *on_paths]


@contextlib.asynccontextmanager
async def traced(
    data: Path, *options: str, output: Path | None = None, module: str = "restante"
) -> AsyncIterator[Traced]:
    """A server under strace, killed at the block's end. Raises DidNotStart when it did not start.

    With ``output`` the trace goes to that file, which is whole after the block; else to the watch.
    """
    read, write = os.pipe()
    watch = Watch()
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(read, "rb", 0)
    )
    reading = asyncio.create_task(watch.read(stream))
    # The tracer (-D) is a grandchild: the exit code is the server's own.
    wrapper = [require("strace", "strace"), "-D", "-f", "-qq", "-y", *options]
    wrapper += ["-o", f"/dev/fd/{write}" if output is None else str(output)]
    try:
        try:
            server = await Server.start(data, wrapper=wrapper, pass_fds=[write], module=module)
        finally:
            os.close(write)
        try:
            yield Traced(server, watch)
        finally:
            await server.kill()
    finally:
        # Server and tracer inherit the pipe: its end says that the trace is written.
        await asyncio.wait_for(reading, END_SECONDS)
        transport.close()
