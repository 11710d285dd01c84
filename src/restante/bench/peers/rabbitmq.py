"""RabbitMQ with quorum queues, which sync their log before they confirm."""

from __future__ import annotations

import abc
import asyncio
import os
from pathlib import Path

from restante.bench.lanes import Lane, LoadFailed, Tally
from restante.bench.peers import amqp
from restante.bench.peers.base import (
    Peer,
    PeerConnection,
    Running,
    connect,
    find_program,
)
from restante.bench.processes import Server, ServerFailed, accepts_connections, free_port

# Debian's command of this name changes to the user rabbitmq and back; this is what it calls.
_SERVER_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_PREFETCH = 1


class _Connection(PeerConnection, abc.ABC):
    """Logs in, opens a channel, and says what it is for in a conversation of its own."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._reader = amqp.FrameReader()
        self._expected = (0, 0)
        self._awaited: asyncio.Future[None] | None = None

    async def prepare(self, port: int) -> None:
        await connect(port, self)
        await self.call(amqp.PROTOCOL_HEADER, amqp.CONNECTION_START)
        await self.call(amqp.start_ok("guest", "guest"), amqp.CONNECTION_TUNE)
        self.send(amqp.tune_ok())
        await self.call(amqp.open_connection("/"), amqp.CONNECTION_OPEN_OK)
        await self.call(amqp.open_channel(), amqp.CHANNEL_OPEN_OK)

    async def call(self, request: bytes, answer: tuple[int, int]) -> None:
        """Send a method and wait for its answer. Raises LoadFailed when another one comes."""
        self._expected = answer
        self._awaited = asyncio.get_running_loop().create_future()
        self.send(request)
        await self._awaited
        self._awaited = None

    def data_received(self, data: bytes) -> None:
        try:
            for kind, payload in self._reader.feed(data):
                if kind == amqp.FRAME_METHOD:
                    self._method(*amqp.split_method(payload))
                elif kind != amqp.FRAME_HEARTBEAT:
                    self.content(kind, payload)
        except amqp.AmqpError as error:
            self._failed(str(error))

    def _method(self, identifier: tuple[int, int], arguments: bytes) -> None:
        if identifier in (amqp.CONNECTION_CLOSE, amqp.CHANNEL_CLOSE):
            self._failed(f"RabbitMQ closed: {amqp.close_reason(arguments)}")
        elif self._awaited is None or self._awaited.done():
            self.got(identifier, arguments)
        elif identifier == self._expected:
            self._awaited.set_result(None)
        else:
            self._failed(f"method {identifier} instead of {self._expected}")

    def _failed(self, reason: str) -> None:
        self.tally.fail(reason)
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_exception(LoadFailed(reason))

    @abc.abstractmethod
    def got(self, identifier: tuple[int, int], arguments: bytes) -> None:
        """What a lane does with it."""

    def content(self, kind: int, payload: bytes) -> None:
        """A content header or body frame; publishers get none."""


class _Publisher(_Connection):
    """One publish at a time, the next one after its confirm."""

    def __init__(self, lane: Lane, queue: str, body: bytes) -> None:
        super().__init__(lane.tally)
        self._lane = lane
        self._queue = queue
        self._publish_one = amqp.publish(queue, body)
        lane.publish = self._publish

    def _publish(self) -> None:
        self.send(self._publish_one)

    async def prepare(self, port: int) -> None:
        await super().prepare(port)
        await self.call(amqp.declare_quorum_queue(self._queue), amqp.QUEUE_DECLARE_OK)
        await self.call(amqp.confirm_select(), amqp.CONFIRM_SELECT_OK)

    def got(self, identifier: tuple[int, int], arguments: bytes) -> None:
        if identifier == amqp.BASIC_ACK:
            self._lane.confirmed()
        else:
            self.tally.fail(f"a publish was answered by method {identifier}")


class _Consumer(_Connection):
    """Acks each delivery by itself; with a prefetch of one, the next shows that it was done."""

    def __init__(self, lane: Lane, queue: str, length: int) -> None:
        super().__init__(lane.tally)
        self._lane = lane
        self._queue = queue
        self._length = length
        self._tag = 0
        self._missing = 0
        self._acked = False

    async def prepare(self, port: int) -> None:
        await super().prepare(port)
        await self.call(amqp.qos(_PREFETCH), amqp.BASIC_QOS_OK)
        await self.call(amqp.consume(self._queue), amqp.BASIC_CONSUME_OK)

    def got(self, identifier: tuple[int, int], arguments: bytes) -> None:
        if identifier != amqp.BASIC_DELIVER:
            self.tally.fail(f"method {identifier} instead of a delivery")
            return
        if self._acked:
            self._lane.completed()
        self._tag = amqp.delivery_tag(arguments)
        self._missing = self._length

    def content(self, kind: int, payload: bytes) -> None:
        if kind != amqp.FRAME_BODY:
            return
        self._missing -= len(payload)
        if self._missing == 0 and self.tally.running:
            self._acked = True
            self.send(amqp.ack(self._tag))


class RabbitMq(Peer):
    """One node, a quorum queue of one member for each lane."""

    name = "rabbitmq"
    title = "RabbitMQ, quorum queues"
    settings = (
        "quorum queues of one member, publisher confirms one at a time, prefetch 1, single acks; "
        "AMQP 0-9-1 does not confirm an ack: it counts when the next delivery shows it was taken"
    )

    def program(self) -> str | None:
        if _SERVER_SCRIPT.exists():
            return str(_SERVER_SCRIPT)
        return find_program("rabbitmq-server")

    def version(self) -> str:
        # Its own `rabbitmqctl version` would start Erlang's port mapper and leave it running.
        found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
        return found[-1].name.removeprefix("rabbitmq_server-") if found else ""

    def start(self, directory: Path) -> Running:
        # Erlang's port mapper would otherwise be started as a daemon and left behind.
        mapper = find_program("epmd")
        if mapper is None:
            raise ServerFailed("RabbitMQ needs epmd, which is not installed")
        mapper_port = free_port()
        local = {"ERL_EPMD_PORT": str(mapper_port), "ERL_EPMD_ADDRESS": "127.0.0.1"}
        mapper_server = Server("epmd", [mapper], log=directory / "epmd.log", environment=local)
        port = free_port()
        (directory / "enabled_plugins").write_text("[].\n")
        (directory / "rabbitmq.conf").write_text("log.console = true\nlog.file = false\n")
        (directory / "rabbitmq-env.conf").touch()
        environment = local | {
            "HOME": str(directory),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_PID_FILE": str(directory / "server.pid"),
            "RABBITMQ_NODENAME": f"bench-{os.getpid()}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        server = Server(
            self.name,
            [self.program() or "rabbitmq-server"],
            log=directory / "server.log",
            environment=environment,
        )
        running = Running(port, [mapper_server, server])
        running.wait_until_ready(lambda: accepts_connections(port))
        return running

    async def open_lanes(self, port: int, tally: Tally, lanes: int, body: bytes) -> None:
        opened = []
        for number in range(lanes):
            lane, queue = Lane(tally), f"lane-{number}"
            await _Publisher(lane, queue, body).prepare(port)
            await _Consumer(lane, queue, len(body)).prepare(port)
            opened.append(lane)
        for lane in opened:
            lane.begin()
