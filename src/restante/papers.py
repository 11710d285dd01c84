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
    LOG = "log"
    """How far the log of receipts has come: one paper."""
    LOG_TILE = "log_tile"
    """Hashes of that log: ``level/number``."""
    LOG_HEAD = "log_head"
    """Signed heads of it that are kept, by size."""
    LOG_SENDING = "log_sending"
    """Which of them a destination took last, and who sends to it: by destination."""
    LOG_KEY = "log_key"
    """The keys that they are signed with, by id."""
    JOB = "job"
    """Bulk work, by the time it was asked for."""
    GROUP = "group"
    """What was published together and is undone together, by the time it was asked for."""
    GROUP_OF = "group_of"
    """Which groups somebody has asked for: ``role/name/open/id``, or past in the place of open."""
    GROUP_BODY = "group_body"
    """What is yet to be published of a group, or may have to be: ``group/number``."""
    GROUP_KEY = "group_key"
    """Which group an idempotency key has made, by the hash of the publisher and the key."""
    OPERATION = "operation"
    """Work of a service that completes later, by its id."""
    OPERATION_OPEN = "operation_open"
    """Which of them have not ended: ``role/name/runner/id`` of whoever ends it."""
    OPERATION_DUE = "operation_due"
    """Which are to be seen to, and when: ``time/id``."""
    OPERATOR = "operator"
    """Who may sign in to the operators' page, by name."""
    SHUT_OUT = "shut_out"
    """Changes whenever a key of a client is revoked, by the client's name: links and visits are of one such time."""
    CLIENT_LINK = "client_link"
    """What lets a client's people in once, by the hash of its token."""
    SIGNING_KEYS = "signing_keys"
    """By what a client's own signatures are verified, those that have ended too: the client's name."""
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
