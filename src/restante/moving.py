"""A store's rows in no store's own form: what one store gives out and another takes in, when a store is moved.

A store is moved part by part, in the order of ``Part``, each part in the order of its rows' ``key``. The numbers of
queues and notifications are kept, since lease tokens in clients' hands name them. Times named ``*_ms`` are by the wall
clock, as everywhere; those named ``*_at`` are on the store's own timeline, and ``shifted`` sets them to another's, with
what a paper says of a request in parts.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeVar

import msgspec

from restante.idempotency import decode_record, encode_record
from restante.papers import Kind

BATCH_ROWS: Final = 5_000
BATCH_BYTES: Final = 8 * 1024 * 1024
"""One batch is one transaction. A row that is larger goes alone."""

Key = tuple[int | str, ...]
"""Where a row stands among those of its part."""


class Part(enum.StrEnum):
    """What a store consists of, in the order in which it is moved."""

    CLIENTS = "clients"
    QUEUES = "queues"
    KEYS = "keys"
    SUBSCRIPTIONS = "subscriptions"
    WEBHOOKS = "webhooks"
    PAPERS = "papers"
    NOTIFICATIONS = "notifications"
    RECEIPTS = "receipts"
    SEALS = "seals"
    DELIVERIES = "deliveries"
    IDEMPOTENCY = "idempotency"


ADMINISTERED: Final = (
    Part.CLIENTS,
    Part.QUEUES,
    Part.KEYS,
    Part.SUBSCRIPTIONS,
    Part.WEBHOOKS,
    Part.PAPERS,
)
"""The parts that tell whether a store has changed: whatever happens to a notification changes its queue's figures."""


class ClientRow(NamedTuple):
    name: str
    created_at_ms: int

    @property
    def key(self) -> Key:
        return (self.name,)


class QueueRow(NamedTuple):
    """A queue with its figures and the end of its ledger. ``counts`` is indexed by ``State``.

    ``settings`` is their JSON. Receipts up to the number ``pruned`` are no longer kept.
    """

    id: int
    name: str
    owner: str
    settings: str
    seq: int
    receipts: int
    chain: bytes
    counts: tuple[int, ...]
    pruned: int

    @property
    def key(self) -> Key:
        return (self.id,)


class KeyRow(NamedTuple):
    id: str
    role: str
    name: str
    secret_hash: bytes
    created_at_ms: int
    expires_at_ms: int | None
    revoked_at_ms: int | None
    label: str
    certificate_san: str

    @property
    def key(self) -> Key:
        return (self.id,)


class SubscriptionRow(NamedTuple):
    """``filter`` is its JSON."""

    id: str
    pattern: str
    queue: str
    filter: str

    @property
    def key(self) -> Key:
        return (self.id,)


class WebhookRow(NamedTuple):
    """``webhook`` is its JSON, with the secrets sealed in it."""

    queue: str
    version: int
    webhook: bytes

    @property
    def key(self) -> Key:
        return (self.queue,)


class PaperRow(NamedTuple):
    kind: str
    paper_key: str
    version: int
    content: bytes
    expires_at_ms: int | None

    @property
    def key(self) -> Key:
        return (self.kind, self.paper_key)


class NotificationRow(NamedTuple):
    """``body`` is None where its retention is over, or nobody was to have it. ``attributes`` is their JSON."""

    n: int
    id: str
    topic: str
    content_type: str
    attributes: bytes | None
    published_at_ms: int
    publisher: str
    body_sha256: bytes
    body_bytes: int
    body: bytes | None

    @property
    def key(self) -> Key:
        return (self.n,)


class ReceiptRow(NamedTuple):
    queue: int
    number: int
    at_ms: int
    notification: int
    seq: int
    outcome: str
    fence: int
    entry: bytes
    digest: bytes

    @property
    def key(self) -> Key:
        return (self.queue, self.number)


class SealRow(NamedTuple):
    """A run of a queue's receipts that is in the log, from its leaf ``place`` on."""

    queue: int
    first: int
    receipts: int
    place: int

    @property
    def key(self) -> Key:
        return (self.queue, self.first)


class DeliveryRow(NamedTuple):
    """A delivery that has not ended. ``holder`` is the JSON of the ``Actor`` that has, or last had, the lease."""

    queue: int
    seq: int
    notification: int
    published_at_ms: int
    body_bytes: int
    state: int
    due_at: int | None
    attempt: int
    fence: int
    forgiving: bool
    parked: bool
    overtaken: bool
    ordering_key: str | None
    collapse_key: str | None
    expires_at: int | None
    leased_at_ms: int | None
    holder: bytes | None
    dead_at_ms: int | None
    reason: str | None

    @property
    def key(self) -> Key:
        return (self.queue, self.seq)


class IdempotencyRow(NamedTuple):
    """A publisher's key whose notification is still known. ``places`` are the queues and ``seq`` it went to."""

    publisher: str
    idempotency_key: str
    fingerprint: bytes
    notification: int
    id: str
    used_at: int
    places: tuple[tuple[str, int], ...]

    @property
    def key(self) -> Key:
        return (self.publisher, self.idempotency_key)


Row = (
    ClientRow
    | QueueRow
    | KeyRow
    | SubscriptionRow
    | WebhookRow
    | PaperRow
    | NotificationRow
    | ReceiptRow
    | SealRow
    | DeliveryRow
    | IdempotencyRow
)
R = TypeVar("R", bound=Row)


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a copy has come: kept in the target, written with the rows it tells of.

    ``source`` is a digest of the source, by which it is known again. ``shift_ms`` is what the target's timeline is
    ahead of the source's. ``after`` is the key of the last row of ``part`` that is there.
    """

    source: bytes
    shift_ms: int
    part: Part = Part.CLIENTS
    after: Key = ()
    done: dict[Part, int] = {}


encode_progress: Final = msgspec.json.Encoder().encode
decode_progress: Final = msgspec.json.Decoder(Progress).decode


def shifted(row: R, shift_ms: int) -> R:
    """The row with its deadlines on a timeline that is ``shift_ms`` ahead."""
    match row:
        case DeliveryRow():
            return row._replace(
                due_at=None if row.due_at is None else row.due_at + shift_ms,
                expires_at=None if row.expires_at is None else row.expires_at + shift_ms,
            )
        case IdempotencyRow():
            return row._replace(used_at=row.used_at + shift_ms)
        case PaperRow(kind=Kind.REQUEST):
            return row._replace(content=_shifted_request(row.content, shift_ms))
    return row


def _shifted_request(content: bytes, shift_ms: int) -> bytes:
    """One in parts is gone before the keys of these are, which are shifted. What is no record is left as it is."""
    try:
        record = decode_record(content)
    except msgspec.MsgspecError:
        return content
    if not record.in_parts:
        return content
    since = record.parts_since_ms + shift_ms
    return encode_record(msgspec.structs.replace(record, parts_since_ms=since))


def without_nul(row: R) -> R:
    """The row with U+FFFD for NUL in a key's label, the one text that may hold it: not every store can keep it."""
    if isinstance(row, KeyRow):
        return row._replace(label=row.label.replace("\0", "\ufffd"))
    return row


def batches(rows: Iterable[R]) -> Iterator[list[R]]:
    """Rows in their order, ``BATCH_ROWS`` and about ``BATCH_BYTES`` at once."""
    batch: list[R] = []
    size = 0
    for row in rows:
        weight = weight_of(row)
        if batch and is_full(len(batch), size + weight):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += weight
    if batch:
        yield batch


def is_full(rows: int, size: int) -> bool:
    """Whether a batch of so many rows takes none that would make it ``size`` bytes."""
    return rows == BATCH_ROWS or size > BATCH_BYTES


def weight_of(row: Row) -> int:
    """About how many bytes a row has, where they may be many."""
    match row:
        case NotificationRow():
            return 0 if row.body is None else len(row.body)
        case ReceiptRow():
            return len(row.entry)
    return 0
