"""An operation: work of a service that completes later, as whoever waits for it sees it. Which moves there are.

    QUEUED -----> RUNNING -----> SUCCEEDED | FAILED | CANCELLED
       |                             ^
       +-----------------------------+

An operation that has ended never changes again. The same end told twice is told once.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from restante.admission import check_text
from restante.errors import Malformed, OperationEnded
from restante.model import REASON_CHARACTERS, Actor, check_bounds

RESULT_BYTES: Final = 65_536
TITLE_CHARACTERS: Final = 255
TIMEOUT_SECONDS: Final = 86_400
TIMEOUT_SECONDS_MAXIMUM: Final = 7 * 86_400
KEEP_SECONDS: Final = 86_400
KEEP_SECONDS_MAXIMUM: Final = 30 * 86_400
TIMED_OUT: Final = "timed_out"
"""The code of the error of an operation that nobody ended in its time."""


class OperationState(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing comes after it."""
        return self not in (OperationState.QUEUED, OperationState.RUNNING)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What its maker says of an operation at its beginning, and nothing changes later.

    ``client`` (empty: nobody) may look at it, and ``queue`` (empty: none) is told of its end. ``runner`` names what
    works on it, so that it can find its own again. It has to end within ``timeout_seconds`` (1 to
    ``TIMEOUT_SECONDS_MAXIMUM``), and is kept for ``keep_seconds`` after that (60 to ``KEEP_SECONDS_MAXIMUM``),
    and after its queue was told.
    """

    title: str = ""
    client: str = ""
    queue: str = ""
    runner: str = ""
    timeout_seconds: float = TIMEOUT_SECONDS
    keep_seconds: float = KEEP_SECONDS

    def check(self) -> None:
        """Raise ``OutOfBounds`` or ``InvalidHeader`` for what cannot be."""
        check_bounds("length of title", len(self.title), 0, TITLE_CHARACTERS)
        check_bounds("timeout_seconds", self.timeout_seconds, 1, TIMEOUT_SECONDS_MAXIMUM)
        check_bounds("keep_seconds", self.keep_seconds, 60, KEEP_SECONDS_MAXIMUM)


class Result(msgspec.Struct, frozen=True):
    """What came of it: ``RESULT_BYTES`` at most, opaque."""

    body: bytes
    content_type: str = "application/octet-stream"


class Failure(msgspec.Struct, frozen=True):
    """Why there is no result: a code for programs, and words for people."""

    code: str
    detail: str = ""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """``progress`` is 0 to 1. ``asked_sha256`` is of what was asked for under an idempotency key; empty without one.

    Times are the wall clock's, for people; ``ahead_ms`` is how far the store's timeline was ahead of it at first.
    """

    id: str
    asked: Asked
    asked_by: Actor
    asked_sha256: bytes = b""
    made_at_ms: int
    ends_by_ms: int
    ahead_ms: int = 0
    changed_at_ms: int
    state: OperationState = OperationState.QUEUED
    progress: float = 0.0
    note: str = ""
    result: Result | None = None
    failure: Failure | None = None

    @property
    def made_ms(self) -> int:
        """When it was made, on the store's timeline."""
        return self.made_at_ms + self.ahead_ms

    @property
    def due_ms(self) -> int:
        """When its time is up, on the store's timeline."""
        return self.ends_by_ms + self.ahead_ms


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """What changes; None: that stays as it was."""

    state: OperationState | None = None
    progress: float | None = None
    note: str | None = None
    result: Result | None = None
    failure: Failure | None = None

    def check(self) -> None:
        """Raise ``OutOfBounds``, ``InvalidHeader`` or ``Malformed`` for what no operation could do."""
        if self.progress is not None:
            check_bounds("progress", self.progress, 0, 1)
        check_bounds("length of note", len(self.note or ""), 0, REASON_CHARACTERS)
        if self.result is not None:
            check_bounds("length of result", len(self.result.body), 0, RESULT_BYTES)
            check_text("result_content_type", self.result.content_type)
        if self.failure is not None:
            check_text("error code", self.failure.code)
            check_bounds("length of error detail", len(self.failure.detail), 0, REASON_CHARACTERS)
        if self.result is not None and self.state is not OperationState.SUCCEEDED:
            raise Malformed("only an operation that has succeeded has a result")
        if (self.failure is not None) != (self.state is OperationState.FAILED):
            raise Malformed("an operation that has failed has an error, and no other has")


def moved(operation: Operation, move: Move, now_ms: int) -> Operation:
    """The operation after the move: the very same where the move changes nothing.

    ``OperationEnded`` where it has ended, in another way; ``Malformed`` for a move back.
    """
    state = operation.state if move.state is None else move.state
    progress = operation.progress if move.progress is None else move.progress
    wanted = msgspec.structs.replace(
        operation,
        state=state,
        progress=1.0 if state is OperationState.SUCCEEDED else progress,
        note=operation.note if move.note is None else move.note,
        result=operation.result if move.result is None else move.result,
        failure=operation.failure if move.failure is None else move.failure,
    )
    if wanted == operation:
        return operation
    if operation.state.ended:
        raise OperationEnded(f"operation {operation.id} has {_WORDS[operation.state]} already")
    if state is OperationState.QUEUED and operation.state is OperationState.RUNNING:
        raise Malformed("an operation that is running cannot be queued again")
    # Never back, whatever the wall clock does.
    return msgspec.structs.replace(wanted, changed_at_ms=max(now_ms, operation.changed_at_ms))


def timed_out(operation: Operation) -> Move:
    """The move of an operation that nobody ended in its time."""
    seconds = f"{operation.asked.timeout_seconds:g}"
    failure = Failure(TIMED_OUT, f"nobody ended it within {seconds} s")
    return Move(state=OperationState.FAILED, failure=failure)


_WORDS: Final = {
    OperationState.SUCCEEDED: "succeeded",
    OperationState.FAILED: "failed",
    OperationState.CANCELLED: "been cancelled",
}
