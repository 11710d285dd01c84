"""The questions a store answers: the argument of ``Store.browse``, each a value that names its answer's type.

Pages go forward by a cursor: the last name or number seen (``after``), with at most ``limit`` entries.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from restante.model import (
    RECEIVE_BYTES,
    Actor,
    Client,
    Delivery,
    Figures,
    Key,
    Queue,
    Role,
    Selection,
    State,
    Subscription,
)
from restante.papers import Kind, Paper
from restante.receipt_log import Lag, Seal, UnsealedPage
from restante.webhooks import Webhook

Answer = TypeVar("Answer")


class Query(msgspec.Struct, Generic[Answer], frozen=True):
    """A question whose answer is an ``Answer``."""


class StoredReceipt(msgspec.Struct, frozen=True):
    """``entry`` is the receipt's canonical JSON; ``digest`` is SHA-256 over the previous digest and ``entry``."""

    queue: str
    number: int
    entry: bytes
    digest: bytes


class ReceiptPage(msgspec.Struct, frozen=True):
    """``next`` is the number to go on after; None at the end. A page may be short, even empty, before the end."""

    receipts: list[StoredReceipt]
    next: int | None


class Span(msgspec.Struct, frozen=True):
    """Receipts up to number ``pruned_to`` are past their time, and gone (0: none is); the last is number ``newest``."""

    pruned_to: int = 0
    newest: int = 0


class DeliveryRecord(msgspec.Struct, frozen=True):
    """One delivery of a notification: where it stands, and the receipt of its last event."""

    queue: str
    seq: int
    state: State
    attempt: int
    last: StoredReceipt | None


class NotificationRecord(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    topic: str
    content_type: str
    body_bytes: int
    body_sha256: bytes
    published_at_ms: int
    publisher: str
    attributes: dict[str, str]
    deliveries: list[DeliveryRecord]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead delivery with every receipt it has, oldest first."""

    id: str
    seq: int
    attempt: int
    topic: str
    content_type: str
    published_at_ms: int
    dead_at_ms: int
    reason: str
    ordering_key: str
    parked: bool
    history: list[StoredReceipt]


class QueueFigures(msgspec.Struct, frozen=True):
    """A queue and how it stands."""

    queue: Queue
    figures: Figures


class OpenDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that has not ended, for people to see.

    ``due_in_seconds`` is when a scheduled one becomes ready, and when the lease of a leased one runs out. ``holder`` is
    who has the lease, or last had it.
    """

    id: str
    seq: int
    state: State
    attempt: int
    topic: str
    content_type: str
    body_bytes: int
    published_at_ms: int
    ordering_key: str
    collapse_key: str
    due_in_seconds: float | None = None
    expires_in_seconds: float | None = None
    leased_at_ms: int | None = None
    holder: Actor | None = None


class Body(msgspec.Struct, frozen=True):
    """``content`` is None where it is no longer kept."""

    content_type: str
    content: bytes | None


class ReasonCount(msgspec.Struct, frozen=True):
    """How many dead letters have that reason, and when the last of them died."""

    reason: str
    count: int
    last_dead_at_ms: int


class SeqPage(msgspec.Struct, frozen=True):
    """``next`` is the number to go on after; None at the end. A page may be short, even empty, before the end."""

    seqs: list[int]
    next: int | None


class Now(Query[int], frozen=True):
    """Where the store's timeline stands, in milliseconds: by it deadlines are told that outlive the process.

    It runs near the wall clock, and no wall clock that jumps moves it, nor does a node whose own is wrong.
    """


class QueueByName(Query[Queue | None], frozen=True):
    name: str


class Queues(Query[list[Queue]], frozen=True):
    """Queues by name, all or one owner's."""

    after: str = ""
    limit: int = 100
    owner: str | None = None


class FiguresOf(Query[Figures | None], frozen=True):
    queue: str


class FiguresOfQueues(Query[list[QueueFigures]], frozen=True):
    """How queues stand, by name: the named ones that are there, or all beyond ``after``."""

    names: tuple[str, ...] | None = None
    after: str = ""
    limit: int = 500


class ClientByName(Query[Client | None], frozen=True):
    name: str


class Clients(Query[list[Client]], frozen=True):
    after: str = ""
    limit: int = 100


class KeyById(Query[Key | None], frozen=True):
    id: str


class Keys(Query[list[Key]], frozen=True):
    after: str = ""
    limit: int = 100


class KeysOf(Query[list[Key]], frozen=True):
    """The keys and certificates of one principal, those that have ended too, the newest first."""

    role: Role
    name: str
    limit: int = 100


class Subscriptions(Query[list[Subscription]], frozen=True):
    """All of them: routing needs them all."""


class WebhookOf(Query[Webhook | None], frozen=True):
    queue: str


class Webhooks(Query[list[Webhook]], frozen=True):
    """By the name of their queue."""

    after: str = ""
    limit: int = 100


class NotificationById(Query[NotificationRecord | None], frozen=True):
    """With its deliveries, all or those of one owner's queues."""

    id: str
    owner: str | None = None


class PublishedWith(Query[str | None], frozen=True):
    """The id of the notification that the publisher's idempotency key made, as long as it is remembered."""

    publisher: str
    key: str


class BodyOf(Query[Body | None], frozen=True):
    """What was published under that id, if it was to one of the owner's queues (None: to any)."""

    id: str
    owner: str | None = None


class ReceiptsOf(Query[list[StoredReceipt]], frozen=True):
    """What became of one notification, by queue and number: of one owner's queues, or of all; the first ``limit``."""

    id: str
    owner: str | None = None
    limit: int = 1_000


class ReceiptCounts(Query[dict[str, int]], frozen=True):
    """How many receipts there are of each of these notifications; those that have none are left out."""

    ids: tuple[str, ...]


class OpenDeliveries(Query[list[OpenDelivery]], frozen=True):
    """What stands in one state (SCHEDULED, READY, HELD, LEASED or DEAD) of a queue, by ``seq``."""

    queue: str
    state: State
    after: int = 0
    limit: int = 100


class DeadReasons(Query[list[ReasonCount]], frozen=True):
    """What a queue's dead letters died of, the most frequent first: of its first ``scanned``, whatever their number."""

    queue: str
    scanned: int = 10_000
    limit: int = 100


class DeadLetters(Query[list[DeadLetter]], frozen=True):
    """By ``seq``."""

    queue: str
    selection: Selection = Selection()
    after: int = 0
    limit: int = 100


class LeasedTo(Query[list[Delivery]], frozen=True):
    """What is leased to one consumer (``Actor.consumer``) of the queue, by ``seq``, under the leases it has.

    Those beyond ``after``, with ``max_bytes`` of bodies together at most; the first one comes whatever its size.
    Answered in the order of calls: what was leased or settled by a call before this one counts, done or not.
    """

    queue: str
    consumer: str
    after: int = 0
    max_bytes: int = RECEIVE_BYTES


class CountDead(Query[int], frozen=True):
    """How many of a queue's first ``scanned`` dead letters are selected: what it costs does not grow with the backlog.

    Those selected by ``seqs`` are found wherever they are.
    """

    queue: str
    selection: Selection
    scanned: int = 100_000


class DeadSeqs(Query[SeqPage], frozen=True):
    """Selected dead letters beyond ``after``, by their numbers alone. A page looks at ``scanned`` dead letters."""

    queue: str
    selection: Selection = Selection()
    after: int = 0
    limit: int = 100
    scanned: int = 10_000


class ReceiptByNumber(Query[StoredReceipt | None], frozen=True):
    queue: str
    number: int


class Receipts(Query[ReceiptPage], frozen=True):
    """By number, rising; or from the newest down. A page looks at 10,000 receipts at most."""

    queue: str
    after: int | None = None
    limit: int = 100
    outcome: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    newest_first: bool = False


class PaperOf(Query[Paper | None], frozen=True):
    kind: Kind
    key: str


class PaperVersions(Query[dict[str, int]], frozen=True):
    """The versions of those of a kind that are there, by their keys."""

    kind: Kind
    keys: tuple[str, ...]


class CountPapers(Query[int], frozen=True):
    """How many of a kind there are with ``after`` < key < ``before``: of more than ``limit``, that many."""

    kind: Kind
    after: str
    before: str
    limit: int


class Papers(Query[list[Paper]], frozen=True):
    """Those of a kind with ``after`` < key < ``before`` (empty: no such bound), rising, or from the last down."""

    kind: Kind
    after: str = ""
    before: str = ""
    limit: int = 100
    newest_first: bool = False


class Unsealed(Query[UnsealedPage], frozen=True):
    """Receipts that are not in the log, up to ``limit``: of each queue those that come next."""

    limit: int = 1_000


class LogLag(Query[Lag], frozen=True):
    """How many receipts are not in the log, counted up to ``limit``, and of when the oldest of them is.

    Of so many queues with such receipts at most, so that it takes no longer than asking for them does.
    """

    limit: int = 10_000
    queues: int = 1_000


class Seals(Query[list[Seal]], frozen=True):
    """Which receipts of a queue are in the log, and where: by number, from the one that has number ``start`` on."""

    queue: str
    start: int = 1
    limit: int = 100


class LedgerSpan(Query[Span], frozen=True):
    """From where to where a queue's receipts have to be there."""

    queue: str
