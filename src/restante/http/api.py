"""The ASGI application: routes, and the one place where errors become answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, NamedTuple, Protocol, cast

from restante.engine.requests import Requests
from restante.errors import MethodNotAllowed, NotFound, RestanteError, UpgradeRequired
from restante.http.answers import problem
from restante.http.authentication import Authenticator
from restante.http.head import Scope, path_of
from restante.http.once import Once, Replied, answer_once, key_of
from restante.http.proxies import TrustedProxies
from restante.http.request import ClientGone, Message, ReceiveMessage, Request, SendMessage
from restante.http.socket import INTERNAL, Socket, SocketClosed
from restante.logs import get_logger


class Sendable(Protocol):
    """What a handler returns: an answer, or a stream of events, that sends itself."""

    async def send(self, send: SendMessage) -> None: ...


Handler = Callable[[Request], Awaitable[Sendable]]
SocketHandler = Callable[[Socket], Awaitable[None]]
_log = get_logger(__name__)


class Route(NamedTuple):
    """A handler with what the application needs to know of it.

    ``transport`` None: no key is asked for. ``by_cookie``: a cookie will do, for browsers' streams of events.
    ``once``: what an ``Idempotency-Key`` does for a POST; what is remembered is answered whole.
    """

    handler: Handler
    transport: str | None
    by_cookie: bool
    once: Once


class SocketRoute(NamedTuple):
    handler: SocketHandler
    transport: str


class _Node:
    __slots__ = ("literal", "name", "nothing", "parameter", "rest", "routes", "socket")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.name = ""
        self.rest = False
        self.nothing = False
        self.routes: dict[str, Route] = {}
        self.socket: SocketRoute | None = None


class Routes:
    """A tree of path segments. ``{name}`` stands for one segment, and ``{name...}`` at the end for all behind it.

    What ``{name...}`` takes is what nothing else at or below its place does.
    """

    def __init__(self) -> None:
        self._root = _Node()
        self._all: list[tuple[str, str]] = []

    def add(
        self,
        method: str,
        path: str,
        handler: Handler,
        transport: str | None = "http",
        *,
        by_cookie: bool = False,
        once: Once = Once.REMEMBERED,
    ) -> None:
        if method != "POST" or transport is None:
            once = Once.BY_ITSELF
        self._node(path).routes[method] = Route(handler, transport, by_cookie, once)
        self._all.append((method, path.replace("...}", "}")))

    def add_nothing(self, path: str, handler: Handler) -> None:
        """What tells a GET, without a key, that nothing is there: at all that ``path``, with a ``{name...}``, takes.

        Any other method is ``NotFound`` there, and not told that it had to be a GET.
        """
        self.add("GET", path, handler, None)
        self._node(path).nothing = True

    def add_socket(self, path: str, handler: SocketHandler, transport: str) -> None:
        """A WebSocket. The handler accepts it, or raises a ``RestanteError`` for its refusal before that."""
        self._node(path).socket = SocketRoute(handler, transport)
        self._all.append(("WEBSOCKET", path))

    def _node(self, path: str) -> _Node:
        node = self._root
        for part in path.split("/")[1:]:
            if part.startswith("{"):
                if node.parameter is None:
                    node.parameter = _Node()
                node = node.parameter
                node.rest = part.endswith("...}")
                node.name = part.strip("{.}")
            else:
                node = node.literal.setdefault(part, _Node())
        return node

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Every ``(method, path)`` there is, as OpenAPI writes paths."""
        return iter(self._all)

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and its parameters; ``NotFound``, or ``MethodNotAllowed`` for a path with other methods."""
        node, parameters = self._find(path)
        route = node.routes.get(method)
        if route is None:
            if node.socket is not None and not node.routes:
                raise UpgradeRequired
            if node.nothing:
                raise _not_found(path)
            raise MethodNotAllowed(tuple(sorted(node.routes)))
        return route, parameters

    def find_socket(self, path: str) -> tuple[SocketRoute, dict[str, str]]:
        """The WebSocket there, and its parameters; ``NotFound``."""
        node, parameters = self._find(path)
        if node.socket is None:
            raise NotFound(f"there is no WebSocket at {path[:200]}")
        return node.socket, parameters

    def _find(self, path: str) -> tuple[_Node, dict[str, str]]:
        node = self._root
        parameters: dict[str, str] = {}
        otherwise: tuple[_Node, dict[str, str]] | None = None
        parts = path.split("/")[1:]
        for depth, part in enumerate(parts):
            below = node.parameter
            if below is not None and below.rest:
                otherwise = below, {**parameters, below.name: "/".join(parts[depth:])}
            literal = node.literal.get(part)
            if literal is not None:
                node = literal
            elif below is None or below.rest or not part:
                break
            else:
                parameters[below.name] = part
                node = below
        else:
            if node.routes or node.socket is not None:
                return node, parameters
        if otherwise is None:
            raise _not_found(path)
        return otherwise


def _not_found(path: str) -> NotFound:
    return NotFound(f"there is nothing at {path[:200]}")


class Api:
    """An ASGI application over some routes. Once it is ``retiring``, each answer is its connection's last."""

    def __init__(
        self,
        routes: Routes,
        authenticator: Authenticator | None,
        proxies: TrustedProxies | None = None,
        retiring: asyncio.Event | None = None,
        requests: Requests | None = None,
    ) -> None:
        self.routes = routes
        self._authenticator = authenticator
        self._proxies = proxies
        self._retiring = retiring
        self._requests = requests

    def __call__(
        self, scope: Scope, receive: ReceiveMessage, send: SendMessage
    ) -> Coroutine[Any, Any, None]:
        # Handed on, not awaited: one frame less for each connection that waits.
        if self._proxies is not None and scope["type"] != "lifespan":
            self._proxies.unwrap(scope)
        match scope["type"]:
            case "http":
                return self._http(Request(scope, receive), send)
            case "websocket":
                return self._websocket(Socket(scope, receive, send))
            case "lifespan":
                return _lifespan(receive, send)
            case other:
                raise RuntimeError(f"cannot serve {other}")

    async def _http(self, request: Request, send: SendMessage) -> None:
        try:
            answer = await self._answer(request)
        except ClientGone:
            return
        except RestanteError as error:
            answer = problem(error, as_xml=request.wants_xml)
        except Exception:  # noqa: BLE001 (logged, and answered with 500)
            # The client learns nothing of our insides; the log tells all.
            _log.exception("http.failed", method=request.method, path=request.path)
            answer = problem(RestanteError(), as_xml=request.wants_xml)
        if self._retiring is not None and self._retiring.is_set():
            send = _last(send)
        await answer.send(send)

    async def _answer(self, request: Request) -> Sendable:
        route, request.parameters = self.routes.find(request.method, path_of(request.scope))
        if route.transport is not None and self._authenticator is not None:
            request.actor = await self._authenticator.authenticate(
                request, route.transport, by_cookie=route.by_cookie
            )
        if route.once is not Once.BY_ITSELF and self._requests is not None:
            key = key_of(request, route.once)
            if key is not None:
                handler = cast("Callable[[Request], Awaitable[Replied]]", route.handler)
                secret = route.once is Once.SECRET
                return await answer_once(self._requests, request, key, handler, secret=secret)
        return await route.handler(request)

    async def _websocket(self, socket: Socket) -> None:
        try:
            try:
                route, socket.parameters = self.routes.find_socket(path_of(socket.scope))
                if self._authenticator is not None:
                    socket.actor = await self._authenticator.authenticate(socket, route.transport)
                await route.handler(socket)
            except RestanteError as error:
                await socket.refuse(error)
        except SocketClosed:
            return
        except Exception:  # noqa: BLE001 (logged, and the connection closed)
            _log.exception("socket.failed", path=socket.path)
            await socket.close(INTERNAL, "internal")


def _last(send: SendMessage) -> SendMessage:
    """Whoever keeps the connection for more is to look for another node (RFC 9112, section 9.6)."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return closing


async def _lifespan(receive: ReceiveMessage, send: SendMessage) -> None:
    while True:
        message: Any = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
