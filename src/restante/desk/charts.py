"""What charts show: the points of a span as columns, for the script that draws them and for a table beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from restante.desk.site import HEADERS, Call, Site
from restante.errors import Malformed
from restante.http.answers import JSON, Answer
from restante.http.api import Routes
from restante.watching import Point, Span

SPANS: Final = tuple(Span)
_encode = msgspec.json.Encoder().encode


def add_routes(routes: Routes, desk: Site) -> None:
    """Attach the numbers of charts: of one queue, and of all."""
    desk.page(routes, "/charts", _numbers, by_itself=True)
    add_queue_routes(routes, desk)


def add_queue_routes(routes: Routes, site: Site) -> None:
    """Attach those of one queue alone."""
    site.page(routes, "/queues/{queue}/charts", _numbers, by_itself=True)


async def _numbers(call: Call) -> Answer:
    queue = call.request.parameters.get("queue", "")
    if queue:
        await call.queue()
    points = await call.desk.broker.monitor.history(queue, span_of(call))
    return Answer(200, _encode(columns(points)), JSON, (*HEADERS, (b"cache-control", b"no-store")))


def span_of(call: Call) -> Span:
    """The span that the query asks for; an hour unless it says so."""
    text = call.request.query.get("span", Span.HOUR.value)
    if text not in set(Span):
        raise Malformed("span must be 1h, 24h or 7d")
    return Span(text)


def columns(points: Sequence[Point]) -> dict[str, list[Any]]:
    """A list for each line of each chart, all as long as ``at`` (seconds since 1970)."""
    return {
        "at": [point.at_ms // 1_000 for point in points],
        "published": [point.tally.published for point in points],
        "acked": [point.tally.acked for point in points],
        "failed": [point.tally.failed for point in points],
        "depth": [point.depth for point in points],
        "oldest": [point.oldest_age_seconds for point in points],
        "p50": [point.tally.ack_seconds(0.5) for point in points],
        "p95": [point.tally.ack_seconds(0.95) for point in points],
    }
