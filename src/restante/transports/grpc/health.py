"""gRPC's own health service (grpc.health.v1), for load balancers: not serving once the service drains."""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeAlias

import grpc
from grpc_health.v1 import health_pb2

from restante.engine.attachments import Ending
from restante.engine.broker import Broker
from restante.errors import RestanteError
from restante.model import SYSTEM
from restante.rpc.service import NAME

SERVICE: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_SERVICES: Final = frozenset({"", NAME})
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Health:
    """Asks no key. Who watches is a connection like others: so many at a time, and told when it is time to leave."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def handler(self) -> grpc.GenericRpcHandler:
        reads = health_pb2.HealthCheckRequest.FromString
        writes = health_pb2.HealthCheckResponse.SerializeToString
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self.check, reads, writes),
                "Watch": grpc.unary_stream_rpc_method_handler(self.watch, reads, writes),
            },
        )

    async def check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in _SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return self._now()

    async def watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        try:
            with self._broker.attachments.attach(SYSTEM, ending.set_result):
                known = request.service in _SERVICES
                status = self._now() if known else health_pb2.HealthCheckResponse(status=_UNKNOWN)
                await context.write(status)
                await ending
        except RestanteError as error:
            if not self._broker.draining:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, error.detail)
        await context.write(self._now())

    def _now(self) -> health_pb2.HealthCheckResponse:
        down = self._broker.draining or self._broker.store.failed.done()
        return health_pb2.HealthCheckResponse(status=_NOT_SERVING if down else _SERVING)
