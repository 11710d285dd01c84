"""The messages about clients' signing keys, as they are read and written."""

from __future__ import annotations

from restante.wire import times
from restante.wire.client_signatures import SigningKey
from restante.wire.messages import Answered, Asked


class NewSigningKey(Asked, kw_only=True):
    """``pem`` is a public key or a certificate."""

    pem: str
    label: str = ""


class SigningKeyOut(Answered, kw_only=True):
    """``subject``, ``not_before`` and ``not_after`` are there for a certificate."""

    client: str
    id: str
    algorithm: str
    pem: str
    label: str = ""
    added_at: str
    subject: str | None = None
    not_before: str | None = None
    not_after: str | None = None
    revoked_at: str | None = None


class SigningKeyList(Answered, kw_only=True, omit_defaults=False):
    """In the order in which they were added."""

    signing_keys: list[SigningKeyOut]


def to_out(client: str, key: SigningKey) -> SigningKeyOut:
    """A key as it is answered."""
    return SigningKeyOut(
        client=client,
        id=key.id,
        algorithm=key.algorithm,
        pem=key.pem,
        label=key.label,
        added_at=times.to_text(key.added_at_ms),
        subject=key.subject or None,
        not_before=_text(key.not_before_ms),
        not_after=_text(key.not_after_ms),
        revoked_at=_text(key.revoked_at_ms),
    )


def _text(wall_ms: int | None) -> str | None:
    return None if wall_ms is None else times.to_text(wall_ms)
