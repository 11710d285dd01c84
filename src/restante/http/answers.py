"""What goes back: JSON, the same envelope in XML, or raw bytes; and every error, mapped here and only here."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from restante.errors import (
    MethodNotAllowed,
    OutOfBounds,
    RequestInProgress,
    RestanteError,
    TooManyRequests,
    Unauthenticated,
    UpgradeRequired,
)
from restante.http.request import Request, SendMessage
from restante.wire import xml
from restante.wire.messages import Problem

Header = tuple[bytes, bytes]
_encode = msgspec.json.Encoder().encode

JSON: Final = b"application/json"
XML: Final = b"application/xml"
_RAW: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store"),
    # A payload is somebody else's document: no browser may take it for a page of ours.
    (b"x-content-type-options", b"nosniff"),
)
_ENVELOPES: Final = frozenset({JSON, XML, b"application/problem+json", b"application/problem+xml"})


class Answer:
    """A whole answer, ready to be sent."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        content_type: bytes = JSON,
        headers: tuple[Header, ...] = (),
    ) -> None:
        self.status = status
        self.body = body
        if status != 204:
            headers = (
                (b"content-type", content_type),
                (b"content-length", b"%d" % len(body)),
                *headers,
            )
        # Every header costs its microsecond, and most answers are envelopes to a POST, which nobody caches.
        self.headers = headers if content_type in _ENVELOPES else (*headers, *_RAW)

    async def send(self, send: SendMessage) -> None:
        # A list of its own: what stands around may add to it.
        headers = [*self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def envelope(
    request: Request,
    message: msgspec.Struct | msgspec.Raw,
    root: str,
    status: int = 200,
    headers: tuple[Header, ...] = (),
) -> Answer:
    """The message in the form the client asked for; ``root`` names the XML document's element."""
    body = _encode(message)
    if request.method == "GET":
        headers = (*headers, *_RAW[:1])
    if not request.wants_xml:
        return Answer(status, body, JSON, headers)
    return Answer(status, xml.encode(msgspec.json.decode(body), root), XML, headers)


def retry_after(error: RestanteError) -> tuple[Header, ...]:
    """The header that says when to ask again, for errors that pass by themselves (RFC 9110, section 10.2.3)."""
    match error:
        case TooManyRequests():
            return ((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_seconds))),)
        case RequestInProgress() | RestanteError(status=429 | 503):
            return ((b"retry-after", b"1"),)
    return ()


def problem(error: RestanteError, *, as_xml: bool) -> Answer:
    """An error as RFC 9457 problem details."""
    headers: tuple[Header, ...] = ()
    bounds: dict[str, Any] | None = None
    match error:
        case Unauthenticated():
            headers = ((b"www-authenticate", b'Bearer realm="restante"'),)
        case MethodNotAllowed():
            headers = ((b"allow", ", ".join(error.allowed).encode()),)
        case UpgradeRequired():
            headers = ((b"upgrade", b"websocket"), (b"connection", b"upgrade"))
        case OutOfBounds():
            bounds = error.bounds
    headers = (*headers, *retry_after(error))
    body = _encode(
        Problem(
            type=f"urn:restante:error:{error.code}",
            title=error.title,
            status=error.status,
            detail=error.detail,
            code=error.code,
            bounds=bounds,
        )
    )
    if as_xml:
        document = xml.encode(msgspec.json.decode(body), "problem", xml.PROBLEM_NAMESPACE)
        return Answer(error.status, document, b"application/problem+xml", headers)
    return Answer(error.status, body, b"application/problem+json", headers)
