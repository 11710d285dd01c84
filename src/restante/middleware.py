"""Requests that count once for any ASGI application, over the same stores and by the same rules as Restante's own.

app = restante.IdempotencyMiddleware(app, "sqlite:///requests")
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, Final, Self

from restante.app import open_broker
from restante.engine.broker import Broker
from restante.engine.requests import (
    KEPT_REQUESTS,
    RETENTION_SECONDS,
    WAIT_SECONDS_MAXIMUM,
    Given,
    Ran,
)
from restante.errors import InvalidHeader, Malformed, PrincipalRequired, RestanteError
from restante.http.answers import envelope, problem
from restante.http.head import Scope, path_of
from restante.http.once import Replay
from restante.http.request import ClientGone, Message, ReceiveMessage, Request, SendMessage
from restante.idempotency import (
    ANSWER_BYTES,
    HEADER,
    Asked,
    Policy,
    Record,
    Reply,
    fate_of,
    fingerprint_of,
    key_of_header,
)
from restante.logs import get_logger
from restante.model import check_bounds
from restante.wire.request_messages import told
from restante.wrapping import live, plain

_log = get_logger(__name__)

BODY_BYTES: Final = 1_048_576
_CLOSE_SECONDS: Final = 10.0
"""What an application does after its answers has so long to end."""


def by_authorization(scope: Scope) -> str:
    """The principal as its ``Authorization`` header. ``PrincipalRequired``: all who send none would share keys."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            return str(value.decode("latin-1"))
    raise PrincipalRequired("an Idempotency-Key is taken from whoever sends an Authorization only")


class IdempotencyMiddleware:
    """Wraps ``app``. Its lifespan opens and closes the ``store``: a URL as of ``restante.open``.

    Starlette and FastAPI do not pass the lifespan on to what is mounted: there, enter it in your own lifespan
    (``async with application: yield``). A request of ``methods`` with an ``Idempotency-Key`` is run once for each
    ``principal`` and key; without one it goes through, or, where one is ``required``, is refused (400). Its body may
    have ``max_body_bytes``. A second one at the same time is told 409 after up to ``wait_seconds`` (0 to 60). What
    ``policy`` says is done with the repeat of one in which a process crashed or the application failed (a status of
    500 or above, other than 501, 503 and 507). The application is not told when the client hangs up: what was begun
    goes on to its end, at a stop for ten seconds more. A GET of ``requests_path``/{key}, such as ``/v1/requests``, is
    answered with what came of the caller's request with that key, as Restante's own is; without one nobody is told.
    """

    def __init__(  # noqa: PLR0913  # one for each setting
        self,
        app: Any,
        store: str,
        *,
        policy: str = Policy.REFUSE,
        wait_seconds: float = 0.0,
        max_body_bytes: int = BODY_BYTES,
        retention_seconds: float = RETENTION_SECONDS,
        keys_per_principal: int = KEPT_REQUESTS,
        principal: Callable[[Scope], str] = by_authorization,
        methods: Collection[str] = ("POST", "PATCH"),
        required: bool = False,
        requests_path: str | None = None,
    ) -> None:
        check_bounds("wait_seconds", wait_seconds, 0, WAIT_SECONDS_MAXIMUM)
        if requests_path is not None and not requests_path.strip("/"):
            raise ValueError("requests_path is a path of its own, such as /v1/requests")
        if isinstance(methods, str):
            raise TypeError('methods are several, such as ("POST",)')
        self._app = app
        self._store = store
        self._policy = Policy(policy)
        self._wait_seconds = wait_seconds
        self._max_body_bytes = max_body_bytes
        self._retention_seconds = retention_seconds
        self._keys_per_principal = keys_per_principal
        self._principal = principal
        self._methods = frozenset(method.upper() for method in methods)
        self._required = required
        self._requests_prefix = None if requests_path is None else f"/{requests_path.strip('/')}/"
        self._stack = contextlib.AsyncExitStack()
        self._broker: Broker | None = None
        self._after: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._broker = await self._stack.enter_async_context(
            open_broker(
                self._store,
                unknown_requests=self._policy,
                request_retention_seconds=self._retention_seconds,
                requests_per_principal=self._keys_per_principal,
            )
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()
        self._broker = None
        if self._after:
            _, pending = await asyncio.wait(self._after, timeout=_CLOSE_SECONDS)
            for work in pending:
                work.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def find(self, principal: str, key: str) -> Record:
        """Whether a principal's request with this key arrived, and what came of it. ``RequestNotFound``."""
        return await self._opened().requests.find(principal, key, private=True)

    async def __call__(self, scope: Scope, receive: ReceiveMessage, send: SendMessage) -> None:
        if scope["type"] == "lifespan":
            await live(self, self._app, scope, receive, send)
        elif scope["type"] == "http" and scope["method"] in self._methods:
            await self._http(scope, receive, send)
        elif self._asks(scope):
            await self._tell(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: ReceiveMessage, send: SendMessage) -> None:
        request = Request(scope, receive)
        value = request.header(HEADER)
        if value is None and not self._required:
            await self._app(scope, receive, send)
            return
        run: _Run | None = None
        try:
            if value is None:
                raise Malformed("send an Idempotency-Key")
            key = key_of_header(value)
            body = await request.raw(self._max_body_bytes)
            run = _Run(self._app, scope, body, send, self._after)
            given = await self._opened().requests.once(
                Asked(
                    who=self._principal(scope),
                    key=key,
                    method=scope["method"],
                    path=scope["path"],
                    fingerprint=fingerprint_of(
                        scope["method"],
                        scope["path"],
                        scope["query_string"],
                        request.header(b"content-type") or "",
                        hashlib.sha256(body).digest(),
                    ),
                    private=True,
                ),
                run,
                wait_seconds=self._wait_seconds,
            )
        except ClientGone:
            return
        except RestanteError as error:
            if run is not None and error is run.raised:
                raise
            refusal = Malformed(error.detail) if isinstance(error, InvalidHeader) else error
            await problem(refusal, as_xml=False).send(send)
        else:
            await run.end(given)

    def _asks(self, scope: Scope) -> bool:
        """Whether it is a GET of what came of a request."""
        return (
            self._requests_prefix is not None
            and scope["type"] == "http"
            and scope["method"] == "GET"
            and path_of(scope).startswith(self._requests_prefix)
        )

    async def _tell(self, scope: Scope, receive: ReceiveMessage, send: SendMessage) -> None:
        request = Request(scope, receive)
        key = path_of(scope).removeprefix(self._requests_prefix or "")
        try:
            record = await self.find(self._principal(scope), key)
            answer = envelope(request, told(key, record, for_xml=request.wants_xml), "request")
        except InvalidHeader as error:
            answer = problem(Malformed(error.detail), as_xml=request.wants_xml)
        except RestanteError as error:
            answer = problem(error, as_xml=request.wants_xml)
        await answer.send(send)

    def _opened(self) -> Broker:
        if self._broker is None:
            raise RuntimeError("the middleware is not open: enter it in your lifespan")
        return self._broker


class _Run:
    """One call of the application: its answer is gathered, and sent once it is known what came of it.

    An answer too long to be kept is passed on as it comes, but for its end.
    """

    def __init__(
        self,
        app: Any,
        scope: Scope,
        body: bytes,
        send: SendMessage,
        after: set[asyncio.Task[None]],
    ) -> None:
        self._app = app
        self._scope = plain(scope)
        self._body: bytes | None = body
        self._send = send
        self._after = after
        self.raised: Exception | None = None
        """What the application raised in place of its answer."""
        self._status = 0
        self._headers: tuple[tuple[bytes, bytes], ...] = ()
        self._chunks: list[bytes] = []
        self._size = 0
        self._streams = False
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> Ran:
        work = asyncio.create_task(self._app(self._scope, self._receive, self._gather))
        try:
            await asyncio.wait({work, self._answered}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            work.cancel()
            self._keep(work)
            raise
        if not self._answered.done():
            try:
                await work
            except Exception as error:
                self.raised = error
                raise
            raise RuntimeError("the application gave no whole answer")
        # What it does after its answer is its own.
        self._keep(work)
        reply = Reply(self._status, self._headers, b"".join(self._chunks))
        return Ran(reply, fate_of(self._status), whole=not self._streams)

    async def end(self, given: Given) -> None:
        """Send the answer, or what of it has not been passed on."""
        if self._streams:
            await self._pass_on({"type": "http.response.body", "body": b""})
        else:
            await Replay(given).send(self._send)

    async def _receive(self) -> Message:
        if self._body is None:
            # Until it is cancelled: nobody hangs up on what is to be run to its end.
            await asyncio.get_running_loop().create_future()
        body, self._body = self._body or b"", None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _gather(self, message: Message) -> None:
        if self._answered.done():
            raise RuntimeError("the application has given its answer already")
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = tuple((bytes(k), bytes(v)) for k, v in message.get("headers", ()))
            return
        if not self._status:
            raise RuntimeError("the application gave no status before its answer's body")
        chunk = bytes(message.get("body", b""))
        self._size += len(chunk)
        self._chunks.append(chunk)
        if self._size > ANSWER_BYTES:
            await self._flush()
        if not message.get("more_body", False) and not self._answered.done():
            self._answered.set_result(None)

    async def _flush(self) -> None:
        if not self._streams:
            self._streams = True
            start = {"status": self._status, "headers": [*self._headers]}
            await self._pass_on({"type": "http.response.start", **start})
        body = b"".join(self._chunks)
        self._chunks.clear()
        await self._pass_on({"type": "http.response.body", "body": body, "more_body": True})

    async def _pass_on(self, message: Message) -> None:
        # Whoever asked may be gone; that is no failure of what is run.
        with contextlib.suppress(Exception):
            await self._send(message)

    def _keep(self, work: asyncio.Task[None]) -> None:
        self._after.add(work)
        work.add_done_callback(self._left)

    def _left(self, work: asyncio.Task[None]) -> None:
        self._after.discard(work)
        if not work.cancelled() and (error := work.exception()) is not None:
            _log.error("middleware.failed", path=self._scope["path"], exc_info=error)
