"""Connect and gRPC-Web: the service Delivery of restante.proto over HTTP/1.1, where something does not speak HTTP/2.

The calls that answer once take JSON or binary messages as plain POSTs, so that curl can make them (the Connect
protocol's unary calls). ``Subscribe`` answers in envelopes, each with five bytes in front: a flag and a length
(big-endian). gRPC-Web has envelopes for both. Calls with a stream of requests need gRPC itself. Needs the extra
``grpc``.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import re
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from restante.engine.broker import Broker
from restante.errors import BodyTooLarge, Malformed, RestanteError, UnsupportedMedia
from restante.http.answers import Answer, Header, retry_after
from restante.http.api import Routes, Sendable
from restante.http.authentication import Authenticator
from restante.http.request import ClientGone, Request, SendMessage
from restante.logs import get_logger
from restante.model import BATCH, check_bounds
from restante.ports import Clock
from restante.rpc.link import LinkClosed
from restante.rpc.messages import ATTRIBUTES, MESSAGE_BYTES, carry, decode, to_problem
from restante.rpc.service import NAME, Call, Service
from restante.wire.codes import Code, code_of, detail_of

_log = get_logger(__name__)

CONNECT: Final = "connect"
GRPC_WEB: Final = "grpc-web"
VALUES: Final = 100_000
"""Objects and lists of one request in JSON. A full batch has some thousands."""
_HEAD_BYTES: Final = 5
_COMPRESSED: Final = 0x01
_CONNECT_END: Final = 0x02
_WEB_TRAILERS: Final = 0x80
_HTTP_STATUSES: Final[Mapping[Code, int]] = {
    Code.CANCELED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}
"""As the Connect protocol has it; 500 for the rest."""
_ENCODINGS: Final = (b"content-encoding", b"connect-content-encoding", b"grpc-encoding")
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/_-]{4})*[A-Za-z0-9+/_-]{0,3}={0,2}", re.ASCII)
_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])", re.ASCII)
_UNIT_SECONDS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_STREAM_HEADERS: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store"),
    # For nginx: pass each message on as it comes.
    (b"x-accel-buffering", b"no"),
)


def add_routes(routes: Routes, broker: Broker, authenticator: Authenticator) -> None:
    """Attach the transport."""
    transport = Connect(broker, authenticator)
    for name, call in transport.calls.items():
        if call.converses is None:
            handler = functools.partial(transport.exchange, call)
            # No key is asked for on the way there: who has none is told in this protocol's words.
            routes.add("POST", f"/{NAME}/{name}", handler, None)


class Connect:
    """All calls that HTTP/1.1 can carry."""

    def __init__(self, broker: Broker, authenticator: Authenticator) -> None:
        self.calls = Service(broker).calls
        self._clock = broker.clock
        self._authenticator = authenticator

    async def exchange(self, call: Call, request: Request) -> Sendable:
        media = (request.header(b"content-type") or "").partition(";")[0].strip().lower()
        kinds: Mapping[str, type[Reply]] = _STREAMED if call.streams else _SINGLE
        kind = kinds.get(media)
        if kind is None:
            raise UnsupportedMedia(f"this call takes Content-Type: {', '.join(kinds)}")
        return Exchange(call, request, kind, media, self._authenticator, self._clock)


class Exchange:
    """One request and its answer."""

    def __init__(
        self,
        call: Call,
        request: Request,
        kind: type[Reply],
        media: str,
        authenticator: Authenticator,
        clock: Clock,
    ) -> None:
        self._call = call
        self._request = request
        self._kind = kind
        self._media = media
        self._authenticator = authenticator
        self._clock = clock

    async def send(self, send: SendMessage) -> None:
        reply = self._kind(self._request, self._media, send)
        try:
            await self._within_its_time(reply)
        except (LinkClosed, ClientGone):
            return
        except RestanteError as error:
            await reply.end(End.of(error))
        except Exception:  # noqa: BLE001  # the client learns nothing of our insides; the log tells all
            _log.exception("connect.failed", path=self._request.path)
            await reply.end(End.of(RestanteError()))
        else:
            await reply.end(None)

    async def _within_its_time(self, reply: Reply) -> None:
        seconds = _timeout_seconds(self._request)
        if seconds is None:
            await self._carry_out(reply)
            return
        scope = asyncio.timeout(None)
        try:
            async with scope:
                cancel = self._clock.call_later(seconds, lambda: scope.reschedule(0))
                try:
                    await self._carry_out(reply)
                finally:
                    cancel()
        except TimeoutError:
            if not scope.expired():
                raise
            raise _DeadlineExceeded from None

    async def _carry_out(self, reply: Reply) -> None:
        request, call = self._request, self._call
        actor = await self._authenticator.authenticate(request, reply.transport)
        if request.header(b"connect-protocol-version") not in {None, "1"}:
            raise Malformed("Connect-Protocol-Version is 1")
        for name in _ENCODINGS:
            if (request.header(name) or "identity") != "identity":
                raise UnsupportedMedia("compressed messages are not taken")
        asked = reply.decode(call.request, await request.body(MESSAGE_BYTES))
        carry(asked, request.trace_context())
        # Whoever took long to send it may have lost their key meanwhile.
        actor = await self._authenticator.confirm(actor, actor.remote_address)
        if call.answers is not None:
            await reply.write(await call.answers(actor, asked))
        elif call.writes is not None:
            await call.writes(actor, asked, reply)


class _DeadlineExceeded(RestanteError):
    """The time is up that the client itself set: it needs no code of ours."""


class End(NamedTuple):
    """How a call fails, in the protocols' common words."""

    code: Code
    detail: str
    error: RestanteError | None

    @classmethod
    def of(cls, error: RestanteError) -> End:
        if isinstance(error, _DeadlineExceeded):
            return cls(Code.DEADLINE_EXCEEDED, "the time set for the call is up", None)
        return cls(code_of(error), detail_of(error), error)

    def for_connect(self) -> dict[str, Any]:
        """The error's JSON object in the Connect protocol."""
        told: dict[str, Any] = {"code": self.code.name.lower(), "message": self.detail}
        if self.error is not None:
            problem = to_problem(self.error)
            value = base64.b64encode(problem.SerializeToString()).decode().rstrip("=")
            told["details"] = [{"type": problem.DESCRIPTOR.full_name, "value": value}]
        return told


class Reply(ABC):
    """The answer's form. The way to the client, as the service sees it: ``gone``, ``watch``, ``write``."""

    transport = CONNECT

    def __init__(self, request: Request, media: str, send: SendMessage) -> None:
        self._media = media
        self._send = send
        self._started = False
        self.gone = request.gone
        self.watch = request.watch

    def decode(self, kind: type[Message], body: bytes) -> Message:
        """The request's message. ``Malformed`` when it is none."""
        return _from_json(kind, body) if self._media.endswith("json") else decode(kind, body)

    @abstractmethod
    async def write(self, message: Message) -> None:
        """Send a message. Raises ``LinkClosed``."""

    @abstractmethod
    async def end(self, end: End | None) -> None:
        """Nothing more comes; None when all is well."""

    def _encode(self, message: Message) -> bytes:
        if self._media.endswith("json"):
            return json_format.MessageToJson(message, indent=None).encode()
        return message.SerializeToString()

    async def _put(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


class Single(Reply):
    """Connect's unary calls: one message is the body, and an error is a status and JSON."""

    async def write(self, message: Message) -> None:
        if self.gone():
            raise LinkClosed
        self._started = True
        await Answer(200, self._encode(message), self._media.encode()).send(self._send)

    async def end(self, end: End | None) -> None:
        if end is None or self._started:
            return
        headers: tuple[Header, ...] = ()
        if end.error is not None:
            headers = ((b"restante-code", end.error.code.encode()), *retry_after(end.error))
        if isinstance(end.error, BodyTooLarge):
            # What is left of the body will not be read.
            headers = (*headers, (b"connection", b"close"))
        body = json.dumps(end.for_connect()).encode()
        status = _HTTP_STATUSES.get(end.code, 500)
        await Answer(status, body, headers=headers).send(self._send)


class Envelopes(Reply):
    """Messages in envelopes, whatever becomes of the call with status 200; how it ends stands in the last."""

    def decode(self, kind: type[Message], body: bytes) -> Message:
        if len(body) < _HEAD_BYTES or len(body) != _HEAD_BYTES + int.from_bytes(body[1:5], "big"):
            raise Malformed("the request is one message in its envelope")
        if body[0] & _COMPRESSED:
            raise UnsupportedMedia("compressed messages are not taken")
        return super().decode(kind, body[_HEAD_BYTES:])

    async def write(self, message: Message) -> None:
        if self.gone():
            raise LinkClosed
        await self._begin()
        await self._put(_envelope(0, self._encode(message)), more=True)

    async def end(self, end: End | None) -> None:
        await self._begin()
        await self._put(self._last(end), more=False)

    @abstractmethod
    def _last(self, end: End | None) -> bytes:
        """The envelope that says how it ended."""

    async def _begin(self) -> None:
        if not self._started:
            self._started = True
            headers = [(b"content-type", self._media.encode()), *_STREAM_HEADERS]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})


class ConnectStream(Envelopes):
    """Connect's streams: the last envelope is JSON."""

    def _last(self, end: End | None) -> bytes:
        told: dict[str, Any] = {}
        if end is not None:
            told["error"] = end.for_connect()
            if end.error is not None:
                told["metadata"] = {"restante-code": [end.error.code]}
        return _envelope(_CONNECT_END, json.dumps(told).encode())


class GrpcWeb(Envelopes):
    """gRPC-Web: the last envelope is gRPC's trailers."""

    transport = GRPC_WEB

    def _last(self, end: End | None) -> bytes:
        lines = ["grpc-status: 0"]
        if end is not None:
            lines = [f"grpc-status: {end.code.value}", f"grpc-message: {_percented(end.detail)}"]
            if end.error is not None:
                lines.append(f"restante-code: {end.error.code}")
        text = "".join(f"{line}\r\n" for line in lines)
        return _envelope(_WEB_TRAILERS, text.encode())


_WEB: Final[Mapping[str, type[Reply]]] = {
    "application/grpc-web": GrpcWeb,
    "application/grpc-web+proto": GrpcWeb,
}
_SINGLE: Final[Mapping[str, type[Reply]]] = {
    "application/json": Single,
    "application/proto": Single,
    **_WEB,
}
_STREAMED: Final[Mapping[str, type[Reply]]] = {
    "application/connect+json": ConnectStream,
    "application/connect+proto": ConnectStream,
    **_WEB,
}


def _envelope(flags: int, data: bytes) -> bytes:
    return bytes((flags,)) + len(data).to_bytes(4, "big") + data


def _from_json(kind: type[Message], body: bytes) -> Message:
    name = kind.DESCRIPTOR.name
    # Two characters of an empty object become a hundred bytes in memory. Bodies are base64, which has none of these.
    check_bounds("number of objects and lists", body.count(b"{") + body.count(b"["), 0, VALUES)
    try:
        asked = msgspec.json.decode(body)
        if not isinstance(asked, dict):
            raise Malformed(f"a {name} is an object in JSON")
        _check_members(kind.DESCRIPTOR, asked)
        return json_format.ParseDict(asked, kind())
    except (json_format.ParseError, ValueError) as error:
        raise Malformed(f"not a {name} in JSON: {error}") from error
    except RecursionError as error:
        raise Malformed("the JSON is nested too deeply") from error


def _check_members(kind: Any, asked: Mapping[str, Any]) -> None:
    """Raise ``OutOfBounds`` for lists and maps that are too long, which protobuf would take its time over, and
    ``Malformed`` where bytes are not in base64: protobuf would pass over what does not belong there.
    """
    for name, value in asked.items():
        field = kind.fields_by_name.get(name) or kind.fields_by_camelcase_name.get(name)
        if field is None or value is None:
            continue
        if field.type == FieldDescriptor.TYPE_BYTES:
            if not isinstance(value, str) or not _BASE64.fullmatch(value):
                raise Malformed(f"{name} is not base64")
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            if isinstance(value, dict):
                check_bounds(f"number of {name}", len(value), 0, ATTRIBUTES)
        elif isinstance(value, list) and len(value) > BATCH:
            check_bounds(f"number of {name}", len(value), 0, BATCH)
        elif field.message_type is not None:
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    _check_members(field.message_type, item)


def _timeout_seconds(request: Request) -> float | None:
    text = request.header(b"connect-timeout-ms")
    if text is not None:
        if not text.isascii() or not text.isdigit() or len(text) > 10:
            raise Malformed("Connect-Timeout-Ms is up to ten digits")
        return int(text) / 1_000
    text = request.header(b"grpc-timeout")
    if text is None:
        return None
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise Malformed("grpc-timeout is up to eight digits and a unit")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def _percented(text: str) -> str:
    """As gRPC has it in ``grpc-message``."""
    return urllib.parse.quote(text, safe=" !\"#$&'()*+,/:;<=>?@[\\]^_`{|}~")
