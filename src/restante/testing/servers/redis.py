"""Redis on the loopback: nothing kept on disk, for it only wakes."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from restante.bench.processes import Server, accepts_connections, free_port
from restante.testing.servers.proxies import program


class RedisServer:
    """``with RedisServer(folder) as server:`` starts one at ``server.url``, on the same port whenever it starts again.

    Raises ``ServerFailed`` where it is not installed or does not start.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._server: Server | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self._server = Server(
            "redis",
            [
                *(program("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no"),
            ],
            log=self.folder / "redis.log",
            directory=self.folder,
        )
        self._server.wait_until(lambda: accepts_connections(self.port))

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone; nothing happens where it is gone already."""
        if self._server is not None:
            self._send(signal.SIGKILL)
            self._server.stop()
            self._server = None

    def pause(self) -> None:
        """Stop it where it stands: connections stay, and nothing answers."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._server.pid, number)
