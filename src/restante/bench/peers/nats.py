"""NATS JetStream, each write synced (protocol: the text one of NATS, and JetStream's API on it)."""

from __future__ import annotations

import abc
import asyncio
import json
from pathlib import Path

from restante.bench.lanes import Lane, LoadFailed, Tally
from restante.bench.peers.base import (
    Peer,
    PeerConnection,
    Running,
    connect,
    find_program,
    first_line,
)
from restante.bench.processes import Server, free_port

_LINE_END = b"\r\n"
_GREETING = b'CONNECT {"verbose":false,"pedantic":false,"headers":false}\r\n'
_CONSUMER = "signed"
_DATA, _CONFIRM = b"1", b"2"


class MessageReader:
    """Cuts a stream of bytes into what a NATS server sends."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[tuple[list[bytes], bytes]]:
        """Take bytes; return what is now complete: the words of the line, and the payload.

        Only MSG has a payload; its words are MSG, subject, subscription, the reply subject if
        there is one, and the length.
        """
        buffer = self._buffer + data if self._buffer else data
        messages: list[tuple[list[bytes], bytes]] = []
        while True:
            end = buffer.find(_LINE_END)
            if end < 0:
                break
            words = buffer[:end].split()
            stop = end + 2
            payload = b""
            if words and words[0] == b"MSG":
                length = int(words[-1])
                stop += length + 2
                if len(buffer) < stop:
                    break
                payload = buffer[end + 2 : end + 2 + length]
            messages.append((words, payload))
            buffer = buffer[stop:]
        self._buffer = buffer
        return messages


def publish(subject: bytes, reply: bytes, payload: bytes) -> bytes:
    """A PUB that asks for an answer on `reply`."""
    return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(payload), payload)


class _Connection(PeerConnection, abc.ABC):
    def __init__(self, tally: Tally, inbox: bytes) -> None:
        super().__init__(tally)
        self._reader = MessageReader()
        self.inbox = inbox

    async def prepare(self, port: int) -> None:
        await connect(port, self)
        self.send(_GREETING)
        self.send(b"SUB %b.data %b\r\nSUB %b.confirm %b\r\n" % self._subscriptions())

    def _subscriptions(self) -> tuple[bytes, bytes, bytes, bytes]:
        return self.inbox, _DATA, self.inbox, _CONFIRM

    def data_received(self, data: bytes) -> None:
        for words, payload in self._reader.feed(data):
            kind = words[0] if words else b""
            if kind == b"MSG":
                self.got(words, payload)
            elif kind == b"PING":
                self.send(b"PONG\r\n")
            elif kind not in (b"INFO", b"PONG", b"+OK"):
                self.tally.fail(f"NATS said {b' '.join(words).decode(errors='replace')}")

    @abc.abstractmethod
    def got(self, words: list[bytes], payload: bytes) -> None:
        """What a lane does with it."""


class _Publisher(_Connection):
    """One publish at a time, the next one after JetStream's PubAck."""

    def __init__(self, lane: Lane, number: int, body: bytes) -> None:
        super().__init__(lane.tally, b"_INBOX.publisher-%d" % number)
        self._lane = lane
        self._publish_one = publish(b"lane.%d" % number, self.inbox + b".confirm", body)
        lane.publish = self._publish

    def _publish(self) -> None:
        self.send(self._publish_one)

    def got(self, words: list[bytes], payload: bytes) -> None:
        if b'"seq":' in payload and b'"error"' not in payload:
            self._lane.confirmed()
        else:
            self.tally.fail(f"a publish was answered {payload!r}")


class _Consumer(_Connection):
    """Makes its stream and consumer, then pulls and acks one message at a time."""

    def __init__(self, lane: Lane, number: int, length: int) -> None:
        super().__init__(lane.tally, b"_INBOX.consumer-%d" % number)
        self._lane = lane
        self._length = length
        self._stream, self._subject = f"lane-{number}", f"lane.{number}"
        next_subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{_CONSUMER}".encode()
        self._pull = publish(next_subject, self.inbox + b".data", b"1")
        self._asked: asyncio.Future[bytes] | None = None

    async def prepare(self, port: int) -> None:
        await super().prepare(port)
        stream = {
            "name": self._stream,
            "subjects": [self._subject],
            "storage": "file",
            "retention": "workqueue",
            "num_replicas": 1,
        }
        await self._ask(f"$JS.API.STREAM.CREATE.{self._stream}", stream)
        consumer = {
            "stream_name": self._stream,
            "config": {"durable_name": _CONSUMER, "ack_policy": "explicit"},
        }
        await self._ask(f"$JS.API.CONSUMER.DURABLE.CREATE.{self._stream}.{_CONSUMER}", consumer)
        self.send(self._pull)

    async def _ask(self, subject: str, request: object) -> None:
        self._asked = asyncio.get_running_loop().create_future()
        payload = json.dumps(request).encode()
        self.send(publish(subject.encode(), self.inbox + b".confirm", payload))
        answer = await self._asked
        self._asked = None
        if b'"error"' in answer:
            raise LoadFailed(f"{subject} was answered {answer.decode(errors='replace')}")

    def got(self, words: list[bytes], payload: bytes) -> None:
        if words[2] == _CONFIRM:
            if self._asked is not None:
                self._asked.set_result(payload)
            else:
                self._lane.completed()
        elif len(words) == 5 and len(payload) == self._length:
            if self.tally.running:
                ack = publish(words[3], self.inbox + b".confirm", b"+ACK")
                self.send(ack + self._pull)
        else:
            self.tally.fail(f"a pull was answered {words} {payload[:100]!r}")


class Nats(Peer):
    """JetStream, one server, file storage."""

    name = "nats"
    title = "NATS JetStream, sync_interval: always"
    settings = (
        "file storage, one replica, `sync_interval: always`, a work-queue stream and a durable pull "
        "consumer for each lane, explicit acks awaited (double ack): the ack removes the message, "
        "and both writes are synced before they are confirmed"
    )

    def program(self) -> str | None:
        return find_program("nats-server")

    def version(self) -> str:
        line = first_line([self.program() or "nats-server", "--version"])
        return line.removeprefix("nats-server: v")

    def start(self, directory: Path) -> Running:
        port = free_port()
        config = directory / "nats.conf"
        store = json.dumps(str(directory / "store"))
        config.write_text(
            f"listen: 127.0.0.1:{port}\njetstream {{ store_dir: {store}, sync_interval: always }}\n"
        )
        command = [self.program() or "nats-server", "-c", str(config)]
        server = Server(self.name, command, log=directory / "server.log")
        running = Running(port, [server])
        running.wait_until_ready(lambda: "Server is ready" in server.tail())
        return running

    async def open_lanes(self, port: int, tally: Tally, lanes: int, body: bytes) -> None:
        opened = []
        for number in range(lanes):
            lane = Lane(tally)
            await _Consumer(lane, number, len(body)).prepare(port)
            await _Publisher(lane, number, body).prepare(port)
            opened.append(lane)
        for lane in opened:
            lane.begin()
