"""gRPC: Receive, Subscribe and Pull, by grpc.aio's own client."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar, Final

import grpc

from restante.testing.transports.driver import (
    Answer,
    Delivered,
    Driver,
    Options,
    Outcome,
    Target,
    Want,
)
from restante.testing.transports.drivers import over_proto
from restante.testing.transports.drivers.over_proto import SERVICE
from restante.wire.proto import restante_pb2 as pb

_OPTIONS: Final = (("grpc.max_receive_message_length", -1),)


class Connection:
    """A channel, and the calls on it with one key."""

    def __init__(
        self, target: Target, key: str, compression: grpc.Compression | None = None
    ) -> None:
        if target.ca_file:
            authority = Path(target.ca_file).read_bytes()
            self.channel = grpc.aio.secure_channel(
                target.grpc,
                grpc.ssl_channel_credentials(root_certificates=authority),
                options=_OPTIONS,
                compression=compression,
            )
        else:
            self.channel = grpc.aio.insecure_channel(
                target.grpc, options=_OPTIONS, compression=compression
            )
        self.metadata: tuple[tuple[str, str], ...] = (("authorization", f"Bearer {key}"),)

    def call(self, name: str, request: Any = None, *, timeout: float | None = None) -> Any:
        """Start a call by its name; one whose requests are a stream is given none."""
        method = SERVICE.methods_by_name[name]
        kind = "_".join(
            "stream" if streams else "unary"
            for streams in (method.client_streaming, method.server_streaming)
        )
        make = getattr(self.channel, kind)(
            f"/{SERVICE.full_name}/{name}",
            request_serializer=getattr(pb, method.input_type.name).SerializeToString,
            response_deserializer=getattr(pb, method.output_type.name).FromString,
        )
        given = () if method.client_streaming else (request,)
        return make(*given, metadata=self.metadata, timeout=timeout)

    async def unary(self, name: str, request: Any) -> Any:
        return await self.call(name, request)

    async def close(self) -> None:
        await self.channel.close()


class _Streaming:
    """A consumer whose notifications are a stream."""

    def __init__(self, connection: Connection, call: Any) -> None:
        self._connection = connection
        self._call = call
        self._reading = over_proto.Reading()
        self.resume = ""

    async def begin(self) -> None:
        self._reading.begin(_responses(self._call), self._take_in)
        self.resume = await self._reading.attached

    def _take_in(self, response: Any) -> None:
        return

    async def take(self, count: int) -> list[Delivered]:
        return await self._reading.take(count)

    async def settle(self, delivered: Delivered, answer: Answer) -> Outcome:
        return await over_proto.settle(self._connection.unary, delivered, answer)

    async def ended(self) -> None:
        await self._reading.ended()

    async def abandon(self) -> None:
        self._call.cancel()
        await self._reading.ended()

    async def close(self) -> None:
        await self.abandon()
        await self._connection.close()


class ReceiveConsumer(_Streaming):
    """Settles on the stream itself."""

    def __init__(self, connection: Connection, call: Any) -> None:
        super().__init__(connection, call)
        self._refs = itertools.count(1)
        self._answers: dict[str, asyncio.Future[pb.Answer]] = {}

    def _take_in(self, response: Any) -> None:
        for answer in response.answers:
            self._answers.pop(answer.ref).set_result(answer)

    async def settle(self, delivered: Delivered, answer: Answer) -> Outcome:
        ref = f"r{next(self._refs)}"
        self._answers[ref] = asyncio.get_running_loop().create_future()
        done = self._answers[ref]
        settlement = over_proto.settlement_of(delivered.lease, answer)
        await self._call.write(pb.ReceiveRequest(ref=ref, settle=[settlement]))
        told = await done
        return over_proto.outcome_of(told if told.HasField("problem") else told.results[0])

    async def close(self) -> None:
        await self._call.done_writing()
        await super().close()


class PullConsumer:
    """Polls while it is asked to take."""

    resume = ""

    def __init__(self, connection: Connection, queue: str, options: Options) -> None:
        self._connection = connection
        self._queue = queue
        self._lease_seconds = options.lease_seconds

    async def take(self, count: int) -> list[Delivered]:
        got: list[Delivered] = []
        while len(got) < count:
            request = pb.PullRequest(
                queue=self._queue, max=count - len(got), lease_seconds=self._lease_seconds
            )
            response: pb.PullResponse = await self._connection.unary("Pull", request)
            got += [over_proto.delivered_of(item) for item in response.notifications]
        return got

    async def settle(self, delivered: Delivered, answer: Answer) -> Outcome:
        return await over_proto.settle(self._connection.unary, delivered, answer)

    async def ended(self) -> None:
        raise NotImplementedError("a poll is not a connection that stays")

    async def abandon(self) -> None:
        return

    async def close(self) -> None:
        await self._connection.close()


async def _responses(call: Any) -> AsyncIterator[Any]:
    """Until the stream ends, however it does."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        async for response in call:
            yield response


class Receive:
    name: ClassVar[str] = "grpc"
    transport: ClassVar[str] = "grpc"
    offers: ClassVar[frozenset[Want]] = frozenset(Want)

    def __init__(self, target: Target) -> None:
        self._target = target

    async def attach(self, queue: str, key: str, options: Options) -> ReceiveConsumer:
        connection = Connection(self._target, key)
        consumer = ReceiveConsumer(connection, call := connection.call("Receive"))
        await call.write(
            pb.ReceiveRequest(
                queue=queue, credit=over_proto.credit_of(options), resume=options.resume
            )
        )
        await consumer.begin()
        return consumer

    async def publish(
        self, queue: str, key: str, bodies: list[bytes], *, ordering_key: str
    ) -> list[str]:
        """One by one on a stream."""
        connection = Connection(self._target, key)
        call = connection.call("PublishStream")
        for number, body in enumerate(bodies):
            batch = over_proto.publications_of(queue, [body], ordering_key)
            await call.write(pb.PublishStreamRequest(ref=str(number), notifications=batch))
        await call.done_writing()
        results = {
            answer.ref: answer.results[0].id
            async for response in call
            for answer in response.answers
        }
        await connection.close()
        return [results[str(number)] for number in range(len(bodies))]


class _InBatch(Receive):
    """Publishes in one call."""

    async def publish(
        self, queue: str, key: str, bodies: list[bytes], *, ordering_key: str
    ) -> list[str]:
        connection = Connection(self._target, key)
        ids = await over_proto.publish(connection.unary, queue, bodies, ordering_key)
        await connection.close()
        return ids


class Subscribe(_InBatch):
    name: ClassVar[str] = "grpc-subscribe"

    async def attach(  # type: ignore[override]  # another consumer, which settles by calls
        self, queue: str, key: str, options: Options
    ) -> _Streaming:
        connection = Connection(self._target, key)
        request = pb.SubscribeRequest(
            queue=queue, credit=over_proto.credit_of(options), resume=options.resume
        )
        consumer = _Streaming(connection, connection.call("Subscribe", request))
        await consumer.begin()
        return consumer


class Pull(_InBatch):
    name: ClassVar[str] = "grpc-pull"
    offers: ClassVar[frozenset[Want]] = frozenset(Want) - {
        Want.ATTACHED,
        Want.CREDIT,
        Want.RESUME,
    }

    async def attach(  # type: ignore[override]  # another consumer, which polls
        self, queue: str, key: str, options: Options
    ) -> PullConsumer:
        return PullConsumer(Connection(self._target, key), queue, options)


DRIVERS: Final[tuple[type[Driver], ...]] = (Receive, Subscribe, Pull)
