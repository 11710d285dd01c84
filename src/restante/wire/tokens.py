"""Lease tokens: opaque to clients, and sealed, so that none can be made up, altered or taken to another queue.

A token is base64url of a keyed BLAKE2b digest (RFC 7693, 80 bits) and what it names: the notification, the fence,
the ``seq`` and the queue. Sealing makes a guess hopeless; that the bearer owns the queue is checked all the same.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from typing import Final

from restante.errors import LeaseNotFound
from restante.model import NAME, LeaseRef

_MAC_BYTES: Final = 10
_FIXED: Final = struct.Struct(">QIQ")
_LONGEST: Final = 4 * (_MAC_BYTES + _FIXED.size + 128) // 3 + 4


def seal(secret: bytes, ref: LeaseRef) -> str:
    """The token of a lease."""
    named = _FIXED.pack(ref.notification, ref.fence, ref.seq) + ref.queue.encode()
    return base64.urlsafe_b64encode(_mac(secret, named) + named).rstrip(b"=").decode()


def unseal(secret: bytes, token: str) -> LeaseRef:
    """What a token names; ``LeaseNotFound`` for anything that was not sealed with ``secret``."""
    try:
        if len(token) > _LONGEST:
            raise ValueError
        data = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise LeaseNotFound("there is no such lease") from error
    mac, named = data[:_MAC_BYTES], data[_MAC_BYTES:]
    if len(named) <= _FIXED.size or not hmac.compare_digest(mac, _mac(secret, named)):
        raise LeaseNotFound("there is no such lease")
    return _read(named)


def _mac(secret: bytes, named: bytes) -> bytes:
    return hashlib.blake2b(named, digest_size=_MAC_BYTES, key=secret).digest()


def _read(named: bytes) -> LeaseRef:
    notification, fence, seq = _FIXED.unpack_from(named)
    queue = named[_FIXED.size :].decode("ascii", "replace")
    if not NAME.fullmatch(queue):
        raise LeaseNotFound("there is no such lease")
    return LeaseRef(queue, seq, fence, notification)
