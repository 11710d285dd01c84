"""A visit to one of the web pages: what its cookie says, and the token that its forms carry.

The cookie is base64url of a keyed BLAKE2b digest (RFC 7693, 128 bits) and the visit in JSON. It is bound to a visitor,
whose account or key is asked for on every request all the same. Pure: the time is handed in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

import msgspec

NAME: Final = "__Host-restante"
"""Browsers take a cookie of this prefix only with ``Secure``, for this host alone and the whole of it (RFC 6265bis)."""
LIFE_SECONDS: Final = 12 * 3_600
IDLE_SECONDS: Final = 3_600
_COOKIE_CHARACTERS: Final = 2_048
_MAC_BYTES: Final = 16
_COOKIE: Final = b"desk cookie"
_FORM: Final = b"desk form"


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds since 1970. ``key_id`` is the key by which somebody signed in; empty without one.

    ``level`` is the role that an OpenID provider gave; empty for those who signed in otherwise. ``stamp`` is that of
    the account, of the key, or of what was agreed with the provider, when it began.
    """

    id: str
    name: str
    key_id: str = ""
    stamp: str
    began: int
    seen: int
    level: str = ""

    def over(self, now: int) -> bool:
        """Whether it has lasted its time, or nobody has been there for too long."""
        return now >= self.began + LIFE_SECONDS or now >= self.seen + IDLE_SECONDS


_encode = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(Visit)


def seal(secret: bytes, visit: Visit) -> str:
    """The cookie's value."""
    told = _encode(visit)
    return base64.urlsafe_b64encode(_mac(secret, _COOKIE, told) + told).rstrip(b"=").decode()


def unseal(secret: bytes, value: str, now: int) -> Visit | None:
    """The visit, unless the cookie is not one of ours or the visit is over."""
    if len(value) > _COOKIE_CHARACTERS:
        return None
    try:
        data = base64.b64decode(value + "=" * (-len(value) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    mac, told = data[:_MAC_BYTES], data[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(secret, _COOKIE, told)):
        return None
    try:
        visit = _decoder.decode(told)
    except msgspec.DecodeError:
        return None  # written by another version
    return None if visit.over(now) else visit


def form_token(secret: bytes, visit: Visit) -> str:
    """What every form of the visit carries, so that no other page can send one (cross-site request forgery)."""
    return _mac(secret, _FORM, visit.id.encode()).hex()


def is_form_token(secret: bytes, visit: Visit, token: str) -> bool:
    """Whether that is the visit's token."""
    return hmac.compare_digest(form_token(secret, visit).encode(), token.encode())


def cookie_of(header: str, name: str) -> str | None:
    """A cookie's value in a ``Cookie`` header (RFC 6265, section 4.2), if it is there."""
    for pair in header.split(";"):
        found, _, value = pair.strip().partition("=")
        if found == name:
            return value
    return None


def _mac(secret: bytes, purpose: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_MAC_BYTES, key=secret, person=purpose).digest()
