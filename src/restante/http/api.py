"""The ASGI application: routes, and the one place where errors become answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import structlog

from restante.errors import MethodNotAllowed, NotFound, RestanteError
from restante.http.answers import Answer, problem
from restante.http.authentication import Authenticator
from restante.http.request import ClientGone, ReceiveMessage, Request, Scope, SendMessage

Handler = Callable[[Request], Awaitable[Answer]]
_log = structlog.get_logger(__name__)


class Route:
    """A handler with what the application needs to know of it. ``transport`` None: no key is asked for."""

    __slots__ = ("handler", "transport")

    def __init__(self, handler: Handler, transport: str | None) -> None:
        self.handler = handler
        self.transport = transport


class _Node:
    __slots__ = ("literal", "name", "parameter", "routes")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.name = ""
        self.routes: dict[str, Route] = {}


class Routes:
    """A tree of path segments. ``{name}`` stands for one segment."""

    def __init__(self) -> None:
        self._root = _Node()
        self._all: list[tuple[str, str]] = []

    def add(self, method: str, path: str, handler: Handler, transport: str | None = "http") -> None:
        node = self._root
        for part in path.split("/")[1:]:
            if part.startswith("{"):
                if node.parameter is None:
                    node.parameter = _Node()
                node = node.parameter
                node.name = part[1:-1]
            else:
                node = node.literal.setdefault(part, _Node())
        node.routes[method] = Route(handler, transport)
        self._all.append((method, path))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Every ``(method, path)`` there is."""
        return iter(self._all)

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and its parameters; ``NotFound``, or ``MethodNotAllowed`` for a path with other methods."""
        node = self._root
        parameters: dict[str, str] = {}
        for part in path.split("/")[1:]:
            below = node.literal.get(part)
            if below is None:
                below = node.parameter
                if below is None or not part:
                    raise NotFound(f"there is nothing at {path[:200]}")
                parameters[below.name] = part
            node = below
        if not node.routes:
            raise NotFound(f"there is nothing at {path[:200]}")
        route = node.routes.get(method)
        if route is None:
            raise MethodNotAllowed(tuple(sorted(node.routes)))
        return route, parameters


class Api:
    """An ASGI application over some routes."""

    def __init__(self, routes: Routes, authenticator: Authenticator | None) -> None:
        self.routes = routes
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: ReceiveMessage, send: SendMessage) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"cannot serve {scope['type']}")
        request = Request(scope, receive, {})
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
        await answer.send(send)

    async def _answer(self, request: Request) -> Answer:
        path = request.path
        root = request.scope.get("root_path")
        if root and path.startswith(root):
            # Mounted below a path of somebody else's application.
            path = path[len(root) :]
        route, request.parameters = self.routes.find(request.method, path)
        if route.transport is not None and self._authenticator is not None:
            request.actor = await self._authenticator.authenticate(request, route.transport)
        return await route.handler(request)


async def _lifespan(receive: ReceiveMessage, send: SendMessage) -> None:
    while True:
        message: Any = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
