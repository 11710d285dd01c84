"""A relay between a client and a server that counts what passes: bytes each way, and connections."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

_READ_BYTES = 65_536


class Relay:
    """Listens on a loopback port of its own and passes everything on to another. Bytes are the payload of TCP."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._links: set[asyncio.Task[None]] = set()
        self.port = 0
        self.up_bytes = 0
        self.down_bytes = 0
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            # Cancelled by our end alone; asyncio's streams would report it as an error.
            with contextlib.suppress(asyncio.CancelledError):
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass(reader, far_writer, up=True))
                    both.create_task(self._pass(far_reader, writer, up=False))
        except* OSError:
            pass
        finally:
            self._links.discard(task)
            for end in (writer, far_writer):
                end.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        while data := await reader.read(_READ_BYTES):
            if up:
                self.up_bytes += len(data)
            else:
                self.down_bytes += len(data)
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
