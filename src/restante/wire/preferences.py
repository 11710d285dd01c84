"""What a request prefers: the header ``Prefer`` (RFC 7240, section 2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"?'
_PREFERENCES: Final = re.compile(rf'(?:{_QUOTED}|[^",])+', re.DOTALL)
_PARTS: Final = re.compile(rf'(?:{_QUOTED}|[^";])+', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_SPACE: Final = " \t"


def preferences_of(lines: Iterable[str]) -> dict[str, str]:
    """Each preference of all lines of the header: its name in lower case, and its value, empty where it has none.

    Of one that is repeated the first counts. Parameters are passed over. What is malformed is taken as it is.
    """
    found: dict[str, str] = {}
    for name, value in _each(lines):
        found.setdefault(name, value)
    return found


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
