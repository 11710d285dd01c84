"""Redis servers: Debian's program, alone or as a cluster, on the loopback, keeping nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from restante.bench.processes import Server, ServerFailed, accepts_connections, free_port

_NODES: Final = 3
_HIGHEST_PORT: Final = 55_000
"""A cluster's nodes talk on their port and 10,000."""


class RedisServer:
    """``with RedisServer() as server:`` starts one, on the same port each time; its log is in ``folder``.

    With ``tls``, the files of a certificate, its key and their authority, it speaks TLS and nothing else. ``options``
    are further ones of its command line.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int | None = None,
        password: str = "",
        tls: tuple[Path, Path, Path] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.port = port or free_port()
        self.password = password
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="restante-redis-"))
        self._tls = tls
        self._options = list(options)
        if password:
            self._options += ["--requirepass", password]
        if tls is not None:
            certificate, key, authority = map(str, tls)
            self._options += ["--tls-port", str(self.port), "--tls-auth-clients", "no"]
            self._options += ["--tls-cert-file", certificate, "--tls-key-file", key]
            self._options += ["--tls-ca-cert-file", authority]
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
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        secret = f":{self.password}@" if self.password else ""
        if self._tls is not None:
            return f"rediss://{secret}127.0.0.1:{self.port}?ssl_ca_certs={self._tls[2]}"
        return f"redis://{secret}127.0.0.1:{self.port}"

    @property
    def pids(self) -> list[int]:
        """The running process, or none."""
        return [] if self._server is None else [self._server.pid]

    def start(self) -> None:
        """Start it and wait until it listens. ``ServerFailed`` where it is not installed or does not start."""
        program = shutil.which("redis-server")
        if program is None:
            raise ServerFailed("redis-server is not installed: apt-get install redis-server")
        plain = "0" if self._tls is not None else str(self.port)
        command = [program, "--port", plain, "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "no", *self._options]
        self._server = Server("redis", command, log=self.folder / "log")
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

    def run(self, *words: str) -> str:
        """What redis-cli prints for a command. Raises ``ServerFailed`` where it fails."""
        return redis_cli("-p", str(self.port), *words)

    def _signal(self, number: int) -> None:
        if self._server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._server.pid, number)


class RedisCluster:
    """``with RedisCluster() as cluster:`` has three servers, each with a third of the slots."""

    def __init__(self) -> None:
        self.servers = [
            RedisServer(port=_low_port(), options=_CLUSTER_OPTIONS) for _ in range(_NODES)
        ]
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._open:
            for server in self.servers:
                self._open.enter_context(server)
            addresses = [f"127.0.0.1:{server.port}" for server in self.servers]
            redis_cli("--cluster", "create", *addresses, "--cluster-yes")
            self._open = self._open.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    @property
    def url(self) -> str:
        return self.servers[0].url

    def owner(self, slot: int) -> RedisServer:
        """Who has the slot."""
        for line in self.servers[0].run("CLUSTER", "NODES").splitlines():
            _, address, *_, ranges = line.split(maxsplit=8)
            for part in ranges.split():
                low, _, high = part.partition("-")
                if low.isdigit() and int(low) <= slot <= int(high or low):
                    port = int(address.partition("@")[0].rpartition(":")[2])
                    return next(server for server in self.servers if server.port == port)
        raise ServerFailed(f"no server has slot {slot}")

    def move(self, slot: int) -> None:
        """Give an empty slot to another server, as resharding does."""
        source = self.owner(slot)
        target = next(server for server in self.servers if server is not source)
        source_id, target_id = (one.run("CLUSTER", "MYID").strip() for one in (source, target))
        target.run("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source_id)
        source.run("CLUSTER", "SETSLOT", str(slot), "MIGRATING", target_id)
        others = [server for server in self.servers if server not in (source, target)]
        for server in (target, source, *others):
            server.run("CLUSTER", "SETSLOT", str(slot), "NODE", target_id)


_CLUSTER_OPTIONS: Final = ("--cluster-enabled", "yes", "--cluster-node-timeout", "5000")


def redis_cli(*words: str) -> str:
    """What redis-cli prints. Raises ``ServerFailed`` where it fails."""
    done = subprocess.run(
        ["redis-cli", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or done.stdout.startswith("ERR"):
        raise ServerFailed(f"redis-cli failed: {done.stdout}{done.stderr}")
    return done.stdout


def _low_port() -> int:
    while (port := free_port()) > _HIGHEST_PORT:
        pass
    return port
