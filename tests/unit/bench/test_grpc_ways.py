"""What the load generator says and understands over gRPC, and as a receiver of webhooks."""

import asyncio
import functools

import pytest

from restante.bench.http2 import GrpcConnection, frame, indexed_fields, message
from restante.bench.options import BenchOptions
from restante.bench.specs import Target
from restante.bench.ways import WAYS, Collecting
from restante.bench.ways.grpc import ack_of, field, publication
from restante.bench.ways.grpc_streams import Consumers, Publishers
from restante.bench.ways.webhook import Receiving
from restante.wire.proto import restante_pb2 as pb

DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
END_STREAM, ACK = 1, 1


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self):
        super().__init__()
        self.sent = b""

    def write(self, data):
        self.sent += data

    def frames(self):
        """Kind, flags, stream and payload of what was written since, without what opens a connection."""
        data, self.sent = self.sent.removeprefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), b""
        found = []
        while data:
            end = 9 + int.from_bytes(data[:3], "big")
            found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:end]))
            data = data[end:]
        return found


def connected(errors):
    made, wire = GrpcConnection("/s/M", "key", errors.append), Wire()
    made.connection_made(wire)
    wire.frames()
    return made, wire


async def turn():
    """Until what was put off to the next turn of the loop is done."""
    over = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(over.set_result, None)
    await over


class Kept(Collecting):
    def __init__(self):
        self.log = []

    def came(self):
        self.log.append("came")

    def settled(self):
        self.log.append("settled")

    def failed(self, reason):
        self.log.append(reason)


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 70_000])
@pytest.mark.parametrize("step", [1, 9, 1_000_000])
async def test_messages_are_cut_out_however_they_come(size, step):
    if size > 1_000 and step == 1:
        step = 997
    connection, _ = connected([])
    got: list[bytes] = []
    ends: list[bytes] = []
    connection.call(got.append, ends.append)
    said = message(b"x" * size) * 2
    data = frame(HEADERS, 4, 1, b"head")
    data += b"".join(
        frame(DATA, 0, 1, said[at : at + 16_384]) for at in range(0, len(said), 16_384)
    )
    data += frame(HEADERS, 4 | END_STREAM, 1, b"trailers")
    for at in range(0, len(data), step):
        connection.data_received(data[at : at + step])
    assert got == [b"x" * size] * 2
    assert ends == [b"trailers"]


async def test_header_fields_are_said_once_and_then_named():
    connection, wire = connected([])
    for _ in range(2):
        connection.unary(message(b"m"), print, print)
    await turn()
    heads = [frame for frame in wire.frames() if frame[0] == HEADERS]
    assert [head[2] for head in heads] == [1, 3]
    assert b"Bearer key" in heads[0][3]
    assert len(heads[1][3]) == 7
    assert indexed_fields({"a": "b", "c": "d"})[1] == bytes((0x80 | 63, 0x80 | 62))


async def test_pings_and_settings_are_answered():
    connection, wire = connected([])
    connection.data_received(frame(PING, 0, 0, b"12345678") + frame(SETTINGS, 0, 0))
    assert wire.frames() == [(PING, ACK, 0, b"12345678"), (SETTINGS, ACK, 0, b"")]


async def test_what_the_windows_do_not_let_pass_waits():
    connection, wire = connected([])
    call = connection.call(print, print)
    connection.send(call, b"a" * 65_000)
    connection.send(call, b"b" * 1_000)
    connection.send(call, b"c", end=True)
    await turn()
    assert sum(len(frame[3]) for frame in wire.frames() if frame[0] == DATA) == 65_535
    connection.data_received(
        frame(WINDOW_UPDATE, 0, 0, (9_000).to_bytes(4, "big"))
        + frame(WINDOW_UPDATE, 0, 1, (9_000).to_bytes(4, "big"))
    )
    rest = wire.frames()
    assert b"".join(frame[3] for frame in rest) == b"b" * 465 + b"c"
    assert [frame[1] for frame in rest] == [0, END_STREAM]


async def test_a_server_that_goes_away_is_an_error():
    errors: list[str] = []
    connection, _ = connected(errors)
    connection.data_received(frame(GOAWAY, 0, 0, bytes(8) + b"too_many_pings"))
    assert "too_many_pings" in errors[0]


@pytest.mark.parametrize("size", [0, 127, 128, 20_000])
def test_the_service_reads_what_it_is_sent(size):
    body = b"x" * size
    request = pb.PublishRequest.FromString(field(1, publication("q", body)) * 2)
    assert [(one.queue, one.body) for one in request.notifications] == [("q", body)] * 2
    settles = pb.ReceiveRequest.FromString(ack_of("one") + ack_of("two")).settle
    assert [(one.lease, one.WhichOneof("outcome")) for one in settles] == [
        ("one", "ack"),
        ("two", "ack"),
    ]


async def test_publishes_of_one_turn_are_one_batch():
    errors: list[str] = []
    connection, wire = connected(errors)
    publishers = Publishers(connection, errors.append)
    confirmed: list[int] = []
    for number in range(3):
        item = field(2, publication(f"q{number}", b"x"))
        publishers.publish(item, functools.partial(confirmed.append, number))
    await turn()
    [said] = [frame[3] for frame in wire.frames() if frame[0] == DATA]
    request = pb.PublishStreamRequest.FromString(said[5:])
    assert [one.queue for one in request.notifications] == ["q0", "q1", "q2"]
    results = [pb.PublishResult(id="id") for _ in range(3)]
    answer = pb.PublishAnswer(ref=request.ref, results=results)
    response = pb.PublishStreamResponse(answers=[answer]).SerializeToString()
    connection.data_received(frame(DATA, 0, 1, message(response)))
    assert confirmed == [0, 1, 2]
    assert not errors


async def test_acks_of_one_turn_are_one_message_on_the_first_stream():
    connection, wire = connected([])
    consumers, ends = Consumers(connection), [Kept(), Kept()]
    attached = [consumers.receive(f"q{number}", end) for number, end in enumerate(ends)]
    for stream in (1, 3):
        said = pb.ReceiveResponse(attached=pb.Attached(resume="r"))
        connection.data_received(frame(DATA, 0, stream, message(said.SerializeToString())))
    await asyncio.gather(*attached)
    wire.frames()
    came = b"".join(
        frame(DATA, 0, stream, message(pb.ReceiveResponse(notifications=one).SerializeToString()))
        for stream, one in (
            (1, [pb.Notification(lease="a")]),
            (3, [pb.Notification(lease="b"), pb.Notification(lease="c")]),
        )
    )
    connection.data_received(came)
    await turn()
    await turn()
    [(_, _, stream, said)] = [frame for frame in wire.frames() if frame[0] == DATA]
    request = pb.ReceiveRequest.FromString(said[5:])
    assert stream == 1
    assert [one.lease for one in request.settle] == ["a", "b", "c"]
    outcomes = [pb.SettleResult(outcome="acked") for _ in range(3)]
    answers = pb.ReceiveResponse(answers=[pb.Answer(ref=request.ref, results=outcomes)])
    connection.data_received(frame(DATA, 0, 1, message(answers.SerializeToString())))
    assert ends[0].log == ["came", "settled"]
    assert ends[1].log == ["came", "came", "settled", "settled"]


@pytest.mark.parametrize("step", [1, 7, 1_000])
def test_calls_are_answered_however_they_come(step):
    paths: list[str] = []
    wire = Wire()
    receiving = Receiving(paths.append)
    receiving.connection_made(wire)
    data = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" * 2
    for at in range(0, len(data), step):
        receiving.data_received(data[at : at + step])
    assert paths == ["/a", "/a"]
    assert wire.sent.count(b"204 No Content") == 2


def test_ways_are_known_by_name_and_say_what_the_server_needs():
    BenchOptions(ways=("grpc", "grpc-stream", "webhook"))
    assert "--grpc-listen" in WAYS["grpc"].serve_options
    assert "--grpc-listen" in WAYS["grpc-stream"].serve_options
    assert "--webhook-allow" in WAYS["webhook"].serve_options
    assert not WAYS["webhook"].idles


def test_a_relay_for_grpc_leaves_the_port_of_http_alone():
    target = Target(system="restante", port=1, pids=[], grpc_port=2)
    through = WAYS["grpc"].through(target, 7)
    assert (through.port, through.grpc_port) == (1, 7)
