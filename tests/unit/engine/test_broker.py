"""Publishing: to a queue, to a topic, in batches; and what of it is remembered."""

import asyncio

import pytest
from tests.unit.engine.house import ACME, BOB, OPERATOR, SHOP, letter, settings, slow, turns

from restante.changes import AddSubscription, PutQueue
from restante.engine.broker import Broker
from restante.engine.ids import new_id
from restante.errors import (
    BodyTooLarge,
    Forbidden,
    IdempotencyKeyReused,
    InvalidName,
    Malformed,
    OutOfBounds,
    QueueNotFound,
    RestanteError,
    StoreUnavailable,
)
from restante.model import Appended, Place, Publication, Queue, Settings, Subscription
from restante.queries import FiguresOf


async def published(broker, queue="acme"):
    return (await broker.store.browse(FiguresOf(queue))).published


def to_topic(topic, body=b"<hello/>", **fields):
    return Publication(body=body, topic=topic, **fields)


async def subscribe(broker, *routes):
    await broker.store.configure(
        [
            AddSubscription(Subscription(f"s-{n}-{pattern}", pattern, queue, conditions))
            for n, (pattern, queue, conditions) in enumerate(routes)
        ]
    )
    broker.directory.forget_subscriptions()


# -- to a queue ---------------------------------------------------------------------------------


async def test_publish_to_a_queue(broker, clock):
    appended = await broker.publish(letter(), SHOP)
    assert appended.deliveries == [Place("acme", 1)]
    (delivery,) = await (await broker.session("acme", ACME)).receive()
    assert (delivery.id, delivery.body) == (appended.id, b"<hello/>")


async def test_who_may_publish(broker):
    await broker.publish(letter(), OPERATOR)
    with pytest.raises(Forbidden):
        await broker.publish(letter(), ACME)
    with pytest.raises(QueueNotFound):
        await broker.publish(letter(), BOB)
    with pytest.raises(QueueNotFound):
        await broker.publish(letter(queue="nowhere"), SHOP)
    assert await published(broker) == 1


async def test_publishing_to_no_queue_is_refused(broker):
    for publication in (letter(queue=""), to_topic("orders.new")):
        for actor in (SHOP, ACME):
            with pytest.raises(RestanteError):
                await broker.publish(publication, actor)


async def test_a_body_too_large_for_the_queue_is_refused(broker):
    await settings(broker, max_body_bytes=3)
    await broker.publish(letter(b"123"), SHOP)
    with pytest.raises(BodyTooLarge):
        await broker.publish(letter(b"1234"), SHOP)


async def test_a_publisher_who_leaves_has_published(broker, store, monkeypatch):
    slow(monkeypatch, store, "append")
    waiting = asyncio.create_task((await broker.session("acme", ACME)).receive(wait_seconds=60))
    await turns()
    publishing = asyncio.create_task(broker.publish(letter(), SHOP))
    await turns(2)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    assert len(await waiting) == 1


async def test_a_repeat_is_answered_as_the_first(broker):
    first = await broker.publish(letter(idempotency_key="k"), SHOP)
    again = await broker.publish(letter(idempotency_key="k"), SHOP)
    assert (again.id, again.deliveries, again.replayed) == (first.id, first.deliveries, True)
    assert await published(broker) == 1


@pytest.mark.parametrize(
    "other",
    [
        letter(b"<other/>", idempotency_key="k"),
        letter(queue="bob", idempotency_key="k"),
        letter(content_type="text/xml", idempotency_key="k"),
    ],
)
async def test_a_key_means_one_request(broker, other):
    await broker.publish(letter(idempotency_key="k"), SHOP)
    with pytest.raises(IdempotencyKeyReused):
        await broker.publish(other, SHOP)


async def test_a_key_is_its_publishers_own(broker):
    await broker.publish(letter(idempotency_key="k"), SHOP)
    await broker.publish(letter(b"<other/>", idempotency_key="k"), OPERATOR)
    assert await published(broker) == 2


# -- to a topic ---------------------------------------------------------------------------------


async def test_a_topic_reaches_its_subscribers(broker):
    await subscribe(broker, ("orders.*", "acme", {}), ("#", "bob", {"region": ["eu"]}))
    appended = await broker.publish_to_topic(to_topic("orders.new"), SHOP)
    assert appended.deliveries == [Place("acme", 1)]
    appended = await broker.publish_to_topic(
        to_topic("orders.new", attributes={"region": "eu"}), SHOP
    )
    assert appended.deliveries == [Place("acme", 2), Place("bob", 1)]
    (delivery, _) = await (await broker.session("acme", ACME)).receive()
    assert delivery.topic == "orders.new"


async def test_a_topic_nobody_subscribed_to(broker):
    appended = await broker.publish_to_topic(to_topic("orders.new"), SHOP)
    assert appended.deliveries == []


async def test_a_topic_wakes_the_subscribers_of_every_queue(broker):
    await subscribe(broker, ("a", "acme", {}), ("a", "bob", {}))
    tasks = [
        asyncio.create_task((await broker.session(actor.name, actor)).receive(wait_seconds=60))
        for actor in (ACME, BOB)
    ]
    await turns()
    await broker.publish_to_topic(to_topic("a"), SHOP)
    assert [len(got) for got in await asyncio.gather(*tasks)] == [1, 1]


async def test_who_may_publish_to_a_topic(broker):
    await broker.publish_to_topic(to_topic("a"), OPERATOR)
    with pytest.raises(Forbidden):
        await broker.publish_to_topic(to_topic("a"), ACME)
    for name in ("", "a b", "a.*"):
        with pytest.raises(InvalidName):
            await broker.publish_to_topic(to_topic(name), SHOP)


async def test_a_body_too_large_for_one_subscriber_reaches_none(broker):
    await subscribe(broker, ("a", "acme", {}), ("a", "bob", {}))
    await settings(broker, "bob", max_body_bytes=1)
    with pytest.raises(BodyTooLarge, match="bob"):
        await broker.publish_to_topic(to_topic("a"), SHOP)
    assert await published(broker) == 0


# -- batches ------------------------------------------------------------------------------------


async def test_a_batch_answers_each_for_itself(broker):
    await subscribe(broker, ("a", "bob", {}))
    await settings(broker, max_body_bytes=10)
    batch = [
        letter(b"1", idempotency_key="k"),
        letter(queue="nowhere"),
        to_topic("a"),
        letter(b"x" * 11),
        Publication(body=b""),
        Publication(body=b"", queue="acme", topic="a"),
        letter(content_type="?"),
        letter(b"1", idempotency_key="k"),
        letter(b"2", idempotency_key="k"),
        letter(b"9", deliver_after_seconds=-1),
        letter(b"last"),
    ]
    results = await broker.publish_batch(batch, SHOP)
    told = [len(one.deliveries) if isinstance(one, Appended) else one.code for one in results]
    assert told == [
        1,
        "queue_not_found",
        1,
        "body_too_large",
        "malformed",
        "malformed",
        "invalid_header",
        1,
        "idempotency_key_reused",
        "out_of_bounds",
        1,
    ]
    assert results[7].replayed
    assert await published(broker) == 2
    assert await published(broker, "bob") == 1


async def test_batches_are_stored_in_the_order_in_which_they_were_begun(broker, monkeypatch):
    slow(monkeypatch, broker.store, "append")
    begun = [
        await broker.begin_batch([letter(b"%d" % number), Publication(body=b"")], SHOP)
        for number in range(3)
    ]
    told = []
    for number, publishing in enumerate(begun):
        publishing.when_known(lambda number=number: told.append(number))
    assert told == []
    await turns(40)
    assert told == [0, 1, 2]
    results = [publishing.known() for publishing in begun]
    assert [stored.deliveries[0].seq for stored, _ in results] == [1, 2, 3]
    assert {type(refused) for _, refused in results} == {Malformed}


async def test_a_batch_that_stores_nothing_is_known_at_once(broker):
    publishing = await broker.begin_batch([Publication(body=b"")], SHOP)
    told = []
    publishing.when_known(lambda: told.append(True))
    assert told == [True]
    assert isinstance(publishing.known()[0], Malformed)


async def test_what_the_store_says_of_a_whole_batch_is_raised(broker, monkeypatch):
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(StoreUnavailable())
    monkeypatch.setattr(broker.store, "append", lambda _: failed)
    with pytest.raises(StoreUnavailable):
        await broker.publish_batch([letter(), letter(queue="nowhere")], SHOP)


async def test_a_batch_has_bounds(broker):
    for count in (0, 1_001):
        with pytest.raises(OutOfBounds):
            await broker.publish_batch([letter()] * count, SHOP)
    assert len(await broker.publish_batch([letter()] * 1_000, SHOP)) == 1_000


async def test_who_may_publish_a_batch(broker):
    with pytest.raises(Forbidden):
        await broker.publish_batch([letter()], ACME)


async def test_a_batch_with_nothing_good_in_it(broker):
    (error,) = await broker.publish_batch([Publication(body=b"")], SHOP)
    assert isinstance(error, Malformed)


async def test_a_batch_wakes_as_many_as_it_brings(broker):
    session = await broker.session("acme", ACME)
    tasks = [asyncio.create_task(session.receive(max=1, wait_seconds=60)) for _ in range(5)]
    await turns()
    await broker.publish_batch([letter()] * 3, SHOP)
    await turns()
    assert sum(task.done() for task in tasks) == 3
    broker.drain()
    await asyncio.gather(*tasks)


# -- what is remembered -------------------------------------------------------------------------


async def test_what_is_forgotten_is_asked_for_again(broker):
    directory = broker.directory
    assert directory.known_queue("acme") is None
    before = await directory.queue("acme")
    assert directory.known_queue("acme") is before
    await settings(broker, max_attempts=3)
    assert directory.known_queue("acme") is None
    assert (await directory.queue("acme")).settings.max_attempts == 3
    router = await directory.router()
    assert await directory.router() is router
    directory.forget_subscriptions()
    assert await directory.router() is not router


async def test_what_is_not_there_is_not_remembered(broker):
    for _ in range(2):
        with pytest.raises(QueueNotFound):
            await broker.directory.queue("late")
    await broker.store.configure([PutQueue(Queue("late", "acme"))])
    assert (await broker.directory.queue("late")).name == "late"
    assert await broker.directory.key("nothing") is None


async def test_an_answer_read_before_a_change_is_not_remembered_after_it(
    broker, store, monkeypatch
):
    """The look was under way when the change was made and told."""
    gate = asyncio.Event()
    browse = store.browse

    def slow(query):
        answer = browse(query)

        async def late():
            await gate.wait()
            return await answer

        return asyncio.ensure_future(late())

    monkeypatch.setattr(store, "browse", slow)
    asking = asyncio.create_task(broker.directory.queue("acme"))
    await turns()
    await store.configure([PutQueue(Queue("acme", "acme", Settings(max_attempts=3)))])
    broker.directory.forget_queue("acme")
    gate.set()
    assert (await asking).settings.max_attempts == 10
    assert (await broker.directory.queue("acme")).settings.max_attempts == 3


async def test_closing_finishes_what_was_begun(store, clock):
    finished = []

    async def work():
        await turns()
        finished.append(True)

    async with Broker(store, clock) as broker:
        broker.keep(work())
    assert finished == [True]


def test_ids_sort_by_their_time():
    ids = [new_id(ms) for ms in (0, 1, 1_767_225_600_000, 2**47)]
    assert ids == sorted(ids)
    assert new_id(5, lambda bits: 2**bits - 1) == "00000000-0005-7fff-bfff-ffffffffffff"
    assert new_id(5, lambda bits: 0) == "00000000-0005-7000-8000-000000000000"
