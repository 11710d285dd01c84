"""What a WebSocket's listener does by itself: handshakes that are none, pings, fragments, who does not read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from tests.unit.http.wire import Wire, settled
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol as ClientSide
from websockets.protocol import Side, State

from restante.http import protocol
from restante.http.protocol import FRAGMENTS, JOINED_BYTES, OneWrite, SocketProtocol

HANDSHAKE = {
    "Host": "x",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "MDAwMDAwMDAwMDAwMDAwMA==",
    "Sec-WebSocket-Version": "13",
}


class Connection:
    """One connection to an application that accepts everybody, and keeps what it receives."""

    def __init__(self) -> None:
        config = uvicorn.Config(
            self.application,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            ws_per_message_deflate=False,
        )
        self.received: list[str | bytes] = []
        self.ended: dict[str, Any] = {}
        self.wire = Wire()
        self.protocol = SocketProtocol(config, ServerState(), {})
        self.protocol.connection_made(self.wire)

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            self.received.append(message.get("text") or message.get("bytes") or "")
        self.ended = message

    async def sends(self, data: bytes) -> bytes:
        before = len(self.wire.written)
        self.protocol.data_received(data)
        await settled()
        return self.wire.written[before:]

    async def opens(self) -> None:
        assert (await self.sends(head())).startswith(b"HTTP/1.1 101 ")


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    connection = Connection()
    yield connection
    connection.protocol.connection_lost(None)
    await settled()


def head(method: str = "GET", **changed: str | None) -> bytes:
    named = {name.replace("_", "-"): value for name, value in changed.items()}
    lines = [f"{name}: {value}" for name, value in (HANDSHAKE | named).items() if value is not None]
    return "\r\n".join((f"{method} / HTTP/1.1", *lines, "", "")).encode()


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def frames_in(data: bytes) -> list[Frame]:
    """What a client reads of it."""
    client = ClientSide(Side.CLIENT, state=State.OPEN)
    client.receive_data(data)
    return [event for event in client.events_received() if isinstance(event, Frame)]


# -- handshakes ---------------------------------------------------------------------------------

MANY = {f"X_{number}": "x" for number in range(200)}


@pytest.mark.parametrize(
    ("request_", "status", "code", "says"),
    [
        (head(X="x" * 9_000), 431, "head_too_large", "8 KiB"),
        (head(**MANY), 431, "head_too_large", "128 headers"),
        (head(Sec_WebSocket_Key=None), 400, "malformed", "Sec-WebSocket-Key"),
        (head(Sec_WebSocket_Key="short"), 400, "malformed", "Sec-WebSocket-Key"),
        (head(Sec_WebSocket_Version="8"), 400, "malformed", "Sec-WebSocket-Version"),
        (head(Sec_WebSocket_Protocol="a b"), 400, "malformed", "Sec-WebSocket-Protocol"),
        (head("POST"), 405, "method_not_allowed", "GET"),
        (head(Upgrade="h2c"), 426, "upgrade_required", "Upgrade"),
        (b"GET / HTTP/1.1\r\n folded\r\n\r\n", 400, "malformed", ""),
        (b"GET / HTTP/1.1\r\n: no name\r\n\r\n", 400, "malformed", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_what_is_no_handshake_is_answered_as_http_answers(
    connection, request_, status, code, says
):
    answer = await connection.sends(request_)
    first, _, rest = answer.partition(b"\r\n")
    headers, _, body = rest.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Type: application/problem+json" in headers
    assert b"Content-Length: %d" % len(body) in headers
    found = json.loads(body)
    assert (found["status"], found["code"]) == (status, code)
    assert says in found["detail"]
    assert connection.wire.closed


async def test_nothing_is_read_of_who_has_not_been_let_in(connection):
    """Frames before the handshake is answered find uvicorn unprepared."""
    connection.protocol.data_received(head())
    assert not connection.wire.reading
    await settled()
    assert connection.wire.reading


async def test_compression_is_not_negotiated(connection):
    answer = await connection.sends(
        head(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")
    )
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"xtensions" not in answer


async def test_what_says_that_it_is_compressed_ends_the_connection(connection):
    await connection.opens()
    bomb = bytearray(frame(Opcode.TEXT, b"abc"))
    bomb[0] |= 0x40
    (close,) = frames_in(await connection.sends(bytes(bomb)))
    assert close.data[:2] == (1002).to_bytes(2, "big")
    assert connection.received == []


# -- messages -----------------------------------------------------------------------------------


async def test_a_message_may_come_in_pieces(connection):
    await connection.opens()
    pieces = [frame(Opcode.TEXT, b"a", fin=False), frame(Opcode.CONT, b"b", fin=False)]
    await connection.sends(b"".join((*pieces, frame(Opcode.CONT, b"c"))))
    assert connection.received == ["abc"]


async def test_a_message_of_too_many_pieces_ends_the_connection(connection):
    """Empty ones, which no limit in bytes would ever stop."""
    await connection.opens()
    await connection.sends(frame(Opcode.TEXT, b"{", fin=False))
    empty = frame(Opcode.CONT, fin=False)
    answer = await connection.sends(empty * (FRAGMENTS - 1))
    assert answer == b""
    answer = await connection.sends(empty * 10 + frame(Opcode.CONT, b"}"))
    (close,) = frames_in(answer)
    assert close.data[:2] == (1009).to_bytes(2, "big")
    assert connection.wire.closed
    assert connection.received == []
    assert connection.ended["code"] == 1009


async def test_text_that_is_not_utf_8_ends_the_connection(connection):
    await connection.opens()
    (close,) = frames_in(await connection.sends(frame(Opcode.TEXT, b"\xff\xfe")))
    assert close.data[:2] == (1007).to_bytes(2, "big")


# -- pings, and who does not read ---------------------------------------------------------------


async def test_each_ping_is_answered(connection):
    await connection.opens()
    pongs = frames_in(await connection.sends(frame(Opcode.PING, b"1") + frame(Opcode.PING, b"2")))
    assert [(pong.opcode, pong.data) for pong in pongs] == [
        (Opcode.PONG, b"1"),
        (Opcode.PONG, b"2"),
    ]


async def test_who_does_not_read_is_answered_its_last_ping_only(connection):
    await connection.opens()
    connection.protocol.pause_writing()
    for number in range(1_000):
        assert await connection.sends(frame(Opcode.PING, b"%d" % number)) == b""
    before = len(connection.wire.written)
    connection.protocol.resume_writing()
    (pong,) = frames_in(connection.wire.written[before:])
    assert pong.data == b"999"


async def test_who_does_not_take_what_waits_for_it_is_cut_off(connection, monkeypatch):
    monkeypatch.setattr(protocol, "WRITE_SECONDS", 0.0)
    await connection.opens()
    connection.protocol.pause_writing()
    await settled()
    assert connection.wire.aborted


# -- joining writes -----------------------------------------------------------------------------


async def test_what_is_written_in_one_turn_goes_out_as_one():
    wire = Counting()
    joined = OneWrite(wire, asyncio.get_running_loop())
    for piece in (b"a", b"b", b"c"):
        joined.write(piece)
    assert wire.writes == []
    await settled()
    assert wire.writes == [b"abc"]


async def test_much_is_not_held_back():
    """Whoever writes on has to hear that the buffer is full."""
    wire = Counting()
    joined = OneWrite(wire, asyncio.get_running_loop())
    joined.write(b"a")
    joined.write(b"b" * JOINED_BYTES)
    assert wire.writes == [b"a" + b"b" * JOINED_BYTES]
    joined.write(b"c")
    await settled()
    assert wire.writes[1:] == [b"c"]


async def test_what_was_held_back_goes_out_before_the_connection_closes():
    wire = Counting()
    joined = OneWrite(wire, asyncio.get_running_loop())
    joined.write(b"good-bye")
    joined.close()
    await settled()
    assert wire.writes == [b"good-bye"]
    assert wire.closed


class Counting(Wire):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: Any) -> None:
        super().write(data)
        self.writes.append(data)
