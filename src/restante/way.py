"""The way of one notification, made of its receipts: what happened to it, in order, and how long each thing took."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import msgspec

from restante.model import Receipt
from restante.wire import times
from restante.wire.receipts import receipt_id


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
    signed_with: str = ""
    """The algorithm of the client's own signature, where the receipt bears one."""
    signing_key: str = ""
    """The id of the key of that signature."""
    after_seconds: float | None = None


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
        receipt=receipt_id(entry.queue, entry.number),
        signed_with=entry.signature_algorithm,
        signing_key=entry.signature_key,
    )
