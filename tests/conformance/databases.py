"""What the tests of the PostgreSQL store share: nodes on one database, and a network that can be cut."""

import asyncio
import contextlib
import itertools
import os
from pathlib import Path

import asyncpg

from restante.changes import AddClient, PutQueue
from restante.errors import RestanteError
from restante.model import Client, Queue, Settings
from restante.stores.postgresql import PostgresqlStore
from restante.testing.clock import FakeClock
from restante.testing.conformance.stage import Stage

_names = itertools.count(1)


def new_database(server):
    """A URL of a new, empty database."""
    return server.create_database(f"d{os.getpid()}_{next(_names)}")


class Node(Stage):
    """A stage on a database that others may use too. Without a clock it goes by the database's."""

    def __init__(self, url, clock=None):
        super().__init__(lambda *_: PostgresqlStore(url, clock=clock, jitter=lambda: 0.5), Path())
        self.url = url
        if clock is not None:
            self.clock = clock
        self._prefix = f"{next(_names)}-"

    async def __aenter__(self):
        await self._open()
        return self

    def draft(self, body=b"<hello/>", **fields):
        fields.setdefault("id", f"{self._prefix}{next(self._count)}")
        return super().draft(body, **fields)

    async def prepare(self, *queues, owner="acme", **settings):
        """Make the client and its queues, the first of which is ``acme``."""
        await self.configure(
            AddClient(Client(owner, 0)),
            *(PutQueue(Queue(name, owner, Settings(**settings))) for name in ("acme", *queues)),
        )
        return self


@contextlib.asynccontextmanager
async def nodes(url, count=1, *, clocks=None, queues=(), **settings):
    """Nodes on one database, with the queue ``acme`` and those named."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for number in range(count):
            clock = clocks[number] if clocks else None
            found.append(await stack.enter_async_context(Node(url, clock)))
        await found[0].prepare(*queues, **settings)
        yield found


def fake_clocks(count):
    """Clocks of nodes that are turned alike."""
    return [FakeClock() for _ in range(count)]


@contextlib.asynccontextmanager
async def connection(url):
    """A connection beside the store's, to hold something up with."""
    found = await asyncpg.connect(url)
    try:
        yield found
    finally:
        found.terminate()


async def outcome(future):
    """What it resolved to, or the error."""
    try:
        return await future
    except RestanteError as error:
        return error


class Wire:
    """A TCP proxy that looks at what is sent. ``url`` leads through it.

    ``cut_at`` is a part of a request: its connection is cut ``after`` that was forwarded (its answer is not), or
    before. ``hold_at`` is where all stands still, and ``hold_bodies`` has a long
    answer read no further. Every connection may be cut, or held so that nothing passes.
    """

    def __init__(self, url):
        authority = url.partition("://")[2].partition("/")[0]
        host, _, port = authority.rpartition("@")[2].partition(":")
        self._target = (host, int(port))
        self._before, self._behind = url.split(f"{host}:{port}")
        self.cut_at = None
        self.hold_at = None
        self.hold_bodies = False
        self.after = True
        self.cuts = 0
        self.cut = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._answering = asyncio.Event()
        self._answering.set()
        self._refusing = False
        self._writers = set()
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{self._before}127.0.0.1:{port}{self._behind}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.drop_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self):
        """Let nothing pass, and close nothing: as when a cable is pulled."""
        self._open.clear()

    def release(self):
        self._open.set()
        self._answering.set()

    def refuse(self):
        """Drop what is open, and all that comes."""
        self._refusing = True
        self.drop_all()

    def accept(self):
        self._refusing = False

    def drop_all(self):
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader, writer):
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._refusing:
            writer.transport.abort()
            return
        upstream_reader, upstream = await asyncio.open_connection(*self._target)
        self._writers |= {writer, upstream}
        state = {"deaf": False}
        pumps = [
            asyncio.create_task(self._requests(reader, upstream, writer, state)),
            asyncio.create_task(self._answers(upstream_reader, writer, state)),
        ]
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            writer.transport.abort()
            upstream.transport.abort()
            self._writers -= {writer, upstream}

    async def _requests(self, reader, upstream, writer, state):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                if self.hold_at is not None and self.hold_at in data:
                    self.hold_at = None
                    self.hold()
                    self.cut.set()
                    await self._open.wait()
                if self.cut_at is not None and self.cut_at in data:
                    self.cut_at = None
                    self.cuts += 1
                    if self.after:
                        state["deaf"] = True
                        upstream.write(data)
                        await state_of(upstream, state)
                    self.cut.set()
                    return
                upstream.write(data)
                await upstream.drain()

    async def _answers(self, reader, writer, state):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.hold_bodies and len(data) >= 32_768:
                    self.hold_bodies = False
                    self._answering.clear()
                await self._answering.wait()
                if state["deaf"]:
                    # The server has answered: what was asked has been done.
                    state["answered"].set()
                    continue
                await self._open.wait()
                writer.write(data)
                await writer.drain()


async def state_of(upstream, state):
    """Wait until the server has answered what was just sent."""
    state["answered"] = asyncio.Event()
    await upstream.drain()
    await state["answered"].wait()
