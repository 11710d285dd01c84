"""The messages about groups: what is published together, and undone together."""

from __future__ import annotations

from restante.wire.messages import Answered, Asked


class PayloadIn(Asked, kw_only=True):
    body: str | None = None
    body_base64: str | None = None
    content_type: str = "application/octet-stream"


class GroupItem(PayloadIn, kw_only=True):
    queue: str
    required: bool = True
    compensation: PayloadIn | None = None


class GroupRequest(Asked, kw_only=True):
    members: list[GroupItem]
    timeout_seconds: float


class MemberOut(Answered, kw_only=True, omit_defaults=False):
    queue: str
    required: bool
    notification: str | None
    state: str
    reason: str
    compensation: str | None


class GroupOut(Answered, kw_only=True, omit_defaults=False):
    id: str
    asked_by: str
    asked_at: str
    until: str
    state: str
    reason: str
    members: list[MemberOut]
    ended_at: str | None


class GroupPage(Answered, kw_only=True, omit_defaults=False):
    groups: list[GroupOut]
    next: str | None
