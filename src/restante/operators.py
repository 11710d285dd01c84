"""Who may sign in to the operators' page, and what each role may do there. Pure."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from restante.errors import Forbidden
from restante.model import check_bounds

PASSWORD_CHARACTERS: Final = (12, 256)
"""At least and at most. Length is all that is asked of a password (NIST SP 800-63B, section 5.1.1.2)."""


class Level(enum.StrEnum):
    """A viewer looks; an operator also redrives and changes settings; an admin also keys and operators."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, other: Level) -> bool:
        """Whether who has this may do what the other may."""
        return _RANKS[self] >= _RANKS[other]


_RANKS: Final = {Level.VIEWER: 0, Level.OPERATOR: 1, Level.ADMIN: 2}


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """A person's account. Only a slow hash of the password is kept.

    ``stamp`` rises with each change of the password and whenever all its visits are to end: a visit that began under
    another stamp is over.
    """

    name: str
    level: Level
    password_hash: str
    created_at_ms: int
    disabled: bool = False
    stamp: int = 1


def check_password(password: str) -> str:
    """The password itself; ``OutOfBounds`` for one that is too short or too long."""
    low, high = PASSWORD_CHARACTERS
    check_bounds("length of password", len(password), low, high)
    return password


def require(held: Level, wanted: Level) -> None:
    """Raise ``Forbidden`` unless who has the one level may do what takes the other."""
    if not held.covers(wanted):
        raise Forbidden(f"this takes the role {wanted.value}")
