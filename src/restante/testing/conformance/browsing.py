"""What a store answers when it is asked."""

from __future__ import annotations

import asyncio
import hashlib

import msgspec

from restante.changes import AddClient, PutQueue
from restante.model import Client, Figures, Queue, Selection, State
from restante.queries import (
    CountDead,
    DeadLetters,
    FiguresOf,
    LeasedTo,
    NotificationById,
    QueueByName,
    Queues,
    ReceiptByNumber,
    Receipts,
)
from restante.testing.conformance.stage import ACME, Stage
from restante.wire.receipts import decode_entry


async def what_is_not_there_is_none(stage: Stage) -> None:
    browse = stage.store.browse
    assert await browse(QueueByName("nowhere")) is None
    assert await browse(FiguresOf("nowhere")) is None
    assert await browse(NotificationById("nothing")) is None
    assert await browse(ReceiptByNumber("acme", 1)) is None
    assert await browse(ReceiptByNumber("nowhere", 1)) is None
    assert await browse(DeadLetters("nowhere")) == []
    assert await browse(CountDead("nowhere", Selection())) == 0
    page = await browse(Receipts("nowhere"))
    assert (page.receipts, page.next) == ([], None)


async def figures_count_every_state(stage: Stage) -> None:
    """I15."""
    assert await stage.figures() == Figures()
    await stage.publish()
    await stage.ack(await stage.one())
    await stage.bury()
    await stage.bury()
    await stage.discard(2)
    await stage.publish(expires_after_seconds=1)
    await stage.pass_time(1)
    await stage.publish()
    await stage.lease()
    await stage.publish(deliver_after_seconds=60)
    await stage.publish(collapse_key="c")
    await stage.publish(collapse_key="c", ordering_key="k")
    await stage.publish(ordering_key="k")
    figures = await stage.figures()
    assert figures == Figures(
        published=9,
        ready=1,
        scheduled=1,
        held=1,
        leased=1,
        dead=1,
        acked=1,
        superseded=1,
        expired=1,
        discarded=1,
        oldest_age_seconds=0.0,
    )


async def the_oldest_age_is_of_what_has_not_ended(stage: Stage) -> None:
    await stage.publish()
    await stage.ack(await stage.one())
    assert (await stage.figures()).oldest_age_seconds is None
    await stage.bury()
    stage.clock.advance(100)
    await stage.publish(deliver_after_seconds=1_000)
    stage.clock.advance(50)
    await stage.publish()
    stage.clock.advance(7.5)
    assert (await stage.figures()).oldest_age_seconds == 57.5
    stage.clock.jump_wall(-3_600)
    assert (await stage.figures()).oldest_age_seconds == 0


async def queues_come_by_name_and_owner(stage: Stage) -> None:
    await stage.configure(AddClient(Client("bob")))
    for name, owner in (("d", "bob"), ("b", "acme"), ("c", "bob")):
        await stage.configure(PutQueue(Queue(name, owner)))
    browse = stage.store.browse
    assert [q.name for q in await browse(Queues())] == ["acme", "b", "c", "d"]
    assert [q.name for q in await browse(Queues(limit=2))] == ["acme", "b"]
    assert [q.name for q in await browse(Queues(after="b", limit=2))] == ["c", "d"]
    assert [q.name for q in await browse(Queues(owner="bob"))] == ["c", "d"]
    assert [q.name for q in await browse(Queues(owner="bob", after="c"))] == ["d"]
    assert await browse(Queues(owner="nobody")) == []


async def a_notification_says_who_has_it_and_who_signed(stage: Stage) -> None:
    await stage.configure(AddClient(Client("bob")), PutQueue(Queue("bob", "bob")))
    appended = await stage.publish(
        b"<hello/>",
        queues=("acme", "bob"),
        topic="orders.new",
        attributes={"region": "eu"},
    )
    stage.clock.advance(1)
    await stage.ack(await stage.one())
    await stage.one(queue="bob")
    record = await stage.store.browse(NotificationById(appended.id))
    assert record is not None
    assert (record.id, record.topic) == (appended.id, "orders.new")
    assert record.content_type == "application/xml"
    assert record.body_bytes == 8
    assert record.body_sha256 == hashlib.sha256(b"<hello/>").digest()
    assert record.published_at_ms == stage.clock.wall_ms() - 1_000
    assert record.publisher == "shop"
    assert record.attributes == {"region": "eu"}
    mine, theirs = record.deliveries
    assert (mine.queue, mine.seq, mine.state) == ("acme", 1, State.ACKED)
    assert mine.last is not None
    assert (mine.last.number, decode_entry(mine.last.entry).outcome) == (2, "acked")
    assert (theirs.queue, theirs.state, theirs.attempt) == ("bob", State.LEASED, 1)
    record = await stage.store.browse(NotificationById(appended.id, owner="bob"))
    assert record is not None
    assert [delivery.queue for delivery in record.deliveries] == ["bob"]


async def receipts_come_in_pages(stage: Stage) -> None:
    for _ in range(5):
        await stage.publish()
    numbers, after = [], None
    for _ in range(4):
        page = await stage.store.browse(Receipts("acme", after=after, limit=2))
        numbers.append([receipt.number for receipt in page.receipts])
        after = page.next
        if after is None:
            break
    assert numbers == [[1, 2], [3, 4], [5]]
    numbers, after = [], None
    for _ in range(4):
        asked = Receipts("acme", after=after, limit=2, newest_first=True)
        page = await stage.store.browse(asked)
        numbers.append([receipt.number for receipt in page.receipts])
        after = page.next
        if after is None:
            break
    assert numbers == [[5, 4], [3, 2], [1]]


async def receipts_can_be_picked(stage: Stage) -> None:
    start = stage.clock.wall_ms()
    for _ in range(3):
        await stage.publish()
        stage.clock.advance(10)
    for delivery in await stage.lease(2):
        await stage.ack(delivery)
    for asked, expected in (
        (Receipts("acme", outcome="acked"), [4, 5]),
        (Receipts("acme", outcome="nacked"), []),
        (Receipts("acme", since_ms=start + 10_000), [2, 3, 4, 5]),
        (Receipts("acme", until_ms=start + 10_000), [1]),
        (Receipts("acme", outcome="published", since_ms=start + 1), [2, 3]),
        (Receipts("acme", outcome="published", newest_first=True), [3, 2, 1]),
        (Receipts("acme", outcome="acked", after=4), [5]),
    ):
        page = await stage.store.browse(asked)
        assert [receipt.number for receipt in page.receipts] == expected, asked


async def a_receipt_is_found_by_its_number(stage: Stage) -> None:
    await stage.publish()
    await stage.publish()
    (_, second) = await stage.stored_receipts()
    assert await stage.store.browse(ReceiptByNumber("acme", 2)) == second
    assert (second.queue, second.number) == ("acme", 2)
    assert await stage.store.browse(ReceiptByNumber("acme", 3)) is None


async def what_a_consumer_holds_can_be_found_again(stage: Stage) -> None:
    """Under the very leases it has, and no longer than it has them."""
    one, two = (msgspec.structs.replace(ACME, consumer=name) for name in ("one", "two"))
    for body in (b"<a/>", b"\xff\x00", b"<c/>", b"<d/>"):
        await stage.publish(body, ordering_key=f"k{body!r}", attributes={"a": "b"})
    held = await stage.lease(2, actor=one, seconds=40)
    (other,) = await stage.lease(1, actor=two)
    await stage.one()
    stage.clock.advance(3)
    stage.clock.jump_wall(3_600)
    found = await stage.store.browse(LeasedTo("acme", "one"))
    assert [one.ref for one in found] == [one.ref for one in held]
    assert [one.body for one in found] == [b"<a/>", b"\xff\x00"]
    assert found[0].attributes == {"a": "b"}
    assert (found[0].attempt, found[0].ordering_key) == (1, held[0].ordering_key)
    # The time left is the same, whatever the wall clock did.
    assert found[0].lease_until_ms == stage.clock.wall_ms() + 37_000
    assert await stage.store.browse(LeasedTo("acme", "")) != [], "who has no name has no name"
    assert await stage.store.browse(LeasedTo("acme", "three")) == []
    assert await stage.store.browse(LeasedTo("nowhere", "one")) == []

    # In parts: the first comes whatever its size, and the next where there is room for it.
    for after, most, expected in (
        (0, 1, [0]),
        (0, 5, [0]),
        (0, 6, [0, 1]),
        (held[0].ref.seq, 1, [1]),
    ):
        part = await stage.store.browse(LeasedTo("acme", "one", after, most))
        assert [one.ref for one in part] == [held[index].ref for index in expected]
    assert await stage.store.browse(LeasedTo("acme", "one", held[1].ref.seq)) == []

    # Asked before the answer to the ack is there, and after it was called.
    acking = asyncio.ensure_future(stage.ack(held[0]))
    await asyncio.sleep(0)
    found = await stage.store.browse(LeasedTo("acme", "one"))
    assert [one.ref for one in found] == [held[1].ref]
    await acking
    await stage.nack(other)
    assert [one.ref for one in await stage.store.browse(LeasedTo("acme", "one"))] == [held[1].ref]
    assert await stage.store.browse(LeasedTo("acme", "two")) == []
    await stage.pass_time(40)
    assert await stage.store.browse(LeasedTo("acme", "one")) == []
