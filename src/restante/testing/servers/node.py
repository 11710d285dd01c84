"""One ``restante serve`` of several: a process with the same addresses whenever it starts again."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from restante.bench.processes import Server, free_port

ASKING_SECONDS: Final = 2.0


class Node:
    """A node with a folder of its own. ``environment`` has its settings; its log is ``log`` in that folder."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *flags: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port, self.admin_port, self.grpc_port = free_port(), free_port(), free_port()
        self._environment = environment
        self._flags: Sequence[str] = flags
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def pid(self) -> int | None:
        """None where it does not run."""
        return None if self._server is None else self._server.pid

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it says that it is ready. Raises ``ServerFailed``."""
        self._server = Server(
            "restante",
            [
                *(sys.executable, "-m", "restante", "serve", "--data", str(self.folder / "data")),
                *("--listen", f"127.0.0.1:{self.port}"),
                *("--admin-listen", f"127.0.0.1:{self.admin_port}"),
                *("--grpc-listen", f"127.0.0.1:{self.grpc_port}"),
                *self._flags,
            ],
            log=self.log,
            environment=self._environment,
            directory=self.folder,
        )
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until ``/readyz`` says so, which it does again when a store that was away is back."""
        if self._server is not None:
            self._server.wait_until(self.ready)

    def ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, ASKING_SECONDS)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone; nothing happens where it is gone already."""
        self._send(signal.SIGKILL)
        self._gone()

    def stop(self) -> int:
        """SIGTERM: let it drain, and wait until it is gone; its exit code."""
        return self._gone()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections, and says nothing."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._server.pid, number)

    def _gone(self) -> int:
        if self._server is None:
            return 0
        server, self._server = self._server, None
        return server.stop()
