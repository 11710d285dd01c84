"""What Prometheus scrapes: ``GET /metrics`` on the admin listener. Names, labels and rules are in docs/metrics.md.

A scrape asks the store nothing: it tells what the monitor has seen. Queues are many, so by default only those with the
most to tell are told of one by one. Metrics that begin with ``restante_queue_`` are of one queue each; all others are
of all queues together, so that no sum counts anything twice.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from restante.alerting import Limits, limits_of, silent_seconds
from restante.engine.broker import Broker
from restante.engine.history import ALL
from restante.http.answers import Answer
from restante.http.api import Routes
from restante.http.request import Request
from restante.metering import ACK_BOUNDS_SECONDS, Tally
from restante.receipt_log import Lag
from restante.watching import QueueView, Total, WebhookHealth
from restante.webhooks import Circuit

TOP_QUEUES: Final = 100
"""How many queues are told of one by one, unless another number is asked for."""
_QUEUES_MAXIMUM: Final = 1_000_000
_STATES: Final = ("scheduled", "ready", "held", "leased", "dead")
_COUNTERS: Final[Mapping[str, tuple[str, str]]] = {
    # field of Tally: (name, what it counts)
    "published": ("published", "Deliveries made by publishing"),
    "delivered": ("delivered", "Leases given out"),
    "redelivered": ("redelivered", "Leases given out that were not a delivery's first attempt"),
    "acked": ("acked", "Deliveries signed for"),
    "nacked": ("nacked", "Attempts that clients gave up, to be retried"),
    "rejected": ("rejected", "Deliveries that clients rejected"),
    "released": ("released", "Leases given back, the attempt not counted"),
    "lease_expired": ("lease_expired", "Leases that ran out"),
    "superseded": ("superseded", "Deliveries that a newer one of their collapse key replaced"),
    "expired": ("expired", "Deliveries past their expiry"),
    "redriven": ("redriven", "Dead letters made ready again"),
    "discarded": ("discarded", "Dead letters discarded"),
    "late_ack": ("late_acks", "Acks that came after their lease was lost"),
    "died": ("dead", "Deliveries that became dead letters"),
}
_LES: Final = (*map(floatToGoString, ACK_BOUNDS_SECONDS), "+Inf")
_NO_ACKS: Final = (0,) * len(_LES)


def add_routes(routes: Routes, broker: Broker, version: str) -> None:
    """Attach the call. No key is asked for: the admin listener is for those who run the service."""
    routes.add("GET", "/metrics", Metrics(broker, version).scrape, None)


class Metrics:
    """The call."""

    def __init__(self, broker: Broker, version: str) -> None:
        self._broker = broker
        self._version = version
        # One scrape of 10,000 queues takes a second of a thread, and megabytes: they do not add up.
        self._turn = asyncio.Lock()

    async def scrape(self, request: Request) -> Answer:
        """``queues``: how many are told of one by one, 0 to 1,000,000, or ``all``. Raises ``Malformed``."""
        most: int | None = None
        if request.query.get("queues") != "all":
            most = request.integer("queues", TOP_QUEUES, 0, _QUEUES_MAXIMUM)
        encode, content_type = choose_encoder(request.header(b"accept") or "")
        async with self._turn:
            figures = Figures(look(self._broker, self._version), most)
            body = await asyncio.to_thread(lambda: encode(_registry(figures)))
        return Answer(200, body, content_type.encode())


class Look(NamedTuple):
    """All that one scrape tells of, taken on the loop: what changes meanwhile makes it no less true."""

    version: str
    now_ms: int
    ready: bool
    available: bool
    connections: int
    waiters: int
    log_receipts: int
    log_failing: bool
    requests_unknown: int
    log_head_at_ms: int | None
    log_lag: Lag
    total: Total
    limits: Limits
    views: Collection[QueueView]
    counted: Tally
    reasons: Mapping[str, int]
    counters: Mapping[str, Tally]


def look(broker: Broker, version: str) -> Look:
    """What there is to tell now. Copies what other tasks add to, and nothing whose size is a queue's."""
    monitor = broker.monitor
    counted = monitor.counters[ALL]
    return Look(
        version=version,
        now_ms=broker.clock.wall_ms(),
        ready=broker.ready,
        available=broker.store.available,
        connections=len(broker.attachments),
        waiters=len(broker.waiting) + len(broker.operations.watches),
        log_receipts=broker.log.size,
        log_failing=broker.log.failing,
        requests_unknown=broker.requests.unknown,
        log_head_at_ms=broker.log.head_at_ms,
        log_lag=broker.log.lag,
        total=monitor.total(),
        limits=broker.alerts.limits,
        views=list(monitor.views()),
        counted=counted,
        reasons=dict(counted.reasons),
        counters=dict(monitor.counters),
    )


def _registry(figures: Figures) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(figures)
    for kind in (ProcessCollector, PlatformCollector, GCCollector):
        kind(registry=registry)
    return registry


class Figures(Collector):
    """Makes the metrics of one look. ``most``: how many queues are told of one by one; None: all."""

    def __init__(self, seen: Look, most: int | None) -> None:
        self._seen = seen
        self._most = most

    def collect(self) -> Iterator[Metric]:
        """Every metric, those of single queues last."""
        yield from self._of_node()
        yield from _counters("restante", [((), self._seen.counted)], ())
        failures = CounterMetricFamily(
            "restante_failures", "Attempts that did not end in an ack, by reason", labels=["reason"]
        )
        for reason, count in self._seen.reasons.items():
            failures.add_metric([reason], count)
        yield failures
        yield from self._of_all_queues()
        yield from self._of_each(self._chosen())

    def _of_node(self) -> Iterator[Metric]:
        seen = self._seen
        yield InfoMetricFamily(
            "restante_build", "Which program this node runs", {"version": seen.version}
        )
        yield _gauge("restante_ready", "Whether this node is one to be sent requests", seen.ready)
        yield _gauge(
            "restante_store_available", "Whether this node reaches the store", seen.available
        )
        yield _gauge(
            "restante_connections", "Connections to this node that stay open", seen.connections
        )
        yield _gauge("restante_waiters", "Who waits on this node for an outcome", seen.waiters)
        yield _gauge(
            "restante_log_receipts", "Receipts in the log, as this node knows", seen.log_receipts
        )
        yield _gauge(
            "restante_log_failing", "Whether this node could not seal receipts", seen.log_failing
        )
        unknown = CounterMetricFamily(
            "restante_requests_unknown",
            "Requests with an idempotency key of which this node found that nobody knows what came",
        )
        unknown.add_metric((), seen.requests_unknown)
        yield unknown
        yield _gauge(
            "restante_log_head_age_seconds",
            "Since the newest head of the log was signed; 0: there is none",
            _age_seconds(seen.now_ms, seen.log_head_at_ms),
        )
        yield _gauge(
            "restante_log_unsealed_receipts",
            "Receipts that are not in the log, counted up to 10,000",
            seen.log_lag.receipts,
        )
        yield _gauge(
            "restante_log_unsealed_age_seconds",
            "Age of the oldest receipt that is not in the log; 0: there is none",
            _age_seconds(seen.now_ms, seen.log_lag.oldest_at_ms),
        )

    def _of_all_queues(self) -> Iterator[Metric]:
        total = self._seen.total
        age = total.figures.oldest_age_seconds
        yield _gauge("restante_queues", "Queues in the store", total.queues)
        deliveries = GaugeMetricFamily(
            "restante_deliveries", "Deliveries that have not ended, by state", labels=["state"]
        )
        for state in _STATES:
            deliveries.add_metric([state], getattr(total.figures, state))
        yield deliveries
        yield _gauge(
            "restante_oldest_unsettled_age_seconds",
            "Age of the oldest delivery that has yet to be signed for; 0: there is none",
            0.0 if age is None else age + max(0, self._seen.now_ms - total.as_of_ms) / 1_000,
        )
        consumers = GaugeMetricFamily(
            "restante_consumers", "Consumers attached, by transport", labels=["transport"]
        )
        for transport, count in total.consumers.items():
            consumers.add_metric([transport], count)
        yield consumers
        webhooks = dict.fromkeys(("enabled", "circuit_open", "disabled"), 0)
        over = dict.fromkeys(("depth", "oldest_age", "silence"), 0)
        for view in self._seen.views:
            if view.webhook is not None:
                webhooks[_webhook_state(view.webhook)] += 1
            for limit, passed in self._limits(view):
                over[limit] += passed
        yield _by("restante_webhooks", "Webhooks, by whether they are called", "state", webhooks)
        yield _by(
            "restante_queues_over_limit",
            "Queues that have reached a limit, their own or the server's",
            "limit",
            over,
        )

    def _limits(self, view: QueueView) -> Iterator[tuple[str, bool]]:
        """As alerts have it: whether the limit is reached, where there is one."""
        limits, now_ms = limits_of(view.queue.settings, self._seen.limits), self._seen.now_ms
        if limits.depth:
            yield "depth", view.depth >= limits.depth
        if limits.oldest_age_seconds:
            age = view.oldest_age_seconds(now_ms)
            yield "oldest_age", age is not None and age >= limits.oldest_age_seconds
        if limits.silence_seconds:
            silent = silent_seconds(view, now_ms)
            yield "silence", silent is not None and silent >= limits.silence_seconds

    def _chosen(self) -> Sequence[QueueView]:
        """Those with the deepest backlog, and of equal ones the busiest; all in the order of their names."""
        views = self._seen.views
        if self._most is not None and self._most < len(views):
            views = heapq.nlargest(
                self._most,
                views,
                key=lambda one: (one.depth, one.recent.published + one.recent.delivered),
            )
        return sorted(views, key=lambda one: one.queue.name)

    def _of_each(self, views: Sequence[QueueView]) -> Iterator[Metric]:
        now_ms = self._seen.now_ms
        nothing = Tally()
        counted = [
            ((view.queue.name,), self._seen.counters.get(view.queue.name, nothing))
            for view in views
        ]
        yield from _counters("restante_queue", counted, ("queue",))
        failures = CounterMetricFamily(
            "restante_queue_failures", "Attempts that did not end in an ack", labels=["queue"]
        )
        for names, tally in counted:
            failures.add_metric(names, tally.failed)
        yield failures
        deliveries = GaugeMetricFamily(
            "restante_queue_deliveries",
            "Deliveries that have not ended, by state",
            labels=["queue", "state"],
        )
        for view in views:
            for state in _STATES:
                deliveries.add_metric([view.queue.name, state], getattr(view.figures, state))
        yield deliveries
        yield _by_queue(
            "restante_queue_oldest_unsettled_age_seconds",
            "Age of the oldest delivery that has yet to be signed for; 0: there is none",
            ((one, one.oldest_age_seconds(now_ms) or 0.0) for one in views),
        )
        yield _by_queue(
            "restante_queue_silence_seconds",
            "Since the client last came or signed",
            ((one, one.silent_seconds(now_ms)) for one in views),
        )
        yield _by_queue(
            "restante_queue_consumers",
            "Consumers attached",
            ((one, sum(c.attached for c in one.consumers)) for one in views),
        )
        yield _by_queue(
            "restante_queue_webhook_enabled",
            "Whether the queue's webhook is called",
            ((one, None if one.webhook is None else one.webhook.enabled) for one in views),
        )


def _age_seconds(now_ms: int, at_ms: int | None) -> float:
    return 0.0 if at_ms is None else max(0, now_ms - at_ms) / 1_000


def _webhook_state(webhook: WebhookHealth) -> str:
    if not webhook.enabled:
        return "disabled"
    return "circuit_open" if webhook.circuit is Circuit.OPEN else "enabled"


def _counters(
    prefix: str, counted: Sequence[tuple[tuple[str, ...], Tally]], labels: Sequence[str]
) -> Iterator[Metric]:
    """A counter for each count of a tally, and the histogram of the time from publish to ack."""
    for field, (name, what) in _COUNTERS.items():
        family = CounterMetricFamily(f"{prefix}_{name}", what, labels=labels)
        for names, tally in counted:
            family.add_metric(names, getattr(tally, field))
        yield family
    acks = HistogramMetricFamily(
        f"{prefix}_publish_to_ack_seconds", "From publish to ack", labels=labels
    )
    for names, tally in counted:
        classes = accumulate(tally.ack_classes or _NO_ACKS)
        acks.add_metric(names, list(zip(_LES, classes, strict=True)), tally.ack_ms / 1_000)
    yield acks


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, value=value)


def _by(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _by_queue(name: str, what: str, values: Iterable[tuple[QueueView, float | None]]) -> Metric:
    """Without the queues of which nothing is known."""
    family = GaugeMetricFamily(name, what, labels=["queue"])
    for view, value in values:
        if value is not None:
            family.add_metric([view.queue.name], value)
    return family
