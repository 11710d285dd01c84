"""What a driver is: a client that speaks one transport, reduced to the verbs that scenarios use."""

from __future__ import annotations

import enum
from typing import ClassVar, Protocol

import msgspec

from restante.model import Verb


class Want(enum.Enum):
    """What a scenario may need of a transport and not every one offers."""

    CONNECTS = "comes to the service, by whatever stands before it; a webhook waits to be called"
    CREDIT = "says how much it takes before it settles"
    EXTEND = "prolongs a lease"
    LEASE_SECONDS = "says how long its leases run"
    LEASE_RUNS_OUT = "may hold a lease until it runs out, and nobody ends it before"
    PUBLISH = "publishes, too"
    RELEASE = "gives back"
    REASON = "says why it does not accept"
    RESUME = "comes back to what it was sent"
    SETTLE_LATER = "settles a lease after it has lost its connection, or a second time"
    ATTACHED = "stays connected, and is disconnected with its key"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where the service is. ``grpc`` is HOST:PORT; ``ca_file`` the authority that signed its certificate, for TLS.

    ``hook_host`` is where the service reaches this machine, for webhooks.
    """

    url: str
    admin_key: str
    grpc: str = ""
    ca_file: str = ""
    hook_host: str = "127.0.0.1"


class Delivered(msgspec.Struct, kw_only=True):
    """A notification as a client got it."""

    id: str
    queue: str
    seq: int
    lease: str
    attempt: int
    content_type: str
    body: bytes
    topic: str = ""
    attributes: dict[str, str] = {}
    ordering_key: str = ""


class Outcome(msgspec.Struct, kw_only=True):
    """What a client was told of a settle. ``code`` is the error's where ``ok`` is False."""

    ok: bool
    outcome: str = ""
    state: str = ""
    receipt: str = ""
    code: str = ""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a consumer attaches. ``resume`` is what an earlier consumer's ``resume`` was."""

    credit: int = 10
    credit_bytes: int | None = None
    lease_seconds: int | None = None
    resume: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a consumer says of a lease."""

    verb: Verb
    reason: str = ""
    retry_after: float | None = None
    lease_seconds: float | None = None
    reply: bytes | None = None
    reply_content_type: str = ""


class Consumer(Protocol):
    """One client attached to one queue. ``resume`` is what lets it come back, where that can be."""

    resume: str

    async def take(self, count: int) -> list[Delivered]:
        """The next so many notifications, as they come."""

    async def settle(self, delivered: Delivered, answer: Answer) -> Outcome:
        """Settle one lease, and wait for what comes of it."""

    async def ended(self) -> None:
        """Wait until the service has ended the connection."""

    async def abandon(self) -> None:
        """Be gone, without a word."""

    async def close(self) -> None:
        """Leave as one should. Nothing happens when it has left already."""


class Driver(Protocol):
    """A client of one transport. ``transport`` is what receipts call it."""

    name: ClassVar[str]
    transport: ClassVar[str]
    offers: ClassVar[frozenset[Want]]

    def __init__(self, target: Target) -> None: ...

    async def attach(self, queue: str, key: str, options: Options) -> Consumer:
        """Connect a consumer with a client's key."""

    async def publish(
        self, queue: str, key: str, bodies: list[bytes], *, ordering_key: str
    ) -> list[str]:
        """Publish with a publisher's key; the ids. Only asked of who offers ``Want.PUBLISH``."""
