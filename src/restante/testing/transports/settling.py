"""What a client says of a lease, and what comes of it."""

from __future__ import annotations

import time

from restante.model import Verb
from restante.testing.transports.driver import Options, Want
from restante.testing.transports.stage import (
    Stage,
    ack,
    nack,
    needs,
    one,
    settle,
    settled,
    take,
)

XML = '<?xml version="1.0" encoding="UTF-8"?>\r\n<order n="1">\n  <name>Bodø &amp; Co</name>\r</order>\n'.encode()


async def what_is_published_comes_and_is_signed_for(stage: Stage) -> None:
    (id,) = await stage.publish(XML, restante_attribute_region="eu")
    consumer = await stage.attach()
    delivered = await one(consumer)
    assert (delivered.id, delivered.queue, delivered.seq) == (id, stage.queue, 1)
    assert (delivered.body, delivered.content_type) == (XML, "application/xml")
    assert delivered.attempt == 1
    assert delivered.attributes == {"region": "eu"}
    outcome = await ack(consumer, delivered, reply=b"<booked/>", reply_content_type="text/xml")
    assert (outcome.outcome, outcome.state) == ("acked", "acked")
    (receipt,) = await stage.receipts("acked")
    assert outcome.receipt == receipt["id"]
    assert receipt["notification"] == id
    assert (receipt["reply"], receipt["reply_content_type"]) == ("<booked/>", "text/xml")
    assert (receipt["principal"], receipt["transport"]) == (stage.queue, stage.driver.transport)
    assert receipt["attempt"] == 1


async def bytes_of_any_kind_come_as_they_are(stage: Stage) -> None:
    bodies = [b"", bytes(range(256)), XML * 400, b"\xff\xfe\x00", "\u2028\u0000\ufeff".encode()]
    await stage.publish(*bodies, content_type="application/octet-stream")
    consumer = await stage.attach()
    got = await take(consumer, len(bodies))
    assert [delivered.body for delivered in got] == bodies
    for delivered in got:
        await ack(consumer, delivered)


async def a_reply_may_be_of_any_bytes(stage: Stage) -> None:
    await stage.publish(b"<a/>")
    consumer = await stage.attach()
    await ack(consumer, await one(consumer), reply=b"\xff\x00", reply_content_type="image/x")
    (receipt,) = await stage.receipts("acked")
    assert receipt["reply_base64"] == "/wA="


async def what_comes_later_comes_as_it_comes(stage: Stage) -> None:
    consumer = await stage.attach()
    for number in range(3):
        await stage.publish(b"%d" % number)
        delivered = await one(consumer)
        assert delivered.body == b"%d" % number
        await ack(consumer, delivered)
    figures = await stage.figures()
    assert (figures["acked"], figures["published"]) == (3, 3)


async def a_nack_with_a_delay_comes_again_after_it(stage: Stage) -> None:
    await stage.publish(b"<a/>")
    consumer = await stage.attach()
    first = await one(consumer)
    said = time.monotonic()
    await nack(consumer, first, retry_after=1)
    again = await one(consumer)
    assert time.monotonic() - said >= 0.95
    assert (again.id, again.attempt) == (first.id, 2)
    await ack(consumer, again)
    assert [r["outcome"] for r in await stage.receipts()] == ["published", "nacked", "acked"]


@needs(Want.REASON)
async def the_reason_of_a_nack_is_recorded(stage: Stage) -> None:
    await stage.publish(b"<a/>")
    consumer = await stage.attach()
    await nack(consumer, await one(consumer), reason="our database is down", retry_after=60)
    (receipt,) = await stage.receipts("nacked")
    assert receipt["reason"] == "our database is down"


async def what_is_rejected_is_a_dead_letter_at_once(stage: Stage) -> None:
    (id,) = await stage.publish(b"<poison/>")
    consumer = await stage.attach()
    await settled(consumer, await one(consumer), Verb.REJECT, reason="no such sku")
    (letter,) = await stage.dead()
    assert (letter["id"], letter["attempt"], letter["reason"]) == (id, 1, "no such sku")


async def poison_is_a_dead_letter_at_the_limit_exactly(stage: Stage) -> None:
    await stage.settings(max_attempts=3)
    (id,) = await stage.publish(b"<poison/>")
    consumer = await stage.attach()
    for attempt in (1, 2, 3):
        assert await stage.dead() == []
        delivered = await one(consumer)
        assert delivered.attempt == attempt
        await nack(consumer, delivered, retry_after=0)
    (letter,) = await stage.dead()
    assert (letter["id"], letter["attempt"]) == (id, 3)


@needs(Want.RELEASE)
async def what_is_given_back_comes_again_uncounted(stage: Stage) -> None:
    await stage.publish(b"<a/>")
    consumer = await stage.attach()
    first = await one(consumer)
    await settled(consumer, first, Verb.RELEASE)
    again = await one(consumer)
    assert (again.id, again.attempt) == (first.id, 1)


@needs(Want.SETTLE_LATER)
async def a_repeated_ack_is_answered_as_the_first(stage: Stage) -> None:
    await stage.publish(b"<a/>")
    consumer = await stage.attach()
    delivered = await one(consumer)
    first = await ack(consumer, delivered)
    assert await ack(consumer, delivered) == first
    assert len(await stage.receipts("acked")) == 1


@needs(Want.SETTLE_LATER)
async def a_forged_lease_is_not_there(stage: Stage) -> None:
    await stage.publish(b"<a/>")
    consumer = await stage.attach()
    delivered = await one(consumer)
    swapped = delivered.lease[:-3] + ("AAA" if delivered.lease[-3:] != "AAA" else "BBB")
    for lease in ("nonsense", swapped, "x" * 400):
        delivered.lease, kept = lease, delivered.lease
        outcome = await settle(consumer, delivered, Verb.ACK)
        assert (outcome.ok, outcome.code) == (False, "lease_not_found")
        delivered.lease = kept
    await ack(consumer, delivered)


@needs(Want.SETTLE_LATER)
async def another_clients_lease_is_not_there(stage: Stage) -> None:
    queue, key = await stage.another_client()
    await stage.publish(b"<theirs/>", queue=queue)
    theirs = await stage.driver.attach(queue, key, Options())
    try:
        delivered = await one(theirs)
        consumer = await stage.attach()
        outcome = await settle(consumer, delivered, Verb.ACK)
        assert (outcome.ok, outcome.code) == (False, "lease_not_found")
        await ack(theirs, delivered)
    finally:
        await theirs.close()


@needs(Want.SETTLE_LATER)
async def what_is_out_of_bounds_is_refused_with_the_same_code(stage: Stage) -> None:
    await stage.publish(b"<a/>")
    consumer = await stage.attach()
    delivered = await one(consumer)
    for verb, said in (
        (Verb.ACK, {"reply": b"x" * 65_537}),
        (Verb.NACK, {"retry_after": -1}),
        (Verb.REJECT, {"reason": "x" * 1_025}),
    ):
        outcome = await settle(consumer, delivered, verb, **said)
        assert not outcome.ok
        assert outcome.code in {"out_of_bounds", "body_too_large"}
    await ack(consumer, delivered)


@needs(Want.PUBLISH)
async def who_collects_over_it_may_publish_over_it_too(stage: Stage) -> None:
    consumer = await stage.attach()
    bodies = [XML, b"\xff\x00", b""]
    ids = await stage.driver.publish(
        stage.queue, stage.publisher_key, bodies, ordering_key="one-by-one"
    )
    for id, body in zip(ids, bodies, strict=True):
        delivered = await one(consumer)
        assert (delivered.id, delivered.body) == (id, body)
        assert delivered.ordering_key == "one-by-one"
        await ack(consumer, delivered)
