"""What is sent out unasked goes to each destination from one node at a time, and again later where it was not taken."""

from __future__ import annotations

from typing import Final

CLAIM_SECONDS: Final = 60
"""How long a node may take that was cut off or has died, before another takes its place."""
RETRY_SECONDS: Final = 5
CLOCKS_APART_MS: Final = 300_000
"""Nodes' clocks are no further apart; what is further ahead was put by a clock that has been set back since."""


def retry_seconds(tries: int, most: int) -> int:
    """How long to wait after so many tries (from 1) that failed: twice as long each time, at most so long."""
    seconds: int = RETRY_SECONDS * 2 ** min(tries - 1, 20)
    return min(most, seconds)


def ahead_ms(at_ms: int, now_ms: int, most_seconds: int) -> int:
    """How far off a time is; 0 where it is past, or further off than any node's clock can have put it."""
    ahead = at_ms - now_ms
    return ahead if 0 < ahead <= most_seconds * 1_000 + CLOCKS_APART_MS else 0
