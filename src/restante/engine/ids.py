"""Identifiers: UUIDs of version 7 (RFC 9562, section 5.7), which sort by the time they were made."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

RandomBits = Callable[[int], int]
# An id is a name, no secret: 74 bits from a generator seeded by the system keep ids apart, at no system call each.
random_bits: Final[RandomBits] = random.Random(random.SystemRandom().getrandbits(256)).getrandbits  # noqa: S311


def new_id(wall_ms: int, bits: RandomBits = random_bits) -> str:
    """A UUIDv7 of that millisecond, in the usual text form."""
    chance = bits(74)
    text = f"{wall_ms:012x}7{chance >> 62:03x}{(chance & ((1 << 62) - 1)) | (0b10 << 62):016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
