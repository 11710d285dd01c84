"""What the benchmark asks its load generator to do, and what comes back. JSON between the two."""

from __future__ import annotations

import msgspec

from restante.bench.lanes import LaneFigures


class NodePorts(msgspec.Struct):
    """Where one of several nodes listens; `grpc_port` is 0 where it was not asked for."""

    port: int
    grpc_port: int = 0


class Target(msgspec.Struct):
    """A running server. `pids` are the roots of its process tree; keys are Restante's alone, and so are `grpc_port`,
    0 where it was not asked for, and `webhook_port`, to which webhooks go that do not go straight to their receiver.

    Of nodes that share a store `port` and `grpc_port` are the first's and `others` are the rest; `store_pids` and
    `waker_pids` are those of `pids` that belong to the database and to the backplane.
    """

    system: str
    port: int
    pids: list[int]
    admin_key: str = ""
    publisher_key: str = ""
    client_key: str = ""
    client: str = ""
    grpc_port: int = 0
    webhook_port: int = 0
    others: list[NodePorts] = []
    store_pids: list[int] = []
    waker_pids: list[int] = []

    @property
    def nodes(self) -> list[Target]:
        """The target as each of its nodes is: one, unless several share a store."""
        return [self] + [
            msgspec.structs.replace(self, port=other.port, grpc_port=other.grpc_port)
            for other in self.others
        ]

    @property
    def node_pids(self) -> list[int]:
        """The roots of the servers' own processes, without database and backplane."""
        beside = {*self.store_pids, *self.waker_pids}
        return [pid for pid in self.pids if pid not in beside]


class Lanes(msgspec.Struct, tag=True):
    """W1: `lanes` publishers, queues and consumers, one window after a warm-up. `way` is Restante's alone."""

    target: Target
    lanes: int
    body_bytes: int
    warmup_seconds: float
    seconds: float
    way: str = "longpoll"


class MakeQueues(msgspec.Struct, tag=True):
    """Create queues `{prefix}0` to `{prefix}{count - 1}`, owned by the target's client."""

    target: Target
    prefix: str
    count: int


class Fill(msgspec.Struct, tag=True):
    """Publish `per_queue` notifications to each of the queues, in batches."""

    target: Target
    prefix: str
    count: int
    per_queue: int
    body_bytes: int


class Probe(msgspec.Struct, tag=True):
    """Publish, then lease and ack, `operations` times, on random ones of the queues."""

    target: Target
    prefix: str
    count: int
    operations: int
    connections: int
    body_bytes: int


class Wake(msgspec.Struct, tag=True):
    """W2: `idle` consumers, one on each queue; `probes` publishes, one at a time."""

    target: Target
    prefix: str
    idle: int
    probes: int
    body_bytes: int
    way: str


class Idle(msgspec.Struct, tag=True):
    """W3: `idle` consumers, one on each queue."""

    target: Target
    prefix: str
    idle: int
    way: str


class Steady(msgspec.Struct, tag=True):
    """Publishes at a steady `rate` a second, spread over `lanes` queues with a consumer each.

    `never_reading` WebSockets beside them have all the credit there is, on a queue full of large
    notifications, and take nothing.
    """

    target: Target
    way: str
    lanes: int
    rate: float
    seconds: float
    body_bytes: int
    never_reading: int = 0


class WireBytes(msgspec.Struct, tag=True):
    """So many notifications, one after the other, collected and acked by one consumer."""

    target: Target
    way: str
    notifications: int
    body_bytes: int


class Drain(msgspec.Struct, tag=True):
    """W5: one consumer collects and acks all of one queue, `batch` at a time."""

    target: Target
    queue: str
    total: int
    batch: int


class Subscribe(msgspec.Struct, tag=True):
    """Subscribe each of the queues to a topic."""

    target: Target
    topic: str
    prefix: str
    count: int


class FanOut(msgspec.Struct, tag=True):
    """W6: publish once to the topic, which must reach `expected` queues."""

    target: Target
    topic: str
    expected: int
    body_bytes: int


Scenario = (
    Lanes
    | MakeQueues
    | Fill
    | Probe
    | Wake
    | Idle
    | Steady
    | WireBytes
    | Drain
    | Subscribe
    | FanOut
)


class Took(msgspec.Struct):
    """How long something took, and how much processor time it cost on either side."""

    seconds: float
    operations: int
    server_cpu_seconds: float
    generator_cpu_seconds: float


class ProbeFigures(msgspec.Struct):
    """W4: many at a time, and the median of one at a time (seconds)."""

    publish: Took
    lease_ack: Took
    publish_alone_p50_seconds: float
    lease_ack_alone_p50_seconds: float


class WakeFigures(msgspec.Struct):
    """W2: from sending the publish request (over HTTP) to the notification in hand."""

    probes: int
    p50_seconds: float
    p99_seconds: float
    max_seconds: float


class SteadyFigures(msgspec.Struct):
    """From sending the publish request (over HTTP) to the notification in hand, at a steady rate."""

    delivered: int
    seconds: float
    p50_seconds: float
    p99_seconds: float
    server_cpu_seconds: float


class WireFigures(msgspec.Struct):
    """What one consumer's connections carried: the payload of TCP, from the client and to it."""

    notifications: int
    up_bytes: int
    down_bytes: int
    connections: int


class IdleFigures(msgspec.Struct):
    """W3: the server's resident memory without and with the consumers."""

    idle: int
    rss_before_bytes: int
    rss_after_bytes: int


__all__ = [
    "Drain",
    "FanOut",
    "Fill",
    "Idle",
    "IdleFigures",
    "LaneFigures",
    "Lanes",
    "MakeQueues",
    "Probe",
    "ProbeFigures",
    "Scenario",
    "Steady",
    "SteadyFigures",
    "Subscribe",
    "Target",
    "Took",
    "Wake",
    "WakeFigures",
    "WireBytes",
    "WireFigures",
]
