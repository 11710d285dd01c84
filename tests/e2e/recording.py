"""Clients of the transport suite that remember every frame and event that went to and fro."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from websockets.asyncio.client import ClientConnection, connect

from restante.testing.transports.drivers import events, websocket
from restante.wire import frames


class Frame(NamedTuple):
    """A frame as JSON, and the bytes behind it. ``subprotocol`` is what it went over."""

    subprotocol: str
    by_client: bool
    head: dict[str, Any]
    rest: bytes = b""


class Event(NamedTuple):
    """A server-sent event: all its fields but the data, and the data."""

    headers: dict[str, Any]
    data: Any


class Record:
    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.events: list[Event] = []

    def clients(self, patch: pytest.MonkeyPatch) -> None:
        """Have the suite's own drivers write down what they send and get."""
        patch.setattr(websocket, "connect", self.connect)
        patch.setattr(events, "lines", self.lines)

    @property
    def connect(self) -> Any:
        """``websockets.connect``, with connections that are written down."""
        made: Any = functools.partial(Recording, record=self)
        return functools.partial(connect, create_connection=made)

    async def lines(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
        headers: dict[str, Any] = {}
        data = ""
        async for line in LINES(chunks):
            name, _, value = line.partition(": ")
            if name == "data":
                data = value
            elif name:
                headers[name] = int(value) if name == "retry" else value
            elif headers:
                self.events.append(Event(headers, json.loads(data)))
                headers, data = {}, ""
            else:
                assert value in {"", "still here"}, line
            yield line

    def take_down(self, message: str | bytes, by_client: bool) -> None:
        if isinstance(message, str):
            self.frames.append(Frame(frames.TEXT, by_client, json.loads(message)))
        else:
            end = 4 + int.from_bytes(message[:4], "big")
            head = json.loads(message[4:end])
            self.frames.append(Frame(frames.BINARY, by_client, head, message[end:]))


LINES = events.lines


class Recording(ClientConnection):
    def __init__(self, *arguments: Any, record: Record, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.record = record

    async def send(self, message: Any, *, text: bool | None = None) -> None:
        self.record.take_down(message, by_client=True)
        await super().send(message, text=text)

    async def send_what_is_no_frame(self, message: str | bytes) -> None:
        await super().send(message)

    async def recv(self, decode: bool | None = None) -> Any:
        message = await super().recv(decode)
        self.record.take_down(message, by_client=False)
        return message
