"""What a store does with a notification it is given."""

from __future__ import annotations

import hashlib

from restante.changes import AddClient, PutQueue
from restante.errors import IdempotencyKeyReused, QueueNotFound
from restante.model import Appended, Client, Outcome, Place, Queue, State
from restante.queries import NotificationById, PublishedWith
from restante.testing.conformance.stage import SHOP, Stage, refused, seqs


async def seqs_are_dense_in_each_queue(stage: Stage) -> None:
    await stage.put_queue("other")
    for expected in (1, 2, 3):
        appended = await stage.publish()
        assert appended.deliveries == [Place("acme", expected)]
        assert appended.ready == {"acme": 1}
        assert not appended.replayed
    assert (await stage.publish(queues=("other",))).deliveries == [Place("other", 1)]
    assert (await stage.figures()).published == 3


async def one_notification_goes_to_many_queues(stage: Stage) -> None:
    await stage.put_queue("b")
    await stage.put_queue("c")
    await stage.publish(queues=("b",))
    appended = await stage.publish(b"<all/>", queues=("acme", "b", "c"))
    assert appended.deliveries == [Place("acme", 1), Place("b", 2), Place("c", 1)]
    assert appended.ready == {"acme": 1, "b": 1, "c": 1}
    for queue, body in (("acme", b"<all/>"), ("b", b"<hello/>"), ("c", b"<all/>")):
        assert (await stage.one(queue=queue)).body == body


async def a_notification_may_go_to_no_queue(stage: Stage) -> None:
    appended = await stage.publish(b"<nobody/>", queues=(), topic="orders.new")
    assert appended.deliveries == []
    assert appended.ready == {}
    record = await stage.store.browse(NotificationById(appended.id))
    assert record is not None
    assert (record.deliveries, record.body_bytes) == ([], 9)


async def the_first_receipt_tells_of_the_publishing(stage: Stage) -> None:
    stage.clock.advance(1.5)
    appended = await stage.publish(b"<hello/>")
    (receipt,) = await stage.ledger()
    assert receipt.number == receipt.seq == 1
    assert receipt.outcome == Outcome.PUBLISHED
    assert receipt.state == State.READY.label
    assert receipt.notification == appended.id
    assert receipt.queue == "acme"
    assert receipt.at == receipt.published_at == "2026-01-01T00:00:01.500Z"
    assert receipt.body_bytes == 8
    assert receipt.body_sha256 == hashlib.sha256(b"<hello/>").hexdigest()
    assert (receipt.principal, receipt.key_id) == (SHOP.name, SHOP.key_id)
    assert (receipt.transport, receipt.remote_address) == (SHOP.transport, SHOP.remote_address)
    assert (receipt.attempt, receipt.fence, receipt.leased_at) == (0, 0, "")


async def bodies_come_out_byte_for_byte(stage: Stage) -> None:
    bodies = [
        b"",
        b"\x00",
        '<?xml version="1.0" encoding="UTF-16"?><größe/>'.encode("utf-16"),
        '<?xml version="1.0" encoding="ISO-8859-1"?><größe/>'.encode("latin-1"),
        b"\xef\xbb\xbf<bom/>",
        b"<crlf>\r\n</crlf>\r",
        bytes(range(256)) * 16,
        b"x" * 1_048_576,
    ]
    for body in bodies:
        await stage.publish(body)
    assert [delivery.body for delivery in await stage.lease(100)] == bodies


async def everything_said_of_a_notification_comes_out(stage: Stage) -> None:
    attributes = {"ce-type": "order.créé", "region": "eu", "empty": "", "quote": '"\\\u2028'}
    appended = await stage.publish(
        b"<order/>",
        topic="orders.new",
        content_type="application/xml; charset=utf-8",
        attributes=attributes,
        ordering_key="order 17 / ü",
    )
    delivery = await stage.one()
    assert delivery.id == appended.id
    assert delivery.topic == "orders.new"
    assert delivery.content_type == "application/xml; charset=utf-8"
    assert delivery.attributes == attributes
    assert delivery.ordering_key == "order 17 / ü"
    assert delivery.published_at_ms == stage.clock.wall_ms()


async def an_unknown_queue_refuses_that_draft_alone(stage: Stage) -> None:
    good, bad, half, last = await stage.append(
        stage.draft(),
        stage.draft(queues=("nowhere",)),
        stage.draft(queues=("acme", "nowhere")),
        stage.draft(),
    )
    assert isinstance(good, Appended)
    assert isinstance(bad, QueueNotFound)
    assert isinstance(half, QueueNotFound)
    assert isinstance(last, Appended)
    assert [place.seq for place in (*good.deliveries, *last.deliveries)] == [1, 2]
    # I17: what was refused left nothing behind, in the queue it does know either.
    assert (await stage.figures()).published == 2
    assert len(await stage.ledger()) == 2


async def a_batch_stands_in_its_order(stage: Stage) -> None:
    await stage.append(*(stage.draft(b"%d" % number) for number in range(300)))
    assert [d.body for d in await stage.lease(300)] == [b"%d" % number for number in range(300)]


async def an_empty_batch_is_nothing(stage: Stage) -> None:
    assert await stage.append() == []


async def the_same_key_and_body_is_answered_alike(stage: Stage) -> None:
    await stage.put_queue("b")
    first = await stage.publish(b"<a/>", queues=("acme", "b"), idempotency_key="k")
    again = await stage.publish(b"<a/>", queues=("acme", "b"), idempotency_key="k")
    assert (again.id, again.deliveries) == (first.id, first.deliveries)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.ready == {}, "nobody is woken for it twice"
    assert len(await stage.ledger()) == 1
    await stage.ack(await stage.one())
    later = await stage.publish(b"<a/>", queues=("acme", "b"), idempotency_key="k")
    assert (later.id, later.deliveries) == (first.id, first.deliveries)
    assert await stage.lease() == []


async def the_same_key_and_another_body_is_refused(stage: Stage) -> None:
    await stage.publish(b"<a/>", idempotency_key="k")
    await refused(IdempotencyKeyReused, stage.publish(b"<b/>", idempotency_key="k"))
    assert (await stage.figures()).published == 1


async def what_a_key_made_can_be_asked_for(stage: Stage) -> None:
    await stage.put_queue("b")
    assert await stage.store.browse(PublishedWith("shop", "k")) is None
    first = await stage.publish(b"<a/>", queues=("acme", "b"), idempotency_key="k")
    await stage.publish(b"<a/>", idempotency_key="another")
    assert await stage.store.browse(PublishedWith("shop", "k")) == first.id
    assert await stage.store.browse(PublishedWith("another", "k")) is None


async def keys_of_two_publishers_are_two_keys(stage: Stage) -> None:
    first = stage.draft(b"<a/>", idempotency_key="k")
    assert first.idempotency is not None
    other = stage.draft(b"<b/>", idempotency_key="k")
    assert other.idempotency is not None
    theirs = type(other.idempotency)("another", "k", other.idempotency.fingerprint)
    await stage.append(first)
    await stage.publish(b"<b/>", idempotency=theirs)
    assert (await stage.figures()).published == 2


async def keys_hold_within_one_batch_too(stage: Stage) -> None:
    first, again, other = await stage.append(
        stage.draft(b"<a/>", idempotency_key="k"),
        stage.draft(b"<a/>", idempotency_key="k"),
        stage.draft(b"<b/>", idempotency_key="k"),
    )
    assert isinstance(first, Appended)
    assert isinstance(again, Appended)
    assert (again.id, again.replayed) == (first.id, True)
    assert isinstance(other, IdempotencyKeyReused)
    assert seqs(await stage.lease()) == [1]


async def a_refused_draft_does_not_use_up_its_key(stage: Stage) -> None:
    await refused(QueueNotFound, stage.publish(queues=("late",), idempotency_key="k"))
    await stage.put_queue("late")
    appended = await stage.publish(queues=("late",), idempotency_key="k")
    assert not appended.replayed


async def each_queue_has_its_own_ledger(stage: Stage) -> None:
    await stage.configure(AddClient(Client("bob")), PutQueue(Queue("bob", "bob")))
    await stage.publish(queues=("acme", "bob"))
    await stage.publish(queues=("bob",))
    assert [one.number for one in await stage.ledger("acme")] == [1]
    assert [one.number for one in await stage.ledger("bob")] == [1, 2]
