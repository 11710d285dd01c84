"""What clients did and what they were told, recorded outside the server: the checker's only
evidence.

A history is a file of JSON lines, appended to by any number of clients on one machine. Each
operation is written when it is begun (so that it counts as unknown should the client die) and again
when it has ended; the later line stands. Times are nanoseconds of the machine's monotonic clock, so
lines of several processes can be compared.

An operation's outcome is ``ok``, ``refused`` (the server said it was not done; ``code`` says why)
or ``unknown`` (no answer, or an answer that says nobody knows). A history is only worth checking
when every client of the queues in it has recorded what it did.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, TypeVar

import msgspec

Outcome = Literal["ok", "refused", "unknown"]
Role = Literal["admin", "publisher", "client"]
Action = Literal["ack", "nack", "reject", "release", "extend"]

UNKNOWN_CODES: Final = frozenset({"outcome_unknown", "internal"})
"""Problem codes that do not say whether the thing was done."""


class Operation(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="kind"):
    """One call. ``who`` is the principal; ``end`` None says that it never ended."""

    op: str = ""
    start: int = 0
    end: int | None = None
    outcome: Outcome = "unknown"
    code: str | None = None
    who: str = "admin"
    role: Role = "admin"
    batch: str | None = None
    """The call this was an item of; the outcome is then the item's own."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A delivery: the queue and its number there."""

    queue: str
    seq: int


class Publish(Operation, tag="publish", kw_only=True):
    """To a queue or to a topic. The answer gives ``notification`` and ``deliveries``."""

    queue: str | None = None
    topic: str | None = None
    body_sha256: str
    content_type: str = "application/octet-stream"
    key: str | None = None
    ordering_key: str | None = None
    collapse_key: str | None = None
    deliver_after_seconds: float = 0
    expires_after_seconds: float | None = None
    notification: str | None = None
    deliveries: list[Place] = []
    replayed: bool = False


class Lease(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A delivery as it was handed out. ``lease_seconds`` is how long it was given for."""

    notification: str
    queue: str
    seq: int
    lease: str
    attempt: int
    body_sha256: str
    content_type: str
    lease_seconds: float
    ordering_key: str | None = None


class Receive(Operation, tag="receive", kw_only=True):
    """A call for leases. Over a stream: one for each batch that came, begun no later than it can
    have been leased.
    """

    queue: str
    max: int = 10
    wait_seconds: float = 0
    leases: list[Lease] = []


class Settle(Operation, tag="settle", kw_only=True):
    """The end of a lease, or its extension by ``lease_seconds``. The answer gives ``state`` and
    ``receipt``.
    """

    lease: str
    action: Action
    retry_after_seconds: float | None = None
    lease_seconds: float | None = None
    state: str | None = None
    receipt: str | None = None


class Configure(Operation, tag="configure", kw_only=True):
    """A queue made or changed; ``settings`` as they stand afterwards."""

    queue: str
    owner: str
    settings: dict[str, Any] = {}


class DeadLetters(Operation, tag="dead_letters", kw_only=True):
    """An operator redrives or discards dead letters of a queue."""

    queue: str
    action: Literal["redrive", "discard"]
    done: int | None = None


class ReceiptPage(Operation, tag="receipts", kw_only=True):
    """A page of a queue's ledger. Pages with the same ``reading`` were read in order; ``last`` ends
    the ledger.
    """

    queue: str
    reading: str
    after: int = 0
    receipts: list[msgspec.Raw] = []
    last: bool = False


class FiguresRead(Operation, tag="figures", kw_only=True):
    """A queue's figures, as served."""

    queue: str
    figures: dict[str, Any] = {}


class NotificationRead(Operation, tag="notification", kw_only=True):
    """A notification's record: where each of its deliveries stands."""

    notification: str
    body_sha256: str | None = None
    states: list[tuple[str, int, str]] = []


class HeadRead(Operation, tag="head", kw_only=True):
    """A head of the log of receipts: ``note`` is the signed text, which says ``size`` and ``root`` (hex)."""

    size: int = 0
    root: str = ""
    note: str = ""


class Run(msgspec.Struct, frozen=True, array_like=True):
    """``count`` receipts of a queue, from number ``first`` on, are at ``place`` of the log and behind it."""

    queue: str
    first: int
    count: int
    place: int


class LogRead(HeadRead, tag="log", kw_only=True):
    """The head of the log, and where in it receipts are said to be.

    Only read when all is in the log that the last readings of the ledgers have, and nothing was written since.
    """

    runs: list[Run] = []


class Mark(Operation, tag="mark", kw_only=True):
    """Something the test did or knows.

    ``healed``: no fault is injected any more. ``drained``: a client has asked ``queue`` for
    everything, until it was told there was nothing left. ``disconnected``: ``who`` closed a stream
    on ``queue`` and so gave back its leases.
    """

    what: Literal["healed", "drained", "disconnected", "note"]
    queue: str | None = None
    note: str = ""


AnyOperation = (
    Publish
    | Receive
    | Settle
    | Configure
    | DeadLetters
    | ReceiptPage
    | FiguresRead
    | NotificationRead
    | HeadRead
    | LogRead
    | Mark
)
OperationT = TypeVar("OperationT", bound=Operation)

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(AnyOperation).decode


def digest(body: bytes) -> str:
    """The SHA-256 of a body, as histories and receipts write it."""
    return hashlib.sha256(body).hexdigest()


class Recorder:
    """Appends one client's operations to a history file. ``writer`` must be unique among the file's
    writers.
    """

    def __init__(self, path: Path, writer: str) -> None:
        self._writer = writer
        self._count = 0
        # One write for each line on an O_APPEND descriptor: other processes' lines are never torn.
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def begin(self, operation: OperationT) -> OperationT:
        """Name it, stamp its start and write it down: from here on it may have happened."""
        self._count += 1
        operation.op = f"{self._writer}-{self._count}"
        operation.start = time.monotonic_ns()
        self._write(operation)
        return operation

    def end(self, operation: Operation, outcome: Outcome, code: str | None = None) -> None:
        """Stamp its end and write it down with what was answered."""
        operation.end = time.monotonic_ns()
        operation.outcome = outcome
        operation.code = code
        self._write(operation)

    def refused(self, operation: Operation, code: str) -> None:
        """End it with an error's code, as ``refused`` or, where the code leaves it open,
        ``unknown``.
        """
        self.end(operation, "unknown" if code in UNKNOWN_CODES else "refused", code)

    def mark(
        self,
        what: Literal["healed", "drained", "disconnected", "note"],
        *,
        queue: str | None = None,
        who: str = "admin",
        note: str = "",
    ) -> None:
        """Write down something that is known now."""
        now = self.begin(Mark(what=what, queue=queue, who=who, note=note))
        self.end(now, "ok")

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, operation: Operation) -> None:
        line = memoryview(_encode(operation) + b"\n")
        while line:
            line = line[os.write(self._fd, line) :]


class History:
    """Operations by kind, each in the order of their starts."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations: list[Operation] = sorted(operations, key=lambda operation: operation.start)

    def of(self, kind: type[OperationT]) -> Iterator[OperationT]:
        """All operations of one kind."""
        return (operation for operation in self.operations if isinstance(operation, kind))

    @classmethod
    def load(cls, *paths: Path) -> History:
        """Read history files. Raises ``msgspec.ValidationError`` for a line that is no operation.

        The last line of a file may be torn (its writer was killed); it is left out then.
        """
        latest: dict[str, Operation] = {}
        for path in paths:
            with path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        operation = _decode(line)
                        latest[operation.op] = operation
        return cls(latest.values())
