"""gRPC with streams that the lanes of the generator share: what they say within one turn is one message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from restante.bench.http2 import Call, GrpcConnection, message
from restante.bench.lanes import LANE_BACKLOG
from restante.bench.specs import Target
from restante.bench.ways.base import Collecting, OnError, publisher_key
from restante.bench.ways.grpc import SERVICE, Grpc, Receive, ack_of, field, publication
from restante.model import BATCH
from restante.wire.proto import restante_pb2 as pb

STREAMS_OF_CONNECTION = 900
"""The server allows 1,000."""


class GrpcStreams(Grpc):
    name = "grpc-stream"
    title = "gRPC, streams"
    requests = "0 (2 messages or fewer)"
    settings = (
        "all publishers share one stream of PublishStream, all consumers' streams of Receive a connection, "
        f"with a credit of {LANE_BACKLOG} each; what is published, and what is acked, within one turn of the "
        "generator's loop is one message"
    )

    def __init__(self) -> None:
        self._connecting = asyncio.Lock()
        self._publishers: dict[int, Publishers] = {}
        self._consumers: dict[int, Consumers] = {}

    async def connect_publisher(
        self,
        target: Target,
        queue: str,
        body: bytes,
        on_confirm: Callable[[], None],
        on_error: OnError,
    ) -> Callable[[], None]:
        async with self._connecting:
            shared = self._publishers.get(target.grpc_port)
            if shared is None:
                connection = await GrpcConnection.open(
                    target.grpc_port, SERVICE + "PublishStream", publisher_key(target), on_error
                )
                shared = self._publishers[target.grpc_port] = Publishers(connection, on_error)
        item = field(2, publication(queue, body))
        return lambda: shared.publish(item, on_confirm)

    async def connect_consumer(self, target: Target, queue: str, collecting: Collecting) -> None:
        async with self._connecting:
            shared = self._consumers.get(target.grpc_port)
            if shared is None or shared.full:
                connection = await GrpcConnection.open(
                    target.grpc_port, SERVICE + "Receive", target.client_key, collecting.failed
                )
                shared = self._consumers[target.grpc_port] = Consumers(connection)
            attached = shared.receive(queue, collecting)
        await attached


class Publishers:
    """All lanes' publishes on one stream: those of one turn are a batch, and each batch is awaited."""

    def __init__(self, connection: GrpcConnection, on_error: OnError) -> None:
        self._connection = connection
        self._on_error = on_error
        self._items: list[bytes] = []
        self._confirms: list[Callable[[], None]] = []
        self._under_way: dict[str, list[Callable[[], None]]] = {}
        self._batches = 0
        self._call: Call = connection.call(
            self._came, lambda head: on_error(f"a stream of PublishStream ended with {head!r}")
        )

    def publish(self, item: bytes, on_confirm: Callable[[], None]) -> None:
        if not self._items:
            asyncio.get_running_loop().call_soon(self._send)
        self._items.append(item)
        self._confirms.append(on_confirm)

    def _send(self) -> None:
        items, self._items = self._items, []
        confirms, self._confirms = self._confirms, []
        for start in range(0, len(items), BATCH):
            self._batches += 1
            ref = str(self._batches)
            self._under_way[ref] = confirms[start : start + BATCH]
            batch = b"".join((field(1, ref.encode()), *items[start : start + BATCH]))
            self._connection.send(self._call, message(batch))

    def _came(self, data: bytes) -> None:
        for answer in pb.PublishStreamResponse.FromString(data).answers:
            confirms = self._under_way.pop(answer.ref)
            if len(answer.results) != len(confirms) or not all(one.id for one in answer.results):
                self._on_error(f"a batch was answered {str(answer)[:300]}")
                return
            for confirm in confirms:
                confirm()


class Consumers:
    """Streams of Receive on one connection. The first carries the acks for all: a lease of any queue may be settled
    on any stream of its client.
    """

    def __init__(self, connection: GrpcConnection) -> None:
        self._connection = connection
        self._carrier: Receive | None = None
        self._streams = 0
        self._leases: list[str] = []
        self._owners: list[Collecting] = []
        self._under_way: dict[str, list[Collecting]] = {}
        self._requests = 0

    @property
    def full(self) -> bool:
        return self._streams >= STREAMS_OF_CONNECTION

    def receive(self, queue: str, collecting: Collecting) -> asyncio.Future[None]:
        """One more stream; done when it is attached."""
        self._streams += 1

        def acks(leases: list[str]) -> None:
            if not self._leases:
                asyncio.get_running_loop().call_soon(self._send)
            self._leases.extend(leases)
            self._owners.extend([collecting] * len(leases))

        stream = Receive(self._connection, queue, LANE_BACKLOG, collecting, acks, self._answered)
        if self._carrier is None:
            self._carrier = stream
        return stream.attached

    def _send(self) -> None:
        leases, self._leases = self._leases, []
        owners, self._owners = self._owners, []
        assert self._carrier is not None
        for start in range(0, len(leases), BATCH):
            self._requests += 1
            ref = str(self._requests)
            self._under_way[ref] = owners[start : start + BATCH]
            asks = field(1, ref.encode()) + b"".join(map(ack_of, leases[start : start + BATCH]))
            self._connection.send(self._carrier.call, message(asks))

    def _answered(self, answer: pb.Answer) -> None:
        owners = self._under_way.pop(answer.ref)
        if len(answer.results) != len(owners):
            owners[0].failed(f"acks were answered {str(answer)[:300]}")
            return
        for owner, result in zip(owners, answer.results, strict=True):
            if result.outcome == "acked":
                owner.settled()
            else:
                owner.failed(f"an ack was answered {result}")
