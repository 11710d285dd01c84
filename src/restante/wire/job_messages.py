"""The messages about bulk work on dead letters."""

from __future__ import annotations

import enum

from restante.wire.messages import Answered, Asked, DeadFilter


class Task(enum.StrEnum):
    """What is done with each of the dead letters."""

    REDRIVE = "redrive"
    DISCARD = "discard"


class JobRequest(Asked, kw_only=True):
    task: Task
    queues: list[str] | None = None
    client: str | None = None
    filter: DeadFilter | None = None
    all: bool = False
    reason: str = ""
    rate_per_second: float | None = None
    preview: bool = False


class JobCounted(Answered, kw_only=True, omit_defaults=False):
    matched: int
    at_least: bool


class SelectionOut(Answered, kw_only=True):
    reason: str | None = None
    topic: str | None = None
    since: str | None = None
    until: str | None = None


class JobOut(Answered, kw_only=True, omit_defaults=False):
    id: str
    task: Task
    queues: list[str]
    filter: SelectionOut
    reason: str
    rate_per_second: float | None
    asked_by: str
    asked_at: str
    state: str
    total: int
    at_least: bool
    done: int
    skipped: int
    unsure: int
    error: str
    node: str
    ended_at: str | None


class JobPage(Answered, kw_only=True, omit_defaults=False):
    jobs: list[JobOut]
    next: str | None
