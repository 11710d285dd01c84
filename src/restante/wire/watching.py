"""The messages about how queues fare, made of what the monitor has seen of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec

from restante.alerting import Limits
from restante.attention import Assessment, assess
from restante.metering import Tally
from restante.model import Figures
from restante.watching import (
    MINUTE_SECONDS,
    Consumer,
    Contact,
    Failure,
    Point,
    QueueView,
    WebhookHealth,
)
from restante.webhooks import Circuit
from restante.wire import times
from restante.wire.messages import Answered, ErrorCount

REASONS: Final = 10


class RatesOut(Answered, kw_only=True, omit_defaults=False):
    """Events a second, over the last minute. ``failed`` are those that were nacked, rejected or ran out of time."""

    published: float
    delivered: float
    redelivered: float
    acked: float
    failed: float
    dead: float


class PaceOut(Answered, kw_only=True, omit_defaults=False):
    """What was going on over the last minutes: rates over one, all else over five.

    ``error_rate`` is the share of failures among the attempts that ended; None where none did.
    """

    rates: RatesOut
    ack_p50_seconds: float | None
    ack_p99_seconds: float | None
    error_rate: float | None
    errors: list[ErrorCount]


class ContactOut(Answered, kw_only=True):
    at: str
    transport: str = ""
    address: str = ""
    agent: str = ""


class FailureOut(Answered, kw_only=True, omit_defaults=False):
    at: str
    reason: str


class ConsumerCount(Answered, kw_only=True, omit_defaults=False):
    transport: str
    count: int


class WebhookHealthOut(Answered, kw_only=True):
    url: str
    enabled: bool
    reason: str = ""
    since: str = ""
    circuit: Circuit | None = None


class QueueSeen(Answered, kw_only=True, omit_defaults=False):
    """``problem`` is what needs a person, in words that go on after the queue's name; empty where nothing does.

    ``consumers`` counts those that are attached.
    """

    name: str
    owner: str
    at: str
    health: str
    problem: str
    depth: int
    figures: Figures
    pace: PaceOut
    silent_seconds: float | None
    last_contact: ContactOut | None
    last_ack_at: str | None
    last_failure: FailureOut | None
    consumers: list[ConsumerCount]
    webhook: WebhookHealthOut | None


class TotalsOut(Answered, kw_only=True, omit_defaults=False):
    queues: int
    depth: int
    figures: Figures
    pace: PaceOut
    consumers: list[ConsumerCount]


class AttentionOut(Answered, kw_only=True, omit_defaults=False):
    queue: str
    owner: str
    health: str
    problem: str


class OverviewOut(Answered, kw_only=True, omit_defaults=False):
    """``found`` is how many queues there are of those asked for; ``queues`` is a page of them."""

    at: str
    totals: TotalsOut
    attention: list[AttentionOut]
    found: int
    queues: list[QueueSeen]


class ConsumerOut(Answered, kw_only=True):
    transport: str
    address: str
    agent: str = ""
    consumer: str = ""
    since: str
    last_seen: str
    attached: bool
    node: str = ""


class ConsumerList(Answered, kw_only=True, omit_defaults=False):
    consumers: list[ConsumerOut]


class PointOut(Answered, kw_only=True, omit_defaults=False):
    """What happened in the time that begins ``at``; ``depth`` and the oldest age are as of its end."""

    at: str
    published: int
    delivered: int
    redelivered: int
    acked: int
    nacked: int
    rejected: int
    lease_expired: int
    superseded: int
    expired: int
    dead: int
    ack_p50_seconds: float | None
    ack_p99_seconds: float | None
    depth: int
    oldest_age_seconds: float | None


class HistoryOut(Answered, kw_only=True, omit_defaults=False):
    queue: str
    span: str
    step_seconds: int
    points: list[PointOut]


def queue_seen(view: QueueView, now_ms: int, defaults: Limits) -> QueueSeen:
    """How a queue fares, at that time; ``defaults`` are the server's limits."""
    assessment = assess(view, now_ms, defaults)
    attached = Counter(one.transport for one in view.consumers if one.attached)
    return QueueSeen(
        name=view.queue.name,
        owner=view.queue.owner,
        at=times.to_text(view.as_of_ms),
        health=assessment.health.label,
        problem=assessment.sentence,
        depth=view.depth,
        figures=msgspec.structs.replace(
            view.figures, oldest_age_seconds=_rounded(view.oldest_age_seconds(now_ms))
        ),
        pace=pace(view.minute, view.recent),
        silent_seconds=_rounded(view.silent_seconds(now_ms)),
        last_contact=None if view.last_contact is None else _contact(view.last_contact),
        last_ack_at=None if view.last_ack_ms is None else times.to_text(view.last_ack_ms),
        last_failure=None if view.last_failure is None else _failure(view.last_failure),
        consumers=consumer_counts(attached),
        webhook=None if view.webhook is None else _webhook(view.webhook),
    )


def pace(minute: Tally, recent: Tally) -> PaceOut:
    """What was going on, of what happened over the last minute and over the last five."""
    reasons = sorted(recent.reasons.items(), key=lambda item: (-item[1], item[0]))
    return PaceOut(
        rates=RatesOut(
            published=_rate(minute.published),
            delivered=_rate(minute.delivered),
            redelivered=_rate(minute.redelivered),
            acked=_rate(minute.acked),
            failed=_rate(minute.failed),
            dead=_rate(minute.died),
        ),
        ack_p50_seconds=_rounded(recent.ack_seconds(0.5)),
        ack_p99_seconds=_rounded(recent.ack_seconds(0.99)),
        error_rate=None if recent.error_rate is None else round(recent.error_rate, 4),
        errors=[ErrorCount(reason=reason, count=count) for reason, count in reasons[:REASONS]],
    )


def consumer_counts(by_transport: Mapping[str, int]) -> list[ConsumerCount]:
    """How many are attached over each transport, by its name."""
    return [
        ConsumerCount(transport=transport, count=count)
        for transport, count in sorted(by_transport.items())
    ]


def attention_out(view: QueueView, assessment: Assessment) -> AttentionOut:
    """A queue that needs a person."""
    return AttentionOut(
        queue=view.queue.name,
        owner=view.queue.owner,
        health=assessment.health.label,
        problem=assessment.sentence,
    )


def consumer_out(consumer: Consumer) -> ConsumerOut:
    """One that collects, or lately did."""
    return ConsumerOut(
        transport=consumer.transport,
        address=consumer.address,
        agent=consumer.agent,
        consumer=consumer.consumer,
        since=times.to_text(consumer.since_ms),
        last_seen=times.to_text(consumer.last_seen_ms),
        attached=consumer.attached,
        node=consumer.node,
    )


def point_out(point: Point) -> PointOut:
    """One point of a chart."""
    tally = point.tally
    return PointOut(
        at=times.to_text(point.at_ms),
        published=tally.published,
        delivered=tally.delivered,
        redelivered=tally.redelivered,
        acked=tally.acked,
        nacked=tally.nacked,
        rejected=tally.rejected,
        lease_expired=tally.lease_expired,
        superseded=tally.superseded,
        expired=tally.expired,
        dead=tally.died,
        ack_p50_seconds=_rounded(tally.ack_seconds(0.5)),
        ack_p99_seconds=_rounded(tally.ack_seconds(0.99)),
        depth=point.depth,
        oldest_age_seconds=_rounded(point.oldest_age_seconds),
    )


def _contact(contact: Contact) -> ContactOut:
    return ContactOut(
        at=times.to_text(contact.at_ms),
        transport=contact.transport,
        address=contact.address,
        agent=contact.agent,
    )


def _failure(failure: Failure) -> FailureOut:
    return FailureOut(at=times.to_text(failure.at_ms), reason=failure.reason)


def _webhook(health: WebhookHealth) -> WebhookHealthOut:
    return WebhookHealthOut(
        url=health.url,
        enabled=health.enabled,
        reason=health.reason,
        since=times.to_text(health.since_ms) if health.since_ms else "",
        circuit=health.circuit,
    )


def _rate(count: int) -> float:
    return round(count / MINUTE_SECONDS, 3)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
