"""What every stream of server-sent events has in common (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from restante.http.answers import Header

HEARTBEAT_SECONDS: Final = 15.0
RETRY_MS: Final = 2_000
HEARTBEAT: Final = b": still here\n\n"
HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    # For nginx: pass each event on as it comes.
    (b"x-accel-buffering", b"no"),
)
_encode = msgspec.json.Encoder().encode
_LINE_ENDS: Final = re.compile(rb"\xc2\x85|\xe2\x80[\xa8\xa9]")
"""What the standard does not take for the end of a line, and libraries for text do."""


def data_of(message: Any) -> bytes:
    """A message as JSON on one line of data, whatever it holds: JSON itself has no bare line ends."""
    return _LINE_ENDS.sub(_escaped, _encode(message))


def drain(retry_ms: int) -> bytes:
    """The last event of a service that goes out of operation: when to come back."""
    return b"retry: %d\nevent: drain\ndata: {}\n\n" % retry_ms


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(match[0].decode())
