"""The things Restante speaks of, as plain immutable values. No behaviour beyond checking themselves.

Times named ``*_ms`` are milliseconds since 1970 UTC by the wall clock, for people and receipts. Durations carry
their unit in their name. Deadlines are the stores' own business and never appear here.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from restante.errors import InvalidName, OutOfBounds

# Not . and ..: in a path these mean the folder and the one above, and clients take them out (RFC 3986, 5.2.4).
NAME: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}", re.ASCII)
KEY_CHARACTERS: Final = 255
ATTRIBUTES_BYTES: Final = 16_384
REPLY_BYTES: Final = 65_536
REASON_CHARACTERS: Final = 1_024
AGENT_CHARACTERS: Final = 200
BATCH: Final = 1_000
WAIT_SECONDS_MAXIMUM: Final = 60
LEASE_SECONDS_MAXIMUM: Final = 43_200
DELAY_SECONDS_MAXIMUM: Final = 365 * 86_400
RECEIVE_BYTES: Final = 16 * 1024 * 1024
"""Bodies in one answer stop here; the first is always handed out, whatever its size."""


class State(enum.IntEnum):
    """Where a delivery stands (see ``lifecycle.py`` for what may live there)."""

    SCHEDULED = 0
    READY = 1
    HELD = 2
    LEASED = 3
    DEAD = 4
    ACKED = 5
    SUPERSEDED = 6
    EXPIRED = 7
    DISCARDED = 8

    @property
    def label(self) -> str:
        return self.name.lower()


class Verb(enum.StrEnum):
    """What a consumer may say of a lease."""

    ACK = "ack"
    NACK = "nack"
    REJECT = "reject"
    RELEASE = "release"
    EXTEND = "extend"


class Outcome(enum.StrEnum):
    """What the ledger records. Every accepted transition but a lease has exactly one receipt."""

    PUBLISHED = "published"
    ACKED = "acked"
    NACKED = "nacked"
    REJECTED = "rejected"
    RELEASED = "released"
    LEASE_EXPIRED = "lease_expired"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"
    LATE_ACK = "late_ack"
    """Evidence only: an ack that came after its lease was lost. Changes nothing."""


class Role(enum.StrEnum):
    ADMIN = "admin"
    PUBLISHER = "publisher"
    CLIENT = "client"


class Bound(msgspec.Struct, frozen=True):
    low: float
    high: float


SETTING_BOUNDS: Final[Mapping[str, Bound]] = {
    "lease_seconds": Bound(1, LEASE_SECONDS_MAXIMUM),
    "max_attempts": Bound(1, 1_000),
    "backoff_base_seconds": Bound(0, 3_600),
    "backoff_factor": Bound(1, 10),
    "backoff_cap_seconds": Bound(0, 86_400),
    "max_in_flight": Bound(1, 100_000),
    "max_body_bytes": Bound(0, 16_777_216),
    "body_retention_seconds": Bound(0, 10 * 365 * 86_400),
    "receipt_retention_seconds": Bound(0, 100 * 365 * 86_400),
    "depth_limit": Bound(0, 1_000_000_000),
    "oldest_age_limit_seconds": Bound(0, 10 * 365 * 86_400),
    "silence_limit_seconds": Bound(0, 10 * 365 * 86_400),
    "dead_limit": Bound(0, 1_000_000_000),
    "error_rate_limit": Bound(0, 1),
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A queue's settings. The bounds are in ``SETTING_BOUNDS``, both ends inclusive.

    The limits are those of alerts (``alerting.py``): None for the server's own, 0 for none at all.
    """

    lease_seconds: int = 30
    max_attempts: int = 10
    backoff_base_seconds: float = 1.0
    backoff_factor: float = 2.0
    backoff_cap_seconds: float = 300.0
    max_in_flight: int = 1_000
    max_body_bytes: int = 1_048_576
    body_retention_seconds: int = 7 * 86_400
    receipt_retention_seconds: int = 365 * 86_400
    after_dead: Literal["continue", "park"] = "continue"
    client_may_redrive: bool = False
    signature: Literal["optional", "required"] = "optional"
    depth_limit: int | None = None
    oldest_age_limit_seconds: int | None = None
    silence_limit_seconds: int | None = None
    dead_limit: int | None = None
    error_rate_limit: float | None = None

    def check(self) -> None:
        """Raise ``OutOfBounds`` for the first setting outside its bounds."""
        for name, bound in SETTING_BOUNDS.items():
            value = getattr(self, name)
            if value is not None:
                check_bounds(name, value, bound.low, bound.high)


def check_bounds(name: str, value: float, low: float, high: float) -> None:
    """Raise ``OutOfBounds`` unless ``low <= value <= high`` (NaN is out of every bound)."""
    if not low <= value <= high:
        raise OutOfBounds(name, value, low, high)


def check_name(what: str, name: str) -> str:
    """The name itself when it is 1 to 128 of ``A-Z a-z 0-9 . _ -``, not ``.`` or ``..``; else ``InvalidName``."""
    if not NAME.fullmatch(name):
        raise InvalidName(
            f"{what} must be 1 to 128 characters of A-Z a-z 0-9 . _ -, and not . or .."
        )
    return name


class Queue(msgspec.Struct, frozen=True, gc=False):
    name: str
    owner: str
    settings: Settings = Settings()


class Client(msgspec.Struct, frozen=True):
    name: str
    created_at_ms: int = 0


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A credential. Only the hash of its secret is kept.

    With ``certificate_san`` it is a client's certificate: who shows one with that name (see ``certificates.py``).
    """

    id: str
    role: Role
    name: str
    secret_hash: bytes
    created_at_ms: int
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None
    label: str = ""
    certificate_san: str = ""

    def active(self, now_ms: int) -> bool:
        return self.revoked_at_ms is None and (
            self.expires_at_ms is None or now_ms < self.expires_at_ms
        )


class Subscription(msgspec.Struct, frozen=True):
    """Routes topics that match ``pattern`` to ``queue`` where every attribute in ``filter`` has one of its values."""

    id: str
    pattern: str
    queue: str
    filter: dict[str, list[str]] = {}


class Actor(msgspec.Struct, frozen=True):
    """Who did something, over what: what a receipt says of the doer.

    ``consumer`` tells its streams apart, so that one which comes back finds the leases it holds. ``until_ms`` is when
    the certificate ends by which it was let in, if it was by one: nothing that it keeps open outlives that. ``agent``
    is what its program says it is (RFC 9110, section 10.1.5): up to ``AGENT_CHARACTERS``, for people to see.
    """

    name: str
    role: Role
    key_id: str = ""
    transport: str = ""
    remote_address: str = ""
    consumer: str = ""
    until_ms: int | None = None
    agent: str = ""

    @property
    def principal(self) -> str:
        """Role and name, such as ``publisher/shop``: all credentials of one share what is its."""
        return f"{self.role.value}/{self.name}"


SYSTEM: Final = Actor("restante", Role.ADMIN, transport="internal")


class Idempotency(msgspec.Struct, frozen=True):
    """The publisher's key for one request, and a digest over what the request asked for."""

    publisher: str
    key: str
    fingerprint: bytes


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """What a publisher asks for: a notification to one queue, or to a topic's subscribers. Durations in seconds."""

    body: bytes
    queue: str = ""
    topic: str = ""
    content_type: str = "application/octet-stream"
    attributes: dict[str, str] = {}
    idempotency_key: str = ""
    ordering_key: str = ""
    collapse_key: str = ""
    deliver_after_seconds: float = 0.0
    expires_after_seconds: float | None = None


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A notification about to be appended, once for every queue in ``queues``."""

    id: str
    queues: tuple[str, ...]
    body: bytes
    body_sha256: bytes
    content_type: str
    actor: Actor
    topic: str = ""
    attributes: dict[str, str] = {}
    ordering_key: str = ""
    collapse_key: str = ""
    deliver_after_seconds: float = 0.0
    expires_after_seconds: float | None = None
    idempotency: Idempotency | None = None
    replaces: int | None = None
    """The ``seq`` of a dead letter of its one queue: that is discarded in the same transaction, and this takes its
    place in front of those of its ordering key that it held up."""


class Place(msgspec.Struct, frozen=True):
    """One delivery's place: the queue and the dense number in it."""

    queue: str
    seq: int


class Appended(msgspec.Struct, frozen=True):
    """``replayed`` says that an earlier request with the same idempotency key made it."""

    id: str
    deliveries: list[Place]
    ready: dict[str, int] = {}
    """How many became ready at once, by queue: whom to wake."""
    replayed: bool = False


class LeaseRef(msgspec.Struct, frozen=True):
    """What a lease token names. ``notification`` is the store's own number, ``fence`` the lease's."""

    queue: str
    seq: int
    fence: int
    notification: int


class LeaseRequest(msgspec.Struct, frozen=True, kw_only=True):
    queue: str
    max: int
    lease_seconds: float
    actor: Actor
    max_bytes: int = RECEIVE_BYTES


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery handed out under a lease."""

    id: str
    ref: LeaseRef
    attempt: int
    topic: str
    content_type: str
    body: bytes
    attributes: dict[str, str]
    ordering_key: str
    published_at_ms: int
    lease_until_ms: int


class Leased(msgspec.Struct, frozen=True):
    """``at_limit`` says that ``max_in_flight`` and not an empty queue ended the batch; ``more`` that its size did.

    With ``more``, another look may find something.
    """

    deliveries: list[Delivery]
    at_limit: bool = False
    more: bool = False


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """What a client signed with a key of its own, as it says (see ``wire/client_signatures.py``).

    ``notification`` and ``body_sha256`` (hex) are what it means to have received; ``at`` is RFC 3339, by its clock;
    ``key`` is the id of the key. ``algorithm`` is empty until the value was verified by that key.
    """

    key: str
    at: str
    notification: str
    body_sha256: str
    value: bytes
    algorithm: str = ""


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    ref: LeaseRef
    verb: Verb
    actor: Actor
    reason: str = ""
    retry_after_seconds: float | None = None
    lease_seconds: float | None = None
    reply: bytes | None = None
    reply_content_type: str = ""
    signature: Signature | None = None
    """Verified, but for one thing that only the store knows: whether the notification and its digest are those."""


class Settled(msgspec.Struct, frozen=True):
    """How a lease ended, or goes on. ``number`` is the receipt's in the queue's ledger (0: none, as for extend).

    ``ready`` says how many deliveries of its queue became ready by it, ``due_in_seconds`` when this one will be.
    """

    outcome: str
    state: State
    number: int = 0
    lease_until_ms: int = 0
    ready: int = 0
    due_in_seconds: float | None = None
    repeated: bool = False


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of a queue's ledger. The fields stand in alphabetical order, since the ledger's digest is over them.

    ``principal`` is who did it: the client that signed, the publisher, the operator. Times are RFC 3339 in UTC, but
    for ``signed_at``: that and what is named after ``signature`` are of the client's own signature, if there is one.
    """

    at: str
    attempt: int = 0
    body_bytes: int = 0
    body_sha256: str = ""
    fence: int = 0
    key_id: str = ""
    leased_at: str = ""
    notification: str
    number: int
    outcome: str
    principal: str = ""
    published_at: str = ""
    queue: str
    reason: str = ""
    remote_address: str = ""
    reply: str | None = None
    reply_base64: str | None = None
    reply_content_type: str = ""
    seq: int
    signature: str = ""
    signature_algorithm: str = ""
    signature_key: str = ""
    signed_at: str = ""
    state: str
    transport: str = ""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters an operator means: some by ``seqs``, or all that match every condition given."""

    seqs: tuple[int, ...] | None = None
    reason: str | None = None
    topic: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """A queue's numbers. ``published`` is the sum of the nine states, at any moment."""

    published: int = 0
    ready: int = 0
    scheduled: int = 0
    held: int = 0
    leased: int = 0
    dead: int = 0
    acked: int = 0
    superseded: int = 0
    expired: int = 0
    discarded: int = 0
    oldest_age_seconds: float | None = None
