"""How much of open groups each publisher has: a share of its own, which nobody else can use up."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from restante.engine.group import Group
from restante.errors import TooManyGroups
from restante.model import Role

OPEN_GROUPS: Final = 1_000
"""So many of one publisher may be open at once."""
OPEN_BODY_BYTES: Final = 256 * 1_024 * 1_024
"""So much may be kept of the bodies of one publisher's open groups."""


class _Share(NamedTuple):
    owner: tuple[Role, str]
    body_bytes: int


class GroupQuota:
    """The open groups that this node knows of, whichever node was asked for them."""

    def __init__(self) -> None:
        self._shares: dict[str, _Share] = {}
        self._groups: Counter[tuple[Role, str]] = Counter()
        self._bytes: Counter[tuple[Role, str]] = Counter()

    def take(self, group: Group) -> None:
        """Count one that is about to be written. ``TooManyGroups`` where its publisher has as much as it may."""
        actor = group.asked_by
        owner = (actor.role, actor.name)
        if self._groups[owner] >= OPEN_GROUPS:
            raise TooManyGroups(f"{OPEN_GROUPS} groups of {actor.name} are open already")
        if self._bytes[owner] + group.body_bytes > OPEN_BODY_BYTES:
            raise TooManyGroups(
                f"the bodies of {actor.name}'s open groups would be more than {OPEN_BODY_BYTES} bytes"
            )
        self.note(group)

    def note(self, group: Group) -> None:
        """Count one that is open, whatever that makes; once."""
        if group.id not in self._shares:
            owner = (group.asked_by.role, group.asked_by.name)
            self._shares[group.id] = _Share(owner, group.body_bytes)
            self._groups[owner] += 1
            self._bytes[owner] += group.body_bytes

    def give_back(self, id: str) -> None:
        """It is open no more, or never was."""
        share = self._shares.pop(id, None)
        if share is None:
            return
        owner, body_bytes = share
        self._groups[owner] -= 1
        self._bytes[owner] -= body_bytes
        if not self._groups[owner]:
            del self._groups[owner], self._bytes[owner]
