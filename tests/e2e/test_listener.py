"""One listener in this process, on the event loop that serves: what its connections are like."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Final, Self

import pytest
import uvloop
from tests.certificates import Authority

from restante.http import server
from restante.http.answers import Answer
from restante.http.api import Api, Routes
from restante.http.request import Request
from restante.http.server import SILENCE_MS, Server, bind
from restante.http.tls import ServerContext, TlsFiles

TLS: Final = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


class Listener:
    """A server that runs while it is entered, and connections to it."""

    def __init__(self, folder: Path, *, tls: bool) -> None:
        routes = Routes()
        routes.add("GET", "/", self._answer, None)
        self.client: ssl.SSLContext | None = None
        context = None
        if tls:
            authority = Authority(folder)
            made = authority.for_server("127.0.0.1")
            context = ServerContext(TlsFiles(certificate=made.certificate, key=made.key))
            self.client = ssl.create_default_context(cafile=authority.file)
        listening = bind("127.0.0.1", 0)
        self.address: tuple[str, int] = listening.getsockname()
        self.server = Server(Api(routes, None), listening, 10, context)

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self.server.run())
        await self.server.up.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _answer(self, _: Request) -> Answer:
        return Answer(200, b"{}")

    async def stop(self) -> None:
        self.server.stop(at_once=False)
        await self._running

    async def ask(self) -> socket.socket:
        """One request, answered, over a connection that is then left alone."""
        return await asyncio.get_running_loop().run_in_executor(None, self._ask)

    def _ask(self) -> socket.socket:
        connection = socket.create_connection(self.address, 10)
        if self.client is not None:
            connection = self.client.wrap_socket(connection, server_hostname="127.0.0.1")
        connection.sendall(b"GET / HTTP/1.1\r\nHost: restante\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        return connection


@TLS
def test_who_is_gone_without_a_word_is_noticed_by_the_kernel(tmp_path: Path, tls: bool) -> None:
    """What is set on the listening socket is set on those it accepts: half-open connections end within 40 seconds."""

    async def play() -> None:
        async with Listener(tmp_path, tls=tls) as listener:
            with await listener.ask():
                (accepted,) = listener.server.server_state.connections
                end = accepted.transport.get_extra_info("socket")
                assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                for option, value in (
                    (socket.TCP_KEEPIDLE, 15),
                    (socket.TCP_KEEPINTVL, 10),
                    (socket.TCP_KEEPCNT, 2),
                    (socket.TCP_USER_TIMEOUT, SILENCE_MS),
                    # uvloop's own: an answer does not wait for the acknowledgement of the one before.
                    (socket.TCP_NODELAY, 1),
                ):
                    assert end.getsockopt(socket.IPPROTO_TCP, option) == value

    uvloop.run(play())


@TLS
def test_who_keeps_a_connection_for_later_does_not_hold_up_a_stop(
    tmp_path: Path, tls: bool
) -> None:
    """A pooled connection is not read from, and so says no good-bye to TLS."""

    async def play() -> float:
        async with Listener(tmp_path, tls=tls) as listener:
            with await listener.ask():
                began = asyncio.get_running_loop().time()
                await listener.stop()
                return asyncio.get_running_loop().time() - began

    assert uvloop.run(play()) < 5, "it was given 10 seconds to stop"


def test_who_never_shakes_hands_is_closed_in_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)

    async def play() -> None:
        async with Listener(tmp_path, tls=True) as listener:
            reader, writer = await asyncio.open_connection(*listener.address)
            assert await reader.read() == b""
            writer.close()

    uvloop.run(play())
