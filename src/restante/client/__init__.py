"""A small asynchronous client for Restante's HTTP interface.

    async with Client("http://127.0.0.1:7070", key) as client:
        await client.publish("acme", b"<order/>", content_type="application/xml", idempotency_key="order-1")

    async with Client("http://127.0.0.1:7070", key_of_acme) as client:
        async for lease in client.collect("acme"):
            async with lease as notification:  # acked on leaving, nacked when the block raises
                store(notification.content)

Every error is one of ``restante.errors``, by the code in the answer, or ``Unreachable`` and ``UnexpectedAnswer``.

**What is repeated by itself.** A connection that could not be made is tried again, a few times within a second:
nothing had been sent. An answer that got lost is asked for again only where doing it twice is doing it once: reading,
``PUT``, a publish with an idempotency key, and settling. Anything else raises ``OutcomeUnknown``. No error that the
server answers with is ever retried.
"""

from restante.client.answers import (
    Awaited,
    AwaitedDelivery,
    DeadLetter,
    DeadPage,
    DeliveryStatus,
    Notification,
    Published,
    Receipt,
    ReceiptPage,
    Received,
    Way,
)
from restante.client.client import Client, Settle
from restante.client.collecting import Lease
from restante.client.groups import Compensation, GroupMember
from restante.client.http import UnexpectedAnswer, Unreachable
from restante.client.proofs import verify_heads
from restante.client.signing import Signer
from restante.wire.checkpoints import VerifierKey
from restante.wire.client_signatures import verify_signature
from restante.wire.proofs import NotProved, check_consistency

__all__ = [
    "Awaited",
    "AwaitedDelivery",
    "Client",
    "Compensation",
    "DeadLetter",
    "DeadPage",
    "DeliveryStatus",
    "GroupMember",
    "Lease",
    "NotProved",
    "Notification",
    "Published",
    "Receipt",
    "ReceiptPage",
    "Received",
    "Settle",
    "Signer",
    "UnexpectedAnswer",
    "Unreachable",
    "VerifierKey",
    "Way",
    "check_consistency",
    "verify_heads",
    "verify_signature",
]
