"""A proxy: whether it lets a long poll wait, passes events on as they come, and lets WebSockets through.

Nothing is leased but what comes to the queue meanwhile, and that is released at once: the queue is best an empty one.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Final, NamedTuple
from urllib.parse import quote

import httpx
import msgspec
import websockets
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from restante.cli.doctor.findings import Finding, failure, ok, warning
from restante.wire import frames
from restante.wire.messages import Problem, Received

SUBJECT: Final = "proxy"
PROMPT_SECONDS: Final = 5.0
"""What is passed on as it comes is there by then."""
SLACK_SECONDS: Final = 20.0
_READ_TIMEOUT: Final = (
    "raise the proxy's read time-out to 90 s (nginx: proxy_read_timeout; HAProxy: timeout server;"
    " AWS ALB: idle_timeout): a long poll may be silent for 60 s (docs/proxies.md)"
)
_BUFFERING: Final = (
    "turn the proxy's buffering and compression off for this path (nginx: proxy_buffering, gzip)"
)
_UPGRADE: Final = (
    "speak HTTP/1.1 to Restante, and pass Upgrade and Connection on (nginx: proxy_http_version 1.1,"
    ' proxy_set_header Upgrade $http_upgrade, Connection "upgrade")'
)


class Through(NamedTuple):
    """The proxy's URL, a key, a queue that the key may collect from, and for how many seconds to wait."""

    url: str
    key: str
    queue: str
    wait_seconds: float


async def examine(through: Through) -> list[Finding]:
    """What is found of the proxy: all at the same time, for as long as the long poll waits."""
    headers = {"Authorization": f"Bearer {through.key}", "Accept": "application/json"}
    context = ssl.create_default_context()
    async with httpx.AsyncClient(
        base_url=through.url,
        headers=headers,
        timeout=httpx.Timeout(PROMPT_SECONDS, read=through.wait_seconds + SLACK_SECONDS),
        trust_env=False,
        verify=context,
    ) as caller:
        return list(
            await asyncio.gather(
                long_poll(caller, through),
                events(caller, through),
                web_socket(through, context),
            )
        )


async def long_poll(caller: httpx.AsyncClient, through: Through) -> Finding:
    """Whether a poll is answered when its wait is over, and not before."""
    wait = through.wait_seconds
    began = time.monotonic()
    path = f"/v1/queues/{quote(through.queue, safe='')}/receive"
    try:
        answer = await caller.post(path, json={"max": 1, "wait": wait})
    except httpx.HTTPError as error:
        return _cut("a long poll", wait, time.monotonic() - began, _why(error))
    took = time.monotonic() - began
    if answer.status_code != 200:
        detail = _problem(answer)
        if detail is None:
            return _cut("a long poll", wait, took, f"HTTP {answer.status_code}")
        return failure(
            SUBJECT, f"a long poll was refused: {detail}", "give another --key or --queue"
        )
    received = msgspec.json.decode(answer.content, type=Received)
    for notification in received.notifications:
        await caller.post(f"/v1/leases/{notification.lease}/release")
        return warning(
            SUBJECT,
            f"a notification came to {through.queue} after {took:.1f} s (it was given back): the poll did not wait",
            "name a queue that is empty with --queue",
        )
    return ok(SUBJECT, f"a long poll waits for {wait:g} s and is answered")


async def events(caller: httpx.AsyncClient, through: Through) -> Finding:
    """Whether the first event of a stream comes at once, and the stream stays as long as the long poll."""
    what, began = "a stream of events", time.monotonic()
    try:
        async with caller.stream("GET", "/v1/overview/events", params={"limit": 1}) as answer:
            if answer.status_code == 403:
                return warning(
                    SUBJECT,
                    f"{what} was not tried: it takes an administrator's key",
                    "give one with --key",
                )
            if answer.status_code != 200:
                return failure(
                    SUBJECT, f"{what} is answered with HTTP {answer.status_code}", _BUFFERING
                )
            came = asyncio.Event()
            reading = asyncio.create_task(_read(answer, came))
            try:
                async with asyncio.timeout(PROMPT_SECONDS):
                    await came.wait()
                await asyncio.wait([reading], timeout=through.wait_seconds)
                if reading.done():
                    return _cut(
                        what, through.wait_seconds, time.monotonic() - began, "it was closed"
                    )
            finally:
                reading.cancel()
                await asyncio.wait([reading])
    except TimeoutError:
        return failure(
            SUBJECT,
            f"of {what} nothing came within {PROMPT_SECONDS:.0f} s: the proxy gathers it in a buffer",
            _BUFFERING,
        )
    except httpx.HTTPError as error:
        return _cut(what, through.wait_seconds, time.monotonic() - began, _why(error))
    return ok(SUBJECT, f"{what} comes as it is sent, and stays")


async def web_socket(through: Through, context: ssl.SSLContext) -> Finding:
    """Whether a WebSocket can be opened, and a ping comes back."""
    scheme, _, rest = through.url.partition("://")
    secure = scheme == "https"
    url = f"{'wss' if secure else 'ws'}://{rest}/v1/queues/{quote(through.queue, safe='')}/socket"
    try:
        async with (
            asyncio.timeout(2 * PROMPT_SECONDS),
            connect(
                url,
                ssl=context if secure else None,
                additional_headers={"Authorization": f"Bearer {through.key}"},
                subprotocols=[Subprotocol(frames.TEXT)],
                proxy=None,
            ) as connection,
        ):
            await (await connection.ping())
    except (OSError, TimeoutError, websockets.WebSocketException) as error:
        return failure(SUBJECT, f"no WebSocket comes through ({_why(error)})", _UPGRADE)
    return ok(SUBJECT, "a WebSocket comes through")


async def _read(answer: httpx.Response, came: asyncio.Event) -> None:
    async for chunk in answer.aiter_bytes():
        if b"event:" in chunk:
            came.set()


def _cut(what: str, wait: float, took: float, why: str) -> Finding:
    return failure(
        SUBJECT,
        f"{what} that may last {wait:g} s was cut after {took:.1f} s ({why})",
        _READ_TIMEOUT,
    )


def _problem(answer: httpx.Response) -> str | None:
    """What Restante itself says; None for an answer of somebody between."""
    try:
        return msgspec.json.decode(answer.content, type=Problem).detail
    except msgspec.MsgspecError:
        return None


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
