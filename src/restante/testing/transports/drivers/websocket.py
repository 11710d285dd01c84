"""WebSocket, in both its subprotocols."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import ssl
from typing import Any, ClassVar, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

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
from restante.testing.transports.drivers.over_http import delivered_of, outcome_of

TEXT: Final = "restante.v1"
BINARY: Final = "restante.v1.binary"


class Link:
    """A connection: frames out, and answers by their ``ref``. Notifications are kept for who takes them."""

    def __init__(self, connection: ClientConnection) -> None:
        self.received: asyncio.Queue[Delivered] = asyncio.Queue()
        self.frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._connection = connection
        self._binary = connection.subprotocol == BINARY
        self._refs = itertools.count(1)
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())

    async def send(self, frame: dict[str, Any], bodies: list[bytes] | None = None) -> None:
        """Send a frame; its bodies go behind it, or into it in base64."""
        await self._connection.send(self._written(frame, bodies or []))

    async def ask(self, frame: dict[str, Any], bodies: list[bytes] | None = None) -> dict[str, Any]:
        """Send a frame, and wait for the frame that answers it."""
        ref = f"r{next(self._refs)}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[ref] = answer
        try:
            await self.send({**frame, "ref": ref}, bodies)
            return await answer
        finally:
            del self._answers[ref]

    async def ended(self) -> None:
        await self._reading

    async def abandon(self) -> None:
        self._connection.transport.abort()
        await self._reading

    async def close(self) -> None:
        await self._connection.close()
        await self._reading

    def _written(self, frame: dict[str, Any], bodies: list[bytes]) -> str | bytes:
        items = frame.get("notifications") or frame.get("items") or []
        name = "body" if frame["type"] == "publish" else "reply"
        for item, body in zip(items, bodies, strict=False):
            if self._binary:
                item[f"{name}_bytes"] = len(body)
            else:
                item[f"{name}_base64"] = base64.b64encode(body).decode()
        if not self._binary:
            return json.dumps(frame)
        head = json.dumps(frame).encode()
        return b"".join((len(head).to_bytes(4, "big"), head, *bodies))

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self._connection:
                self._take_in(message)
        for future in self._answers.values():
            if not future.done():
                future.set_exception(ConnectionError("the connection has ended"))

    def _take_in(self, message: str | bytes) -> None:
        rest = b""
        if isinstance(message, bytes):
            end = 4 + int.from_bytes(message[:4], "big")
            frame, rest = json.loads(message[4:end]), message[end:]
        else:
            frame = json.loads(message)
        if frame["type"] == "notifications":
            for item in frame["notifications"]:
                body = None
                if self._binary:
                    body, rest = rest[: item["body_bytes"]], rest[item["body_bytes"] :]
                self.received.put_nowait(delivered_of(item, body))
        elif (answer := self._answers.get(frame.get("ref", ""))) is not None:
            # Whoever asked may have been cancelled at this very moment.
            if not answer.done():
                answer.set_result(frame)
        else:
            self.frames.put_nowait(frame)


class SocketConsumer:
    resume = ""

    def __init__(self, link: Link) -> None:
        self.link = link

    async def take(self, count: int) -> list[Delivered]:
        return [await self.link.received.get() for _ in range(count)]

    async def settle(self, delivered: Delivered, answer: Answer) -> Outcome:
        item: dict[str, Any] = {"lease": delivered.lease}
        bodies: list[bytes] = []
        if answer.verb is Verb.ACK and answer.reply is not None:
            item["reply_content_type"] = answer.reply_content_type
            bodies = [answer.reply]
        for name in ("reason", "retry_after", "lease_seconds"):
            if (value := getattr(answer, name)) not in {"", None}:
                item[name] = value
        frame = await self.link.ask({"type": answer.verb.value, "items": [item]}, bodies)
        return outcome_of(frame if frame["type"] == "error" else frame["items"][0])

    async def ended(self) -> None:
        await self.link.ended()

    async def abandon(self) -> None:
        await self.link.abandon()

    async def close(self) -> None:
        await self.link.close()


class Text:
    name: ClassVar[str] = "websocket"
    transport: ClassVar[str] = "websocket"
    offers: ClassVar[frozenset[Want]] = frozenset(Want) - {Want.RESUME}
    subprotocol: ClassVar[str] = TEXT

    def __init__(self, target: Target) -> None:
        self._target = target

    async def connect(self, path: str, key: str) -> Link:
        """A connection that is attached to nothing yet."""
        context = None
        if self._target.ca_file:
            context = ssl.create_default_context(cafile=self._target.ca_file)
        connection = await connect(
            "ws" + self._target.url.removeprefix("http") + path,
            subprotocols=[Subprotocol(self.subprotocol)],
            additional_headers={"Authorization": f"Bearer {key}"},
            ssl=context,
            proxy=None,
            max_size=None,
        )
        return Link(connection)

    async def attach(self, queue: str, key: str, options: Options) -> SocketConsumer:
        link = await self.connect(f"/v1/queues/{queue}/socket", key)
        credit: dict[str, Any] = {"type": "credit", "messages": options.credit}
        if options.credit_bytes is not None:
            credit["bytes"] = options.credit_bytes
        if options.lease_seconds is not None:
            credit["lease_seconds"] = options.lease_seconds
        await link.send(credit)
        return SocketConsumer(link)

    async def publish(
        self, queue: str, key: str, bodies: list[bytes], *, ordering_key: str
    ) -> list[str]:
        link = await self.connect("/v1/socket", key)
        items = [{"queue": queue, "ordering_key": ordering_key} for _ in bodies]
        try:
            frame = await link.ask({"type": "publish", "notifications": items}, bodies)
        finally:
            await link.close()
        return [result["id"] for result in frame["results"]]


class Binary(Text):
    name: ClassVar[str] = "websocket-binary"
    subprotocol: ClassVar[str] = BINARY


DRIVERS: Final[tuple[type[Driver], ...]] = (Text, Binary)
