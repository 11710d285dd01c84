"""What the load generator makes of bytes that come over each transport."""

import asyncio

import pytest

from restante.bench.relay import Relay
from restante.bench.specs import Target
from restante.bench.ways import WAYS
from restante.bench.ways.events import EventStream
from restante.bench.ways.websocket import BinaryWebSocket, SocketConnection, WebSocket, frame
from restante.wire import frames


class Deaf(asyncio.Transport):
    def write(self, data):
        pass


async def connection(errors):
    made = SocketConnection(b"", 1, errors.append)
    made.data_received(b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n")
    return made


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
@pytest.mark.parametrize("step", [1, 7, 1_000_000])
async def test_messages_are_cut_out_however_they_come(size, step):
    if size > 1_000 and step == 1:
        step = 997
    made = await connection([])
    got: list[bytes] = []
    made.on_message = got.append
    # As a server sends it: without a mask.
    masked = frame(1, b"x" * size)
    start = len(masked) - size - 4
    head = bytearray(masked[:start])
    head[1] &= 127
    data = (bytes(head) + b"x" * size) * 2
    for at in range(0, len(data), step):
        made.data_received(data[at : at + step])
    assert got == [b"x" * size] * 2


async def test_a_refused_handshake_is_an_error():
    made = SocketConnection(b"", 1, print)
    made.data_received(b"HTTP/1.1 401 Unauthorized\r\n\r\n")
    with pytest.raises(OSError, match="401"):
        await made._open


@pytest.mark.parametrize(
    ("way", "subprotocol"), [(WebSocket(), frames.TEXT), (BinaryWebSocket(), frames.BINARY)]
)
def test_the_service_reads_what_it_is_sent(way, subprotocol):
    def sent(payload):
        return payload.decode() if subprotocol == frames.TEXT else payload

    body = b"<a b='1'>\r\n</a>"
    incoming = frames.read(sent(way.publish_frame("q", body)), subprotocol)
    assert list(incoming.parts) == [body]
    acked = frames.read(sent(way.ack_frame(b"a-lease")), subprotocol)
    assert isinstance(acked.frame, frames.Ack)
    assert acked.frame.items[0].lease == "a-lease"
    credit = frames.read(sent(way.written({"type": "credit", "messages": 1})), subprotocol)
    assert isinstance(credit.frame, frames.Credit)


async def test_events_are_cut_out_however_they_come():
    got: list[bytes] = []
    errors: list[str] = []
    stream = EventStream(b"", got.append, errors.append)
    stream.connection_made(Deaf())
    data = (
        b"retry: 1\nid: x\nevent: attached\ndata: {}\n\n: still here\n\n"
        b'id: x.1\nevent: notification\ndata: {"lease":"l1"}\n\n'
    )
    for at in range(0, len(data), 5):
        stream.data_received(data[at : at + 5])
    await stream.begun
    assert len(got) == 1
    assert b'"lease":"l1"' in got[0]
    stream.connection_lost(None)
    assert errors


async def test_the_relay_passes_on_and_counts():
    async def echo(reader, writer):
        writer.write(await reader.readexactly(5) + b"!")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Relay(server.sockets[0].getsockname()[1]) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"hello")
        assert await reader.read() == b"hello!"
        writer.close()
        await writer.wait_closed()
        assert (relay.up_bytes, relay.down_bytes, relay.connections) == (5, 6, 1)


async def test_a_relay_that_ends_before_its_connections_reports_nothing():
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    left = asyncio.Event()

    async def hold(reader, writer):
        writer.write(await reader.readexactly(1))
        await reader.read()
        writer.close()
        left.set()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        async with Relay(server.sockets[0].getsockname()[1]) as relay:
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await left.wait()
    assert reported == []


def test_every_way_says_what_it_is():
    for name, way in WAYS.items():
        assert way.name == name
        assert way.title
        assert way.settings
        assert way.requests
        target = Target(system="restante", port=1, pids=[])
        assert way.port(way.through(target, 7)) == 7
