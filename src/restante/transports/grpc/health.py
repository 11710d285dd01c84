"""gRPC's own health service (grpc.health.v1), for load balancers: not serving once the service drains.

It asks no key, so it keeps nothing of what strangers send: requests are read by ourselves, few at a time and each in
its time, and all that stays of one is whether it named a service of ours. grpcio would hold a unary request, of any
size, for as long as the call lasts.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from restante.engine.attachments import Ending
from restante.engine.broker import Broker
from restante.errors import RestanteError
from restante.model import SYSTEM
from restante.rpc.service import NAME

SERVICE: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
READERS: Final = 8
"""So many requests are read at a time: each may be as large as the largest of any call before it is refused."""
REQUEST_SECONDS: Final = 5.0
REQUEST_BYTES: Final = 256
_SERVICES: Final = frozenset({"", NAME})
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Health:
    """Asks no key. Who watches is a connection like others: so many at a time, and told when it is time to leave."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._readers = 0

    def handler(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.stream_stream_rpc_method_handler(self.check),
                "Watch": grpc.stream_stream_rpc_method_handler(self.watch),
            },
        )

    async def check(self, _: object, context: Context) -> None:
        if not await self._known(context):
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        await context.write(self._now().SerializeToString())

    async def watch(self, _: object, context: Context) -> None:
        known = await self._known(context)
        try:
            with self._broker.attachments.attach(SYSTEM, _wait_for_retiring):
                status = self._now() if known else health_pb2.HealthCheckResponse(status=_UNKNOWN)
                await context.write(status.SerializeToString())
                await self._broker.retiring.wait()
        except RestanteError as error:
            if not self._broker.draining:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, error.detail)
        await context.write(self._now().SerializeToString())

    async def _known(self, context: Context) -> bool:
        """Whether the request names the service, or none. Ends the call where it will not do."""
        if self._readers >= READERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many ask at once")
        self._readers += 1
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                data = await context.read()
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the request did not arrive")
        finally:
            self._readers -= 1
        if data is not grpc.aio.EOF and len(data) <= REQUEST_BYTES:
            try:
                return health_pb2.HealthCheckRequest.FromString(data).service in _SERVICES
            except DecodeError:
                pass
        # grpcio keeps the error that ends a call, and with it this frame, until garbage is next collected.
        del data
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "this is no HealthCheckRequest")

    def _now(self) -> health_pb2.HealthCheckResponse:
        status = _SERVING if self._broker.ready else _NOT_SERVING
        return health_pb2.HealthCheckResponse(status=status)


def _wait_for_retiring(_: Ending) -> None:
    """Who watches is told before anybody's connection is ended."""
