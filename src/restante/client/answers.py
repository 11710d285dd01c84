"""What the client hands back where the wire's own messages are too raw: bytes for bodies, receipts as values."""

from __future__ import annotations

import msgspec

from restante import model
from restante.errors import RestanteError
from restante.outcomes import Result
from restante.wire import messages
from restante.wire.messages import (
    NotificationOut,
    PlaceOut,
    SettledItem,
    bytes_of,
)


class AwaitedDelivery(messages.AwaitedDelivery):
    """Where one delivery stands, as ``publish_and_wait`` tells it.

    ``state`` and ``attempt`` are None where it is published, and it could not be found out how it stands.
    """

    @property
    def reply_content(self) -> bytes | None:
        """What the client sent along with its ack, byte for byte; None where it sent nothing."""
        return bytes_of("reply", self.reply, self.reply_base64)


class DeliveryStatus(AwaitedDelivery):
    """The same, as ``notification`` tells it: always with its state."""

    state: str
    attempt: int


class NotificationStatus(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A notification and where each of its deliveries stands. ``result`` is ``pending``, ``met`` or ``failed``."""

    id: str
    topic: str = ""
    content_type: str
    body_bytes: int
    body_sha256: str
    published_at: str
    publisher: str
    attributes: dict[str, str] = {}
    result: Result
    deliveries: list[DeliveryStatus]


class Awaited(msgspec.Struct, frozen=True, kw_only=True):
    """What a notification had come to when the wait was over. ``pending``: the time was up before."""

    id: str
    result: Result
    deliveries: list[AwaitedDelivery]


class Notification(NotificationOut):
    """A notification under a lease, as ``receive`` gives it."""

    @property
    def content(self) -> bytes:
        """The body as it was published, byte for byte."""
        return bytes_of("body", self.body, self.body_base64) or b""


class Receipt(model.Receipt, frozen=True, kw_only=True):
    """A ledger entry with its public name and the digest that chains it to the one before."""

    id: str
    digest: str


class ReceiptPage(msgspec.Struct, frozen=True):
    """``next`` is what to pass as ``after`` for the next page; None at the end. A page before may be short.

    Receipts up to number ``pruned_to`` are past their retention, and gone; ``newest`` was the ledger's last number.
    """

    receipts: list[Receipt]
    next: int | None = None
    pruned_to: int = 0
    newest: int = 0


class Way(msgspec.Struct, frozen=True):
    """What became of one notification, by queue and number. ``complete``: these are all receipts there are of it."""

    receipts: list[Receipt]
    complete: bool


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dead letter with all its receipts, oldest first."""

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
    history: list[Receipt] = []


class DeadPage(msgspec.Struct, frozen=True):
    """``next`` is what to pass as ``after`` for the next page; None at the end."""

    dead: list[DeadLetter]
    next: int | None = None


class Received(msgspec.Struct, frozen=True):
    """What ``receive`` brought, and what became of the leases settled on the same way, in their order."""

    notifications: list[Notification]
    settled: list[SettledItem] = []


class Published(msgspec.Struct, frozen=True, omit_defaults=True):
    """``replayed``: an earlier request with the same idempotency key had made it."""

    id: str
    deliveries: list[PlaceOut]
    replayed: bool = False


PublishResult = Published | RestanteError
