"""Prometheus: Debian's program, on the loopback, with files of its own folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from restante.bench.processes import Server, ServerFailed, accepts_connections, free_port

CONFIG: Final = "prometheus.yml"


class PrometheusServer:
    """``with PrometheusServer(files) as server:`` starts one. ``files`` are by name, ``prometheus.yml`` among them."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="restante-prometheus-"))
        for name, text in files.items():
            (self._folder / name).write_text(text)
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self._folder / "log"

    def __enter__(self) -> Self:
        """Start it and wait until it listens. ``ServerFailed`` where it is not installed or does not start."""
        program = shutil.which("prometheus")
        if program is None:
            raise ServerFailed("prometheus is not installed: apt-get install prometheus")
        command = [
            program,
            f"--config.file={self._folder / CONFIG}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        self._server = Server("prometheus", command, log=self.log, directory=self._folder)
        self._server.wait_until(lambda: accepts_connections(self.port))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
        shutil.rmtree(self._folder, ignore_errors=True)
