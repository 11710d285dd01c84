"""What is sent to an endpoint, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from restante.engine.session import Session
from restante.engine.webhooks import Opened
from restante.http.delivering import to_headers, to_notification
from restante.model import REPLY_BYTES, Delivery
from restante.webhooks import Webhook
from restante.wire import signatures, times

ANSWER_BYTES: Final = REPLY_BYTES
"""So much of an answer's body is read; then the connection is closed."""
_JSON: Final = "application/json"
_ALWAYS: Final[Mapping[str, str]] = {
    "accept": "*/*",
    # What is kept in the receipt is what was answered, and nothing unfolds in memory.
    "accept-encoding": "identity",
}
_encode = msgspec.json.Encoder().encode


class Call(NamedTuple):
    """A POST. The time-out is for all of it, from the look-up of the name to the end of the answer."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout_seconds: float


class Answered(NamedTuple):
    """An answer. The body ends after ``ANSWER_BYTES``."""

    status: int
    phrase: str = ""
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""
    version: str = "1.1"

    def header(self, name: bytes) -> str:
        """The first of that lower-case name; empty where there is none."""
        for key, value in self.headers:
            if key.lower() == name:
                return value.decode("latin-1").strip()
        return ""


class Failed(NamedTuple):
    """No answer, or not a whole one. ``reason`` is short and the same for the same cause.

    ``sent`` is False where the service itself had no room to make the call: that is nothing of the endpoint's.
    """

    reason: str
    sent: bool = True


class Caller(Protocol):
    """Makes calls, any number at once."""

    async def call(self, call: Call) -> Answered | Failed:
        """Make one call. Raises nothing."""


def delivery_call(
    webhook: Webhook, opened: Opened, session: Session, delivery: Delivery, now_ms: int
) -> Call:
    """The call that delivers."""
    if webhook.payload == "json":
        body, content_type = _encode(to_notification(session, delivery)), _JSON
    else:
        body, content_type = delivery.body, delivery.content_type
    headers = {
        name.decode(): value.decode("latin-1") for name, value in to_headers(session, delivery)
    }
    return _call(webhook, opened, delivery.id, headers, content_type, body, now_ms)


def ping_call(webhook: Webhook, opened: Opened, id: str, now_ms: int) -> Call:
    """A test call, which delivers nothing. It says so in a header, and in JSON, whatever the payload is."""
    content = {"type": "restante.ping", "queue": webhook.queue, "at": times.to_text(now_ms)}
    headers = {"restante-queue": webhook.queue, "restante-ping": "true"}
    return _call(webhook, opened, f"ping_{id}", headers, _JSON, _encode(content), now_ms)


def _call(
    webhook: Webhook,
    opened: Opened,
    id: str,
    headers: Mapping[str, str],
    content_type: str,
    body: bytes,
    now_ms: int,
) -> Call:
    timestamp = now_ms // 1_000
    active = [secret for secret, ends_at in opened.secrets if ends_at is None or now_ms < ends_at]
    signed = {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signatures.sign(active, id, timestamp, body),
        "content-type": content_type,
    }
    # The client's own come first: none can stand in for one of these.
    return Call(
        webhook.url,
        {**_ALWAYS, **opened.headers, **headers, **signed},
        body,
        webhook.timeout_seconds,
    )
