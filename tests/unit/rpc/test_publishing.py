"""PublishStream: batches one way, their results the other."""

import asyncio

import pytest
from tests.unit.engine.house import ACME, SHOP, slow, turns
from tests.unit.rpc.house import Link

from restante.errors import Forbidden, ShuttingDown, StoreUnavailable
from restante.queries import FiguresOf
from restante.rpc import dialogue
from restante.rpc.service import Service
from restante.wire.proto import restante_pb2 as pb


class Call(Link):
    """A publisher's call under way."""

    def __init__(self, broker):
        super().__init__()
        self.service = Service(broker)
        self.call = asyncio.create_task(self.service.publish_stream(SHOP, self))


@pytest.fixture
async def link(broker):
    link = Call(broker)
    yield link
    link.call.cancel()
    await asyncio.gather(link.call, return_exceptions=True)


def batch(ref, *bodies, queue="acme", **fields):
    notifications = [pb.Publication(queue=queue, body=body, **fields) for body in bodies]
    return pb.PublishStreamRequest(ref=ref, notifications=notifications)


async def published(broker, queue="acme"):
    return (await broker.store.browse(FiguresOf(queue))).published


async def test_each_batch_is_answered_under_its_ref_in_their_order(broker, link, monkeypatch):
    slow(monkeypatch, broker.store, "append")
    for number in range(5):
        link.say(batch(str(number), b"a", b"b"))
    link.close()
    await link.call
    assert [answer.ref for answer in link.answers] == list("01234")
    seqs = [result.deliveries[0].seq for answer in link.answers for result in answer.results]
    assert seqs == list(range(1, 11))
    assert await published(broker) == 10


async def test_what_is_stored_together_is_answered_together(broker, link):
    link.hold()
    for number in range(100):
        link.say(batch(str(number), b"a"))
    await turns(300)
    link.let_go()
    link.close()
    await link.call
    assert len(link.answers) == 100
    assert len(link.written) <= 3


async def test_each_notification_stands_or_fails_by_itself(broker, link):
    link.say(
        pb.PublishStreamRequest(
            ref="x",
            notifications=[
                pb.Publication(queue="acme", body=b"1"),
                pb.Publication(queue="nowhere", body=b"2"),
                pb.Publication(body=b"3"),
                pb.Publication(queue="acme", content_type="?", body=b"4"),
                pb.Publication(topic="nobody", body=b"5"),
                pb.Publication(queue="acme", deliver_after_seconds=float("nan")),
            ],
        )
    )
    link.close()
    await link.call
    told = [result.problem.code or result.queues for result in link.answers[0].results]
    assert told == [1, "queue_not_found", "malformed", "invalid_header", 0, "out_of_bounds"]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (batch("bad"), "out_of_bounds"),
        (batch("bad", *[b""] * 1_001), "out_of_bounds"),
    ],
)
async def test_a_request_that_will_not_do_is_answered_and_the_call_goes_on(
    broker, link, request_, code
):
    link.say(request_)
    link.say(batch("good", b"1"))
    link.close()
    await link.call
    bad, good = link.answers
    assert (bad.ref, bad.problem.code, len(bad.results)) == ("bad", code, 0)
    assert (good.ref, good.results[0].queues) == ("good", 1)


async def test_a_client_cannot_publish(broker):
    with pytest.raises(Forbidden):
        await Service(broker).publish_stream(ACME, Link())


async def test_what_the_store_says_of_a_batch_is_said_of_its_request(broker, link, monkeypatch):
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(StoreUnavailable())
    monkeypatch.setattr(broker.store, "append", lambda _: failed)
    link.say(batch("1", b"a"))
    link.close()
    await link.call
    (answer,) = link.answers
    assert (answer.ref, answer.problem.code) == ("1", "store_unavailable")


async def test_with_too_many_bytes_under_way_nothing_is_read(broker, link, monkeypatch):
    monkeypatch.setattr(dialogue, "BYTES_UNDER_WAY", 1_000)
    gates = []

    def never(drafts):
        gates.append(asyncio.get_running_loop().create_future())
        return gates[-1]

    monkeypatch.setattr(broker.store, "append", never)
    for number in range(10):
        link.say(batch(str(number), b"x" * 600))
    await turns()
    assert (len(gates), link.said.qsize()) == (2, 8)
    gates[0].set_result([StoreUnavailable()])
    await turns()
    assert (len(gates), link.said.qsize()) == (3, 7)


async def test_a_drained_publisher_has_its_answers_and_is_ended_in_the_end(broker, link):
    link.say(batch("1", b"a"))
    await turns()
    broker.drain()
    await turns()
    assert [message.HasField("drain") for message in link.written] == [False, True]
    link.say(batch("2", b"b"))
    await turns()
    assert [answer.ref for answer in link.answers] == ["1", "2"]
    link.service.close()
    with pytest.raises(ShuttingDown):
        await link.call


async def test_silence_is_broken_now_and_then(broker, link, clock):
    await turns()
    for count in (1, 2):
        clock.advance(45)
        await turns()
        assert link.written == [pb.PublishStreamResponse()] * count


async def test_who_leaves_has_published_what_it_sent(broker, link, monkeypatch):
    slow(monkeypatch, broker.store, "append")
    link.say(batch("1", b"a"))
    await turns(3)
    link.call.cancel()
    await asyncio.gather(link.call, return_exceptions=True)
    await turns()
    assert await published(broker) == 1
    assert len(broker.attachments) == 0
