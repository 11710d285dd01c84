"""The questions a store answers: the argument of ``Store.browse``, each a value that names its answer's type.

Pages go forward by a cursor: the last name or number seen (``after``), with at most ``limit`` entries.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from restante.model import (
    RECEIVE_BYTES,
    Client,
    Delivery,
    Figures,
    Key,
    Queue,
    Selection,
    State,
    Subscription,
)

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


class QueueByName(Query[Queue | None], frozen=True):
    name: str


class Queues(Query[list[Queue]], frozen=True):
    """Queues by name, all or one owner's."""

    after: str = ""
    limit: int = 100
    owner: str | None = None


class FiguresOf(Query[Figures | None], frozen=True):
    queue: str


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


class Subscriptions(Query[list[Subscription]], frozen=True):
    """All of them: routing needs them all."""


class NotificationById(Query[NotificationRecord | None], frozen=True):
    """With its deliveries, all or those of one owner's queues."""

    id: str
    owner: str | None = None


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
    queue: str
    selection: Selection


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
