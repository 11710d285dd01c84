"""One listener: a bound socket, and uvicorn on it as this service needs it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn

from restante.http.api import Api
from restante.http.protocol import HANDSHAKE_MESSAGE_BYTES, Protocol, SocketProtocol

BACKLOG: Final = 4_096
KEEP_ALIVE_SECONDS: Final = 75
OVERDUE_TICKS: Final = 10
PING_SECONDS: Final = 15.0
PONG_SECONDS: Final = 20.0
SILENCE_MS: Final = 25_000
"""How long what was sent may go without the peer's kernel saying that it has it (RFC 5482).

With heartbeats every 15 seconds a connection that is half open is noticed within 40.
"""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, port 0 for any free one. Raises ``OSError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What is accepted inherits these: a peer that is gone without a word is noticed.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


class Server(uvicorn.Server):
    """Serves an application on one socket. Signals are the process's business, not the listener's."""

    def __init__(self, app: Api, listener: socket.socket, shutdown_seconds: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws=SocketProtocol,
                ws_max_size=HANDSHAKE_MESSAGE_BYTES,
                ws_ping_interval=PING_SECONDS,
                ws_ping_timeout=PONG_SECONDS,
                # A small message may unfold to a very large one.
                ws_per_message_deflate=False,
                interface="asgi3",
                lifespan="off",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, round(shutdown_seconds)),
            )
        )
        self._listener = listener
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def run(self) -> None:  # type: ignore[override]  # uvicorn's own blocks and makes a loop; here is one
        await self.serve(sockets=[self._listener])

    def stop(self, *, at_once: bool) -> None:
        self.should_exit = True
        self.force_exit = at_once

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second, as uvicorn has it; once a second, close what did not come in its time."""
        if counter % OVERDUE_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Protocol):
                    connection.overdue(now)
        return await super().on_tick(counter)
