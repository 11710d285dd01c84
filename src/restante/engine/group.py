"""A group as it stands: what was published together, what became of each part, and what follows from it. Pure.

PENDING ---- every required member has acked ----> COMPLETE
   |
   | a required one has failed, or the time is up
   v
COMPENSATING ---- every member is over, those that acked were sent their compensation ----> COMPENSATED

A dead member that has something to undo may be redriven until it expires, and ack then: a COMPENSATED group is closed,
and what is kept of it dropped, when that cannot be any more.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import msgspec

from restante.model import Actor, State
from restante.outcomes import FAILED, OVER

MEMBERS: Final = 20
TIMEOUT_SECONDS_MAXIMUM: Final = 7 * 86_400
LATE_MS: Final = 60_000
"""Members expire when the group's time is up, and so much later at the most: by what publishing them took."""


class GroupState(enum.StrEnum):
    PENDING = "pending"
    COMPLETE = "complete"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """What goes to one queue; bodies are papers of their own.

    ``compensation_type`` is the compensation's content type; None: there is nothing to undo. ``notification`` and
    ``compensation`` are the ids under which the two were published, empty before. ``reason`` says why it failed, or
    why its compensation was not taken (``uncompensated``), and never will be.
    """

    queue: str
    required: bool
    content_type: str
    compensation_type: str | None
    notification: str = ""
    state: State = State.READY
    reason: str = ""
    compensation: str = ""
    uncompensated: bool = False

    @property
    def to_compensate(self) -> bool:
        """Whether it has acked, and its compensation is yet to be published."""
        return (
            self.state is State.ACKED
            and self.compensation_type is not None
            and not self.compensation
            and not self.uncompensated
        )

    @property
    def redrivable(self) -> bool:
        """Whether it may still come to ack, and would have to be compensated then."""
        return self.state is State.DEAD and self.compensation_type is not None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """``published`` is set once its members are. ``reason`` says what it failed of.

    ``body_bytes`` is how much is kept of bodies until it is closed: it has ended, and none of its members can ack
    any more that would have to be compensated. Times are the wall clock's, for people; ``ahead_ms`` is how far the
    store's timeline was ahead of it when the group was asked for.
    """

    id: str
    asked_by: Actor
    asked_at_ms: int
    timeout_seconds: float
    members: tuple[Member, ...]
    state: GroupState = GroupState.PENDING
    published: bool = False
    reason: str = ""
    ended_at_ms: int | None = None
    closed: bool = False
    body_bytes: int = 0
    ahead_ms: int = 0

    @property
    def until_ms(self) -> int:
        return self.asked_at_ms + int(self.timeout_seconds * 1_000)

    @property
    def due_ms(self) -> int:
        """When its time is up, on the store's timeline."""
        return self.until_ms + self.ahead_ms


class Seen(msgspec.Struct, frozen=True):
    """How the store says that one member stands."""

    state: State
    reason: str = ""


def step(group: Group, seen: Sequence[Seen | None], timeline_ms: int, now_ms: int) -> Group:
    """The group after a look at its members (None: nothing is known of it any more, or it was refused).

    ``timeline_ms`` is the store's, ``now_ms`` the wall clock's.
    """
    members = tuple(_seen(member, one) for member, one in zip(group.members, seen, strict=True))
    group = msgspec.structs.replace(group, members=members)
    if group.state is GroupState.PENDING:
        required = [member for member in members if member.required]
        failed = next((member for member in required if member.state in FAILED), None)
        if all(member.state is State.ACKED for member in required):
            return msgspec.structs.replace(
                group, state=GroupState.COMPLETE, ended_at_ms=now_ms, closed=True
            )
        if failed is not None:
            why = f": {failed.reason}" if failed.reason else ""
            reason = f"{failed.queue} {failed.state.label}{why}"
            group = msgspec.structs.replace(group, state=GroupState.COMPENSATING, reason=reason)
        elif timeline_ms >= group.due_ms:
            group = msgspec.structs.replace(
                group, state=GroupState.COMPENSATING, reason="the time is up"
            )
    over = all(member.state in OVER and not member.to_compensate for member in members)
    if group.state is GroupState.COMPENSATING and over:
        group = msgspec.structs.replace(group, state=GroupState.COMPENSATED, ended_at_ms=now_ms)
    if group.state is GroupState.COMPENSATED and over:
        late = timeline_ms >= group.due_ms + LATE_MS
        return msgspec.structs.replace(
            group, closed=late or not any(member.redrivable for member in members)
        )
    return group


def _seen(member: Member, seen: Seen | None) -> Member:
    # What has acked stays so, and what was refused was never there.
    if member.state is State.ACKED or not member.notification:
        return member
    if seen is None:
        return msgspec.structs.replace(member, state=State.DISCARDED, reason="no longer kept")
    return msgspec.structs.replace(member, state=seen.state, reason=seen.reason)
