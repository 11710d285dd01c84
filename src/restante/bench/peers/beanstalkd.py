"""beanstalkd, with an fsync for each write to its log (protocol: its doc/protocol.txt)."""

from __future__ import annotations

import abc
import asyncio
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
from restante.bench.processes import Server, accepts_connections, free_port

_LINE_END = b"\r\n"
_TIME_TO_RUN_SECONDS = 60


class ReplyReader:
    """Cuts a stream of bytes into beanstalkd's replies."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[tuple[list[bytes], bytes]]:
        """Take bytes; return the replies now complete: the words of the line, and the job."""
        buffer = self._buffer + data if self._buffer else data
        replies: list[tuple[list[bytes], bytes]] = []
        while True:
            end = buffer.find(_LINE_END)
            if end < 0:
                break
            words = buffer[:end].split(b" ")
            stop = end + 2
            job = b""
            if words[0] == b"RESERVED":
                length = int(words[2])
                stop += length + 2
                if len(buffer) < stop:
                    break
                job = buffer[end + 2 : end + 2 + length]
            replies.append((words, job))
            buffer = buffer[stop:]
        self._buffer = buffer
        return replies


class _Connection(PeerConnection, abc.ABC):
    """A connection that has chosen its tube, and then does its work."""

    def __init__(self, tally: Tally, choose_tube: bytes, replies: int) -> None:
        super().__init__(tally)
        self._reader = ReplyReader()
        self._choose_tube = choose_tube
        self._awaited = replies
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def prepare(self, port: int) -> None:
        await connect(port, self)
        self.send(self._choose_tube)
        await self.ready

    def data_received(self, data: bytes) -> None:
        for words, job in self._reader.feed(data):
            if not self._awaited:
                self.replied(words, job)
                continue
            self._awaited -= 1
            if words[0] not in (b"USING", b"WATCHING"):
                self.ready.set_exception(LoadFailed(f"choosing a tube: {words}"))
            elif not self._awaited:
                self.ready.set_result(None)

    @abc.abstractmethod
    def replied(self, words: list[bytes], job: bytes) -> None:
        """What a lane does with it."""


class _Publisher(_Connection):
    def __init__(self, lane: Lane, tube: bytes, body: bytes) -> None:
        super().__init__(lane.tally, b"use %b\r\n" % tube, replies=1)
        self._lane = lane
        self._put = b"put 0 0 %d %d\r\n%b\r\n" % (_TIME_TO_RUN_SECONDS, len(body), body)
        lane.publish = self._publish

    def _publish(self) -> None:
        self.send(self._put)

    def replied(self, words: list[bytes], job: bytes) -> None:
        if words[0] == b"INSERTED":
            self._lane.confirmed()
        else:
            self.tally.fail(f"a put was answered {words}")


class _Consumer(_Connection):
    def __init__(self, lane: Lane, tube: bytes, length: int) -> None:
        super().__init__(lane.tally, b"watch %b\r\nignore default\r\n" % tube, replies=2)
        self._lane = lane
        self._length = length

    def begin(self) -> None:
        self.send(b"reserve\r\n")

    def replied(self, words: list[bytes], job: bytes) -> None:
        if words[0] == b"RESERVED" and len(job) == self._length:
            if self.tally.running:
                # Both in one write: the delete is answered first, then the next job is awaited.
                self.send(b"delete %b\r\nreserve\r\n" % words[1])
        elif words[0] == b"DELETED":
            self._lane.completed()
        elif words[0] != b"DEADLINE_SOON":
            self.tally.fail(f"a consumer was answered {words}")


class Beanstalkd(Peer):
    """Jobs in tubes, one process, one thread."""

    name = "beanstalkd"
    title = "beanstalkd, fsync each"
    settings = "`-f 0`: each put and delete is fsynced before its answer (a reserve is not written)"

    def program(self) -> str | None:
        return find_program("beanstalkd")

    def version(self) -> str:
        return first_line([self.program() or "beanstalkd", "-v"]).removeprefix("beanstalkd ")

    def start(self, directory: Path) -> Running:
        port = free_port()
        log_directory = directory / "binlog"
        log_directory.mkdir()
        command = [self.program() or "beanstalkd", "-l", "127.0.0.1", "-p", str(port)]
        command += ["-b", str(log_directory), "-f", "0"]
        server = Server(self.name, command, log=directory / "server.log")
        running = Running(port, [server])
        running.wait_until_ready(lambda: accepts_connections(port))
        return running

    async def open_lanes(self, port: int, tally: Tally, lanes: int, body: bytes) -> None:
        opened = []
        for number in range(lanes):
            lane, tube = Lane(tally), b"lane-%d" % number
            await _Publisher(lane, tube, body).prepare(port)
            consumer = _Consumer(lane, tube, len(body))
            await consumer.prepare(port)
            consumer.begin()
            opened.append(lane)
        for lane in opened:
            lane.begin()
