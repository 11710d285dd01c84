"""What those see who watch: counts, what waits, what became of it, and its body."""

from __future__ import annotations

from restante.changes import AddClient, PutQueue
from restante.errors import LeaseLost, QueueNotFound
from restante.metering import Tally
from restante.model import Client, Queue, State
from restante.queries import (
    Body,
    BodyOf,
    DeadReasons,
    FiguresOf,
    FiguresOfQueues,
    OpenDeliveries,
    OpenDelivery,
    QueueByName,
    QueueFigures,
    ReasonCount,
    ReceiptCounts,
    ReceiptsOf,
)
from restante.testing.conformance.stage import ACME, Stage, refused, seqs
from restante.wire.receipts import decode_entry


async def leases_are_counted_and_those_that_are_not_the_first(stage: Stage) -> None:
    await stage.publish()
    await stage.publish()
    await stage.nack(await stage.one(), retry_after_seconds=0)
    await stage.pass_time(1)
    await stage.lease()
    tally = stage.tally()
    assert (tally.published, tally.delivered, tally.redelivered) == (2, 3, 1)
    assert (tally.nacked, tally.acked, tally.died) == (1, 0, 0)


async def what_was_counted_is_told_once(stage: Stage) -> None:
    await stage.publish()
    assert stage.drain() == {"acme": Tally(published=1)}
    assert stage.drain() == {}
    await stage.lease()
    assert stage.drain() == {"acme": Tally(delivered=1)}


async def the_time_from_publish_to_ack_is_counted(stage: Stage) -> None:
    for seconds in (0, 2, 200_000):
        await stage.publish()
        delivery = await stage.one(seconds=43_200)
        stage.clock.advance(seconds)
        await stage.ack(delivery)
    tally = stage.tally()
    assert tally.ack_ms == 200_002_000
    assert [(tally.ack_classes or [])[at] for at in (0, 5, -1)] == [1, 1, 1]
    assert sum(tally.ack_classes or ()) == 3


async def failures_are_counted_by_their_reasons(stage: Stage) -> None:
    await stage.put_queue(max_attempts=2)
    await stage.publish()
    await stage.nack(await stage.one(), reason="HTTP 500", retry_after_seconds=0)
    await stage.pass_time(1)
    await stage.one(seconds=5)
    await stage.pass_time(5)
    await stage.bury(reason="HTTP 500")
    await stage.bury()
    tally = stage.tally()
    assert tally.reasons == {"HTTP 500": 2, "the lease ran out": 1, "rejected": 1}
    assert (tally.nacked, tally.rejected, tally.lease_expired) == (1, 2, 1)
    assert (tally.died, tally.failed, tally.error_rate) == (3, 4, 1.0)


async def what_was_refused_is_not_counted(stage: Stage) -> None:
    await stage.publish(idempotency_key="k")
    await stage.publish(idempotency_key="k")
    await refused(QueueNotFound, stage.publish(queues=("nowhere",)))
    delivery = await stage.one()
    await stage.ack(delivery)
    await stage.ack(delivery)
    await refused(LeaseLost, stage.nack(delivery))
    tally = stage.tally()
    assert (tally.published, tally.delivered, tally.acked, tally.failed) == (1, 1, 1, 0)


async def what_ends_by_itself_is_counted(stage: Stage) -> None:
    await stage.publish(expires_after_seconds=1)
    await stage.publish(collapse_key="c")
    await stage.publish(collapse_key="c")
    await stage.pass_time(1)
    await stage.ack(await stage.one())
    seq = await stage.bury()
    await stage.redrive(seq)
    await stage.reject(await stage.one())
    await stage.discard(seq)
    tally = stage.tally()
    assert (tally.expired, tally.superseded, tally.acked) == (1, 1, 1)
    assert (tally.redriven, tally.discarded, tally.died) == (1, 1, 2)


async def figures_of_many_are_those_of_each(stage: Stage) -> None:
    await stage.configure(AddClient(Client("other")))
    await stage.configure(*(PutQueue(Queue(name, "other")) for name in ("b", "c", "d")))
    await stage.publish(queues=("b", "c"))
    stage.clock.advance(5)
    await stage.lease(queue="c")
    await stage.bury()
    expected = []
    for name in ("acme", "b", "c", "d"):
        queue = await stage.store.browse(QueueByName(name))
        figures = await stage.store.browse(FiguresOf(name))
        assert queue is not None
        assert figures is not None
        expected.append(QueueFigures(queue, figures))
    browse = stage.store.browse
    assert await browse(FiguresOfQueues()) == expected
    assert await browse(FiguresOfQueues(limit=2)) == expected[:2]
    assert await browse(FiguresOfQueues(after="b", limit=10)) == expected[2:]
    assert await browse(FiguresOfQueues(("d", "nowhere", "b"))) == [expected[1], expected[3]]
    assert await browse(FiguresOfQueues(())) == []
    assert [one.figures.oldest_age_seconds for one in expected] == [None, 5.0, 5.0, None]


async def what_is_open_is_told_by_its_state(stage: Stage) -> None:
    await stage.publish(b"<one/>", topic="t", deliver_after_seconds=60)
    await stage.publish(collapse_key="c", ordering_key="k", expires_after_seconds=9)
    await stage.publish(ordering_key="k")
    await stage.publish()
    (first, _) = await stage.lease(2, seconds=30)
    stage.clock.advance(2)
    assert first.ref.seq == 2
    assert await _open(stage, State.READY) == []
    (scheduled,) = await _open(stage, State.SCHEDULED)
    assert scheduled == OpenDelivery(
        id=scheduled.id,
        seq=1,
        state=State.SCHEDULED,
        attempt=0,
        topic="t",
        content_type="application/xml",
        body_bytes=6,
        published_at_ms=first.published_at_ms,
        ordering_key="",
        collapse_key="",
        due_in_seconds=58.0,
    )
    leased, last = await _open(stage, State.LEASED)
    assert (leased.id, leased.attempt, leased.holder) == (first.id, 1, ACME)
    assert (leased.due_in_seconds, leased.expires_in_seconds) == (28.0, 7.0)
    assert (leased.ordering_key, leased.collapse_key) == ("k", "c")
    assert leased.leased_at_ms == first.published_at_ms
    assert [one.seq for one in await _open(stage, State.HELD)] == [3]
    page = await stage.store.browse(OpenDeliveries("acme", State.LEASED, limit=1))
    assert page == [leased]
    page = await stage.store.browse(OpenDeliveries("acme", State.LEASED, after=leased.seq))
    assert page == [last]
    assert await stage.store.browse(OpenDeliveries("nowhere", State.READY)) == []


async def a_body_is_shown_to_whom_it_belongs(stage: Stage) -> None:
    await stage.configure(AddClient(Client("other")), PutQueue(Queue("b", "other")))
    body = b"\x00<x>\xff"
    kept = await stage.publish(body, queues=("b",))
    browse = stage.store.browse
    assert await browse(BodyOf(kept.id)) == Body("application/xml", body)
    assert await browse(BodyOf(kept.id, "other")) == Body("application/xml", body)
    assert await browse(BodyOf(kept.id, "acme")) is None
    assert await browse(BodyOf("nothing")) is None


async def a_discarded_body_is_gone_and_its_receipts_stay(stage: Stage) -> None:
    kept = await stage.publish(b"<secret/>")
    await stage.reject(await stage.one())
    await stage.discard(1)
    assert await stage.store.browse(BodyOf(kept.id)) == Body("application/xml", None)
    told = await stage.store.browse(ReceiptsOf(kept.id))
    outcomes = [decode_entry(one.entry).outcome for one in told]
    assert outcomes == ["published", "rejected", "discarded"]


async def a_body_that_another_queue_needs_is_kept(stage: Stage) -> None:
    await stage.put_queue("b")
    kept = await stage.publish(b"<both/>", queues=("acme", "b"))
    await stage.reject(await stage.one())
    await stage.discard(1)
    assert await stage.store.browse(BodyOf(kept.id)) == Body("application/xml", b"<both/>")
    assert (await stage.one(queue="b")).body == b"<both/>"


async def the_way_of_a_notification_is_told_by_queue(stage: Stage) -> None:
    await stage.configure(AddClient(Client("other")), PutQueue(Queue("b", "other")))
    kept = await stage.publish(queues=("b", "acme"))
    await stage.publish()
    await stage.ack(await stage.one())
    await stage.lease(queue="b", seconds=1)
    await stage.pass_time(1)
    browse = stage.store.browse
    told = await browse(ReceiptsOf(kept.id))
    story = [(one.queue, one.number, decode_entry(one.entry).outcome) for one in told]
    assert story == [
        ("acme", 1, "published"),
        ("acme", 3, "acked"),
        ("b", 1, "published"),
        ("b", 2, "lease_expired"),
    ]
    assert told[:2] == [one for one in await stage.stored_receipts() if one.number != 2]
    assert await browse(ReceiptsOf(kept.id, "other")) == told[2:]
    assert await browse(ReceiptsOf(kept.id, limit=3)) == told[:3]
    assert await browse(ReceiptsOf("nothing")) == []


async def receipts_of_many_notifications_are_counted(stage: Stage) -> None:
    await stage.put_queue("b")
    first = await stage.publish(queues=("b", "acme"))
    second = await stage.publish()
    asked = ReceiptCounts((first.id, second.id, "nothing"))
    assert await stage.store.browse(asked) == {first.id: 2, second.id: 1}
    await stage.ack(await stage.one())
    assert await stage.store.browse(asked) == {first.id: 3, second.id: 1}
    assert await stage.store.browse(ReceiptCounts(())) == {}


async def dead_letters_are_counted_by_their_reasons(stage: Stage) -> None:
    for reason in ("b", "a", "b", "c", "b", "c"):
        await stage.bury(reason=reason)
        stage.clock.advance(1)
    now = stage.clock.wall_ms()
    browse = stage.store.browse
    assert await browse(DeadReasons("acme")) == [
        ReasonCount("b", 3, now - 2_000),
        ReasonCount("c", 2, now - 1_000),
        ReasonCount("a", 1, now - 5_000),
    ]
    first = await browse(DeadReasons("acme", scanned=2))
    assert [(one.reason, one.count) for one in first] == [("a", 1), ("b", 1)]
    first = await browse(DeadReasons("acme", limit=1))
    assert len(first) == 1
    await stage.redrive(1, 3, 5)
    assert [one.reason for one in await browse(DeadReasons("acme"))] == ["c", "a"]
    assert await browse(DeadReasons("nowhere")) == []
    assert seqs(await stage.lease()) == [1, 3, 5]


async def _open(stage: Stage, state: State) -> list[OpenDelivery]:
    return await stage.store.browse(OpenDeliveries("acme", state))
