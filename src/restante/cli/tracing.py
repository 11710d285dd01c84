"""``restante trace``: the whole way of a notification, queue by queue."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Final

import typer

from restante.cli import output
from restante.cli.remote import Client, remote
from restante.way import Step, steps_of

if TYPE_CHECKING:
    from restante.client import DeliveryStatus

_WORDS: Final = {
    "lease_expired": "its lease ran out",
    "late_ack": "signed too late",
    "acked": "signed",
}


@remote
async def trace(
    client: Client,
    id: Annotated[str, typer.Argument(metavar="NOTIFICATION", help="The notification's id.")],
    json: output.Json = False,
) -> None:
    """The whole way of a notification: published, leased, failed, dead, redriven, signed; by whom, over what, how long.

    A lease is known by what became of it: one that is not settled yet is told of as where the notification is now.
    """
    found, way = await client.notification(id), await client.way(id)
    steps = steps_of(way.receipts)
    if json:
        output.emit({"notification": found, "steps": steps, "complete": way.complete})
        return
    output.details(
        [
            ("notification", found.id),
            ("topic", found.topic),
            ("published", f"{output.clock(found.published_at)} by {found.publisher}"),
            ("content", f"{found.content_type}, {found.body_bytes:,} B"),
        ]
    )
    now = {(one.queue, one.seq): one for one in found.deliveries}
    for (queue, seq), taken in groupby(steps, key=lambda step: (step.queue, step.seq)):
        print()
        _show(queue, seq, list(taken), now.get((queue, seq)))
    if not found.deliveries:
        output.note("It went to no queue.")
    if not way.complete:
        output.note("There are more: `restante receipts list QUEUE` has each queue's own.")


def _show(queue: str, seq: int, steps: list[Step], now: DeliveryStatus | None) -> None:
    where = "" if now is None else f": {now.state}"
    if now is not None and now.state == "leased":
        where += f", attempt {now.attempt}"
    print(f"{queue} {seq}{where}")
    output.table(
        ["at", "after>", "what", "attempt>", "state", "by", "over", "from", "reason"],
        [
            (
                step.at.replace("T", " ").removesuffix("Z"),
                "" if step.after_seconds is None else output.age(step.after_seconds),
                _WORDS.get(step.what, step.what),
                step.attempt or "",
                step.state,
                step.by,
                step.over,
                step.address,
                step.reason,
            )
            for step in steps
        ],
        empty="Its receipts are past their retention.",
    )
