"""Restante's own server as the benchmark runs it: a subprocess on a data directory of its own."""

from __future__ import annotations

import http.client
import re
import secrets
from pathlib import Path

import msgspec

from restante.bench.processes import Server, ServerFailed, directory_bytes
from restante.bench.specs import Target

_READY = re.compile(r"^ready http://127\.0\.0\.1:(\d+)", re.MULTILINE)
_GRPC = re.compile(r"^grpc 127\.0\.0\.1:(\d+)", re.MULTILINE)
_CLIENT = "bench"
# All consumers are one client's.
_CONNECTIONS = 100_000
# A store with a million notifications may need a while to open, and a server that has just
# taken in a million one to close it.
_START_SECONDS = 300.0


class Keys:
    """The keys of one store, which all its nodes know: the administrator's at once, the others once they are made."""

    def __init__(self) -> None:
        self.admin = "rst_bench_" + secrets.token_hex(20)
        self.client = ""
        self.publisher = ""


class RestanteServer:
    """One data directory, and the server that serves it; it may be stopped and started again."""

    def __init__(
        self,
        command: tuple[str, ...],
        directory: Path,
        options: tuple[str, ...] = (),
        keys: Keys | None = None,
    ) -> None:
        """`directory` must exist; the data goes into a folder of it. `options`: what else is said to the server.

        `keys`: of the store, where other nodes serve it too.
        """
        self._command = command
        self._options = options
        self._directory = directory
        self.data = directory / "data"
        self._keys = keys or Keys()
        self._server: Server | None = None
        self._port = 0
        self._grpc_port = 0

    def start(self) -> float:
        """Start, and return the seconds until the server said that it is ready.

        The first start makes a client and a publisher too. Raises ServerFailed.
        """
        log = self._directory / "server.log"
        log.write_bytes(b"")
        listen = (
            *("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"),
            *("--connections-per-principal", str(_CONNECTIONS)),
        )
        self._server = Server(
            "restante",
            [*self._command, "--data", str(self.data), *listen, *self._options],
            log=log,
            environment={"RESTANTE_ADMIN_KEY": self._keys.admin, "PYTHONUNBUFFERED": "1"},
        )
        try:
            seconds = self._server.wait_until(
                lambda: _READY.search(log.read_text(errors="replace")) is not None, _START_SECONDS
            )
            said = log.read_text(errors="replace")
            self._port = int(_READY.findall(said)[0])
            self._grpc_port = int((_GRPC.findall(said) or [0])[0])
            if not self._keys.client:
                self._keys.client = self._create("/v1/clients", {"name": _CLIENT})
                publisher = {"role": "publisher", "name": "bench-publisher"}
                self._keys.publisher = self._create("/v1/keys", publisher)
        except BaseException:
            self.stop()
            raise
        return seconds

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    @property
    def target(self) -> Target:
        """What the load generator has to know."""
        if self._server is None:
            raise ServerFailed("the server is not running")
        return Target(
            system="restante",
            port=self._port,
            pids=[self._server.pid],
            admin_key=self._keys.admin,
            publisher_key=self._keys.publisher,
            client_key=self._keys.client,
            client=_CLIENT,
            grpc_port=self._grpc_port,
        )

    def data_bytes(self) -> int:
        """What the data directory occupies on the disk."""
        return directory_bytes(self.data)

    def _create(self, path: str, value: dict[str, str]) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        headers = {
            "Authorization": f"Bearer {self._keys.admin}",
            "Content-Type": "application/json",
        }
        try:
            connection.request("POST", path, msgspec.json.encode(value), headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 201:
            raise ServerFailed(f"POST {path} was answered {response.status}: {answer[:300]!r}")
        key = msgspec.json.decode(answer)["key"]
        if not isinstance(key, str):
            raise ServerFailed(f"POST {path} gave no key")
        return key
