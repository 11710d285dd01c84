"""What a notification has come to, as a whole: whether as many of its queues have signed as somebody requires.

A delivery that is dead, or has ended without an ack, has failed. Of ``needed`` acks (all of them, any one, or so
many) it is met once they are there, and has failed as soon as so many cannot come any more.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from restante.errors import InvalidHeader, Malformed
from restante.model import State

FAILED: Final = frozenset({State.DEAD, State.SUPERSEDED, State.EXPIRED, State.DISCARDED})
OVER: Final = FAILED | {State.ACKED}
"""Nothing more happens to a delivery in one of these, unless an operator redrives it."""
_COUNT: Final = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)


class Result(enum.StrEnum):
    """What it has come to."""

    PENDING = "pending"
    MET = "met"
    FAILED = "failed"


class Requirement(msgspec.Struct, frozen=True):
    """``acks``: how many queues have to sign; None: all."""

    acks: int | None = None

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """``all``, ``any``, or a number from 1 to 99,999; else ``Malformed``."""
        if text == "all":
            return ALL
        if text == "any":
            return cls(1)
        if not _COUNT.fullmatch(text):
            raise Malformed(
                f"what is required is all, any or a number from 1 to 99999, not {text[:40]!r}"
            )
        return cls(int(text))

    def check_one_queue(self) -> None:
        """Raise ``InvalidHeader`` for more acks than come of what is published to one queue."""
        if self.acks is not None and self.acks > 1:
            raise InvalidHeader(
                f"one queue signs once: what is required there is all, any or 1, not {self.acks}"
            )


ALL: Final = Requirement()


class Reckoning(NamedTuple):
    """``acks``: with so many more of them it is met. ``failures``: with so many more it has failed."""

    result: Result
    acks: int
    failures: int


def reckon(requirement: Requirement, states: Iterable[State]) -> Reckoning:
    """How it stands, by the state of each delivery."""
    total = acked = failed = 0
    for state in states:
        total += 1
        acked += state is State.ACKED
        failed += state in FAILED
    needed = total if requirement.acks is None else requirement.acks
    acks, failures = needed - acked, total - failed - needed + 1
    if acks <= 0:
        result = Result.MET
    elif failures <= 0:
        result = Result.FAILED
    else:
        result = Result.PENDING
    return Reckoning(result, acks, failures)
