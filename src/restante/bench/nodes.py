"""Restante as several nodes on one PostgreSQL, woken by a backplane: all of them subprocesses of the benchmark."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from restante.bench.server import Keys, RestanteServer
from restante.bench.specs import NodePorts, Target
from restante.testing.servers.nats import NatsServer
from restante.testing.servers.postgresql import PostgresqlServer
from restante.testing.servers.redis import RedisServer

NOTIFY = "notify"
WAKERS = {NOTIFY: "NOTIFY", "redis": "Redis", "nats": "NATS"}
"""By what nodes are woken, and its title: the database itself, or a server beside it."""


class RestanteNodes:
    """The nodes, on a database that runs already; they may be stopped and started again, the database goes on."""

    def __init__(
        self,
        command: tuple[str, ...],
        directory: Path,
        options: tuple[str, ...],
        *,
        count: int,
        postgresql: PostgresqlServer,
        backplane: RedisServer | NatsServer | None,
    ) -> None:
        """`directory` must exist. `options`: what else is said to each server. `backplane` None: NOTIFY wakes."""
        self._postgresql = postgresql
        self._backplane = backplane
        keys = Keys()
        waker = () if backplane is None else ("--waker", backplane.url)
        said = (*options, "--store", postgresql.url(), *waker)
        self._nodes: list[RestanteServer] = []
        for number in range(count):
            folder = directory / f"node-{number}"
            folder.mkdir()
            self._nodes.append(RestanteServer(command, folder, said, keys))

    def start(self) -> float:
        """Start one node after the other; the seconds until the slowest was ready. Raises ServerFailed."""
        try:
            return max([node.start() for node in self._nodes])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for node in self._nodes:
            node.stop()

    @property
    def target(self) -> Target:
        """What the load generator has to know."""
        targets = [node.target for node in self._nodes]
        # The first is the root of all the others: what becomes of one that ends counts for it.
        store = self._postgresql.pids[:1]
        waker = [] if self._backplane is None else self._backplane.pids
        nodes = [pid for target in targets for pid in target.pids]
        return msgspec.structs.replace(
            targets[0],
            pids=[*nodes, *store, *waker],
            others=[NodePorts(target.port, target.grpc_port) for target in targets[1:]],
            store_pids=store,
            waker_pids=waker,
        )

    def data_bytes(self) -> int:
        """What the database occupies."""
        (size,) = self._postgresql.query("SELECT pg_database_size(current_database())")
        return int(size)

    def vacuum(self) -> None:
        """Leave the tables and their statistics as autovacuum does before long."""
        self._postgresql.query("VACUUM ANALYZE")


@contextlib.contextmanager
def restante_nodes(
    command: tuple[str, ...], directory: Path, options: tuple[str, ...], *, count: int, waker: str
) -> Iterator[RestanteNodes]:
    """PostgreSQL and the backplane, running, and nodes on them that are not started yet. Raises ServerFailed."""
    with contextlib.ExitStack() as stack:
        postgresql = stack.enter_context(PostgresqlServer(directory / "postgresql"))
        postgresql.create_database()
        backplane: RedisServer | NatsServer | None = None
        if waker == "redis":
            backplane = stack.enter_context(RedisServer())
        elif waker == "nats":
            backplane = stack.enter_context(NatsServer())
        nodes = RestanteNodes(
            command, directory, options, count=count, postgresql=postgresql, backplane=backplane
        )
        stack.callback(nodes.stop)
        yield nodes
