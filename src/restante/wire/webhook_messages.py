"""The messages about webhooks."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from restante.webhooks import Circuit, Payload
from restante.wire.messages import Answered, Asked


class WebhookRequest(Asked, kw_only=True):
    """What is left out keeps its value (on creation: its default)."""

    url: str
    headers: dict[str, str] | UnsetType = UNSET
    timeout_seconds: float | UnsetType = UNSET
    concurrency: int | UnsetType = UNSET
    rate_per_second: float | UnsetType | None = UNSET
    payload: Payload | UnsetType = UNSET


class SecretOut(Answered, kw_only=True, omit_defaults=False):
    """``ends_at`` is there while another is taking its place."""

    id: str
    created_at: str
    ends_at: str | None


class WebhookOut(Answered, kw_only=True):
    """``secret`` is there once, when the webhook has just been made."""

    queue: str
    url: str
    header_names: list[str]
    timeout_seconds: float
    concurrency: int
    rate_per_second: float | None = None
    payload: Payload
    secrets: list[SecretOut]
    created_at: str
    state: str
    since: str
    reason: str = ""
    circuit: Circuit | None = None
    problem: str = ""
    consecutive_failures: int
    last_success_at: str = ""
    last_error_at: str = ""
    last_error: str = ""
    secret: str | None = None


class SecretMade(Answered, kw_only=True, omit_defaults=False):
    """The secret's text is shown this once."""

    id: str
    secret: str
    created_at: str


class DisableWebhook(Asked, kw_only=True):
    reason: str = ""


class PingedOut(Answered, kw_only=True):
    ok: bool
    status: int | None = None
    reason: str = ""
    duration_ms: int
