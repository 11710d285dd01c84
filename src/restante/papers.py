"""Papers: small documents that are kept beside the mail, by kind and key, each with a version.

The engine keeps what it has observed in them, alerts, bulk work and what operators did; a store knows nothing of what
stands in them. A paper can be put in the place of a given version only, so that of many nodes one succeeds.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from restante.model import check_bounds

KEY_CHARACTERS: Final = 400
CONTENT_BYTES: Final = 262_144


class Kind(enum.StrEnum):
    """What a paper is about, and what its key is made of."""

    SEEN = "seen"
    """Who came for a queue, and when: ``queue/node``."""
    HISTORY = "history"
    """What happened in a queue over some time: ``queue/resolution/begin/node``."""
    ALERT = "alert"
    """What needs somebody, or lately did: ``queue/rule``."""
    ALERT_HISTORY = "alert_history"
    """What needs or needed somebody, by the time it was raised."""
    ALERT_NOTICE = "alert_notice"
    """What is yet to be told of: ``destination/time``."""
    ALERT_SENDING = "alert_sending"
    """How a destination is told, by whom, and what: ``destination``."""
    ACT = "act"
    """What an operator did, by time."""
    JOB = "job"
    """Bulk work, by the time it was asked for."""
    OPERATOR = "operator"
    """Who may sign in to the operators' page, by name."""
    SHUT_OUT = "shut_out"
    """Changes whenever a key of a client is revoked, by the client's name: links and visits are of one such time."""
    CLIENT_LINK = "client_link"
    """What lets a client's people in once, by the hash of its token."""
    REQUEST = "request"
    """A request with an idempotency key, and what came of it: the hashes of ``principal/key``."""
    SIGNED_OUT = "signed_out"
    """A visit to that page which was ended before its time, by the visit's id."""


class Paper(msgspec.Struct, frozen=True, kw_only=True):
    """``version`` rises by one each time it is put. Some time after ``expires_at_ms`` (wall clock) it is gone.

    Keys are ordered byte by byte, of at most ``KEY_CHARACTERS`` printable ASCII characters.
    """

    kind: Kind
    key: str
    content: bytes
    version: int = 0
    expires_at_ms: int | None = None

    def check(self) -> None:
        """Raise ``OutOfBounds`` where the key or the content is too long."""
        check_bounds("length of key", len(self.key), 1, KEY_CHARACTERS)
        check_bounds("length of content", len(self.content), 0, CONTENT_BYTES)
