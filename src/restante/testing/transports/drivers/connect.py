"""Connect, with binary messages and with JSON, and gRPC-Web: Subscribe, and calls of Settle, over HTTP/1.1."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, ClassVar, Final

import httpx
from google.protobuf import json_format

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
from restante.testing.transports.stage import http_client
from restante.wire.proto import restante_pb2 as pb


class Protocol:
    """How messages stand in a request and in an answer."""

    single: ClassVar[str] = "application/proto"
    streamed: ClassVar[str] = "application/connect+proto"
    last_flag: ClassVar[int] = 0x02

    @staticmethod
    def encode(message: Any) -> bytes:
        data: bytes = message.SerializeToString()
        return data

    @staticmethod
    def decode(kind: Any, data: bytes) -> Any:
        return kind.FromString(data)

    @classmethod
    def request(cls, message: Any) -> bytes:
        """The body of a call that is answered once."""
        return cls.encode(message)

    @classmethod
    def response(cls, kind: Any, body: bytes) -> Any:
        """The message in the body of such an answer."""
        return cls.decode(kind, body)


class InBinary(Protocol):
    pass


class InJson(Protocol):
    single: ClassVar[str] = "application/json"
    streamed: ClassVar[str] = "application/connect+json"

    @staticmethod
    def encode(message: Any) -> bytes:
        return json_format.MessageToJson(message).encode()

    @staticmethod
    def decode(kind: Any, data: bytes) -> Any:
        return json_format.Parse(data, kind())


class Web(Protocol):
    single: ClassVar[str] = "application/grpc-web+proto"
    streamed: ClassVar[str] = "application/grpc-web+proto"
    last_flag: ClassVar[int] = 0x80

    @classmethod
    def request(cls, message: Any) -> bytes:
        return envelope(cls.encode(message))

    @classmethod
    def response(cls, kind: Any, body: bytes) -> Any:
        (_, data), (flag, trailers) = split(body)[0]
        assert flag == cls.last_flag
        assert trailers == b"grpc-status: 0\r\n"
        return cls.decode(kind, data)


def envelope(data: bytes) -> bytes:
    return bytes(1) + len(data).to_bytes(4, "big") + data


def split(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole envelopes in front, as flag and message, and what is left over."""
    found: list[tuple[int, bytes]] = []
    while len(data) >= 5 and len(data) >= (end := 5 + int.from_bytes(data[1:5], "big")):
        found.append((data[0], data[5:end]))
        data = data[end:]
    return found, data


class Calls:
    """The calls with one key."""

    def __init__(self, target: Target, key: str, protocol: type[Protocol]) -> None:
        self.http = http_client(target, key)
        self._protocol = protocol

    async def unary(self, name: str, request: Any) -> Any:
        response = await self.http.post(
            f"/{SERVICE.full_name}/{name}",
            content=self._protocol.request(request),
            headers={"content-type": self._protocol.single},
        )
        assert response.status_code == 200, response.text
        kind = getattr(pb, SERVICE.methods_by_name[name].output_type.name)
        return self._protocol.response(kind, response.content)

    async def subscribe(self, request: pb.SubscribeRequest) -> httpx.Response:
        asked = self.http.build_request(
            "POST",
            f"/{SERVICE.full_name}/Subscribe",
            content=envelope(self._protocol.encode(request)),
            headers={"content-type": self._protocol.streamed},
        )
        response = await self.http.send(asked, stream=True)
        assert response.status_code == 200, await response.aread()
        return response

    async def responses(self, response: httpx.Response) -> AsyncIterator[pb.SubscribeResponse]:
        """Until the stream ends, however it does."""
        rest = b""
        with contextlib.suppress(httpx.HTTPError):
            async for chunk in response.aiter_raw():
                whole, rest = split(rest + chunk)
                for flag, data in whole:
                    if flag == self._protocol.last_flag:
                        return
                    yield self._protocol.decode(pb.SubscribeResponse, data)


class ConnectConsumer:
    def __init__(self, calls: Calls, response: httpx.Response) -> None:
        self.calls = calls
        self._response = response
        self._reading = over_proto.Reading()
        self.resume = ""

    async def begin(self) -> None:
        self._reading.begin(self.calls.responses(self._response), lambda _: None)
        self.resume = await self._reading.attached

    async def take(self, count: int) -> list[Delivered]:
        return await self._reading.take(count)

    async def settle(self, delivered: Delivered, answer: Answer) -> Outcome:
        return await over_proto.settle(self.calls.unary, delivered, answer)

    async def ended(self) -> None:
        await self._reading.ended()

    async def abandon(self) -> None:
        if self._reading.task is not None:
            self._reading.task.cancel()
        await self._reading.ended()
        await self._response.aclose()

    async def close(self) -> None:
        await self.abandon()
        await self.calls.http.aclose()


class Connect:
    name: ClassVar[str] = "connect"
    transport: ClassVar[str] = "connect"
    offers: ClassVar[frozenset[Want]] = frozenset(Want)
    protocol: ClassVar[type[Protocol]] = InBinary

    def __init__(self, target: Target) -> None:
        self._target = target

    async def attach(self, queue: str, key: str, options: Options) -> ConnectConsumer:
        calls = Calls(self._target, key, self.protocol)
        response = await calls.subscribe(
            pb.SubscribeRequest(
                queue=queue, credit=over_proto.credit_of(options), resume=options.resume
            )
        )
        consumer = ConnectConsumer(calls, response)
        await consumer.begin()
        return consumer

    async def publish(
        self, queue: str, key: str, bodies: list[bytes], *, ordering_key: str
    ) -> list[str]:
        calls = Calls(self._target, key, self.protocol)
        async with calls.http:
            return await over_proto.publish(calls.unary, queue, bodies, ordering_key)


class ConnectJson(Connect):
    name: ClassVar[str] = "connect-json"
    protocol: ClassVar[type[Protocol]] = InJson


class GrpcWeb(Connect):
    name: ClassVar[str] = "grpc-web"
    transport: ClassVar[str] = "grpc-web"
    protocol: ClassVar[type[Protocol]] = Web


DRIVERS: Final[tuple[type[Driver], ...]] = (Connect, ConnectJson, GrpcWeb)
