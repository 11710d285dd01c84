"""``restante trace``: the whole way of a notification, queue by queue."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from restante.cli import output
from restante.cli.remote import Client, remote
from restante.wire import times

if TYPE_CHECKING:
    from restante.client import Receipt
    from restante.wire.messages import DeliveryOut

_WORDS: Final = {
    "lease_expired": "its lease ran out",
    "late_ack": "signed too late",
    "acked": "signed",
}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a notification in one queue; ``after_seconds`` since the thing before."""

    queue: str
    seq: int
    at: str
    what: str
    state: str
    attempt: int = 0
    by: str = ""
    over: str = ""
    address: str = ""
    reason: str = ""
    receipt: str = ""
    after_seconds: float | None = None


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


def steps_of(receipts: Iterable[Receipt]) -> list[Step]:
    """What the ledger says of one notification, in order, and the leases that it tells of on the way."""
    steps: list[Step] = []
    ordered = sorted(receipts, key=lambda receipt: (receipt.queue, receipt.seq, receipt.number))
    for _, entries in groupby(ordered, key=lambda receipt: (receipt.queue, receipt.seq)):
        fence = 0
        first = len(steps)
        for entry in entries:
            if entry.leased_at and entry.fence > fence:
                fence = entry.fence
                steps.append(_lease(entry))
            steps.append(_step(entry))
        for index in range(first + 1, len(steps)):
            passed = times.to_ms(steps[index].at) - times.to_ms(steps[index - 1].at)
            steps[index] = msgspec.structs.replace(steps[index], after_seconds=passed / 1_000)
    return steps


def _lease(entry: Receipt) -> Step:
    # What the service ends by itself does not say who held it.
    known = entry.transport != "internal"
    return Step(
        queue=entry.queue,
        seq=entry.seq,
        at=entry.leased_at,
        what="leased",
        state="leased",
        attempt=entry.attempt,
        by=entry.principal if known else "",
        over=entry.transport if known else "",
        address=entry.remote_address if known else "",
    )


def _step(entry: Receipt) -> Step:
    return Step(
        queue=entry.queue,
        seq=entry.seq,
        at=entry.at,
        what=entry.outcome,
        state=entry.state,
        attempt=entry.attempt,
        by=entry.principal,
        over=entry.transport,
        address=entry.remote_address,
        reason=entry.reason,
        receipt=entry.id,
    )


def _show(queue: str, seq: int, steps: list[Step], now: DeliveryOut | None) -> None:
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
