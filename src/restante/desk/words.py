"""Numbers, times and states as people read them. Pure; they are the templates' filters."""

from __future__ import annotations

import datetime
from typing import Final

from restante.alerting import duration

_BYTES: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
NONE: Final = "–"  # noqa: RUF001  # an en dash, as tables have it where there is nothing


def count(number: float | None) -> str:
    """``1,204``."""
    return NONE if number is None else f"{number:,.0f}"


def compact(number: float) -> str:
    """``1.2 k``, for where there is no room; up to 9,999 as it is."""
    for divisor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= (10_000 if unit == "k" else divisor):
            return f"{number / divisor:.3g} {unit}"
    return f"{number:,.0f}"


def age(seconds: float | None) -> str:
    """``3 h``, ``1 d 4 h``, ``12 s``."""
    return NONE if seconds is None else duration(seconds)


def instant(ms: int | None) -> str:
    """``2026-01-01 12:00:05`` in UTC; pages say so once."""
    if ms is None:
        return NONE
    moment = datetime.datetime.fromtimestamp(ms / 1_000, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def iso(ms: int) -> str:
    """RFC 3339, for ``<time datetime>``."""
    moment = datetime.datetime.fromtimestamp(ms / 1_000, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def size(number: int) -> str:
    """``1.5 MiB``."""
    for divisor, unit in _BYTES:
        if number >= divisor:
            return f"{number / divisor:.3g} {unit}"
    return f"{number} B"


def share(fraction: float | None) -> str:
    """``12 %``; what is not nothing is never told as 0 %."""
    if fraction is None:
        return NONE
    return "< 1 %" if 0 < fraction < 0.01 else f"{fraction:.0%}".replace("%", " %")


def per_minute(number: int) -> str:
    """What happened over the last minute, as a rate."""
    return f"{compact(number)}/min"


def plural(number: int, one: str, more: str = "") -> str:
    """``1 dead letter``, ``12 dead letters``."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"
