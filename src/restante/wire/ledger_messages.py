"""What the calls about the log of receipts answer, as JSON or XML."""

from __future__ import annotations

import msgspec


class LedgerKeyOut(msgspec.Struct, frozen=True, kw_only=True):
    """``key`` is the text of a key that heads are checked with (``name+id+key``)."""

    key: str
    since: str


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """Every key that was ever used, the newest first."""

    keys: list[LedgerKeyOut]


class HeadList(msgspec.Struct, frozen=True, kw_only=True):
    """Signed heads that were kept, by size, rising; ``next`` is the size to go on after, None at the end."""

    heads: list[str]
    next: int | None = None


class ConsistencyOut(msgspec.Struct, frozen=True, kw_only=True):
    """``path`` (hex) proves that the log of ``old`` receipts is the beginning of that of ``new`` (RFC 9162, 2.1.4)."""

    old: int
    new: int
    path: list[str]
    checkpoint: str
