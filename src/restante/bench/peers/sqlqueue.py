"""The queue that one writes oneself: a table in PostgreSQL, a row a message, ``FOR UPDATE SKIP LOCKED``.

As one would after reading how it is done well: narrow statements, prepared once, through a pool; the oldest one that
nobody has by an index; a lease that ends by itself; each statement its own transaction, and synced before it is
answered. Its clients are in the load generator, whose processor time is theirs.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from restante.bench.lanes import Lane, Tally
from restante.bench.peers.base import Peer, Running
from restante.bench.processes import Server, ServerFailed
from restante.testing.servers.postgresql import PostgresqlServer, program, version

if TYPE_CHECKING:
    Pool = asyncpg.Pool[Any]
else:
    Pool = asyncpg.Pool

POOL_SIZE = 32
_EMPTY_PAUSE_SECONDS = 0.01

_TABLE = """
CREATE TABLE messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    attempts integer NOT NULL DEFAULT 0,
    body bytea NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 1);
CREATE INDEX messages_by_queue ON messages (queue, id)
"""
_PUT = "INSERT INTO messages (queue, body) VALUES ($1, $2)"
_TAKE = """
UPDATE messages SET leased_until = clock_timestamp() + interval '30 seconds', attempts = attempts + 1
WHERE id = (
    SELECT id FROM messages WHERE queue = $1 AND leased_until <= clock_timestamp()
    ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, attempts, body
"""
_ACK = "DELETE FROM messages WHERE id = $1 AND attempts = $2"


class _Cluster(Running):
    """A running PostgreSQL: all of its processes are children of one."""

    def __init__(self, postgresql: PostgresqlServer) -> None:
        super().__init__(postgresql.port, list[Server]())
        self._postgresql = postgresql

    @property
    def pids(self) -> list[int]:
        return self._postgresql.pids[:1]

    def stop(self) -> None:
        self._postgresql.kill()


class _Lane:
    """One publisher and one consumer, each a task that does one statement after the other."""

    def __init__(self, lane: Lane, pool: Pool, queue: str, body: bytes) -> None:
        self._lane = lane
        self._pool = pool
        self._queue = queue
        self._body = body
        self._turn = asyncio.Event()
        lane.publish = self._turn.set

    async def publish(self) -> None:
        while self._lane.tally.running:
            await self._turn.wait()
            self._turn.clear()
            await self._pool.execute(_PUT, self._queue, self._body)
            self._lane.confirmed()

    async def consume(self) -> None:
        tally = self._lane.tally
        while tally.running:
            row = await self._pool.fetchrow(_TAKE, self._queue)
            if row is None:
                await asyncio.sleep(_EMPTY_PAUSE_SECONDS)
            elif row["body"] != self._body:
                tally.fail("a message came back changed")
            elif await self._pool.execute(_ACK, row["id"], row["attempts"]) == "DELETE 1":
                self._lane.completed()
            else:
                tally.fail("an ack found no message")


class SqlQueue(Peer):
    """A table and three statements."""

    name = "sqlqueue"
    title = "PostgreSQL, SQL-only queue"
    settings = (
        "one table, INSERT, UPDATE of the first by `FOR UPDATE SKIP LOCKED LIMIT 1`, DELETE: one row a statement, each "
        f"a transaction of its own and synced; asyncpg with prepared statements and a pool of {POOL_SIZE}; the "
        "generator's CPU is that of its clients"
    )
    is_store = True

    def program(self) -> str | None:
        try:
            return program("postgres")
        except ServerFailed:
            return None

    def version(self) -> str:
        return version()

    def start(self, directory: Path) -> Running:
        postgresql = PostgresqlServer(directory / "postgresql")
        postgresql.__enter__()
        running = _Cluster(postgresql)
        try:
            postgresql.create_database("queue")
            postgresql.query(_TABLE, database="queue")
        except BaseException:
            running.stop()
            raise
        return running

    async def open_lanes(self, port: int, tally: Tally, lanes: int, body: bytes) -> None:
        pool = await asyncpg.create_pool(
            f"postgresql://postgres@127.0.0.1:{port}/queue",
            min_size=POOL_SIZE,
            max_size=POOL_SIZE,
            max_inactive_connection_lifetime=0,
        )
        opened = [Lane(tally) for _ in range(lanes)]

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                tally.fail(f"PostgreSQL: {error}")

        loop = asyncio.get_running_loop()
        for number, lane in enumerate(opened):
            work = _Lane(lane, pool, f"lane-{number}", body)
            for doing in (work.publish(), work.consume()):
                task = loop.create_task(doing)
                _TASKS.add(task)
                task.add_done_callback(ended)
        for lane in opened:
            lane.begin()


_TASKS: set[asyncio.Task[None]] = set()
"""The loop alone would let go of them."""
