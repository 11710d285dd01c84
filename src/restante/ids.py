"""Identifiers: UUIDs of version 7 (RFC 9562, section 5.7), which sort by the time they were made."""

from __future__ import annotations

from typing import Final

CHANCE_BITS: Final = 74


def uuid7(wall_ms: int, chance: int) -> str:
    """A UUIDv7 of that millisecond, in the usual text form, from so many random bits."""
    text = f"{wall_ms:012x}7{chance >> 62:03x}{(chance & ((1 << 62) - 1)) | (0b10 << 62):016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
