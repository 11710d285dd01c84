"""A cookie that stands for a key for a while: for browsers, whose ``EventSource`` can set no headers.

It is base64url of a keyed BLAKE2b digest (RFC 7693, 128 bits), the second since 1970 at which it ends, and the key's
id. Whoever accepts it asks for the key all the same, so that a revoked one ends its cookies too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from typing import Final

from restante.errors import Unauthenticated

NAME: Final = "restante_events"
LIFE_SECONDS: Final = 3_600
_PERSON: Final = b"restante cookie"
_MAC_BYTES: Final = 16
_FIXED: Final = struct.Struct(">Q")


def seal(secret: bytes, key_id: str, ends_at: int) -> str:
    """The cookie's value, good until the second ``ends_at``."""
    named = _FIXED.pack(ends_at) + key_id.encode()
    return base64.urlsafe_b64encode(_mac(secret, named) + named).rstrip(b"=").decode()


def unseal(secret: bytes, value: str, now: int) -> str:
    """The id of the key it stands for; ``Unauthenticated`` for a forged cookie or one past its time."""
    try:
        data = base64.b64decode(value + "=" * (-len(value) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error):
        data = b""
    mac, named = data[:_MAC_BYTES], data[_MAC_BYTES:]
    if len(named) <= _FIXED.size or not hmac.compare_digest(mac, _mac(secret, named)):
        raise Unauthenticated("the cookie is not one of ours")
    (ends_at,) = _FIXED.unpack_from(named)
    if now >= ends_at:
        raise Unauthenticated("the cookie has expired: ask for another")
    return named[_FIXED.size :].decode()


def of_header(header: str) -> str | None:
    """Our cookie's value in a ``Cookie`` header (RFC 6265, section 4.2), if it is there."""
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == NAME:
            return value
    return None


def _mac(secret: bytes, named: bytes) -> bytes:
    return hashlib.blake2b(named, digest_size=_MAC_BYTES, key=secret, person=_PERSON).digest()
