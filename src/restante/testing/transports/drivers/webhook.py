"""Webhooks: the consumer is a server, and settles by what it answers.

It offers little, since an answer says little: a lease that is not answered in time is the service's to end, and there
is no answer that extends or gives back. Calls come side by side, so what was taken is sorted by ``seq``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple
from urllib.parse import urlsplit

import httpx

from restante.model import Verb
from restante.testing.transports.driver import (
    Answer,
    Delivered,
    Driver,
    Options,
    Outcome,
    Target,
    Want,
)
from restante.testing.transports.drivers.over_http import in_headers
from restante.testing.transports.stage import http_client

_TIMEOUT_SECONDS: Final = 15
_ENDS: Final = frozenset({"acked", "nacked", "rejected"})


class Request(NamedTuple):
    """A call as it came in. ``headers`` have lower-case names."""

    target: str
    headers: Mapping[str, str]
    body: bytes
    writer: asyncio.StreamWriter


class Receiver:
    """An HTTP server of a few lines, so that a test has each connection in its own hands.

    Enter it. What was called for stands in ``requests`` until ``answer`` answers it, in any order.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.requests: asyncio.Queue[Request] = asyncio.Queue()
        self.connections = 0
        self._host = host
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self, port: int = 0) -> str:
        """Listen; the URL."""
        self._server = await asyncio.start_server(self._serve, self._host, port)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return f"http://{self._host}:{self.port}/inbox"

    async def close(self) -> None:
        """Hang up on everyone, and listen no more. Nothing happens when it is closed already."""
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def answer(
        self, request: Request, status: int, body: bytes = b"", **headers: str
    ) -> None:
        """Answer a request; headers are named with underscores."""
        lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        request.writer.write("\r\n".join((*lines, "", "")).encode() + body)
        await request.writer.drain()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode().split("\r\n")[:-2]
                pairs = (line.split(":", 1) for line in lines)
                headers = {name.lower(): value.strip() for name, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.put_nowait(Request(first.split(" ")[1], headers, body, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()


class Hook:
    resume = ""

    def __init__(self, http: httpx.AsyncClient, queue: str, receiver: Receiver) -> None:
        self._http = http
        self._queue = queue
        self._receiver = receiver
        self._open: dict[str, Request] = {}

    async def take(self, count: int) -> list[Delivered]:
        got: list[Delivered] = []
        while len(got) < count:
            request = await self._receiver.requests.get()
            delivered = delivered_of(request)
            self._open[delivered.lease] = request
            got.append(delivered)
        return sorted(got, key=lambda delivered: delivered.seq)

    async def settle(self, delivered: Delivered, answer: Answer) -> Outcome:
        request = self._open.pop(delivered.lease)
        headers: dict[str, str] = {}
        match answer.verb:
            case Verb.ACK:
                status, body = 200, answer.reply or b""
                headers = {"content_type": answer.reply_content_type} if answer.reply else {}
            case Verb.NACK if answer.retry_after:
                status, body = 503, b""
                headers = {"retry_after": f"{answer.retry_after:g}"}
            case Verb.NACK:
                status, body = 500, answer.reason.encode()
            case Verb.REJECT:
                status, body = 422, answer.reason.encode()
                headers = {"restante_outcome": "reject"}
            case verb:
                raise NotImplementedError(f"there is no answer that means {verb}")
        await self._receiver.answer(request, status, body, **headers)
        return await self._outcome(delivered)

    async def _outcome(self, delivered: Delivered) -> Outcome:
        """What the ledger says came of it: the call's answer is not answered."""
        after = 0
        while True:
            page = await self._http.get(
                f"/v1/queues/{self._queue}/receipts", params={"after": after, "limit": 1000}
            )
            for receipt in page.json()["receipts"]:
                after = receipt["number"]
                same = (receipt["notification"], receipt.get("attempt")) == (
                    delivered.id,
                    delivered.attempt,
                )
                if same and receipt["outcome"] in _ENDS:
                    return Outcome(
                        ok=True,
                        outcome=receipt["outcome"],
                        state=receipt["state"],
                        receipt=receipt["id"],
                    )

    async def ended(self) -> None:
        raise NotImplementedError("the service calls, and stays connected for nobody")

    async def abandon(self) -> None:
        await self._receiver.close()

    async def close(self) -> None:
        await self._receiver.close()
        # Another consumer may have taken its place: this one's address is what is to be called no more.
        webhook = await self._http.get(f"/v1/queues/{self._queue}/webhook")
        if webhook.is_success and urlsplit(webhook.json()["url"]).port == self._receiver.port:
            await self._http.delete(f"/v1/queues/{self._queue}/webhook")
        await self._http.aclose()


def delivered_of(request: Request) -> Delivered:
    """A notification as a call brought it."""
    return in_headers(request.headers, "webhook-id", request.body)


class Webhook:
    name: ClassVar[str] = "webhook"
    transport: ClassVar[str] = "webhook"
    offers: ClassVar[frozenset[Want]] = frozenset({Want.CREDIT})

    def __init__(self, target: Target) -> None:
        self._target = target

    async def attach(self, queue: str, key: str, options: Options) -> Hook:
        receiver = Receiver(self._target.hook_host)
        asked: dict[str, Any] = {
            "url": await receiver.open(),
            "concurrency": options.credit,
            "timeout_seconds": _TIMEOUT_SECONDS,
        }
        http = http_client(self._target, key)
        answer = await http.put(f"/v1/queues/{queue}/webhook", json=asked)
        assert answer.is_success, answer.text
        return Hook(http, queue, receiver)

    async def publish(
        self, queue: str, key: str, bodies: list[bytes], *, ordering_key: str
    ) -> list[str]:
        raise NotImplementedError("a webhook is called, and calls nobody")


DRIVERS: Final[tuple[type[Driver], ...]] = (Webhook,)
