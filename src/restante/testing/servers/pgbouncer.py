"""PgBouncer on the loopback, in front of a PostgreSQL cluster."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from restante.bench.processes import Server, accepts_connections, free_port
from restante.testing.servers.postgresql import USER
from restante.testing.servers.proxies import program

_SETTINGS: Final = """\
[databases]
* = host=127.0.0.1 port={database_port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {pool_size}
max_client_conn = 500
"""


class Pgbouncer:
    """``with Pgbouncer(port) as pooler:`` stands in front of the cluster on that port; ``pooler.url(database)``.

    ``mode`` is ``transaction``, ``session`` or ``statement``; ``pool_size`` is how many connections a database gets.
    Raises ``ServerFailed`` where it is not installed or does not start.
    """

    def __init__(
        self, database_port: int, *, mode: str = "transaction", pool_size: int = 10
    ) -> None:
        self.port = free_port()
        self._database_port = database_port
        self._mode = mode
        self._pool_size = pool_size

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="restante-pgbouncer-"))
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(
            _SETTINGS.format(
                port=self.port,
                database_port=self._database_port,
                user=USER,
                mode=self._mode,
                pool_size=self._pool_size,
            )
        )
        command = [program("pgbouncer"), str(settings)]
        if os.getuid() == 0:
            # As PostgreSQL, it refuses to run as root.
            for path in (self._folder, settings):
                shutil.chown(path, USER)
            command[1:1] = ["-u", USER]
        self._server = Server("pgbouncer", command, log=self._folder / "log")
        self._server.wait_until(lambda: accepts_connections(self.port))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"
