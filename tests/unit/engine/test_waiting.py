"""Waiting for what becomes of a notification."""

import asyncio

import pytest
from tests.unit.engine.house import ACME, OPERATOR, SHOP, letter, settings, turns

from restante.engine import waiting
from restante.engine.settling import Settle
from restante.errors import NotificationNotFound, OutOfBounds, StoreUnavailable, TooManyWaiters
from restante.model import Selection, State, Verb
from restante.outcomes import ALL, Requirement, Result
from restante.queries import NotificationById, ReceiptCounts

ANY = Requirement(1)


class Caller:
    """A transport's caller, which hangs up when the test says so."""

    def __init__(self):
        self._gone = False
        self._on_gone = lambda: None

    def gone(self):
        return self._gone

    def watch(self, on_gone):
        self._on_gone = on_gone
        return self.unwatch

    def unwatch(self):
        self._on_gone = lambda: None

    def hang_up(self):
        self._gone = True
        self._on_gone()


async def publish(broker, *queues, **fields):
    """The id of what was published to these queues under one notification."""
    (queue,) = queues
    return (await broker.publish(letter(queue=queue, **fields), SHOP)).id


async def publish_to_both(broker):
    from restante.changes import AddSubscription
    from restante.model import Subscription

    for name in ("acme", "bob"):
        await broker.configure(AddSubscription(Subscription(name, "orders", name)))
    appended = await broker.publish_to_topic(letter(queue="", topic="orders"), SHOP)
    return appended.id


async def wait(broker, id, requirement=ALL, seconds=30, actor=SHOP, hangup=None):
    with broker.waiting.enter(actor, seconds) as waiter:
        return await broker.waiting.outcome(waiter, id, actor, requirement, seconds, hangup)


async def waiting_for(broker, id, *asked, **options):
    """A task that waits, and has looked."""
    task = asyncio.create_task(wait(broker, id, *asked, **options))
    await turns()
    assert not task.done()
    return task


async def settle(broker, verb=Verb.ACK, queue="acme", **fields):
    session = await broker.session(queue, OPERATOR)
    (delivery,) = await session.receive(max=1)
    item = Settle(lease=session.token(delivery), verb=verb, **fields)
    await (await session.settle([item])).results()


@pytest.fixture
def looks(store, monkeypatch):
    """How often the store was asked for a notification, by its id, or for counts."""
    asked = []
    browse = store.browse

    def noted(query):
        if isinstance(query, NotificationById | ReceiptCounts):
            asked.append(query)
        return browse(query)

    monkeypatch.setattr(store, "browse", noted)
    return asked


async def test_an_ack_ends_the_wait_with_its_reply(broker, looks):
    id = await publish(broker, "acme")
    task = await waiting_for(broker, id)
    await settle(broker, reply=b"<booked/>", reply_content_type="application/xml")
    came = await task
    assert came.result is Result.MET
    assert [one.state for one in came.record.deliveries] == [State.ACKED]
    assert b"<booked/>" in came.record.deliveries[0].last.entry
    assert len(looks) == 2, "one when it began, and one for the news"


async def test_what_has_come_to_a_result_is_not_waited_for(broker):
    id = await publish(broker, "acme")
    await settle(broker)
    assert (await wait(broker, id)).result is Result.MET


async def test_the_time_is_up(broker, clock):
    id = await publish(broker, "acme")
    task = await waiting_for(broker, id, seconds=30)
    clock.advance(29.9)
    await turns()
    assert not task.done()
    clock.advance(0.1)
    assert (await task).result is Result.PENDING
    assert len(broker.waiting) == 0


@pytest.mark.parametrize("ending", ["rejected", "expired", "superseded", "attempts", "lease"])
async def test_an_end_without_an_ack_ends_the_wait(broker, clock, ending):
    await settings(broker, max_attempts=1)
    fields = {"collapse_key": "k", "expires_after_seconds": 10 if ending == "expired" else None}
    id = await publish(broker, "acme", **fields)
    task = await waiting_for(broker, id)
    match ending:
        case "rejected":
            await settle(broker, Verb.REJECT, reason="out of stock")
        case "attempts":
            await settle(broker, Verb.NACK, reason="again")
        case "superseded":
            await publish(broker, "acme", collapse_key="k")
        case "expired":
            clock.advance(10)
        case "lease":
            session = await broker.session("acme", OPERATOR)
            await session.receive(max=1, lease_seconds=5)
            clock.advance(5)
    await turns()
    came = await task
    assert came.result is Result.FAILED
    if ending == "rejected":
        assert b"out of stock" in came.record.deliveries[0].last.entry


async def test_what_may_still_come_is_waited_for(broker, clock):
    await settings(broker, backoff_base_seconds=0)
    id = await publish(broker, "acme")
    task = await waiting_for(broker, id)
    await settle(broker, Verb.NACK, reason="busy")
    await settle(broker, Verb.RELEASE)
    await turns()
    assert not task.done()
    await settle(broker)
    assert (await task).result is Result.MET


async def test_a_dead_letter_that_is_discarded_has_failed_and_one_redriven_is_pending(broker):
    id = await publish(broker, "acme")
    await settle(broker, Verb.REJECT)
    assert (await wait(broker, id)).result is Result.FAILED
    await broker.store.redrive("acme", Selection(), OPERATOR, 10)
    task = await waiting_for(broker, id)
    await settle(broker, Verb.REJECT)
    assert (await task).result is Result.FAILED
    await broker.store.discard("acme", Selection(), OPERATOR, 10, "no use")
    assert (await wait(broker, id)).record.deliveries[0].state is State.DISCARDED


async def test_all_need_both_and_any_one(broker, looks):
    id = await publish_to_both(broker)
    every = await waiting_for(broker, id)
    one = await waiting_for(broker, id, ANY)
    two = await waiting_for(broker, id, Requirement(2))
    looks.clear()
    await settle(broker, queue="acme")
    assert (await one).result is Result.MET
    await turns()
    assert not every.done()
    assert len(looks) == 1, "an ack that decides nothing is no reason to look"
    await settle(broker, Verb.REJECT, queue="bob")
    assert (await every).result is Result.FAILED
    assert (await two).result is Result.FAILED


async def test_any_fails_with_the_last(broker):
    id = await publish_to_both(broker)
    task = await waiting_for(broker, id, ANY)
    await settle(broker, Verb.REJECT, queue="acme")
    await turns()
    assert not task.done()
    await settle(broker, Verb.REJECT, queue="bob")
    assert (await task).result is Result.FAILED


async def test_more_than_there_are_cannot_be(broker):
    id = await publish(broker, "acme")
    assert (await wait(broker, id, Requirement(2))).result is Result.FAILED


async def test_a_client_waits_for_its_own(broker):
    id = await publish_to_both(broker)
    task = await waiting_for(broker, id, actor=ACME)
    await settle(broker, Verb.REJECT, queue="bob")
    await turns()
    assert not task.done()
    await settle(broker, queue="acme")
    came = await task
    assert came.result is Result.MET
    assert [one.queue for one in came.record.deliveries] == ["acme"]


async def test_what_is_committed_while_it_looks_is_not_missed(broker, store, monkeypatch):
    """The look's answer is from before the ack, and comes after it."""
    id = await publish(broker, "acme")
    browse = store.browse
    held = asyncio.Event()

    async def late(answer):
        await held.wait()
        return await answer

    with monkeypatch.context() as patch:
        patch.setattr(store, "browse", lambda query: asyncio.ensure_future(late(browse(query))))
        task = asyncio.create_task(wait(broker, id))
        await turns()
    await settle(broker)
    held.set()
    assert (await task).result is Result.MET


async def test_who_hangs_up_leaves_nothing(broker, store):
    id = await publish(broker, "acme")
    caller = Caller()
    task = await waiting_for(broker, id, hangup=caller)
    assert len(broker.waiting) == 1
    caller.hang_up()
    assert (await task).result is Result.PENDING
    assert len(broker.waiting) == 0
    assert store.meter.listener is None


async def test_who_is_cancelled_leaves_nothing(broker, store):
    id = await publish(broker, "acme")
    task = await waiting_for(broker, id)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(broker.waiting) == 0
    assert store.meter.listener is None


async def test_a_key_that_ends_and_a_drain_end_the_wait(broker):
    id = await publish(broker, "acme")
    ended = await waiting_for(broker, id, actor=SHOP)
    other = await waiting_for(broker, id, actor=OPERATOR)
    assert broker.waiting.key_ids() == {"k-shop", "k-op"}
    broker.dismiss("k-shop")
    assert (await ended).result is Result.PENDING
    await turns()
    assert not other.done()
    broker.drain()
    assert (await other).result is Result.PENDING
    assert (await wait(broker, id)).result is Result.PENDING, "whoever comes later does not wait"


async def test_refused(broker, monkeypatch):
    id = await publish(broker, "acme")
    with pytest.raises(NotificationNotFound):
        await wait(broker, "nothing")
    for seconds in (-1, 61, float("nan")):
        with pytest.raises(OutOfBounds):
            await wait(broker, id, seconds=seconds)
    assert len(broker.waiting) == 0
    monkeypatch.setattr(waiting, "WAITERS", 1)
    task = await waiting_for(broker, id)
    with pytest.raises(TooManyWaiters):
        broker.waiting.enter(OPERATOR, 1)
    await settle(broker)
    await task
    with broker.waiting.enter(OPERATOR, 1):
        pass


async def test_each_principal_has_its_share_and_the_node_itself_takes_none(broker, monkeypatch):
    monkeypatch.setattr(waiting, "WAITERS", 2)
    monkeypatch.setattr(waiting, "WAITERS_OF_ONE", 1)
    id = await publish(broker, "acme")
    with broker.waiting.watch(), broker.waiting.watch(), broker.waiting.watch():
        assert len(broker.waiting) == 0
        task = await waiting_for(broker, id)
        with pytest.raises(TooManyWaiters):
            await wait(broker, id)
        other = await waiting_for(broker, id, actor=OPERATOR)
        assert len(broker.waiting) == 2
        await settle(broker)
        await asyncio.gather(task, other)
    assert len(broker.waiting) == 0
    task = asyncio.create_task(wait(broker, id))
    assert (await task).result is Result.MET


async def test_whoever_waits_for_nothing_takes_no_place(broker, monkeypatch):
    monkeypatch.setattr(waiting, "WAITERS", 0)
    id = await publish(broker, "acme")
    assert (await wait(broker, id, seconds=0)).result is Result.PENDING


async def test_when_the_time_is_up_the_answer_is_how_it_stands_then(broker, clock, looks):
    """What another node has committed meanwhile, and this one has not asked for yet."""
    id = await publish(broker, "acme")
    task = await waiting_for(broker, id, seconds=30)
    broker.store.meter.listener = None
    await settle(broker)
    assert not task.done()
    clock.advance(30)
    came = await task
    assert came.result is Result.MET
    assert came.record.deliveries[0].state is State.ACKED
    assert len(looks) == 2


async def test_who_is_off_is_not_looked_for_again(broker, looks):
    id = await publish(broker, "acme")
    caller = Caller()
    left = await waiting_for(broker, id, hangup=caller)
    ended = await waiting_for(broker, id)
    drained = await waiting_for(broker, id, actor=OPERATOR)
    looks.clear()
    caller.hang_up()
    broker.dismiss("k-shop")
    broker.drain()
    await asyncio.gather(left, ended, drained)
    assert looks == []


async def test_ten_thousand_wait_and_each_is_told_of_its_own(broker, looks):
    count = 10_000
    ids = []
    for _ in range(count // 1_000):
        results = await broker.publish_batch([letter()] * 1_000, SHOP)
        ids += [one.id for one in results]
    tasks = [asyncio.create_task(wait(broker, id)) for id in ids]
    await turns()
    assert len(broker.waiting) == count
    looks.clear()
    await settle(broker)
    assert (await tasks[0]).result is Result.MET
    assert len(looks) == 1
    assert len(broker.waiting) == count - 1
    broker.drain()
    results = {(await task).result for task in tasks[1:]}
    assert results == {Result.PENDING}


# -- other nodes --------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(store, monkeypatch):
    """The store is shared: what is committed while this is called is another node's, and not heard of here."""
    monkeypatch.setattr(type(store), "nodes", object(), raising=False)

    class Elsewhere:
        def __enter__(self):
            self._listener, store.meter.listener = store.meter.listener, None

        def __exit__(self, *_):
            store.meter.listener = self._listener

    return Elsewhere()


@pytest.fixture
async def alone(store, clock):
    """A broker none of whose endless work runs: the store only says that it is shared."""
    from restante.engine.broker import Broker

    return Broker(store, clock)


async def test_other_nodes_are_asked_once_a_second_for_all(alone, elsewhere, clock, looks):
    first, second = [await publish(alone, "acme") for _ in range(2)]
    tasks = [await waiting_for(alone, id) for id in (first, first, second)]
    with elsewhere:
        await settle(alone)
    looks.clear()
    await turns()
    assert looks == []
    clock.advance(1)
    await turns()
    assert isinstance(looks[0], ReceiptCounts)
    assert set(looks[0].ids) == {first, second}
    assert [task.done() for task in tasks] == [True, True, False]
    assert {(await task).result for task in tasks[:2]} == {Result.MET}
    looks.clear()
    clock.advance(1)
    await turns()
    assert [type(one) for one in looks] == [ReceiptCounts], "no news is no reason to look"
    with elsewhere:
        await settle(alone)
    clock.advance(1)
    assert (await tasks[2]).result is Result.MET
    looks.clear()
    clock.advance(5)
    await turns()
    assert looks == [], "nobody waits"


async def test_a_store_that_is_away_is_asked_again(alone, elsewhere, clock, store, monkeypatch):
    id = await publish(alone, "acme")
    task = await waiting_for(alone, id)
    with elsewhere:
        await settle(alone)
    browse = store.browse
    with monkeypatch.context() as patch:

        def away(query):
            if isinstance(query, ReceiptCounts):
                raise StoreUnavailable("gone")
            return browse(query)

        patch.setattr(store, "browse", away)
        clock.advance(1)
        await turns()
    assert not task.done()
    clock.advance(1)
    assert (await task).result is Result.MET


@pytest.fixture
def questions(store, monkeypatch):
    """Questions for counts, which are answered when the test says so."""
    asked = []
    browse = store.browse

    def noted(query):
        if not isinstance(query, ReceiptCounts):
            return browse(query)
        answer = asyncio.get_running_loop().create_future()
        asked.append(answer)
        return answer

    monkeypatch.setattr(store, "browse", noted)
    return asked


async def test_there_is_one_chain_of_questions_whoever_comes_and_goes(
    alone, elsewhere, clock, questions
):
    id = await publish(alone, "acme")
    caller = Caller()
    last = await waiting_for(alone, id, hangup=caller)
    clock.advance(1)
    await turns()
    assert len(questions) == 1
    caller.hang_up()
    await last
    another = await waiting_for(alone, id)
    clock.advance(1)
    await turns()
    assert len(questions) == 1, "one is under way"
    questions[0].set_result({})
    await turns()
    for count in (2, 3):
        clock.advance(1)
        await turns()
        assert len(questions) == count
        questions[-1].set_result({})
        await turns()
    alone.drain()
    await another


async def test_an_answer_that_cannot_be_read_is_asked_for_again(alone, elsewhere, clock, questions):
    id = await publish(alone, "acme")
    task = await waiting_for(alone, id)
    for count, error in ((1, ValueError("odd")), (2, ValueError("odd"))):
        clock.advance(1)
        await turns()
        assert len(questions) == count
        questions[-1].set_exception(error)
        await turns()
    clock.advance(1)
    await turns()
    with elsewhere:
        await settle(alone)
    questions[-1].set_result({id: 2})
    assert (await task).result is Result.MET
