"""The messages about operations, and the frames of the WebSocket on which they are watched.

Frames are told apart by ``type``, as in ``frames.py``; what refuses one, and what asks to leave, are the frames there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from restante.operation import (
    KEEP_SECONDS,
    TIMEOUT_SECONDS,
    Failure,
    Move,
    Operation,
    OperationState,
    Result,
)
from restante.wire import times
from restante.wire.frames import ClientFrame, ServerFrame
from restante.wire.messages import Answered, Asked, bytes_of, text_of

SUBPROTOCOL: Final = "restante.operations.v1"


class OperationRequest(Asked, kw_only=True):
    title: str = ""
    client: str = ""
    queue: str = ""
    runner: str = ""
    timeout_seconds: float = TIMEOUT_SECONDS
    keep_seconds: float = KEEP_SECONDS


class ErrorIn(Asked, kw_only=True):
    code: str
    detail: str = ""


class MoveRequest(Asked, kw_only=True):
    state: OperationState | None = None
    progress: float | None = None
    note: str | None = None
    result: str | None = None
    result_base64: str | None = None
    result_content_type: str = "application/octet-stream"
    error: ErrorIn | None = None


class ErrorOut(Answered, kw_only=True, omit_defaults=False):
    code: str
    detail: str


class OperationOut(Answered, kw_only=True, omit_defaults=False):
    id: str
    version: int
    state: OperationState
    progress: float
    note: str
    title: str
    client: str
    queue: str
    runner: str
    made_by: str
    made_at: str
    changed_at: str
    ends_by: str
    result: str | None
    result_base64: str | None
    result_content_type: str | None
    error: ErrorOut | None


class OperationPage(Answered, kw_only=True, omit_defaults=False):
    operations: list[OperationOut]
    next: str | None


# -- frames -------------------------------------------------------------------------------------


class WatchOperations(ClientFrame, tag="watch", kw_only=True):
    """Tell of these from now on: how each stands, and whenever that changes, to its end."""

    ids: list[str]


class UnwatchOperations(ClientFrame, tag="unwatch", kw_only=True):
    ids: list[str]


class OperationFrame(ServerFrame, tag="operation", kw_only=True):
    operation: OperationOut


WatchFrame = WatchOperations | UnwatchOperations


# -- between messages and the rules ---------------------------------------------------------------


def to_move(asked: MoveRequest) -> Move:
    """Raises ``Malformed`` for a result that is given twice, or in no base64."""
    body = bytes_of("result", asked.result, asked.result_base64)
    error = asked.error
    return Move(
        state=asked.state,
        progress=asked.progress,
        note=asked.note,
        result=None if body is None else Result(body, asked.result_content_type),
        failure=None if error is None else Failure(error.code, error.detail),
    )


def operation_out(operation: Operation, version: int, *, for_xml: bool = False) -> OperationOut:
    """As it is shown."""
    asked, result, failure = operation.asked, operation.result, operation.failure
    text, base64 = (None, None) if result is None else text_of(result.body, for_xml=for_xml)
    return OperationOut(
        id=operation.id,
        version=version,
        state=operation.state,
        progress=operation.progress,
        note=operation.note,
        title=asked.title,
        client=asked.client,
        queue=asked.queue,
        runner=asked.runner,
        made_by=operation.asked_by.name,
        made_at=times.to_text(operation.made_at_ms),
        changed_at=times.to_text(operation.changed_at_ms),
        ends_by=times.to_text(operation.ends_by_ms),
        result=text,
        result_base64=base64,
        result_content_type=None if result is None else result.content_type,
        error=None if failure is None else ErrorOut(code=failure.code, detail=failure.detail),
    )


def told(operation: Operation, version: int, *, with_result: bool = True) -> bytes:
    """What stands in the notification of its end."""
    if not with_result:
        operation = msgspec.structs.replace(operation, result=None)
    return msgspec.json.encode(operation_out(operation, version))


read_frame: Callable[[str | bytes], WatchFrame] = msgspec.json.Decoder(WatchFrame).decode
