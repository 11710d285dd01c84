"""Answers of a server about a queue that somebody is needed for."""

from restante.alerting import Limits
from restante.metering import Tally
from restante.model import Figures, Queue, Settings
from restante.watching import (
    Consumer,
    Contact,
    Failure,
    Point,
    QueueView,
    Span,
    WebhookHealth,
)
from restante.webhooks import Circuit
from restante.wire.messages import ErrorCount, FiguresOut, QueueWithFigures, Rates
from restante.wire.watching import (
    AttentionOut,
    ConsumerList,
    HistoryOut,
    OverviewOut,
    TotalsOut,
    consumer_counts,
    consumer_out,
    pace,
    point_out,
    queue_seen,
)

NOW = 1_800_000_000_000
RECENT = Tally(acked=60, nacked=40, ack_classes=[60] + [0] * 14, reasons={"HTTP 500": 40})
CONSUMER = Consumer(
    transport="websocket",
    address="192.0.2.7:5000",
    agent="acme\x1b[2J/1.0",
    since_ms=NOW - 60_000,
    last_seen_ms=NOW,
    node="one",
)


def view(name="acme", **fields):
    fields = {
        "figures": Figures(ready=1_204, leased=2, dead=1, acked=60, oldest_age_seconds=7_200.0),
        "minute": Tally(published=120, delivered=30, redelivered=6, acked=60),
        "recent": RECENT,
        "last_contact": Contact(NOW - 5_000, "websocket", "192.0.2.7:5000", "acme/1.0"),
        "last_ack_ms": NOW - 9_000,
        "last_failure": Failure(NOW - 4_000, "HTTP 500"),
        "consumers": (CONSUMER,),
        "webhook": WebhookHealth(
            url="https://a.example/in", enabled=True, circuit=Circuit.OPEN, since_ms=1
        ),
        **fields,
    }
    return QueueView(queue=Queue(name, name, Settings()), as_of_ms=NOW, **fields)


def seen(name="acme", **fields):
    return queue_seen(view(name, **fields), NOW, Limits())


def overview(*queues, attention=()):
    figures = Figures(published=1_300, ready=1_204, leased=2, dead=1, oldest_age_seconds=7_200.0)
    return OverviewOut(
        at="2027-01-15T08:00:00.000Z",
        totals=TotalsOut(
            queues=10_000,
            depth=1_206,
            figures=figures,
            pace=pace(Tally(published=120, acked=60), RECENT),
            consumers=consumer_counts({"websocket": 3, "longpoll": 1_000}),
        ),
        attention=[
            AttentionOut(queue=name, owner=name, health="bad", problem=problem)
            for name, problem in attention
        ],
        found=10_000,
        queues=list(queues),
    )


def history():
    points = [
        point_out(Point(NOW + minute * 60_000, Tally(acked=minute % 3), depth=minute))
        for minute in range(60)
    ]
    return HistoryOut(queue="acme", span=Span.HOUR.value, step_seconds=60, points=points)


def consumers():
    return ConsumerList(consumers=[consumer_out(CONSUMER)])


def queue():
    figures = FiguresOut(
        **dict.fromkeys(Figures.__struct_fields__, 0),
        rates=Rates(published=0, acked=0, failed=0),
        errors=[ErrorCount(reason="x", count=1)],
    )
    return QueueWithFigures(name="acme", owner="acme", settings=Settings(), figures=figures)
