"""Requests and answers: the connection pool, what is repeated, and the way from a problem document to an error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx
import msgspec

from restante.errors import OutcomeUnknown, RestanteError

T = TypeVar("T")
RETRY_DELAYS_SECONDS: Final = (0.1, 0.3, 0.6)
_KEEPALIVE_SECONDS: Final = 3.0
"""Shorter than servers and proxies keep an idle connection: a request should not meet one that is being closed."""


_THIS_MACHINE: Final = ("localhost", "127.0.0.1", "[::1]")


class Unreachable(RestanteError):
    """No connection could be made, or it broke while only reading: nothing was done."""

    code = "unreachable"
    title = "The server cannot be reached"


class UnexpectedAnswer(RestanteError):
    """An answer that is not Restante's, from a proxy perhaps, or a code that this version does not know."""

    code = "unexpected_answer"
    title = "Unexpected answer"

    def __init__(self, detail: str = "", status: int = 0) -> None:
        super().__init__(detail)
        self.answered = status


class _Problem(msgspec.Struct):
    code: str
    detail: str = ""
    bounds: dict[str, Any] | None = None


class Wire:
    """Sends requests with one key over a pool of connections.

    ``timeout_seconds`` is for each step of a request (connecting, sending, the answer); a long poll gets its ``wait``
    on top.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout_seconds: float = 30.0,
        retry_delays_seconds: Sequence[float] = RETRY_DELAYS_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._retry_delays_seconds = retry_delays_seconds
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}", "Accept": "application/json"},
            timeout=timeout_seconds,
            limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_SECONDS),
            transport=transport,
            # A proxy of the environment is for the world outside, even where NO_PROXY forgets to say so.
            mounts={f"all://{host}": None for host in _THIS_MACHINE},
        )

    async def __aenter__(self) -> Self:
        # What is below opens itself with the first request, and refuses to be opened after one.
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. What waits for an answer fails."""
        await self._http.aclose()

    async def call(  # noqa: PLR0913 (what a request may have)
        self,
        answer: type[T],
        method: str,
        path: str,
        *,
        ask: object = None,
        params: Mapping[str, str | int | float | None] | None = None,
        headers: Mapping[str, str] = {},
        repeatable: bool | None = None,
        wait_seconds: float = 0.0,
        idempotency_key: str | None = None,
    ) -> T:
        """Send ``ask`` as JSON and read the answer; parameters that are None are left out.

        ``repeatable`` says that doing it twice is doing it once (None: it is, for GET and PUT). With an
        ``idempotency_key`` it is in any case.
        """
        shown = dict(headers)
        if idempotency_key is not None:
            shown["Idempotency-Key"] = idempotency_key
        if ask is not None:
            shown["Content-Type"] = "application/json"
        content = None if ask is None else msgspec.json.encode(ask)
        response = await self.send(
            method,
            path,
            content=content,
            headers=shown,
            params={name: value for name, value in (params or {}).items() if value is not None},
            repeatable=(method in ("GET", "PUT") if repeatable is None else repeatable)
            or idempotency_key is not None,
            wait_seconds=wait_seconds,
        )
        return self.read(answer, response)

    def read(self, answer: type[T], response: httpx.Response) -> T:
        """The message in an answer of success; ``UnexpectedAnswer`` when it is not one."""
        try:
            return msgspec.json.decode(response.content, type=answer)
        except msgspec.MsgspecError as error:
            raise UnexpectedAnswer(
                f"{self.url} does not answer like a Restante server ({error})", response.status_code
            ) from error

    async def send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] = {},
        params: Mapping[str, str | int | float] | None = None,
        repeatable: bool,
        wait_seconds: float = 0.0,
    ) -> httpx.Response:
        """Send a request; returns an answer of success (2xx) and raises for all else."""
        request = self._http.build_request(
            method,
            path,
            content=content,
            headers=headers,
            params=params or None,
            timeout=httpx.Timeout(
                self._timeout_seconds, read=self._timeout_seconds + wait_seconds, pool=None
            ),
        )
        response = await self._send(request, repeatable)
        if not response.is_success:
            raise _error_of(self.url, response)
        return response

    async def _send(self, request: httpx.Request, repeatable: bool) -> httpx.Response:
        delays = iter(self._retry_delays_seconds)
        while True:
            try:
                return await self._http.send(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure: RestanteError = Unreachable(f"no connection to {self.url} ({_why(error)})")
                cause: Exception = error
            except httpx.TransportError as error:
                # Sent, in part at least: only what can be repeated is.
                cause = error
                if not repeatable:
                    raise OutcomeUnknown(
                        f"the connection to {self.url} was lost before the answer came ({_why(error)})"
                    ) from error
                failure = Unreachable(f"the connection to {self.url} was lost ({_why(error)})")
            delay = next(delays, None)
            if delay is None:
                raise failure from cause
            await asyncio.sleep(delay)


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


def _tree(base: type[RestanteError]) -> Iterator[type[RestanteError]]:
    yield base
    for below in base.__subclasses__():
        yield from _tree(below)


_BY_CODE: Final = {kind.code: kind for kind in _tree(RestanteError)}


def error_of(code: str, detail: str) -> RestanteError | None:
    """The error of the tree with this code; None when this version knows none."""
    kind = _BY_CODE.get(code)
    if kind is None:
        return None
    # Not by the constructor: some build their detail of parts, and here it is whole.
    return kind.__new__(kind, detail or kind.title)


def _error_of(url: str, response: httpx.Response) -> RestanteError:
    status = response.status_code
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.MsgspecError:
        return UnexpectedAnswer(f"{url} answered {status} {response.reason_phrase}", status)
    error = error_of(problem.code, problem.detail)
    if error is None:
        return UnexpectedAnswer(f"{problem.detail} ({problem.code}, {status})", status)
    if problem.bounds is not None:
        error.__dict__["bounds"] = problem.bounds
    if status == 405:
        error.__dict__["allowed"] = tuple(response.headers.get("allow", "").split(", "))
    return error
