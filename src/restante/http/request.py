"""One HTTP request, read lazily and never beyond its limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeVar

import msgspec

from restante.errors import BodyTooLarge, Malformed, UnsupportedMedia
from restante.http.head import Head, Scope
from restante.wire import xml
from restante.wire.choices import explained

T = TypeVar("T")
Message = MutableMapping[str, Any]
ReceiveMessage = Callable[[], Awaitable[Message]]
SendMessage = Callable[[Message], Awaitable[None]]

JSON_BYTES: Final = 17 * 1024 * 1024
"""The largest JSON or XML request: a batch that carries the largest body, and some."""


class ClientGone(Exception):
    """The client hung up in the middle of its request: nobody is there to answer."""


class Request(Head):
    """What a handler is given."""

    __slots__ = ("_gone", "_receive", "method")

    def __init__(self, scope: Scope, receive: ReceiveMessage) -> None:
        super().__init__(scope)
        self.method: str = scope["method"]
        self._receive = receive
        self._gone = False

    async def body(self, limit: int) -> bytes:
        """The whole body; ``BodyTooLarge`` as soon as it is known to exceed ``limit`` bytes.

        ``UnsupportedMedia`` for one that is compressed: nothing here unfolds, and kept as it is it would be taken for
        something else.
        """
        encoding = self.header(b"content-encoding")
        if encoding is not None and encoding.lower() != "identity":
            raise UnsupportedMedia(
                f"a body must not be encoded, as Content-Encoding: {encoding[:40]} says"
            )
        return await self.raw(limit)

    async def raw(self, limit: int) -> bytes:
        """As ``body``, for whoever does not look into it: however it is encoded."""
        announced = self.header(b"content-length")
        if announced is not None and announced.isdecimal() and int(announced) > limit:
            raise BodyTooLarge(f"the body must be at most {limit} bytes")
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            chunks = [body]
            size = len(body)
            while message.get("more_body"):
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > limit:
                    raise BodyTooLarge(f"the body must be at most {limit} bytes")
            body = b"".join(chunks)
        if len(body) > limit:
            raise BodyTooLarge(f"the body must be at most {limit} bytes")
        return body

    async def hold(self, limit: int) -> bytes:
        """As ``body``, which can then be read once more."""
        body = await self.body(limit)
        receive = self._receive

        async def held() -> Message:
            self._receive = receive
            return {"type": "http.request", "body": body}

        self._receive = held
        return body

    async def read(self, decoder: msgspec.json.Decoder[T], default: T | None = None) -> T:
        """The request's JSON or XML envelope; ``default`` for an empty body, if there is one.

        Raises ``UnsupportedMedia`` for another content type and ``Malformed``, with the place, for what cannot be read.
        """
        body = await self.body(JSON_BYTES)
        if not body and default is not None:
            return default
        media = (self.header(b"content-type") or "").partition(";")[0].strip().lower()
        if media == "application/json":
            try:
                return decoder.decode(body)
            except msgspec.ValidationError as error:
                raise Malformed(
                    f"not what is expected here: {explained(error, decoder.type)}"
                ) from error
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                place = "" if "(byte" in str(error) else f" (byte {len(body)})"
                raise Malformed(f"not JSON: {error}{place}") from error
            except RecursionError as error:
                raise Malformed("the JSON is nested too deeply") from error
        if media in ("application/xml", "text/xml"):
            return xml.decode(body, decoder.type)
        raise UnsupportedMedia(
            "this call takes Content-Type: application/json (or application/xml)"
            + (f", not {media[:100]}" if media else "")
        )

    # -- hanging up -----------------------------------------------------------------------------

    def gone(self) -> bool:
        """Whether the client is known to have hung up."""
        return self._gone

    def watch(self, on_gone: Callable[[], None]) -> Callable[[], None]:
        """Once the body has been read: call back when the client hangs up. Returns what ends the watch."""

        async def wait() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self._gone = True
            on_gone()

        task = asyncio.get_running_loop().create_task(wait())
        return lambda: void(task.cancel())


def void(_: object) -> None:
    """Make a statement of an expression."""
