"""Redis Streams, the append-only file fsynced before each answer (protocol: RESP2)."""

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

Reply = bytes | int | list["Reply"] | None


class RedisError(Exception):
    """Redis answered with an error, or not in RESP2."""


def command(*words: bytes) -> bytes:
    """A command as RESP: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(words)]
    parts.extend(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"".join(parts)


class ReplyReader:
    """Cuts a stream of bytes into RESP2 replies."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[Reply]:
        """Take bytes; return the replies now complete. Raises RedisError on an error reply."""
        buffer = self._buffer + data if self._buffer else data
        replies: list[Reply] = []
        at = 0
        while at < len(buffer):
            parsed = _parse(buffer, at)
            if parsed is None:
                break
            reply, at = parsed
            replies.append(reply)
        self._buffer = buffer[at:]
        return replies


def _parse(buffer: bytes, at: int) -> tuple[Reply, int] | None:
    """The reply at this position and where it ends, or None when it is not all there yet."""
    end = buffer.find(_LINE_END, at)
    if end < 0:
        return None
    kind, line, after = buffer[at : at + 1], buffer[at + 1 : end], end + 2
    if kind == b"+":
        return line, after
    if kind == b":":
        return int(line), after
    if kind == b"$":
        length = int(line)
        if length < 0:
            return None, after
        if len(buffer) < after + length + 2:
            return None
        return buffer[after : after + length], after + length + 2
    if kind == b"*":
        return _parse_array(buffer, int(line), after)
    raise RedisError(line.decode(errors="replace"))


def _parse_array(buffer: bytes, count: int, at: int) -> tuple[Reply, int] | None:
    if count < 0:
        return None, at
    items: list[Reply] = []
    for _ in range(count):
        parsed = _parse(buffer, at)
        if parsed is None:
            return None
        item, at = parsed
        items.append(item)
    return items, at


class _Connection(PeerConnection, abc.ABC):
    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._reader = ReplyReader()

    def data_received(self, data: bytes) -> None:
        try:
            for reply in self._reader.feed(data):
                self.replied(reply)
        except RedisError as error:
            self.tally.fail(str(error))

    @abc.abstractmethod
    def replied(self, reply: Reply) -> None:
        """What a lane does with it."""


class _Publisher(_Connection):
    """One XADD at a time."""

    def __init__(self, lane: Lane, stream: bytes, body: bytes) -> None:
        super().__init__(lane.tally)
        self._lane = lane
        self._add = command(b"XADD", stream, b"*", b"b", body)
        lane.publish = self._publish

    def _publish(self) -> None:
        self.send(self._add)

    def replied(self, reply: Reply) -> None:
        if isinstance(reply, bytes):
            self._lane.confirmed()
        else:
            self.tally.fail(f"XADD was answered {reply!r}")


class _Consumer(_Connection):
    """Makes its stream and group, then reads and acks one entry at a time."""

    def __init__(self, lane: Lane, stream: bytes, body: bytes) -> None:
        super().__init__(lane.tally)
        self._lane = lane
        self._stream = stream
        self._body = body
        read = (b"XREADGROUP", b"GROUP", b"g", b"c", b"COUNT", b"1", b"BLOCK", b"0")
        self._read = command(*read, b"STREAMS", stream, b">")
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def prepare(self, port: int) -> None:
        await connect(port, self)
        self.send(command(b"XGROUP", b"CREATE", self._stream, b"g", b"$", b"MKSTREAM"))
        await self._ready
        self.send(self._read)

    def replied(self, reply: Reply) -> None:
        if not self._ready.done():
            if reply == b"OK":
                self._ready.set_result(None)
            else:
                self._ready.set_exception(LoadFailed(f"XGROUP CREATE was answered {reply!r}"))
        elif reply == 1:
            self._lane.completed()
        else:
            self._read_one(reply)

    def _read_one(self, reply: Reply) -> None:
        match reply:
            case [[_, [[bytes() as entry, [_, bytes() as body]]]]]:
                if body != self._body:
                    self.tally.fail("an entry came back changed")
                elif self.tally.running:
                    # Both in one write: the ack is answered, then the next entry is awaited.
                    self.send(command(b"XACK", self._stream, b"g", entry) + self._read)
            case _:
                self.tally.fail(f"XREADGROUP was answered {reply!r}")


class Redis(Peer):
    """Streams with one consumer group each."""

    name = "redis"
    title = "Redis Streams, appendfsync always"
    settings = (
        "`appendonly yes`, `appendfsync always`, no RDB, no rewrite of the file in the run; "
        "XADD, XREADGROUP and XACK only: acked entries stay in the stream (no XDEL)"
    )

    def program(self) -> str | None:
        return find_program("redis-server")

    def version(self) -> str:
        words = first_line([self.program() or "redis-server", "--version"]).split()
        return next((word[2:] for word in words if word.startswith("v=")), "")

    def start(self, directory: Path) -> Running:
        port = free_port()
        arguments = {
            "--bind": "127.0.0.1",
            "--port": str(port),
            "--dir": str(directory),
            "--appendonly": "yes",
            "--appendfsync": "always",
            "--save": "",
            "--auto-aof-rewrite-percentage": "0",
            "--daemonize": "no",
        }
        words = [word for pair in arguments.items() for word in pair]
        server = Server(
            self.name, [self.program() or "redis-server", *words], log=directory / "server.log"
        )
        running = Running(port, [server])
        running.wait_until_ready(lambda: accepts_connections(port))
        return running

    async def open_lanes(self, port: int, tally: Tally, lanes: int, body: bytes) -> None:
        opened = []
        for number in range(lanes):
            lane, stream = Lane(tally), b"lane-%d" % number
            await _Consumer(lane, stream, body).prepare(port)
            await connect(port, _Publisher(lane, stream, body))
            opened.append(lane)
        for lane in opened:
            lane.begin()
