"""Signing calls as Standard Webhooks 1.0 has it, over bytes of any kind.

Signed is ``{id}.{timestamp}.{body}``, by HMAC-SHA256 with the secret's bytes. Each signature is ``v1,`` and base64;
while a secret is being replaced there are two, with a space between.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"


def to_text(secret: bytes) -> str:
    """A secret as it is shown."""
    return PREFIX + base64.b64encode(secret).decode()


def of_text(text: str) -> bytes:
    """The bytes of a secret as it is shown; ``ValueError`` where it is none, or not of 24 to 64 bytes."""
    secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    if not text.startswith(PREFIX) or not 24 <= len(secret) <= 64:
        raise ValueError("not a secret of Standard Webhooks")
    return secret


def sign(secrets: Sequence[bytes], id: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``. ``timestamp`` is in seconds since 1970; ``id`` has no full stop in it."""
    signed = b"%b.%d.%b" % (id.encode(), timestamp, body)
    return " ".join(
        f"v1,{base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()}"
        for secret in secrets
    )
