"""gRPC: a call for each publish and a stream for each consumer, or streams that all lanes share.

Requests are put together from messages that were encoded beforehand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from restante.bench.http2 import Call, GrpcConnection, message
from restante.bench.specs import Target
from restante.bench.ways.base import Collecting, OnError, Way, publisher_key
from restante.wire.proto import restante_pb2 as pb

SERVICE = "/restante.v1.Delivery/"
_ACK = pb.Settlement(ack=pb.Ack()).SerializeToString()


def field(number: int, payload: bytes) -> bytes:
    """A member of a message that has a length: bytes, text, or a message itself."""
    size, length = len(payload), bytearray()
    while size > 127:
        length.append(128 | size & 127)
        size >>= 7
    length.append(size)
    return bytes((number << 3 | 2,)) + length + payload


def ack_of(lease: str) -> bytes:
    """A settlement, as a member of a ReceiveRequest."""
    return field(4, field(1, lease.encode()) + _ACK)


def publication(queue: str, body: bytes) -> bytes:
    """What is published, each time the same."""
    made = pb.Publication(queue=queue, content_type="application/xml", body=body)
    return made.SerializeToString()


def all_acked(answer: pb.Answer) -> bool:
    """Whether an answer's settlements went well, all of them."""
    return not answer.problem.code and all(one.outcome == "acked" for one in answer.results)


class Grpc(Way):
    name = "grpc"
    title = "gRPC, unary publishes"
    requests = "0 (2 messages)"
    settings = (
        "a call of Publish for each notification; a stream of Receive for each consumer, on a "
        "connection of its own, with a credit of one, each notification acked in a message of its own"
    )
    serve_options = ("--grpc-listen", "127.0.0.1:0")

    def port(self, target: Target) -> int:
        return target.grpc_port

    def through(self, target: Target, port: int) -> Target:
        return msgspec.structs.replace(target, grpc_port=port)

    async def connect_publisher(
        self,
        target: Target,
        queue: str,
        body: bytes,
        on_confirm: Callable[[], None],
        on_error: OnError,
    ) -> Callable[[], None]:
        connection = await GrpcConnection.open(
            target.grpc_port, SERVICE + "Publish", publisher_key(target), on_error
        )
        request = message(field(1, publication(queue, body)))
        answered = False

        def answer(data: bytes) -> None:
            nonlocal answered
            results = pb.PublishResponse.FromString(data).results
            if len(results) == 1 and results[0].id:
                answered = True
            else:
                on_error(f"a publish was answered {results}")

        def ended(head: bytes) -> None:
            # The call is over with its trailers, as a client knows it.
            if answered:
                on_confirm()
            else:
                on_error(f"a publish ended with {head!r}")

        def publish() -> None:
            nonlocal answered
            answered = False
            connection.unary(request, answer, ended)

        return publish

    async def connect_consumer(self, target: Target, queue: str, collecting: Collecting) -> None:
        connection = await GrpcConnection.open(
            target.grpc_port, SERVICE + "Receive", target.client_key, collecting.failed
        )

        def acks(leases: list[str]) -> None:
            for lease in leases:
                connection.send(stream.call, message(ack_of(lease)))

        def answered(answer: pb.Answer) -> None:
            if not all_acked(answer):
                collecting.failed(f"an ack was answered {answer}")
                return
            for _ in answer.results:
                collecting.settled()

        stream = Receive(connection, queue, 1, collecting, acks, answered)
        await stream.attached


class Receive:
    """One stream of Receive. ``acks`` gets the leases that came in one response, ``answered`` each answer."""

    def __init__(
        self,
        connection: GrpcConnection,
        queue: str,
        credit: int,
        collecting: Collecting,
        acks: Callable[[list[str]], None],
        answered: Callable[[pb.Answer], None],
    ) -> None:
        self._collecting = collecting
        self._acks = acks
        self._answered = answered
        self.attached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.call: Call = connection.call(self._came, self._ended)
        asks = pb.ReceiveRequest(queue=queue, credit=pb.Credit(messages=credit))
        connection.send(self.call, message(asks.SerializeToString()))

    def _came(self, data: bytes) -> None:
        response = pb.ReceiveResponse.FromString(data)
        for answer in response.answers:
            self._answered(answer)
        leases = []
        for notification in response.notifications:
            self._collecting.came()
            leases.append(notification.lease)
        if leases and self._collecting.running:
            self._acks(leases)
        if not self.attached.done():
            self.attached.set_result(None)

    def _ended(self, head: bytes) -> None:
        if self.attached.done():
            self._collecting.failed(f"a stream of Receive ended with {head!r}")
        else:
            self.attached.set_exception(OSError(f"no stream of Receive: {head!r}"))
