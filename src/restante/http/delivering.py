"""A delivery as it stands in messages, for every transport that speaks JSON."""

from __future__ import annotations

from typing import Any

from restante.engine.session import Session
from restante.model import Delivery
from restante.wire import times
from restante.wire.messages import NotificationOut, text_of


def to_notification(
    session: Session, delivery: Delivery, *, for_xml: bool = False
) -> NotificationOut:
    """The notification with its lease, its body as text where that is possible, else in base64."""
    body, body_base64 = text_of(delivery.body, for_xml=for_xml)
    return NotificationOut(body=body, body_base64=body_base64, **members(session, delivery))


def members(session: Session, delivery: Delivery) -> dict[str, Any]:
    """All but the body."""
    return {
        "id": delivery.id,
        "queue": delivery.ref.queue,
        "seq": delivery.ref.seq,
        "lease": session.token(delivery),
        "attempt": delivery.attempt,
        "topic": delivery.topic,
        "content_type": delivery.content_type,
        "attributes": delivery.attributes,
        "ordering_key": delivery.ordering_key,
        "published_at": times.to_text(delivery.published_at_ms),
        "lease_until": times.to_text(delivery.lease_until_ms),
    }
