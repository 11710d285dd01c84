"""A whole cluster on one machine: a PostgreSQL with a synchronous standby, Redis, nodes, and nginx in front of them.

    with Cluster(folder, nodes=2) as cluster:
        print(cluster.url, cluster.admin_key)
        cluster.nodes[0].kill()
        cluster.fail_over()     # kill the primary, promote the standby
        cluster.seed_standby()  # and make a standby for the new primary

Everything listens on the loopback alone, at ports that were free. Whoever fails to start, or to come up, raises
``ServerFailed``, and what had been started is stopped. The databases are in temporary folders, and gone at the end:
this is for trials and tests.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from restante.app import ADMIN_KEY_FILE
from restante.bench.processes import ServerFailed, free_port
from restante.keyfiles import (
    LEDGER_KEY_FILE,
    SECRETS_KEY_FILE,
    load_keyring,
    load_log_keys,
    write_private,
)
from restante.testing.servers.certificates import self_signed
from restante.testing.servers.node import Node
from restante.testing.servers.postgresql import USER, PostgresqlServer
from restante.testing.servers.proxies import Behind, Nginx
from restante.testing.servers.redis import RedisServer

DATABASE: Final = "restante"
REPLICATION_SECONDS: Final = 60.0
"""How long a standby may take until the primary waits for it at each commit."""


class Cluster:
    """Runs while it is entered. ``folder`` gets the logs, the keys and the proxy's files.

    ``admin_key`` None: a new one is made.
    """

    def __init__(self, folder: Path, *, nodes: int = 2, admin_key: str | None = None) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.admin_key = admin_key or secrets.token_urlsafe(32)
        self.redis = RedisServer(self.folder / "redis")
        self.nodes: list[Node] = []
        self.primary: PostgresqlServer
        self.standby: PostgresqlServer | None = None
        self.balancer: Nginx
        self.port = 0
        """The balancer's, without TLS."""
        self._count = nodes
        self._ports = {free_port(), free_port()}
        self._stack = contextlib.ExitStack()

    @property
    def url(self) -> str:
        """The balancer, without TLS."""
        return f"http://{self.balancer.plain.http}"

    @property
    def secure_url(self) -> str:
        """The balancer with TLS, gRPC on the same port; ``ca_file`` is what clients have to trust."""
        return self.balancer.url

    @property
    def ca_file(self) -> Path:
        return self.folder / "certificate.pem"

    @property
    def admin_key_file(self) -> Path:
        return self.folder / ADMIN_KEY_FILE

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _start(self, stack: contextlib.ExitStack) -> None:
        write_private(self.admin_key_file, f"{self.admin_key}\n")
        secrets_key = self.folder / SECRETS_KEY_FILE
        load_keyring(secrets_key)
        load_log_keys(self.folder / LEDGER_KEY_FILE)
        stack.callback(self._stop_databases)
        self.primary = PostgresqlServer(port=min(self._ports)).__enter__()
        # Before anything is asked to wait for a standby that is not there yet.
        self.primary.create_database(DATABASE)
        self.seed_standby()
        stack.enter_context(self.redis)
        stack.enter_context(self._running_nodes(secrets_key))
        behind = [
            Behind(
                f"127.0.0.1:{node.port}",
                f"127.0.0.1:{node.admin_port}",
                f"127.0.0.1:{node.grpc_port}",
            )
            for node in self.nodes
        ]
        self.balancer = Nginx(self.folder / "nginx", behind, self_signed(self.folder))
        stack.enter_context(self.balancer.running())
        self.port = int(self.balancer.plain.http.rpartition(":")[2])

    @contextlib.contextmanager
    def _running_nodes(self, secrets_key: Path) -> Iterator[None]:
        environment = {
            "RESTANTE_STORE": self.store_url(),
            "RESTANTE_WAKER": self.redis.url,
            "RESTANTE_ADMIN_KEY": self.admin_key,
            # What one node has sealed, each has to open.
            "RESTANTE_SECRETS_KEY_FILE": str(secrets_key),
            "RESTANTE_LEDGER_KEY_FILE": str(self.folder / LEDGER_KEY_FILE),
            "RESTANTE_TRUSTED_PROXIES": "127.0.0.1",
            "RESTANTE_WEBHOOK_ALLOW": "127.0.0.0/8",
        }
        self.nodes = [
            Node(self.folder / f"node-{number}", environment)
            for number in range(1, self._count + 1)
        ]
        try:
            for node in self.nodes:
                node.start()
            yield
        finally:
            for node in self.nodes:
                # One that a test has stopped where it stood would not hear that it is to end.
                node.resume()
                node.stop()

    def store_url(self) -> str:
        """Both databases' addresses: whichever takes writes is the one."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in sorted(self._ports))
        return f"postgresql://{USER}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    def fail_over(self) -> None:
        """Kill every process of the primary at once, and promote the standby, which is alone from then on."""
        assert self.standby is not None, "there is no standby to promote"
        self.primary.kill()
        dead, self.primary, self.standby = self.primary, self.standby, None
        self.primary.promote()
        dead.__exit__(None, None, None)

    def seed_standby(self) -> None:
        """Make a standby of the primary, at the port that the dead one had, and wait until commits wait for it."""
        (port,) = self._ports - {self.primary.port}
        self.standby = self.primary.standby(port=port).__enter__()
        self._until("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "1")
        self.primary.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.primary.query("SELECT pg_reload_conf()")
        # A new connection that has the setting was made after every process had been told of it, and the checkpointer,
        # who alone makes commits wait, heeds what it was told before it begins a checkpoint.
        self._until("SHOW synchronous_standby_names", "*")
        self.primary.query("CHECKPOINT")
        self._until("SELECT sync_state FROM pg_stat_replication", "sync")

    def _until(self, question: str, answer: str) -> None:
        deadline = time.monotonic() + REPLICATION_SECONDS
        while (told := self.primary.query(question)) != [answer]:
            if time.monotonic() > deadline:
                raise ServerFailed(f"the standby does not follow: {question} says {told}")

    def _stop_databases(self) -> None:
        for server in (self.standby, getattr(self, "primary", None)):
            if server is not None:
                server.__exit__(None, None, None)
