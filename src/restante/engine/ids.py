"""Ids as this process makes them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from restante.ids import CHANCE_BITS, uuid7

RandomBits = Callable[[int], int]
# An id is a name, no secret: 74 bits from a generator seeded by the system keep ids apart, at no system call each.
random_bits: Final[RandomBits] = random.Random(random.SystemRandom().getrandbits(256)).getrandbits  # noqa: S311


def new_id(wall_ms: int, bits: RandomBits = random_bits) -> str:
    """A UUIDv7 of that millisecond, in the usual text form."""
    return uuid7(wall_ms, bits(CHANCE_BITS))
