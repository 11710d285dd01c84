"""Columns of values as one argument each, for ``unnest``.

Numbers go as an array's text, which the server reads faster than the driver writes it in binary: it looks at each
element whether that is an array in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

_AS_TEXT: Final = frozenset({"bigint", "integer", "smallint", "boolean"})

Column = tuple[str, str]
"""``(name, type)``"""


def argument(number: int, kind: str) -> str:
    """How argument ``number``, a column of that type, stands in a statement."""
    return f"${number}::text::{kind}[]" if kind in _AS_TEXT else f"${number}::{kind}[]"


def columns(rows: Sequence[tuple[Any, ...]], kinds: Sequence[str]) -> list[Any]:
    """Rows as columns of those types, each to stand where ``argument`` does."""
    if not rows:
        return ["{}" if kind in _AS_TEXT else [] for kind in kinds]
    return [
        numbers(column) if kind in _AS_TEXT else column
        for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)
    ]


def numbers(column: Iterable[Any]) -> str:
    """Numbers, truth values and None as an array's text."""
    return f"{{{','.join(['NULL' if value is None else str(value) for value in column])}}}"
