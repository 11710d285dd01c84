"""What a request prefers: the header ``Prefer`` (RFC 7240, section 2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from restante.model import WAIT_SECONDS_MAXIMUM

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"?'
_PREFERENCES: Final = re.compile(rf'(?:{_QUOTED}|[^",])+', re.DOTALL)
_PARTS: Final = re.compile(rf'(?:{_QUOTED}|[^";])+', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_SECONDS: Final = re.compile(r"[0-9]+", re.ASCII)
_DIGITS: Final = 9
_SPACE: Final = " \t"


def preferences_of(lines: Iterable[str]) -> dict[str, str]:
    """Each preference of all lines of the header: its name in lower case, and its value, empty where it has none.

    Of one that is repeated the first counts. Parameters are passed over. What is malformed is taken as it is.
    """
    found: dict[str, str] = {}
    for name, value in _each(lines):
        found.setdefault(name, value)
    return found


def wait_of(preferences: Mapping[str, str]) -> int | None:
    """For how many seconds to wait (section 4.3), ``WAIT_SECONDS_MAXIMUM`` at most; None where that is not preferred.

    Nor is it where it is no whole number of seconds: what cannot be read is passed over, like what nobody knows.
    """
    seconds = preferences.get("wait", "")
    if not _SECONDS.fullmatch(seconds):
        return None
    # There may be thousands of digits: the first ones tell that it is too long.
    return min(int(seconds.lstrip("0")[:_DIGITS] or "0"), WAIT_SECONDS_MAXIMUM)


def _each(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        for preference in _PREFERENCES.findall(line):
            first = _PARTS.match(preference)
            name, _, value = ("" if first is None else first[0]).partition("=")
            yield name.strip(_SPACE).lower(), _plain(value.strip(_SPACE))


def _plain(word: str) -> str:
    """A token as it is, a quoted string without its quotes."""
    if len(word) < 2 or word[0] != '"' or word[-1] != '"':
        return word
    return _ESCAPED.sub(r"\1", word[1:-1])
