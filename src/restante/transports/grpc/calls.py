"""Each call: its messages to the service and back, and how it ends. The service decides all else.

A key is asked for before a byte of a request is taken in, so that no stranger has anything kept in memory. It is asked
about again once the request is there: whoever held it back may have lost their key meanwhile.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from restante.errors import Malformed, RestanteError, TooSlow
from restante.http.authentication import Authenticator
from restante.http.proxies import TrustedProxies
from restante.logs import get_logger
from restante.model import Actor
from restante.rpc.link import LinkClosed
from restante.rpc.messages import carry, decode
from restante.rpc.service import NAME, Call, Service
from restante.tracecontext import context_of
from restante.transports.grpc.callers import Callers, Context
from restante.wire.codes import Code, code_of, detail_of

_log = get_logger(__name__)

REQUEST_SECONDS: Final = 30.0
"""How long the one request of a call may take that shows a certificate in place of a key."""
CODE_KEY: Final = "restante-code"
"""Trailing metadata: the error's stable code."""
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
M = TypeVar("M", bound=Message)
T = TypeVar("T")
_STATUSES: Final = {Code(status.value[0]): status for status in grpc.StatusCode if status.value[0]}


class Gate(grpc.aio.ServerInterceptor):
    """Lets in who is known, to the calls of the service. What it does not know is another handler's."""

    def __init__(
        self,
        service: Service,
        authenticator: Authenticator,
        trusted: TrustedProxies | None = None,
    ) -> None:
        self._calls = {f"/{NAME}/{name}": call for name, call in service.calls.items()}
        self._callers = Callers(authenticator, trusted)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        call = self._calls.get(handler_call_details.method)
        if call is None:
            return await continuation(handler_call_details)
        try:
            actor = await self._callers.by_key(handler_call_details.invocation_metadata)
        except RestanteError as error:
            return _refusal(error)
        return self._keyless(call) if actor is None else self._handler(call, actor)

    def _handler(self, call: Call, actor: Actor) -> Handler:
        if call.answers is not None:
            return self._answering(call.request, call.answers, actor)
        if call.writes is not None:
            return self._writing(call.request, call.writes, actor)
        return self._conversing(call.request, call.converses, actor)

    def _answering(self, request: type[Message], answers: Any, actor: Actor) -> Handler:
        async def answer(data: bytes, context: Context) -> bytes:
            who = await self._callers.confirmed(actor, context)
            message: Message = await answers(who, _decoded(request, data, context))
            return message.SerializeToString()

        async def handle(data: bytes, context: Context) -> bytes:
            work = answer(data, context)
            del data
            return await _ended(context, work)

        return grpc.unary_unary_rpc_method_handler(handle)

    def _writing(self, request: type[Message], writes: Any, actor: Actor) -> Handler:
        async def write(data: bytes, context: Context) -> None:
            who = await self._callers.confirmed(actor, context)
            await writes(who, _decoded(request, data, context), _Line(context))

        async def handle(data: bytes, context: Context) -> None:
            work = write(data, context)
            del data
            await _ended(context, work)

        return grpc.unary_stream_rpc_method_handler(handle)

    def _conversing(self, request: type[Message], converses: Any, actor: Actor) -> Handler:
        async def converse(context: Context) -> None:
            who = await self._callers.confirmed(actor, context)
            await converses(who, _TwoWay(context, request))

        async def handle(_: object, context: Context) -> None:
            await _ended(context, converse(context))

        return grpc.stream_stream_rpc_method_handler(handle)

    def _keyless(self, call: Call) -> Handler:
        """Whatever the call, it is served as a conversation: nothing of it is read before its certificate is known."""

        async def converse(context: Context) -> None:
            who = await self._callers.confirmed(None, context)
            link = _TwoWay(context, call.request)
            if call.converses is not None:
                await call.converses(who, link)
                return
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    request = await link.read()
            except TimeoutError:
                raise TooSlow("the request did not arrive in time") from None
            if request is None:
                raise Malformed("the call has no request")
            # Whoever held it back may have lost their key meanwhile.
            who = await self._callers.confirmed(who, context)
            if call.writes is not None:
                await call.writes(who, request, link)
            elif call.answers is not None:
                await link.write(await call.answers(who, request))

        async def handle(_: object, context: Context) -> None:
            await _ended(context, converse(context))

        return grpc.stream_stream_rpc_method_handler(handle)


class _Line:
    """The way to the client. When it leaves, gRPC cancels what serves it: there is nothing to watch."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def gone(self) -> bool:
        return False

    def watch(self, on_gone: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    async def write(self, message: Message) -> None:
        try:
            await self._context.write(message.SerializeToString())
        except grpc.aio.BaseError as error:
            raise LinkClosed from error


class _TwoWay(_Line):
    def __init__(self, context: Context, request: type[Message]) -> None:
        super().__init__(context)
        self._request = request

    async def read(self) -> Message | None:
        data = await self._context.read()
        return None if data is grpc.aio.EOF else _decoded(self._request, data, self._context)


def _decoded(kind: type[M], data: bytes, context: Context) -> M:
    message = decode(kind, data)
    carry(message, context_of(context.invocation_metadata() or ()))
    return message


async def _ended(context: Context, work: Awaitable[T]) -> T:
    """What the call comes to; an error is its status, told here and only here."""
    try:
        return await work
    except LinkClosed as error:
        # As gRPC itself has it, for a call whose client has left.
        raise asyncio.CancelledError from error
    except RestanteError as error:
        await _abort(context, error)
    except Exception:  # noqa: BLE001  # the client learns nothing of our insides; the log tells all
        _log.exception("grpc.failed")
        await _abort(context, RestanteError())


async def _abort(context: Context, error: RestanteError) -> NoReturn:
    # grpcio keeps what ends a call in a cycle, with the frames that it came through, until garbage is next collected:
    # a request of 24 MiB must not be among them.
    traceback.clear_frames(error.__traceback__)
    try:
        await context.abort(_STATUSES[code_of(error)], detail_of(error), ((CODE_KEY, error.code),))
    except grpc.aio.InternalError as closed:
        raise asyncio.CancelledError from closed


def _refusal(error: RestanteError) -> Handler:
    """Answers before anything of a request is read, whatever the call."""

    async def refuse(_: object, context: Context) -> None:
        await _abort(context, error)

    return grpc.stream_stream_rpc_method_handler(refuse)
