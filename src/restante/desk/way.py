"""What became of a notification, gathered for the pages that show it as a time line (``timeline.html``)."""

from __future__ import annotations

from itertools import groupby
from typing import Final, NamedTuple

from restante.engine.broker import Broker
from restante.model import State
from restante.queries import (
    DeliveryRecord,
    NotificationRecord,
    OpenDeliveries,
    OpenDelivery,
    ReceiptsOf,
)
from restante.wire.receipts import decode_entry
from restante.wire.way import Step, steps_of

RECEIPTS: Final = 1_000
LINES: Final = 50
"""Time lines on one page: so many of the queues that it went to."""


class Line(NamedTuple):
    """One queue's: ``lease`` is the one that is running, where one is."""

    delivery: DeliveryRecord
    steps: list[Step]
    lease: OpenDelivery | None


class Way(NamedTuple):
    """``queues`` is how many it went to; ``complete``: all receipts of those shown are told of."""

    lines: list[Line]
    queues: int
    complete: bool


async def way_of(broker: Broker, found: NotificationRecord, owner: str | None = None) -> Way:
    """The way as far as ``owner`` may see it (None: all of it)."""
    told = await broker.store.browse(ReceiptsOf(found.id, owner, RECEIPTS + 1))
    entries = [decode_entry(one.entry) for one in told[:RECEIPTS]]
    steps = {
        place: list(taken)
        for place, taken in groupby(steps_of(entries), key=lambda step: (step.queue, step.seq))
    }
    lines = []
    for delivery in found.deliveries[:LINES]:
        lease = None
        if delivery.state is State.LEASED:
            asked = OpenDeliveries(delivery.queue, State.LEASED, delivery.seq - 1, 1)
            leased = await broker.store.browse(asked)
            if leased and leased[0].seq == delivery.seq:
                lease = leased[0]
        lines.append(Line(delivery, steps.get((delivery.queue, delivery.seq), []), lease))
    return Way(lines, len(found.deliveries), len(told) <= RECEIPTS)
