"""Times as text: RFC 3339 in UTC with milliseconds, ``2026-01-31T12:00:00.000Z``."""

from __future__ import annotations

import datetime
import functools
from typing import Final

from restante.errors import Malformed

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND: Final = datetime.timedelta(milliseconds=1)


def to_text(wall_ms: int) -> str:
    """The text of a wall-clock time in milliseconds since 1970."""
    seconds, millis = divmod(wall_ms, 1_000)
    return f"{_second(seconds)}.{millis:03d}Z"


def to_ms(text: str) -> int:
    """Milliseconds since 1970 of an RFC 3339 time; ``Malformed`` when it is none or has no offset."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise Malformed(f"{text!r} is not an RFC 3339 time") from error
    if moment.tzinfo is None:
        raise Malformed(f"{text!r} lacks an offset such as Z")
    return (moment - _EPOCH) // _MILLISECOND


@functools.lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S")
