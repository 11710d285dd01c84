"""Leases that run out, are prolonged or lost; credit; order."""

from __future__ import annotations

from restante.model import Verb
from restante.testing.transports.driver import Want
from restante.testing.transports.stage import Stage, ack, needs, one, settle, settled, take


@needs(Want.LEASE_RUNS_OUT)
async def a_lease_that_runs_out_comes_again(stage: Stage) -> None:
    await stage.settings(lease_seconds=1)
    await stage.publish(b"<a/>")
    consumer = await stage.attach()
    first = await one(consumer)
    again = await one(consumer)
    assert (again.id, again.attempt) == (first.id, 2)
    await ack(consumer, again)
    outcomes = [receipt["outcome"] for receipt in await stage.receipts()]
    assert outcomes == ["published", "lease_expired", "acked"]


@needs(Want.SETTLE_LATER)
async def a_lost_lease_settles_nothing(stage: Stage) -> None:
    await stage.settings(lease_seconds=1)
    await stage.publish(b"<a/>")
    consumer = await stage.attach()
    first = await one(consumer)
    again = await one(consumer)
    for verb in (Verb.NACK, Verb.REJECT, Verb.ACK):
        outcome = await settle(consumer, first, verb)
        assert (outcome.ok, outcome.code) == (False, "lease_lost")
    await ack(consumer, again)
    assert len(await stage.receipts("late_ack")) == 1


@needs(Want.LEASE_SECONDS)
async def the_lease_is_as_long_as_asked(stage: Stage) -> None:
    await stage.publish(b"<a/>")
    consumer = await stage.attach(lease_seconds=1)
    await one(consumer)
    again = await one(consumer)
    assert again.attempt == 2


@needs(Want.EXTEND)
async def an_extended_lease_is_kept(stage: Stage) -> None:
    await stage.settings(lease_seconds=1)
    await stage.publish(b"<kept/>", b"<left/>")
    consumer = await stage.attach()
    kept, left = await take(consumer, 2)
    outcome = await settled(consumer, kept, Verb.EXTEND, lease_seconds=30)
    assert outcome.state == "leased"
    # The other's lease, as long as this one's was, runs out meanwhile.
    again = await one(consumer)
    assert (again.id, again.attempt) == (left.id, 2)
    await ack(consumer, again)
    await ack(consumer, kept)
    assert not [r for r in await stage.receipts("lease_expired") if r["notification"] == kept.id]


@needs(Want.CREDIT)
async def no_more_than_the_credit_is_handed_out(stage: Stage) -> None:
    await stage.publish(*[b"%d" % number for number in range(5)])
    consumer = await stage.attach(credit=2)
    first, second = await take(consumer, 2)
    await stage.publish(b"5")
    figures = await stage.figures()
    assert (figures["leased"], figures["ready"]) == (2, 4)
    await ack(consumer, second)
    (third,) = await take(consumer)
    assert third.body == b"2"
    for delivered in (first, third):
        await ack(consumer, delivered)
    assert [one.body for one in await take(consumer, 2)] == [b"3", b"4"]
    assert (await stage.figures())["leased"] == 2


@needs(Want.CREDIT, Want.SETTLE_LATER)
async def credit_comes_back_with_a_lease_that_runs_out(stage: Stage) -> None:
    await stage.settings(lease_seconds=1)
    await stage.publish(b"0", b"1")
    consumer = await stage.attach(credit=1)
    seen = [(await one(consumer)).body]
    seen.append((await one(consumer)).body)
    # Whichever of the two came: it came although nothing was ever settled.
    assert seen[0] == b"0"
    assert seen[1] in {b"0", b"1"}


async def flow_control_of_the_queue_holds(stage: Stage) -> None:
    await stage.settings(max_in_flight=2)
    await stage.publish(b"0", b"1", b"2")
    consumer = await stage.attach()
    first, _ = await take(consumer, 2)
    assert (await stage.figures())["leased"] == 2
    await ack(consumer, first)
    assert (await one(consumer)).body == b"2"


async def those_of_one_ordering_key_come_one_by_one(stage: Stage) -> None:
    await stage.publish(b"a1", b"a2", b"a3", restante_ordering_key="a")
    await stage.publish(b"b1", restante_ordering_key="b")
    consumer = await stage.attach()
    first, other = await take(consumer, 2)
    assert (first.body, other.body) == (b"a1", b"b1")
    await ack(consumer, other)
    await settled(consumer, first, Verb.NACK, retry_after=0)
    for body in (b"a1", b"a2", b"a3"):
        delivered = await one(consumer)
        assert delivered.body == body
        await ack(consumer, delivered)
