"""POSTs with an ``Idempotency-Key``: from a request to what it is known by, and from what is kept to an answer."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from restante.engine.requests import Given, Ran, Requests
from restante.errors import InvalidHeader, JobEnded, OutcomeUnknown, RestanteError
from restante.http.answers import problem
from restante.http.request import JSON_BYTES, Request, SendMessage
from restante.idempotency import (
    HEADER,
    REPLAYED,
    Asked,
    Fate,
    Reply,
    fate_of,
    fingerprint_of,
    key_of_header,
)
from restante.logs import get_logger

_log = get_logger(__name__)


class Once(enum.Enum):
    """How a POST is kept from being done twice."""

    REMEMBERED = enum.auto()
    """What came of it is kept under its key, if it has one."""
    SECRET = enum.auto()
    """The same, and the answer shows a secret: it is kept sealed."""
    BY_ITSELF = enum.auto()
    """Doing it twice is doing it once, or the handler sees to its key."""
    REFUSED = enum.auto()
    """A key could not do what it promises: the request is refused with one."""


class Replied(Protocol):
    """An answer that is whole before it is sent."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Replay:
    """What is sent for a request with a key."""

    __slots__ = ("_given",)

    def __init__(self, given: Given) -> None:
        self._given = given

    async def send(self, send: SendMessage) -> None:
        reply = self._given.reply
        headers = [*reply.headers, REPLAYED] if self._given.replayed else [*reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})


def key_of(request: Request, once: Once) -> str | None:
    """The key that the request is to be remembered by, if any. ``InvalidHeader``, also where none may be given."""
    value = request.header(HEADER)
    if value is None or once is Once.BY_ITSELF:
        return None
    if once is Once.REFUSED:
        raise InvalidHeader("this call takes no idempotency-key: what it hands out is under leases")
    return key_of_header(value)


async def answer_once(
    requests: Requests,
    request: Request,
    key: str,
    handler: Callable[[Request], Awaitable[Replied]],
    *,
    secret: bool,
) -> Replay:
    """Have the handler answer, unless a request with that key was answered before. Raises what ``once`` does."""
    asked = await _asked(request, key, secret=secret)

    async def work() -> tuple[Replied, Fate]:
        return await handler(request), Fate.KEEP

    return await _answer(requests, request, asked, work)


async def answer_in_parts(
    requests: Requests,
    request: Request,
    key: str,
    handler: Callable[[Request, Asked], Awaitable[tuple[Replied, Fate]]],
) -> Replay:
    """As ``answer_once`` for a handler that does parts, each under its ``key_of_part``, and says what the fate is.

    Where not all was done the handler has the next repeat too.
    """
    asked = await _asked(request, key, in_parts=True)
    return await _answer(requests, request, asked, lambda: handler(request, asked))


async def _asked(
    request: Request, key: str, *, secret: bool = False, in_parts: bool = False
) -> Asked:
    body = await request.hold(JSON_BYTES)
    return Asked(
        who=request.actor.principal,
        key=key,
        method=request.method,
        path=request.path,
        fingerprint=fingerprint_of(
            request.method,
            request.path,
            request.scope["query_string"],
            request.header(b"content-type") or "",
            hashlib.sha256(body).digest(),
        ),
        secret=secret,
        in_parts=in_parts,
    )


async def _answer(
    requests: Requests,
    request: Request,
    asked: Asked,
    work: Callable[[], Awaitable[tuple[Replied, Fate]]],
) -> Replay:
    async def run() -> Ran:
        error: RestanteError
        try:
            answer, fate = await work()
            return Ran(_reply(answer), fate)
        except RestanteError as raised:
            error = raised
        except Exception:  # noqa: BLE001 (logged, and answered with 500)
            _log.exception("http.failed", method=request.method, path=request.path)
            error = RestanteError()
        fate = Fate.UNKNOWN if isinstance(error, OutcomeUnknown) else fate_of(error.status)
        if error.status < 500:
            # Nothing was done, and what is not kept cannot fill the store. Of bulk work that was stopped, some was.
            fate = Fate.KEEP if isinstance(error, JobEnded) else Fate.FREE
        return Ran(_reply(problem(error, as_xml=request.wants_xml)), fate)

    return Replay(await requests.once(asked, run))


def _reply(answer: Replied) -> Reply:
    return Reply(answer.status, tuple(answer.headers), answer.body)
