"""What is seen of queues by those who watch over them: how each stands, who comes for it, what went wrong lately."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from restante.metering import Tally
from restante.model import Figures, Queue
from restante.webhooks import Circuit

MINUTE_SECONDS: Final = 60
RECENT_SECONDS: Final = 300
"""How far back goes what is called recent: errors and their rate."""


class Contact(msgspec.Struct, frozen=True):
    """A client came, over that transport, from there. ``agent`` is what its program says it is (RFC 9110, 10.1.5)."""

    at_ms: int
    transport: str = ""
    address: str = ""
    agent: str = ""


class Consumer(msgspec.Struct, frozen=True, kw_only=True):
    """A program that collects from a queue: ``attached`` while it waits or holds a connection, or until lately.

    ``consumer`` is the name of a stream that can be taken up again; ``node`` where it is connected.
    """

    transport: str
    address: str
    agent: str = ""
    consumer: str = ""
    since_ms: int
    last_seen_ms: int
    attached: bool = True
    node: str = ""


class Failure(msgspec.Struct, frozen=True):
    """The last attempt that did not end in an ack."""

    at_ms: int
    reason: str


class WebhookHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a webhook is called, and why not. ``circuit`` is None on a node that does not call it.

    ``disabled_by_service``: nobody asked for that, as its owner or an administrator may.
    """

    url: str
    enabled: bool
    reason: str = ""
    since_ms: int = 0
    circuit: Circuit | None = None
    disabled_by_service: bool = False


class QueueView(msgspec.Struct, kw_only=True, gc=False):
    """How a queue stands, as of ``as_of_ms``. ``minute`` and ``recent`` are what happened in it over
    ``MINUTE_SECONDS`` and ``RECENT_SECONDS``, on all nodes. ``version`` is the monitor's since which it is as it is.
    """

    queue: Queue
    figures: Figures
    as_of_ms: int
    minute: Tally = msgspec.field(default_factory=Tally)
    recent: Tally = msgspec.field(default_factory=Tally)
    last_contact: Contact | None = None
    last_ack_ms: int | None = None
    last_failure: Failure | None = None
    consumers: tuple[Consumer, ...] = ()
    webhook: WebhookHealth | None = None
    version: int = 0

    @property
    def depth(self) -> int:
        """What has yet to be signed for: scheduled, ready, held and leased."""
        return depth_of(self.figures)

    def oldest_age_seconds(self, now_ms: int) -> float | None:
        """How old the oldest is that has yet to be signed for; None where there is none."""
        age = self.figures.oldest_age_seconds
        return None if age is None else age + max(0, now_ms - self.as_of_ms) / 1_000

    def silent_seconds(self, now_ms: int) -> float | None:
        """Since the client last came or signed; None where nothing is known of either."""
        came = 0 if self.last_contact is None else self.last_contact.at_ms
        last = max(came, self.last_ack_ms or 0)
        return max(0, now_ms - last) / 1_000 if last else None


class Total(msgspec.Struct, kw_only=True):
    """All queues together: ``queues`` of them. ``consumers`` counts those now attached, by transport.

    Of ``figures`` the oldest age is that of the oldest of all.
    """

    figures: Figures
    as_of_ms: int
    minute: Tally = msgspec.field(default_factory=Tally)
    recent: Tally = msgspec.field(default_factory=Tally)
    queues: int = 0
    consumers: dict[str, int] = {}

    @property
    def depth(self) -> int:
        """What has yet to be signed for."""
        return depth_of(self.figures)


class Span(enum.StrEnum):
    """How far back a chart goes."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"

    @property
    def seconds(self) -> int:
        return {Span.HOUR: 3_600, Span.DAY: 86_400, Span.WEEK: 7 * 86_400}[self]

    @property
    def step_seconds(self) -> int:
        """How long each of its points lasts: 60 of one minute, 96 of a quarter of an hour, 84 of two hours."""
        return {Span.HOUR: 60, Span.DAY: 900, Span.WEEK: 7_200}[self]


class Point(msgspec.Struct, frozen=True):
    """What happened in the time that begins at ``at_ms``, and how a queue stood at its end, on all nodes."""

    at_ms: int
    tally: Tally
    depth: int = 0
    oldest_age_seconds: float | None = None


def depth_of(figures: Figures) -> int:
    """What has yet to be signed for."""
    return figures.ready + figures.scheduled + figures.held + figures.leased
