"""The messages of the HTTP interface: requests as they are read, answers as they are written.

Numbers are checked against their bounds further in, where every transport passes; here only the shape is.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from restante.errors import Malformed
from restante.model import Role, Settings, Verb
from restante.wire import xml


class Asked(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A request: a member it does not know is an error, since it is most likely a spelling mistake."""


class Answered(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An answer: members at their default are left out."""


# -- publish ------------------------------------------------------------------------------------


class PublicationItem(Asked, kw_only=True):
    queue: str = ""
    topic: str = ""
    content_type: str = "application/octet-stream"
    body: str | None = None
    body_base64: str | None = None
    attributes: dict[str, str] = {}
    idempotency_key: str = ""
    ordering_key: str = ""
    collapse_key: str = ""
    deliver_after_seconds: float = 0.0
    expires_after_seconds: float | None = None


class PublishBatch(Asked, kw_only=True):
    notifications: list[PublicationItem]


class PlaceOut(Answered, kw_only=True, omit_defaults=False):
    queue: str
    seq: int


class Published(Answered, kw_only=True, omit_defaults=False):
    id: str
    deliveries: list[PlaceOut]


class PublishedItem(Answered, kw_only=True):
    ok: bool
    id: str | None = None
    deliveries: list[PlaceOut] | None = None
    replayed: bool = False
    status: int | None = None
    code: str | None = None
    detail: str | None = None


class PublishedBatch(Answered, kw_only=True, omit_defaults=False):
    results: list[PublishedItem]


# -- collect and settle -------------------------------------------------------------------------


class SignatureIn(Asked, kw_only=True):
    key: str
    at: str
    notification: str
    body_sha256: str
    value: str


class SettleItem(Asked, kw_only=True):
    lease: str
    outcome: Verb
    reason: str = ""
    retry_after: float | None = None
    lease_seconds: float | None = None
    reply: str | None = None
    reply_base64: str | None = None
    reply_content_type: str = ""
    signature: SignatureIn | None = None


class SettleBatch(Asked, kw_only=True):
    settle: list[SettleItem]


class Receive(Asked, kw_only=True):
    max: int = 10
    wait: float = 20.0
    lease: float | None = None
    settle: list[SettleItem] | None = None


class Nack(Asked, kw_only=True):
    reason: str = ""
    retry_after: float | None = None


class Reject(Asked, kw_only=True):
    reason: str = ""


class Extend(Asked, kw_only=True):
    lease: float | None = None


class Nothing(Asked, kw_only=True):
    """A request without members."""


class NotificationOut(Answered, kw_only=True):
    id: str
    queue: str
    seq: int
    lease: str
    attempt: int
    topic: str = ""
    content_type: str
    body: str | None = None
    body_base64: str | None = None
    attributes: dict[str, str] = {}
    ordering_key: str = ""
    published_at: str
    lease_until: str


class SettledItem(Answered, kw_only=True):
    ok: bool
    lease: str
    outcome: str | None = None
    state: str | None = None
    receipt: str | None = None
    lease_until: str | None = None
    status: int | None = None
    code: str | None = None
    detail: str | None = None


class Received(Answered, kw_only=True):
    notifications: list[NotificationOut]
    settled: list[SettledItem] | None = None


class SettledBatch(Answered, kw_only=True, omit_defaults=False):
    settled: list[SettledItem]


# -- look ---------------------------------------------------------------------------------------


class AwaitedDelivery(Answered, kw_only=True):
    """``state`` and ``attempt`` are None where it is stored, and the store could not be asked how it stands."""

    queue: str
    seq: int
    state: str | None = None
    attempt: int | None = None
    receipt: str | None = None
    outcome: str | None = None
    settled_at: str | None = None
    client: str | None = None
    reason: str | None = None
    reply: str | None = None
    reply_base64: str | None = None
    reply_content_type: str | None = None


class DeliveryOut(AwaitedDelivery, kw_only=True):
    state: str
    attempt: int


class NotificationStatus(Answered, kw_only=True):
    id: str
    topic: str = ""
    content_type: str
    body_bytes: int
    body_sha256: str
    published_at: str
    publisher: str
    attributes: dict[str, str] = {}
    result: str
    deliveries: list[DeliveryOut]


class PublishedAndAwaited(Answered, kw_only=True, omit_defaults=False):
    id: str
    result: str
    deliveries: list[AwaitedDelivery]


class ErrorCount(Answered, kw_only=True, omit_defaults=False):
    reason: str
    count: int


class Rates(Answered, kw_only=True, omit_defaults=False):
    """Events a second over the last minute, on all nodes."""

    published: float
    acked: float
    failed: float


class FiguresOut(Answered, kw_only=True, omit_defaults=False):
    published: int
    ready: int
    scheduled: int
    held: int
    leased: int
    dead: int
    acked: int
    superseded: int
    expired: int
    discarded: int
    oldest_age_seconds: float | None
    rates: Rates
    errors: list[ErrorCount]


class QueueOut(Answered, kw_only=True, omit_defaults=False):
    name: str
    owner: str
    settings: Settings


class QueueWithFigures(QueueOut, kw_only=True, omit_defaults=False):
    figures: FiguresOut


class QueuePage(Answered, kw_only=True, omit_defaults=False):
    queues: list[QueueOut]
    next: str | None


class DeadOut(Answered, kw_only=True):
    id: str
    seq: int
    attempt: int
    topic: str = ""
    content_type: str
    published_at: str
    dead_at: str
    reason: str
    ordering_key: str = ""
    parked: bool = False
    history: list[msgspec.Raw]


class DeadPage(Answered, kw_only=True, omit_defaults=False):
    dead: list[DeadOut]
    next: int | None


class HolderOut(Answered, kw_only=True, omit_defaults=False):
    client: str
    transport: str
    address: str


class OpenOut(Answered, kw_only=True):
    id: str
    seq: int
    state: str
    attempt: int
    topic: str = ""
    content_type: str
    body_bytes: int
    published_at: str
    ordering_key: str = ""
    collapse_key: str = ""
    due_at: str | None = None
    expires_at: str | None = None
    leased_at: str | None = None
    holder: HolderOut | None = None


class OpenPage(Answered, kw_only=True, omit_defaults=False):
    deliveries: list[OpenOut]
    next: int | None


class ReasonOut(Answered, kw_only=True, omit_defaults=False):
    reason: str
    count: int
    last_dead_at: str


class ReasonList(Answered, kw_only=True, omit_defaults=False):
    reasons: list[ReasonOut]
    dead: int
    scanned: int


class WayOut(Answered, kw_only=True, omit_defaults=False):
    receipts: list[msgspec.Raw]
    complete: bool


class ReceiptPage(Answered, kw_only=True, omit_defaults=False):
    receipts: list[msgspec.Raw]
    next: int | None
    pruned_to: int
    newest: int


# -- administration -----------------------------------------------------------------------------


class DeadFilter(Asked, kw_only=True):
    reason: str | None = None
    topic: str | None = None
    since: str | None = None
    until: str | None = None


class DeadRequest(Asked, kw_only=True):
    seqs: list[int] | None = None
    filter: DeadFilter | None = None
    all: bool = False
    preview: bool = False
    reason: str = ""


class BulkDone(Answered, kw_only=True, omit_defaults=False):
    matched: int
    done: int


class OpenedOut(Answered, kw_only=True, omit_defaults=False):
    ordering_key: str


class ActOut(Answered, kw_only=True):
    id: str
    at: str
    who: str
    role: Role
    key_id: str = ""
    transport: str = ""
    address: str = ""
    what: str
    queue: str = ""
    subject: str = ""
    details: dict[str, str] = {}


class ActPage(Answered, kw_only=True, omit_defaults=False):
    acts: list[ActOut]
    next: str | None


class NewClient(Asked, kw_only=True):
    name: str


class ClientOut(Answered, kw_only=True, omit_defaults=False):
    name: str
    created_at: str


class ClientPage(Answered, kw_only=True, omit_defaults=False):
    clients: list[ClientOut]
    next: str | None


class ClientMade(Answered, kw_only=True, omit_defaults=False):
    name: str
    queue: str
    key_id: str
    key: str


class NewKey(Asked, kw_only=True):
    role: Role
    name: str
    expires_after_seconds: float | None = None
    label: str = ""
    certificate_san: str | msgspec.UnsetType = msgspec.UNSET


class KeyOut(Answered, kw_only=True, omit_defaults=False):
    id: str
    role: Role
    name: str
    label: str
    certificate_san: str | None = None
    created_at: str
    expires_at: str | None
    revoked_at: str | None


class KeyMade(KeyOut, kw_only=True, omit_defaults=False):
    key: str


class KeyPage(Answered, kw_only=True, omit_defaults=False):
    keys: list[KeyOut]
    next: str | None


class NewSubscription(Asked, kw_only=True):
    pattern: str
    queue: str
    filter: dict[str, str | list[str]] = {}


class SubscriptionOut(Answered, kw_only=True, omit_defaults=False):
    id: str
    pattern: str
    queue: str
    filter: dict[str, list[str]]


class SubscriptionList(Answered, kw_only=True, omit_defaults=False):
    subscriptions: list[SubscriptionOut]


class NodeOut(Answered, kw_only=True, omit_defaults=False):
    id: str
    name: str
    version: str
    url: str
    started_at: str
    draining: bool
    connections: int
    webhooks: int
    silent_seconds: float


class NodeList(Answered, kw_only=True, omit_defaults=False):
    nodes: list[NodeOut]


class Problem(Answered, kw_only=True):
    """RFC 9457. ``bounds`` names what was out of bounds, ``allowed`` the methods of a path."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    bounds: dict[str, Any] | None = None


def bytes_of(what: str, text: str | None, base64_text: str | None) -> bytes | None:
    """The bytes of a ``body``/``body_base64`` pair; None when neither is given, ``Malformed`` when both are."""
    if text is not None and base64_text is not None:
        raise Malformed(f"give {what} or {what}_base64, not both")
    if base64_text is not None:
        try:
            return base64.b64decode(base64_text, validate=True)
        except (ValueError, binascii.Error) as error:
            raise Malformed(f"{what}_base64 is not base64") from error
    return None if text is None else text.encode()


def text_of(data: bytes, *, for_xml: bool) -> tuple[str | None, str | None]:
    """``(text, base64)``: text where the bytes are UTF-8 (and, in XML, can be carried by it), else base64."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None, base64.b64encode(data).decode()
    if for_xml and not xml.is_xml_text(text):
        return None, base64.b64encode(data).decode()
    return text, None
