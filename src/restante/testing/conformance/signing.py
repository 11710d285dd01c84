"""Clients' own signatures: kept in the receipt, and refused where they are over something else than was published."""

from __future__ import annotations

import hashlib
from typing import Any

from restante.errors import LeaseLost, SignatureRefused
from restante.model import Settled, Settlement, Signature, State, Verb
from restante.testing.conformance.stage import ACME, Stage, refused

BODY = b"<hello/>"


async def a_receipt_bears_the_clients_signature(stage: Stage) -> None:
    signed = _signature((await stage.publish(BODY)).id)
    await stage.ack(await stage.one(), reply=b"<ok/>", signature=signed)
    receipt = (await stage.ledger())[-1]
    assert (receipt.signature, receipt.signature_algorithm) == ("//4B", "ed25519")
    assert (receipt.signature_key, receipt.signed_at) == ("k" * 64, "2026-01-01T00:00:00Z")


async def a_receipt_without_one_says_nothing_of_signatures(stage: Stage) -> None:
    await stage.publish(BODY)
    await stage.ack(await stage.one())
    assert b"sign" not in (await stage.stored_receipts())[-1].entry


async def nacks_and_rejects_bear_them_too(stage: Stage) -> None:
    await stage.put_queue(backoff_base_seconds=0)
    signed = _signature((await stage.publish(BODY)).id)
    await stage.nack(await stage.one(), reason="busy", signature=signed)
    await stage.reject(await stage.one(), reason="poison", signature=signed)
    assert [one.signature for one in await stage.ledger()] == ["", "//4B", "//4B"]


async def a_signature_over_another_body_or_notification_settles_nothing(stage: Stage) -> None:
    id = (await stage.publish(BODY)).id
    other = (await stage.publish(b"<other/>")).id
    delivery = await stage.one()
    for false in (
        _signature(other),
        _signature(id, body=b"<hello />"),
        _signature(other, body=b"<other/>"),
    ):
        for verb in (Verb.ACK, Verb.NACK, Verb.REJECT):
            await refused(SignatureRefused, stage.settle(delivery, verb, signature=false))
    assert await stage.state(1) is State.LEASED
    assert await stage.story(1) == ["published ready"]
    await stage.ack(delivery, signature=_signature(id))


async def one_that_does_not_hold_leaves_the_rest_of_its_batch_alone(stage: Stage) -> None:
    """I17."""
    ids = [(await stage.publish(BODY)).id for _ in range(3)]
    leased = await stage.lease()
    asked = [
        Settlement(
            ref=one.ref,
            verb=Verb.ACK,
            actor=ACME,
            signature=_signature("n-0" if one.id == ids[1] else one.id),
        )
        for one in leased
    ]
    results = await stage.store.settle(asked)
    assert [isinstance(result, Settled) for result in results] == [True, False, True]
    assert await stage.states() == [State.ACKED, State.LEASED, State.ACKED]


async def a_repeat_keeps_the_first_signature(stage: Stage) -> None:
    signed = _signature((await stage.publish(BODY)).id)
    delivery = await stage.one()
    first = await stage.ack(delivery, signature=signed)
    again = await stage.ack(delivery, signature=_signature(delivery.id, value=b"new"))
    assert (again.number, again.repeated) == (first.number, True)
    assert [one.signature for one in await stage.ledger()] == ["", "//4B"]


async def a_late_ack_is_evidence_with_its_signature(stage: Stage) -> None:
    id = (await stage.publish(BODY)).id
    late = await stage.one(seconds=5)
    await stage.pass_time(5)
    await stage.ack(await stage.one())
    await refused(SignatureRefused, stage.ack(late, signature=_signature("n-0")))
    assert (await stage.story(1))[-1] == "acked acked"
    await refused(LeaseLost, stage.ack(late, signature=_signature(id)))
    receipt = (await stage.ledger())[-1]
    assert (receipt.outcome, receipt.signature) == ("late_ack", "//4B")


def _signature(notification: str, **fields: Any) -> Signature:
    """As the engine hands it on, which has verified all that it can."""
    body = fields.pop("body", BODY)
    values: dict[str, Any] = {"value": b"\xff\xfe\x01"} | fields
    return Signature(
        key="k" * 64,
        at="2026-01-01T00:00:00Z",
        notification=notification,
        body_sha256=hashlib.sha256(body).hexdigest(),
        algorithm="ed25519",
        **values,
    )
