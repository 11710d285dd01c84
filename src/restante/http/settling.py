"""Settling as it stands in messages, for every transport that speaks JSON."""

from __future__ import annotations

from collections.abc import Sequence

from restante.engine.settling import Settle, Settling
from restante.errors import RestanteError
from restante.model import BATCH, Settled, Signature, check_bounds
from restante.wire import times
from restante.wire.client_signatures import signature_of
from restante.wire.messages import SettledItem, SettleItem, SignatureIn, bytes_of
from restante.wire.receipts import receipt_id


def to_settles(items: Sequence[SettleItem]) -> list[Settle]:
    """What the engine is asked; ``OutOfBounds`` unless there are 1 to 1,000 items."""
    check_bounds("number of settlements", len(items), 1, BATCH)
    return [
        Settle(
            lease=item.lease,
            verb=item.outcome,
            reason=item.reason,
            retry_after_seconds=item.retry_after,
            lease_seconds=item.lease_seconds,
            reply=bytes_of("reply", item.reply, item.reply_base64),
            reply_content_type=item.reply_content_type,
            signature=to_signature(item.signature),
        )
        for item in items
    ]


def to_signature(asked: SignatureIn | None) -> Signature | None:
    """The client's own signature, if there is one. ``Malformed``."""
    if asked is None:
        return None
    return signature_of(
        key=asked.key,
        at=asked.at,
        notification=asked.notification,
        body_sha256=asked.body_sha256,
        value=asked.value,
    )


def to_item(queue: str, lease: str, result: Settled | RestanteError) -> SettledItem:
    """One result as it is answered."""
    if isinstance(result, RestanteError):
        return SettledItem(
            ok=False, lease=lease, status=result.status, code=result.code, detail=result.detail
        )
    return SettledItem(
        ok=True,
        lease=lease,
        outcome=result.outcome,
        state=result.state.label,
        receipt=receipt_id(queue, result.number) if result.number else None,
        lease_until=times.to_text(result.lease_until_ms) if result.lease_until_ms else None,
    )


async def to_items(settling: Settling, items: Sequence[SettleItem]) -> list[SettledItem]:
    """The results of a batch, in its order, once they are there."""
    results = await settling.results()
    return [
        to_item(queue, item.lease, result)
        for queue, item, result in zip(settling.queues, items, results, strict=True)
    ]
