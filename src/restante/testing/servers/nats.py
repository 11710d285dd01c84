"""NATS servers: Debian's program, core only, on the loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from restante.bench.processes import Server, ServerFailed, accepts_connections, free_port


class NatsServer:
    """``with NatsServer() as server:`` starts one; ``options`` are further ones of its command line.

    With ``token`` it wants that; with ``tls``, a certificate and its key, it speaks TLS.
    """

    def __init__(
        self,
        *,
        token: str = "",
        tls: tuple[Path, Path] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self.token = token
        self._folder = Path(tempfile.mkdtemp(prefix="restante-nats-"))
        self._tls = tls is not None
        self._options = list(options)
        if token:
            # On a busy machine a client may take longer to say its token than the server waits by default.
            config = self._folder / "nats.conf"
            config.write_text(f"authorization {{timeout: 30, token: {token!r}}}\n")
            self._options += ["--config", str(config)]
        if tls is not None:
            self._options += ["--tls", "--tlscert", str(tls[0]), "--tlskey", str(tls[1])]
        self._server: Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def url(self) -> str:
        secret = f"{self.token}@" if self.token else ""
        return f"{'tls' if self._tls else 'nats'}://{secret}127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self._folder / "log"

    @property
    def pids(self) -> list[int]:
        """The running process, or none."""
        return [] if self._server is None else [self._server.pid]

    def start(self) -> None:
        """Start it and wait until it listens. ``ServerFailed`` where it is not installed or does not start."""
        # Debian keeps it where only root looks.
        program = shutil.which("nats-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise ServerFailed("nats-server is not installed: apt-get install nats-server")
        command = [program, "--addr", "127.0.0.1", "--port", str(self.port), *self._options]
        self._server = Server("nats", command, log=self.log)
        self._server.wait_until(lambda: accepts_connections(self.port))

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._server is not None:
            self._signal(signal.SIGKILL)
            self._server.stop()
            self._server = None

    def pause(self) -> None:
        """Stop it where it stands (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._server.pid, number)
