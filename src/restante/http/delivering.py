"""A delivery as it stands in messages, for every transport that speaks JSON, and in headers."""

from __future__ import annotations

import re
from typing import Any, Final

from restante.engine.session import Session
from restante.http.answers import Header
from restante.model import Delivery
from restante.tracecontext import NAMES
from restante.wire import times
from restante.wire.messages import NotificationOut, text_of

_HEADER_NAME: Final = re.compile(r"[a-z0-9_-]{1,128}", re.ASCII)


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


def to_headers(session: Session, delivery: Delivery) -> tuple[Header, ...]:
    """All but the body and its content type, as headers of who is handed the bare payload."""
    headers: list[Header] = [
        (b"restante-id", delivery.id.encode()),
        (b"restante-queue", delivery.ref.queue.encode()),
        (b"restante-seq", b"%d" % delivery.ref.seq),
        (b"restante-lease", session.token(delivery).encode()),
        (b"restante-attempt", b"%d" % delivery.attempt),
        (b"restante-published-at", times.to_text(delivery.published_at_ms).encode()),
        (b"restante-lease-until", times.to_text(delivery.lease_until_ms).encode()),
    ]
    if delivery.topic:
        headers.append((b"restante-topic", delivery.topic.encode()))
    if delivery.ordering_key:
        headers.append((b"restante-ordering-key", _text(delivery.ordering_key)))
    for name, value in delivery.attributes.items():
        # An attribute given in JSON may have a dot, which a header's name may not: only `receive` shows those.
        if _HEADER_NAME.fullmatch(name):
            plain = name in NAMES or name.startswith("ce-")
            own = name if plain else f"restante-attribute-{name}"
            headers.append((own.encode(), _text(value)))
    return tuple(headers)


def _text(value: str) -> bytes:
    # As it came where it came in a header; text beyond Latin-1 can only have come in JSON.
    return value.encode("latin-1", "replace")
