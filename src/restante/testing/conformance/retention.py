"""What is let go of after its time, and what never is."""

from __future__ import annotations

from restante.model import State
from restante.queries import NotificationById, PublishedWith
from restante.testing.conformance.stage import Stage, seqs

DAY = 86_400


async def nothing_goes_before_its_time(stage: Stage) -> None:
    await stage.put_queue(body_retention_seconds=DAY, receipt_retention_seconds=DAY)
    appended = await stage.publish(idempotency_key="k")
    await stage.ack(await stage.one())
    stage.clock.advance(DAY - 1)
    await stage.prune_all()
    assert len(await stage.ledger()) == 2
    assert (await stage.publish(idempotency_key="k")).id == appended.id


async def idempotency_keys_go_after_their_time_on_the_timeline(stage: Stage) -> None:
    """And not before, whatever the wall clock says: of a batch they tell what is still missing."""
    seconds = stage.store.idempotency_retention_seconds
    await stage.put_queue(receipt_retention_seconds=2 * seconds + 3 * DAY)
    appended = await stage.publish(idempotency_key="k")
    stage.clock.jump_wall(2 * DAY)
    stage.clock.advance(seconds)
    await stage.prune_all()
    assert await stage.store.browse(PublishedWith("shop", "k")) == appended.id
    stage.clock.advance(1)
    await stage.prune_all()
    assert await stage.store.browse(PublishedWith("shop", "k")) is None


async def receipts_go_from_the_ledgers_beginning(stage: Stage) -> None:
    await stage.put_queue(receipt_retention_seconds=DAY)
    first = await stage.publish()
    await stage.ack(await stage.one())
    stage.clock.advance(DAY / 2)
    await stage.publish()
    await stage.ack(await stage.one())
    stage.clock.advance(DAY / 2)
    await stage.prune_all()
    assert [receipt.number for receipt in await stage.ledger()] == [3, 4]
    assert await stage.store.browse(NotificationById(first.id)) is None
    assert (await stage.figures()).acked == 2, "the figures count what is gone, too"


async def the_newest_receipt_stays(stage: Stage) -> None:
    """So that the ledger's end can always be seen."""
    await stage.put_queue(receipt_retention_seconds=0)
    await stage.publish()
    await stage.ack(await stage.one())
    stage.clock.advance(DAY)
    await stage.prune_all()
    assert [receipt.number for receipt in await stage.ledger()] == [2]
    await stage.publish()
    assert [receipt.number for receipt in await stage.ledger()] == [2, 3]


async def receipts_of_what_has_not_ended_stay(stage: Stage) -> None:
    await stage.put_queue(receipt_retention_seconds=0)
    await stage.publish()
    await stage.ack(await stage.one())
    await stage.publish(deliver_after_seconds=10 * DAY)
    await stage.publish()
    await stage.ack(await stage.one())
    stage.clock.advance(5 * DAY)
    await stage.prune_all()
    assert [receipt.number for receipt in await stage.ledger()] == [3, 4, 5]
    assert await stage.state(2) is State.SCHEDULED


async def bodies_of_what_has_not_ended_stay(stage: Stage) -> None:
    await stage.put_queue(body_retention_seconds=0, receipt_retention_seconds=0)
    await stage.bury(b"<dead/>")
    await stage.publish(b"<scheduled/>", deliver_after_seconds=20 * DAY)
    await stage.publish(b"<ready/>")
    stage.clock.advance(10 * DAY)
    await stage.prune_all()
    await stage.redrive(1)
    assert [d.body for d in await stage.lease()] == [b"<dead/>", b"<ready/>"]
    await stage.pass_time(10 * DAY)
    assert b"<scheduled/>" in [d.body for d in await stage.lease()]


async def a_body_stays_as_long_as_any_queue_needs_it(stage: Stage) -> None:
    await stage.put_queue(body_retention_seconds=0)
    await stage.put_queue("b", body_retention_seconds=0)
    await stage.publish(b"<shared/>", queues=("acme", "b"))
    await stage.ack(await stage.one())
    stage.clock.advance(DAY)
    await stage.prune_all()
    assert [d.body for d in await stage.lease(queue="b")] == [b"<shared/>"]


async def idempotency_keys_go_after_a_week(stage: Stage) -> None:
    first = await stage.publish(idempotency_key="k")
    stage.clock.advance(7 * DAY)
    await stage.prune_all()
    assert (await stage.publish(idempotency_key="k")).id == first.id
    stage.clock.advance(1)
    await stage.prune_all()
    again = await stage.publish(idempotency_key="k")
    assert again.id != first.id
    assert not again.replayed
    assert seqs(await stage.lease()) == [1, 2]


async def pruning_goes_in_small_steps(stage: Stage) -> None:
    await stage.put_queue(receipt_retention_seconds=0, body_retention_seconds=0)
    for _ in range(30):
        await stage.publish()
    for delivery in await stage.lease(30):
        await stage.ack(delivery)
    stage.clock.advance(1)
    await stage.store.prune(5)
    assert len(await stage.ledger()) >= 50, "a step is about as small as asked"
    for _ in range(60):
        await stage.store.prune(5)
    assert len(await stage.ledger()) == 1
