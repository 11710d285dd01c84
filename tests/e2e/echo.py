"""A small gRPC server, to see what proxies do to gRPC: it answers each message with the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio
from tests.e2e.ways import Ways

from restante.testing.servers.proxies import Behind, address_of

UNARY = "/restante.test.Echo/Unary"
STREAM = "/restante.test.Echo/Stream"


class Echo:
    """Runs while it is entered. ``metadata`` is what came with the last call; ``gone`` is set when a stream ends."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.gone = asyncio.Event()
        self._server = grpc.aio.server()
        handlers: dict[str, Any] = {
            "Unary": grpc.unary_unary_rpc_method_handler(self._unary),
            "Stream": grpc.stream_stream_rpc_method_handler(self._stream),
        }
        service = grpc.method_handlers_generic_handler("restante.test.Echo", handlers)
        self._server.add_generic_rpc_handlers((service,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    async def _unary(self, message: bytes, context: Any) -> bytes:
        self._note(context)
        return message

    async def _stream(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self._note(context)
        try:
            async for message in messages:
                yield message
        finally:
            self.gone.set()

    def _note(self, context: Any) -> None:
        self.metadata = {str(name): str(value) for name, value in context.invocation_metadata()}


class EchoClient:
    """Calls an echo through another proxy of that kind."""

    def __init__(self, ways: Ways, way: str, folder: Path, echo: Echo) -> None:
        behind = Behind(address_of(ways.plain.url), address_of(ways.plain.admin_url), echo.address)
        issued = ways.authority.for_server("127.0.0.1")
        self._proxy = type(ways.proxies[way])(folder / way, [behind], issued, ways.authority.file)
        self._credentials = grpc.ssl_channel_credentials(ways.authority.file.read_bytes())
        self._stack = AsyncExitStack()
        self.url = self._proxy.url

    async def __aenter__(self) -> Self:
        self._stack.enter_context(self._proxy.running())
        self._channel = await self._stack.enter_async_context(
            grpc.aio.secure_channel(self._proxy.address, self._credentials)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def unary(self, message: bytes, metadata: Any) -> bytes:
        call: Any = self._channel.unary_unary(UNARY)
        answer: bytes = await call(message, metadata=metadata)
        return answer

    def stream(self) -> Any:
        call: Any = self._channel.stream_stream(STREAM)
        return call()
