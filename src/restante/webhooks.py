"""What a webhook is and what may be set of one: its URL, its headers, its bounds."""

from __future__ import annotations

import enum
import ipaddress
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import idna
import msgspec

from restante.addresses import Address, Network, denial, is_allowed
from restante.errors import InvalidHeader, InvalidUrl
from restante.model import Bound, check_bounds

URL_CHARACTERS: Final = 2_048
HEADERS: Final = 32
HEADER_BYTES: Final = 8_192
"""Names and values of the headers that a client sets, together."""
SECRETS: Final = 2
"""Active at once: the one in use, and the one it is being rotated to."""
SECRET_BYTES: Final = 32
"""Standard Webhooks 1.0 takes 24 to 64."""
OLD_SECRET_SECONDS: Final = 86_400
"""How long a secret goes on signing beside the one that took its place."""
Payload = Literal["body", "json"]

BOUNDS: Final[Mapping[str, Bound]] = {
    "timeout_seconds": Bound(1, 15),
    "concurrency": Bound(1, 100),
    "rate_per_second": Bound(0.01, 10_000),
}
_PORTS: Final = frozenset({80, 443})
_PORT_LOW: Final = 1_024
_URL: Final = re.compile(r"[!-~\u00a1-\U0010ffff]+")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
# What some systems read as a part of an IPv4 address: 0x7f, 0177, 127.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_HOST_CHARACTERS: Final = 253
_TOKEN: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}", re.ASCII)
_VALUE: Final = re.compile(r"[!-~](?:[ -~\t]*[!-~])?|", re.ASCII)
_RESERVED: Final = frozenset(
    {
        "connection",
        "date",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
_RESERVED_PREFIXES: Final = ("ce-", "content-", "proxy-", "restante-", "webhook-")


class Circuit(enum.StrEnum):
    """Whether a webhook is called: as things come, not at all for a while, or once, to see whether it is back."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class WebhookSecret(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook's calls are signed with, sealed. One that is being replaced signs until ``ends_at_ms``."""

    id: str
    sealed: bytes
    created_at_ms: int
    ends_at_ms: int | None = None

    def active(self, now_ms: int) -> bool:
        return self.ends_at_ms is None or now_ms < self.ends_at_ms


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """Where the notifications of a queue are sent. The bounds are in ``BOUNDS``, both ends inclusive.

    ``url`` is in its canonical form. ``sealed_headers`` are the headers that the client set, a JSON object; their names
    can be read without opening it. ``version`` rises by one with each change: a change that was made of an older one is
    refused. ``since_ms`` is when it was enabled or disabled, ``reason`` why it is disabled, ``disabled_by_service``
    whether nobody asked for that. ``after_receipt`` is the number of the queue's newest receipt when it was made: those
    up to it are not of its doing, whatever their times say, which are another clock's than ``created_at_ms`` may be.
    """

    queue: str
    url: str
    version: int = 1
    header_names: tuple[str, ...] = ()
    sealed_headers: bytes = b""
    timeout_seconds: float = 10.0
    concurrency: int = 4
    rate_per_second: float | None = None
    payload: Payload = "body"
    secrets: tuple[WebhookSecret, ...] = ()
    enabled: bool = True
    reason: str = ""
    since_ms: int = 0
    created_at_ms: int = 0
    disabled_by_service: bool = False
    after_receipt: int = 0

    def check(self) -> None:
        """Raise ``OutOfBounds`` for the first number outside its bounds."""
        for name, bound in BOUNDS.items():
            value = getattr(self, name)
            if value is not None:
                check_bounds(name, value, bound.low, bound.high)


def check_url(text: str, allowed: Sequence[Network] = ()) -> str:
    """The URL in its canonical form, in ASCII; ``InvalidUrl``, which says why, for one that nothing may be sent to.

    ``allowed`` are the networks that the operator allows. What a name resolves to is looked at when it is called.
    """
    if len(text) > URL_CHARACTERS or not _URL.fullmatch(text) or "\\" in text:
        raise InvalidUrl(f"a URL has 1 to {URL_CHARACTERS} characters, without spaces and \\")
    try:
        parts = urllib.parse.urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidUrl(f"not a URL: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise InvalidUrl("the URL must begin with https://")
    if "@" in parts.netloc:
        raise InvalidUrl("the URL must not hold a user name or password: set a header instead")
    if "#" in text:
        raise InvalidUrl("the URL must not have a fragment")
    if not (parts.path + parts.query).isascii():
        raise InvalidUrl("percent-encode what is not ASCII in path and query")
    if parts.netloc.endswith(":") or (
        port is not None and port not in _PORTS and not _PORT_LOW <= port <= 65_535
    ):
        raise InvalidUrl("the port must be 80, 443 or 1024 to 65535")
    host = _check_host(host, parts.scheme, allowed)
    netloc = host if port is None else f"{host}:{port}"
    return urllib.parse.urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))


def _check_host(host: str, scheme: str, allowed: Sequence[Network]) -> str:
    literal = literal_address(host)
    if literal is None:
        host = _check_name(host)
    if scheme == "http" and not (is_allowed(literal, allowed) if literal else allowed):
        raise InvalidUrl("the URL must begin with https://, unless the operator allows its address")
    if literal is None:
        return host
    denied = denial(literal, allowed)
    if denied is not None:
        raise InvalidUrl(f"the address {literal} is {denied}, and not allowed")
    return f"[{literal}]" if literal.version == 6 else str(literal)


def literal_address(host: str) -> Address | None:
    """The address that a URL's host is, without brackets; None for a name. ``InvalidUrl`` for odd spellings."""
    try:
        if ":" in host:
            if "%" in host:
                raise InvalidUrl("an address with a zone is not allowed")
            return ipaddress.IPv6Address(host)
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            return ipaddress.IPv4Address(host)
    except ValueError as error:
        raise InvalidUrl(f"{host[:80]} is not an address as 192.0.2.1 or [2001:db8::1]") from error
    return None


def _check_name(host: str) -> str:
    """The name in ASCII, as it is asked for (RFC 5891)."""
    try:
        name = host.lower() if host.isascii() else idna.encode(host, uts46=True).decode()
    except idna.IDNAError as error:
        raise InvalidUrl(f"{host[:80]} is not a host's name") from error
    labels = name.split(".")
    if len(name) > _HOST_CHARACTERS or not all(map(_LABEL.fullmatch, labels)):
        raise InvalidUrl(f"{host[:80]!r} is not a host's name")
    if _NUMBER.fullmatch(labels[-1]):
        # Full-width digits and the like become these.
        raise InvalidUrl(f"{host[:80]} is not a host's name")
    return name


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, their names in lower case; ``InvalidHeader`` for one that a client may not set."""
    if len(headers) > HEADERS:
        raise InvalidHeader(f"a webhook has at most {HEADERS} headers of its own")
    checked: dict[str, str] = {}
    for given, value in headers.items():
        name = given.lower()
        if not _TOKEN.fullmatch(name):
            raise InvalidHeader(f"{given[:100]!r} cannot be a header's name")
        if name in _RESERVED or name.startswith(_RESERVED_PREFIXES):
            raise InvalidHeader(f"the header {name} is not a client's to set")
        if name in checked:
            raise InvalidHeader(f"the header {name} is there twice")
        if not _VALUE.fullmatch(value):
            raise InvalidHeader(
                f"the value of {name} must be printable ASCII, without space around it"
            )
        checked[name] = value
    size = sum(len(name) + len(value) for name, value in checked.items())
    if size > HEADER_BYTES:
        raise InvalidHeader(f"a webhook's headers have at most {HEADER_BYTES} bytes together")
    return checked
