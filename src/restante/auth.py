"""API keys and what each role may do. Pure: randomness and the time are handed in.

A key reads ``rst_<id>_<secret><checksum>``: an id of 50 bits that finds it, 160 secret bits, and a checksum of 30 bits
by which a mistyped key (or a scanner for leaked ones) can tell without asking. Only SHA-256 of the secret is kept; a
secret of 160 random bits needs no slow hash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import zlib
from typing import Final

from restante.errors import (
    AlreadyExists,
    Forbidden,
    QueueNotFound,
    TooManyKeys,
    Unauthenticated,
)
from restante.model import Actor, Key, Queue, Role

ID_BYTES: Final = 7
SECRET_BYTES: Final = 20
ACTIVE_KEYS: Final = 2
"""A principal has at most two active keys: the one in use, and the one it is being rotated to.

And as many certificates, counted apart: one can change from the one kind to the other without giving up either before.
"""

_KEY: Final = re.compile(r"rst_([a-z2-7]{10})_([a-z2-7]{32})([a-z2-7]{6})", re.ASCII)
_DUMMY_HASH: Final = hashlib.sha256(b"no such key").digest()


def mint(id_bytes: bytes, secret_bytes: bytes) -> tuple[str, str, bytes]:
    """Make a key of 7 and 20 random bytes: ``(id, the key to show once, the hash to keep)``."""
    key_id = _base32(id_bytes)[:10]
    secret = _base32(secret_bytes)
    return key_id, f"rst_{key_id}_{secret}{_checksum(key_id, secret)}", _hash(secret)


def parse(key: str) -> tuple[str, bytes]:
    """``(id, hash of the secret)`` of a presented key; ``Unauthenticated`` when it is no key at all."""
    match = _KEY.fullmatch(key)
    if match is None or _checksum(match[1], match[2]) != match[3]:
        raise Unauthenticated("the key is not a valid Restante key")
    return match[1], _hash(match[2])


def matches(kept_hash: bytes | None, presented_hash: bytes) -> bool:
    """Compare in constant time, an unknown id included, so that timing does not tell which ids exist."""
    return hmac.compare_digest(kept_hash or _DUMMY_HASH, presented_hash) and kept_hash is not None


def hash_of(text: str) -> bytes:
    """The hash under which a key given by the operator's environment is kept in memory."""
    return _hash(text)


def check_new_key(key: Key, *, active: int, taken: bool) -> None:
    """Raise unless the key may be added, where its principal has so many active ones of its kind.

    ``taken``: its id is another's, as a certificate's is while it is active.
    """
    what = "certificates" if key.certificate_san else "keys"
    if taken:
        raise AlreadyExists(f"{key.certificate_san or key.id} is in use already")
    if active >= ACTIVE_KEYS:
        raise TooManyKeys(f"{key.name} has {active} active {what} of this role: revoke one first")


def require(actor: Actor, *roles: Role) -> None:
    """Raise ``Forbidden`` unless the actor has one of ``roles``."""
    if actor.role not in roles:
        names = " or ".join(role.value for role in roles)
        raise Forbidden(f"this takes a key of role {names}")


def require_sight(actor: Actor, queue: Queue) -> None:
    """Raise ``QueueNotFound`` where the actor may not know that the queue exists.

    A client sees its own queues; an administrator sees all. A publisher knows queues by name only, to publish to.
    """
    if actor.role is Role.ADMIN or actor.role is Role.PUBLISHER:
        return
    if queue.owner != actor.name:
        raise QueueNotFound(f"there is no queue {queue.name} here")


def require_collect(actor: Actor, queue: Queue) -> None:
    """Raise unless the actor may collect from the queue and sign: its owner, or an administrator."""
    require_sight(actor, queue)
    require(actor, Role.CLIENT, Role.ADMIN)


def require_publish(actor: Actor, queue: Queue) -> None:
    """Raise unless the actor may publish to the queue."""
    require_sight(actor, queue)
    require(actor, Role.PUBLISHER, Role.ADMIN)


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _checksum(key_id: str, secret: str) -> str:
    return _base32(zlib.crc32(f"{key_id}{secret}".encode()).to_bytes(4, "big"))[:6]


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
