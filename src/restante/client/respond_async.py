"""An ASGI middleware that answers slow requests early, where the caller prefers that (RFC 7240, ``respond-async``).

The endpoint goes on in the background, and what it answers is kept in an operation of Restante's. The caller gets 202
at once, or after the ``wait`` that it prefers too, with the place to ask at: there it finds the endpoint's own answer.
An answer is gathered up to what an operation keeps: a larger one is passed on as it comes, or has no place any more.
What was under way when a process of the service ended is marked as failed, ``interrupted``, when it starts again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import Callable, Collection, Coroutine
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl

import msgspec

from restante.client.client import Client
from restante.errors import NotFound, OperationEnded, RestanteError
from restante.model import WAIT_SECONDS_MAXIMUM
from restante.operation import RESULT_BYTES, TIMEOUT_SECONDS, OperationState
from restante.wire.preferences import preferences_of, wait_of
from restante.wrapping import Application, Message, Receive, Scope, Send, live, plain

MEDIA_TYPE: Final = "application/vnd.restante.answer+json"
"""Of the result: the answer's status, headers and body."""
UNDER_WAY: Final = 100
"""Requests that go on in the background at once."""
BODY_BYTES: Final = 1_048_576
"""A request with a larger body is answered when its endpoint has answered."""
_GATHERED_BYTES: Final = RESULT_BYTES // 4 * 3
"""In base64, a longer body is no result."""
_START_SECONDS: Final = 10.0
"""A start waits so long for Restante."""
_CLOSE_SECONDS: Final = 10.0
"""What has been answered has so long to be told to Restante, and what is done after answers to end."""
_RAISE_SECONDS: Final = 1.0
"""An endpoint that says it failed has so long to raise what is told in place of its answer."""
_RETRY_SECONDS: Final = (0.2, 1.0, 5.0, 15.0)
_INTERRUPTED: Final = ("interrupted", "the service ended before it had an answer")
_TOO_LARGE: Final = (
    "answer_too_large",
    f"with its headers and in base64, {RESULT_BYTES} bytes may be",
)


class Answered(msgspec.Struct):
    """An endpoint's whole answer, as it is kept in JSON: names and values as Latin-1 text, the body in base64."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Answering:
    """An answer while its endpoint gives it: gathered, and held back where there is too much, until it is passed on."""

    def __init__(self, receive: Receive) -> None:
        loop = asyncio.get_running_loop()
        self.too_large: asyncio.Future[None] = loop.create_future()
        self.whole: asyncio.Future[None] = loop.create_future()
        """Done once there is nothing to come."""
        self._receive = receive
        self._start: Message | None = None
        self._body = bytearray()
        self._more = True
        self._send: Send | None = None
        self._passed_on = asyncio.Event()
        self._in_turn = asyncio.Lock()

    async def take(self, message: Message) -> None:
        """What the endpoint sends."""
        if self.too_large.done():
            await self._passed_on.wait()
        async with self._in_turn:
            if self._send is not None:
                await self._send(message)
                return
            if message["type"] == "http.response.start":
                self._start = message
            elif message["type"] == "http.response.body":
                self._body += message.get("body", b"")
                self._more = message.get("more_body", False)
            full = len(self._body) > _GATHERED_BYTES
            if not (full or self._more or self.whole.done()):
                self.whole.set_result(None)
        if full:
            if not self.too_large.done():
                self.too_large.set_result(None)
            await self._passed_on.wait()

    async def hear(self) -> Message:
        """Whoever goes on in the background does not hear its caller leave."""
        await self._passed_on.wait()
        return await self._receive()

    async def pass_on(self, send: Send) -> None:
        """What there is, and from now on whatever comes."""
        async with self._in_turn:
            if self._start is not None:
                await send(self._start)
                if self._body or not self._more:
                    body = bytes(self._body)
                    await send(
                        {"type": "http.response.body", "body": body, "more_body": self._more}
                    )
                self._body.clear()
            self._send = send
            self._passed_on.set()

    async def until_known(self, *tasks: asyncio.Task[Any], timeout: float | None = None) -> None:
        """Until it is known what comes of it, or a task has ended, or the time is over."""
        ends = [*tasks, self.whole, self.too_large]
        await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    @property
    def known(self) -> bool:
        """It is whole, or too large."""
        return self.whole.done() or self.too_large.done()

    @property
    def says_it_failed(self) -> bool:
        """What the endpoint raises then says more than its answer."""
        return self._status >= 500

    def answered(self) -> Answered:
        """The whole. ``RuntimeError`` where the endpoint has not given it."""
        if self._start is None or self._more:
            raise RuntimeError("the endpoint gave no whole answer")
        headers = [
            (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
            for name, value in self._start.get("headers", ())
        ]
        return Answered(self._status, headers, bytes(self._body))

    @property
    def _status(self) -> int:
        return 0 if self._start is None else int(self._start["status"])


class RespondAsync:
    """``RespondAsync(application, client, runner="shop-1", paths=("/reports",))``, itself an application.

    ``runner`` names this process, and no other at the same time: it fails what an earlier one of that name left. It
    is for requests to ``paths`` and what is below them. Where to ask is below ``prefix``; an id there is a secret of
    its caller's. ``queue_of`` says by the scope of a request which queue is told of its end. At most ``under_way``
    requests go on in the background; where there is no room, or Restante cannot be reached, a request is answered when
    its endpoint has answered. Use it as a context manager, or have the server run its lifespan.
    """

    def __init__(
        self,
        application: Application,
        client: Client,
        *,
        runner: str,
        paths: Collection[str],
        prefix: str = "/operations",
        queue_of: Callable[[Scope], str] = lambda _: "",
        timeout_seconds: float = TIMEOUT_SECONDS,
        under_way: int = UNDER_WAY,
    ) -> None:
        self._application = application
        self._client = client
        self._runner = runner
        self._paths = tuple(path.rstrip("/") for path in paths)
        self._prefix = prefix.rstrip("/")
        self._queue_of = queue_of
        self._timeout_seconds = timeout_seconds
        self._limit = under_way
        self._endpoints: dict[asyncio.Task[None], _Answering] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        self._recovered = False
        self._recovering = asyncio.Lock()

    async def __aenter__(self) -> Self:
        with contextlib.suppress(RestanteError, TimeoutError):
            # Where it cannot be reached now, the first request that is to go on in the background tries again.
            async with asyncio.timeout(_START_SECONDS):
                await self._recover()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for endpoint, answering in self._endpoints.items():
            if not answering.whole.done():
                endpoint.cancel()
        if tasks := {*self._finishing, *self._endpoints}:
            _, late = await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(self, self._application, scope, receive, send)
            return
        if scope["type"] == "http":
            path: str = scope["path"].removeprefix(scope.get("root_path", ""))
            if scope["method"] == "GET" and path.startswith(f"{self._prefix}/"):
                await self._show(path.removeprefix(f"{self._prefix}/"), scope, send)
                return
            wait = _preferred_wait(scope)
            if wait is not None and self._is_slow(path):
                await self._respond(scope, receive, send, wait)
                return
        await self._application(scope, receive, send)

    # -- answering early ------------------------------------------------------------------------

    def _is_slow(self, path: str) -> bool:
        return any(path == own or path.startswith(f"{own}/") for own in self._paths)

    async def _respond(self, scope: Scope, receive: Receive, send: Send, wait: float) -> None:
        body, whole = await _body_of(receive)
        if not whole or len(self._endpoints) >= self._limit:
            await self._application(scope, _again(body, receive, more=not whole), send)
            return
        answering = _Answering(receive)
        endpoint = asyncio.create_task(self._answer(scope, body, answering))
        self._endpoints[endpoint] = answering
        endpoint.add_done_callback(self._endpoints.pop)
        try:
            await answering.until_known(endpoint, timeout=wait)
            id = None
            if not (endpoint.done() or answering.known):
                id = await self._make_meanwhile(scope, endpoint, answering)
            if id is None:
                await answering.pass_on(send)
                await endpoint
                return
        except BaseException:
            endpoint.cancel()
            raise
        self._keep(self._finish(id, endpoint, answering))
        await self._show_open(send, scope, id, OperationState.RUNNING, applied=True)

    async def _answer(self, scope: Scope, body: bytes, answering: _Answering) -> None:
        again = _again(body, answering.hear, more=False)
        await self._application(plain(scope), again, answering.take)

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        finishing = asyncio.create_task(work)
        self._finishing.add(finishing)
        finishing.add_done_callback(self._finishing.discard)

    async def _make(self, scope: Scope) -> str | None:
        """A running operation's id; None where there can be none now."""
        try:
            await self._recover()
            made = await self._client.create_operation(
                title=f"{scope['method']} {scope['path']}"[:255],
                queue=self._queue_of(scope),
                runner=self._runner,
                timeout_seconds=self._timeout_seconds,
            )
        except RestanteError:
            return None
        return made.id

    async def _make_meanwhile(
        self, scope: Scope, endpoint: asyncio.Task[None], answering: _Answering
    ) -> str | None:
        """As ``_make``; None too where there is an answer to give before, and the operation is given up then."""
        making = asyncio.create_task(self._make(scope))
        try:
            await answering.until_known(endpoint, making)
        except BaseException:
            self._keep(self._give_up(making))
            raise
        if endpoint.done() or answering.known:
            self._keep(self._give_up(making))
            return None
        return making.result()

    async def _give_up(self, making: asyncio.Task[str | None]) -> None:
        """Leave no operation open that nobody was told of."""
        id = await making
        if id is not None:
            await self._move(id, state=OperationState.CANCELLED)

    async def _finish(self, id: str, endpoint: asyncio.Task[None], answering: _Answering) -> None:
        try:
            await self._move(id, state=OperationState.RUNNING)
            await answering.until_known(endpoint)
            if answering.too_large.done():
                endpoint.cancel()
            elif answering.says_it_failed:
                await asyncio.wait([endpoint], timeout=_RAISE_SECONDS)
            await self._move(id, **_end_of(endpoint, answering))
        except asyncio.CancelledError:
            with contextlib.suppress(RestanteError):
                await self._client.move_operation(id, **_end_of(endpoint, answering))
            raise

    async def _move(self, id: str, **move: Any) -> None:
        """Move it on, for as long as it takes."""
        for seconds in itertools.chain(_RETRY_SECONDS, itertools.repeat(_RETRY_SECONDS[-1])):
            try:
                await self._client.move_operation(id, **move)
            except (OperationEnded, NotFound):
                return  # It was given up meanwhile.
            except RestanteError:
                await asyncio.sleep(seconds)
            else:
                return

    async def _recover(self) -> None:
        """Once: fail what an earlier process of this name left. Nothing of this one is among it yet."""
        async with self._recovering:
            after: str | None = None
            while not self._recovered:
                page = await self._client.open_operations(runner=self._runner, after=after)
                for left in page.operations:
                    with contextlib.suppress(OperationEnded, NotFound):
                        await self._client.move_operation(left.id, **_failed(_INTERRUPTED))
                after = page.next
                self._recovered = after is None

    # -- showing --------------------------------------------------------------------------------

    async def _show(self, id: str, scope: Scope, send: Send) -> None:
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        try:
            if "/" in id:
                raise NotFound  # What is below an operation is not for its caller, nor has its answer always an end.
            found = await self._client.operation(id, wait=_seconds(query.get("wait", "0")))
        except NotFound:
            await _send_json(send, 404, {"detail": "there is no such operation here"})
            return
        except RestanteError as error:
            await _send_json(send, 503, {"detail": error.detail})
            return
        if not found.state.ended:
            await self._show_open(send, scope, id, found.state)
        elif found.result_content_type == MEDIA_TYPE:
            await _send(send, msgspec.json.decode(found.result or "", type=Answered))
        else:
            told = {"id": id, "state": found.state, "error": found.error}
            await _send_json(send, 500, told)

    async def _show_open(
        self, send: Send, scope: Scope, id: str, state: OperationState, *, applied: bool = False
    ) -> None:
        place = f"{scope.get('root_path', '')}{self._prefix}/{id}"
        headers = [("location", place), ("retry-after", "1")]
        if applied:
            headers.append(("preference-applied", "respond-async"))
        await _send_json(send, 202, {"id": id, "state": state}, headers)


def _end_of(endpoint: asyncio.Task[None], answering: _Answering) -> dict[str, Any]:
    """The move that ends its operation as things stand: ``interrupted`` where nothing is known yet."""
    if answering.too_large.done():
        return _failed(_TOO_LARGE)
    has_ended = endpoint.done() and not endpoint.cancelled()
    whole = answering.whole.done()
    if not (has_ended or whole):
        return _failed(_INTERRUPTED)
    try:
        if has_ended and (answering.says_it_failed or not whole):
            endpoint.result()
        content = msgspec.json.encode(answering.answered())
    except Exception as error:  # noqa: BLE001 (told in the operation)
        return _failed(("endpoint_failed", type(error).__name__))
    if len(content) > RESULT_BYTES:
        return _failed(_TOO_LARGE)
    state = OperationState.SUCCEEDED
    return {"state": state, "result": content, "result_content_type": MEDIA_TYPE}


def _failed(error: tuple[str, str]) -> dict[str, Any]:
    return {"state": OperationState.FAILED, "error": error}


def _preferred_wait(scope: Scope) -> int | None:
    """For how many seconds the caller would rather wait first; None: it does not prefer an early answer at all."""
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name == b"prefer"]
    preferences = preferences_of(lines)
    if "respond-async" not in preferences:
        return None
    return wait_of(preferences) or 0


def _seconds(text: str) -> float:
    """A wait as it is asked for, within 0 to 60; 0 for what is no number."""
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), WAIT_SECONDS_MAXIMUM) if math.isfinite(seconds) else 0.0


async def _body_of(receive: Receive) -> tuple[bytes, bool]:
    """A request's body, and whether it is whole: not where it is above ``BODY_BYTES``, or its sender has left."""
    body = b""
    while len(body) <= BODY_BYTES:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body, message["type"] == "http.request"
    return body, False


def _again(body: bytes, rest: Receive, *, more: bool) -> Receive:
    """What gives the body as the beginning of a request, and then the rest; ``more``: of the body too."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": more}]

    async def receive() -> Message:
        return messages.pop() if messages else await rest()

    return receive


async def _send_json(
    send: Send, status: int, content: object, headers: list[tuple[str, str]] | None = None
) -> None:
    headers = [("content-type", "application/json"), *(headers or [])]
    body = msgspec.json.encode(content)
    await _send(send, Answered(status, [*headers, ("content-length", str(len(body)))], body))


async def _send(send: Send, answered: Answered) -> None:
    headers = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in answered.headers
    ]
    await send({"type": "http.response.start", "status": answered.status, "headers": headers})
    await send({"type": "http.response.body", "body": answered.body})
