"""Every step of the lifecycle's table, each taken once and seen in the state, the ledger and the figures.

Two entries of the table are never taken, since no decision leads there: a release and a lease that ran out do not
delay what comes back.
"""

from __future__ import annotations

from typing import Any

from restante.model import Delivery, State
from restante.testing.conformance.stage import Stage


async def published(stage: Stage) -> None:
    await _see(stage, await _waiting(stage, State.READY), "published ready")
    await _see(stage, await _waiting(stage, State.SCHEDULED), "published scheduled")
    await _see(stage, await _waiting(stage, State.HELD), "published held")


async def acked(stage: Stage) -> None:
    leased = await _leased(stage)
    await stage.ack(leased)
    await _see(stage, leased.ref.seq, "acked acked")
    late = await _leased(stage, seconds=5)
    await stage.pass_time(5)
    assert await stage.state(late.ref.seq) is State.READY
    await stage.ack(late)
    await _see(stage, late.ref.seq, "acked acked")
    assert (await stage.figures()).acked == 2


async def nacked(stage: Stage) -> None:
    await stage.put_queue(max_attempts=2)
    leased = await _leased(stage)
    await stage.nack(leased, retry_after_seconds=0)
    await _see(stage, leased.ref.seq, "nacked ready")
    await stage.nack(await stage.one())
    await _see(stage, leased.ref.seq, "nacked dead")
    other = await _leased(stage)
    await stage.nack(other, retry_after_seconds=5)
    await _see(stage, other.ref.seq, "nacked scheduled")


async def rejected(stage: Stage) -> None:
    leased = await _leased(stage)
    await stage.reject(leased)
    await _see(stage, leased.ref.seq, "rejected dead")
    appended = await stage.publish(b"<damaged/>", body_sha256=bytes(32))
    assert await stage.state(2) is State.READY
    assert await stage.lease() == []
    await _see(stage, appended.deliveries[0].seq, "rejected dead")
    assert (await stage.figures()).dead == 2


async def released(stage: Stage) -> None:
    leased = await _leased(stage)
    await stage.release(leased)
    await _see(stage, leased.ref.seq, "released ready")


async def lease_expired(stage: Stage) -> None:
    await stage.put_queue(max_attempts=2)
    leased = await _leased(stage, seconds=5)
    await stage.pass_time(5)
    await _see(stage, leased.ref.seq, "lease_expired ready")
    await stage.lease(seconds=5)
    await stage.pass_time(5)
    await _see(stage, leased.ref.seq, "lease_expired dead")


async def superseded(stage: Stage) -> None:
    for before in (State.READY, State.SCHEDULED, State.HELD):
        seq = await _waiting(stage, before, collapse_key=before.label)
        await stage.publish(collapse_key=before.label)
        await _see(stage, seq, "superseded superseded")
    assert (await stage.figures()).superseded == 3


async def expired(stage: Stage) -> None:
    seqs = [
        await _waiting(stage, before, expires_after_seconds=5)
        for before in (State.READY, State.SCHEDULED, State.HELD)
    ]
    await stage.pass_time(5)
    for seq in seqs:
        await _see(stage, seq, "expired expired")
    assert (await stage.figures()).expired == 3


async def redriven(stage: Stage) -> None:
    first = await stage.bury(ordering_key="k")
    second = await stage.bury(ordering_key="k")
    await stage.redrive(first, second)
    await _see(stage, first, "redriven ready")
    await _see(stage, second, "redriven held")
    assert (await stage.figures()).dead == 0


async def discarded(stage: Stage) -> None:
    seq = await stage.bury()
    await stage.discard(seq)
    await _see(stage, seq, "discarded discarded")
    assert (await stage.ledger())[-1].reason == "stale"
    assert (await stage.figures()).discarded == 1


async def _waiting(stage: Stage, state: State, **fields: Any) -> int:
    if state is State.HELD:
        await stage.publish(ordering_key="k")
        fields["ordering_key"] = "k"
    if state is State.SCHEDULED:
        fields["deliver_after_seconds"] = 1_000
    appended = await stage.publish(**fields)
    seq = appended.deliveries[0].seq
    assert await stage.state(seq) is state
    return seq


async def _leased(stage: Stage, seconds: float = 30) -> Delivery:
    await stage.publish()
    delivery = await stage.one(seconds=seconds)
    assert await stage.state(delivery.ref.seq) is State.LEASED
    return delivery


async def _see(stage: Stage, seq: int, step: str) -> None:
    assert (await stage.story(seq))[-1] == step
    state = State[step.split()[1].upper()]
    assert await stage.state(seq) is state
    assert getattr(await stage.figures(), state.label) >= 1
