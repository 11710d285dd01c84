"""Server-sent events, read as the standard says, and settled by HTTP calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import ClassVar, Final, NamedTuple

import httpx

from restante.testing.transports.driver import (
    Answer,
    Delivered,
    Driver,
    Options,
    Outcome,
    Target,
    Want,
)
from restante.testing.transports.drivers import over_http
from restante.testing.transports.stage import http_client


class Event(NamedTuple):
    """An event as it was dispatched (WHATWG HTML, section 9.2.6)."""

    kind: str
    data: str
    id: str


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The lines of a stream: they end with a line feed here, and with nothing else that text libraries know."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode()


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """The events in a stream."""
    kind, data, last_id = "", list[str](), ""
    async for line in lines(chunks):
        if not line:
            if data:
                yield Event(kind or "message", "\n".join(data), last_id)
            kind, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                kind = value
            case "data":
                data.append(value)
            case "id":
                last_id = value


class EventConsumer:
    """Reads in a task of its own, so that the end of the stream is noticed."""

    def __init__(self, http: httpx.AsyncClient, response: httpx.Response) -> None:
        self.resume = ""
        self._http = http
        self._response = response
        self._got: asyncio.Queue[Delivered] = asyncio.Queue()
        self._attached = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(httpx.HTTPError):
            async for event in events(self._response.aiter_bytes()):
                self.resume = event.id
                self._attached.set()
                if event.kind == "notification":
                    self._got.put_nowait(over_http.delivered_of(json.loads(event.data)))

    async def attached(self) -> None:
        await self._attached.wait()

    async def take(self, count: int) -> list[Delivered]:
        return [await self._got.get() for _ in range(count)]

    async def settle(self, delivered: Delivered, answer: Answer) -> Outcome:
        return await over_http.settle(self._http, delivered, answer)

    async def ended(self) -> None:
        await self._reading

    async def abandon(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._response.aclose()

    async def close(self) -> None:
        await self.abandon()
        await self._http.aclose()


class Events:
    name: ClassVar[str] = "sse"
    transport: ClassVar[str] = "http"
    offers: ClassVar[frozenset[Want]] = frozenset(Want) - {Want.PUBLISH}

    def __init__(self, target: Target) -> None:
        self._target = target

    async def attach(self, queue: str, key: str, options: Options) -> EventConsumer:
        http = http_client(self._target, key)
        query: dict[str, str] = {"credit": str(options.credit)}
        if options.credit_bytes is not None:
            query["credit_bytes"] = str(options.credit_bytes)
        if options.lease_seconds is not None:
            query["lease"] = str(options.lease_seconds)
        headers = {"accept": "text/event-stream"}
        if options.resume:
            headers["last-event-id"] = options.resume
        request = http.build_request(
            "GET", f"/v1/queues/{queue}/events", params=query, headers=headers
        )
        response = await http.send(request, stream=True)
        assert response.status_code == 200, await response.aread()
        consumer = EventConsumer(http, response)
        await consumer.attached()
        return consumer

    async def publish(
        self, queue: str, key: str, bodies: list[bytes], *, ordering_key: str
    ) -> list[str]:
        raise NotImplementedError("events go one way")


DRIVERS: Final[tuple[type[Driver], ...]] = (Events,)
