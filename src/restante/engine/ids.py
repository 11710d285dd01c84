"""Identifiers: UUIDs of version 7 (RFC 9562, section 5.7), which sort by the time they were made."""

from __future__ import annotations

import os


def new_id(wall_ms: int) -> str:
    """A UUIDv7 of that millisecond, in the usual text form."""
    random = int.from_bytes(os.urandom(10), "big")
    high = random >> 68
    low = (random & ((1 << 62) - 1)) | (0b10 << 62)
    text = f"{wall_ms:012x}7{high & 0xFFF:03x}{low:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
