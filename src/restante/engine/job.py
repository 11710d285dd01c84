"""A job as it stands: what it is over, how far it has come, and who has the claim to work on it."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

import msgspec

from restante.model import Actor, Selection
from restante.wire.job_messages import Task

TRIES: Final = 5
"""A job is given up after so many tries in a row that met an error nobody expected."""
_BACKOFF_SECONDS: Final = 2.0


class JobState(enum.StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Of ``total`` dead letters that were there when it was asked for, ``done``, ``skipped`` and ``unsure`` are over.

    ``skipped`` were dead no more when it was their turn: somebody else was faster. ``unsure`` were in the hand of a
    node that was interrupted, and dead no more when the step was done again: this job or somebody else did them.
    ``at_least`` says that there were more than were counted. ``hand`` is the step under way, in queue ``queues[at]``,
    and ``after`` how far the job has come in that queue. A job that was cancelled keeps in hand what it never learnt
    the end of. ``failures`` are the tries in a row that met an unexpected error, ``error`` says why it was given up.
    """

    id: str
    task: Task
    queues: tuple[str, ...]
    selection: Selection
    reason: str
    rate_per_second: float | None
    asked_by: Actor
    asked_at_ms: int
    total: int
    at_least: bool
    state: JobState = JobState.RUNNING
    done: int = 0
    skipped: int = 0
    unsure: int = 0
    at: int = 0
    after: int = 0
    hand: tuple[int, ...] = ()
    node: str = ""
    claimed_until_ms: int = 0
    failures: int = 0
    error: str = ""
    ended_at_ms: int | None = None


class Counted(NamedTuple):
    """``at_least``: not all were looked at."""

    matched: int
    at_least: bool


class JobPage(msgspec.Struct, frozen=True):
    """``next`` is the id to go on after; None at the end."""

    jobs: list[Job]
    next: str | None


decode = msgspec.json.Decoder(Job).decode


def step_over(job: Job, count: int, *, again: bool) -> Job:
    """The job with its step behind it, of which ``count`` were still dead. ``again``: it may have been done before."""
    other = len(job.hand) - count
    return msgspec.structs.replace(
        job,
        done=job.done + count,
        skipped=job.skipped + (0 if again else other),
        unsure=job.unsure + (other if again else 0),
        hand=(),
        failures=0,
    )


def failed_again(job: Job, cause: str, now_ms: int) -> Job:
    """The job after a try that met an unexpected error; given up after ``TRIES`` of them in a row."""
    job = msgspec.structs.replace(job, failures=job.failures + 1)
    if job.failures < TRIES:
        return job
    error = f"given up after {TRIES} tries: {cause}; the log of node {job.node} tells more"
    return msgspec.structs.replace(job, state=JobState.FAILED, error=error, ended_at_ms=now_ms)


def backoff(job: Job) -> float:
    """How long to wait after a failed try, in seconds: 2, 4, 8, 16."""
    return float(_BACKOFF_SECONDS * 2 ** (job.failures - 1))


def pause_after(job: Job, took_seconds: float) -> float:
    """How long to wait after a step, so that the rate is kept; without one, as long as the step took others."""
    if job.rate_per_second is None:
        return took_seconds
    return max(0.0, len(job.hand) / job.rate_per_second - took_seconds)
