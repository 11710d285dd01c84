"""A service of slow endpoints behind ``RespondAsync``, and its callers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from restante.client import Client
from restante.client.respond_async import RespondAsync

ASYNC = {"prefer": "respond-async"}


class Slow:
    """An application whose answers come when the test says so."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.started = asyncio.Event()
        self.has_begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.answered = asyncio.Event()
        self.may_mail = asyncio.Event()
        self.mailed = False
        self.pieces = 0
        routes = [Route("/reports/{what}", self.report, methods=["POST"])]
        self._starlette = Starlette(routes=[*routes, Route("/fast", self.fast)])

    async def application(self, *request: Any) -> None:
        try:
            await self._starlette(*request)
        finally:
            self.ended.set()

    async def report(self, request: Request) -> Response:
        body = await request.body()
        self.started.set()
        await self.go.wait()
        match request.path_params["what"]:
            case "broken":
                raise RuntimeError("out of paper")
            case "large":
                return Response(bytes(80_000))
            case "endless":
                return StreamingResponse(self.endless())
            case "mailed":
                return Response(b"report", background=BackgroundTask(self.mail, False))
            case "refused":
                return Response(b"no ink", 503, background=BackgroundTask(self.mail, True))
        return Response(b"report on " + body, 201, {"x-pages": "7"}, "text/plain")

    async def mail(self, there_is_a_postman: bool) -> None:
        self.answered.set()
        await self.may_mail.wait()
        self.mailed = True
        if not there_is_a_postman:
            raise RuntimeError("no postman")

    async def endless(self) -> AsyncIterator[bytes]:
        while True:
            self.pieces += 1
            if self.pieces == 5:
                self.has_begun.set()
            yield self.pieces.to_bytes(4) * 2_500
            await asyncio.sleep(0)

    async def fast(self, _: Request) -> Response:
        return Response(b"fast")


class Exchange:
    """A request to an application as a server has it, whose caller leaves after so many bytes of the answer."""

    def __init__(self, prefer: str, leaves_after: int) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/reports/endless",
            "headers": [(b"prefer", prefer.encode())],
        }
        self.sent: list[Any] = []
        self._leaves_after = leaves_after
        self.left = asyncio.Event()
        self._asked: Iterator[Any] = iter([{"type": "http.request", "body": b"May"}])

    async def receive(self) -> Any:
        for message in self._asked:
            return message
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if len(self.body) >= self._leaves_after:
            self.left.set()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


@contextlib.asynccontextmanager
async def served(slow: Slow, client: Client, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    options = {"runner": "shop-1", "paths": ("/reports",)} | options
    async with RespondAsync(slow.application, client, **options) as application:
        transport = httpx.ASGITransport(app=application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as caller:
            yield caller


async def begun(caller: httpx.AsyncClient, what: str = "sales", **headers: str) -> str:
    answer = await caller.post(f"/reports/{what}", content=b"May", headers=ASYNC | headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["preference-applied"] == "respond-async"
    return answer.headers["location"]
