"""PostgreSQL clusters: Debian's programs, a fresh data directory, trusted on the loopback alone."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from restante.bench.processes import (
    Server,
    ServerFailed,
    accepts_connections,
    free_port,
    process_tree,
)

USER: Final = "postgres"
OPTIONS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "wal_level": "replica",
    "max_wal_size": "2GB",
    "logging_collector": "off",
}
"""Settings of each cluster; everything that makes a commit durable is left as PostgreSQL has it."""


class PostgresqlServer:
    """``with PostgresqlServer() as server:`` makes a cluster and starts it; ``server.url()`` is its database.

    PostgreSQL refuses to run as root: root runs it as the user ``postgres``, so ``folder`` (None: a temporary one)
    must be reachable for that user. Raises ``ServerFailed`` where it is not installed or does not start.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int | None = None,
        options: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="restante-pg-"))
        self.port = port or free_port()
        self._options = {**OPTIONS, **(options or {})}
        self._environment = environment or {}
        self._server: Server | None = None

    def __enter__(self) -> Self:
        try:
            if not (self.data / "PG_VERSION").exists():
                self._make()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.kill()
        finally:
            self._remove()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pids(self) -> list[int]:
        """The processes of the running cluster: the postmaster and all its children."""
        return [] if self._server is None else process_tree([self._server.pid])

    def url(self, database: str = "restante", user: str = USER) -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    # -- running --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the cluster and wait until it answers queries."""
        options = [part for item in self._options.items() for part in ("-c", "=".join(item))]
        # For the user's own process: nothing of it is in force before.
        environment = ["env", *("=".join(item) for item in self._environment.items())]
        self._server = Server(
            "postgresql",
            self._as_user(
                [
                    *environment,
                    *(program("postgres"), "-D", str(self.data), "-p", str(self.port)),
                    *("-c", f"unix_socket_directories={self.folder}", *options),
                ]
            ),
            log=self.folder / "log",
        )
        self._server.wait_until(self._answers)

    def stop(self) -> None:
        """Stop in order: connections are ended, everything is checkpointed."""
        self._signal(signal.SIGINT)
        self._gone()

    def kill(self) -> None:
        """Kill every process of the cluster at once, as a crash of the machine would."""
        if self._server is None:
            return
        pids = self.pids
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._gone()

    def pause(self) -> None:
        """Stop every process of the cluster where it stands (SIGSTOP)."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    # -- replication ----------------------------------------------------------------------------

    def standby(
        self, folder: Path | None = None, *, name: str = "standby", port: int | None = None
    ) -> PostgresqlServer:
        """A streaming standby of this cluster, not started: to be entered. Its application name is ``name``."""
        standby = PostgresqlServer(folder, port=port, options=self._options)
        primary = f"host=127.0.0.1 port={self.port} user={USER} application_name={name}"
        standby.prepare_folder()
        standby.run(
            "pg_basebackup",
            "-D",
            str(standby.data),
            "-d",
            primary,
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
        )
        return standby

    def promote(self) -> None:
        """Make the standby a primary, and wait until it takes writes."""
        self.query("SELECT pg_promote(true, 60)", database="postgres")

    # -- asking ---------------------------------------------------------------------------------

    def create_database(self, name: str = "restante") -> str:
        """A new, empty database; its URL."""
        self.query(f'CREATE DATABASE "{name}"', database="postgres")
        return self.url(name)

    def query(self, sql: str, *, database: str = "restante") -> list[str]:
        """The lines that psql prints for a statement, unaligned. Raises ``ServerFailed`` where it fails."""
        return self.run(
            "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", sql
        )

    def run(self, name: str, *arguments: str) -> list[str]:
        """The lines that one of PostgreSQL's programs prints, run as the cluster's user."""
        done = subprocess.run(
            self._as_user([program(name), *arguments]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
        )
        if done.returncode:
            raise ServerFailed(f"{name} failed: {done.stderr.strip()}")
        return done.stdout.splitlines()

    def prepare_folder(self) -> None:
        """Make the cluster's folder, its user's own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            shutil.chown(self.folder, USER)

    def _make(self) -> None:
        self.prepare_folder()
        self.run(
            "initdb",
            "-D",
            str(self.data),
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        )

    def _answers(self) -> bool:
        if not accepts_connections(self.port):
            return False
        try:
            self.query("SELECT 1", database="postgres")
        except ServerFailed:
            return False
        return True

    def _signal(self, number: int) -> None:
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._server.pid, number)

    def _gone(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _remove(self) -> None:
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _as_user(self, command: Sequence[str]) -> list[str]:
        if os.getuid() != 0:
            return list(command)
        try:
            user = pwd.getpwnam(USER)
        except KeyError as error:
            raise ServerFailed(f"there is no user {USER}: is PostgreSQL installed?") from error
        rights = ["--clear-groups", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
        return ["setpriv", *rights, *command]


def version() -> str:
    """Of the PostgreSQL that is installed, such as 15.14."""
    said = subprocess.run(
        [program("postgres"), "--version"], capture_output=True, text=True, check=False
    )
    return said.stdout.split()[2] if said.stdout.startswith("postgres ") else ""


def program(name: str) -> str:
    """Where one of PostgreSQL's programs is. Raises ``ServerFailed`` where it is not installed.

    Debian keeps the server's off the path, by version: the newest is taken.
    """
    found = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4])
    )
    path = str(found[-1]) if found else shutil.which(name)
    if path is None:
        raise ServerFailed(f"{name} is not installed: apt-get install postgresql")
    return path
