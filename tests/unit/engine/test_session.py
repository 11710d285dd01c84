"""How consumers receive, wait, leave and settle."""

import asyncio
import gc

import pytest
from tests.unit.engine.house import ACME, BOB, OPERATOR, SHOP, letter, settings, slow, turns

from restante.changes import PutQueue
from restante.engine.settling import Settle
from restante.errors import Forbidden, LeaseLost, LeaseNotFound, OutOfBounds, QueueNotFound
from restante.model import Queue, Settled, State, Verb
from restante.queries import FiguresOf


class Line:
    """A ``Hangup`` at the test's command."""

    def __init__(self):
        self.left = False
        self.watchers = []

    def gone(self):
        return self.left

    def watch(self, on_gone):
        self.watchers.append(on_gone)
        return lambda: self.watchers.remove(on_gone)

    def hang_up(self):
        self.left = True
        for on_gone in list(self.watchers):
            on_gone()


async def figures(broker, queue="acme"):
    return await broker.store.browse(FiguresOf(queue))


async def receiving(broker, *, actor=ACME, queue="acme", **options):
    session = await broker.session(queue, actor)
    task = asyncio.create_task(session.receive(**({"wait_seconds": 20} | options)))
    await turns()
    return task


async def settle(session, *deliveries, verb=Verb.ACK, **fields):
    items = [Settle(lease=session.token(one), verb=verb, **fields) for one in deliveries]
    return await (await session.settle(items)).results()


# -- receiving ----------------------------------------------------------------------------------


async def test_what_is_there_is_received_at_once(broker):
    await broker.publish(letter(b"1"), SHOP)
    await broker.publish(letter(b"2"), SHOP)
    session = await broker.session("acme", ACME)
    assert [one.body for one in await session.receive(wait_seconds=60)] == [b"1", b"2"]
    assert await session.receive(wait_seconds=0) == []


async def test_what_comes_is_received_as_it_comes(broker):
    task = await receiving(broker)
    assert not task.done()
    await broker.publish(letter(), SHOP)
    assert [one.ref.seq for one in await task] == [1]


async def test_one_answer_is_as_large_as_asked(broker):
    for size in (30, 30, 300):
        await broker.publish(letter(b"x" * size), SHOP)
    session = await broker.session("acme", ACME)
    assert len(await session.receive(max_bytes=60)) == 2
    assert len(await session.receive(max_bytes=60)) == 1, "the first whatever its size"


async def test_the_wait_ends_with_nothing(broker, clock):
    task = await receiving(broker, wait_seconds=12)
    clock.advance(11.9)
    await turns()
    assert not task.done()
    clock.advance(0.1)
    assert await task == []


async def test_one_publish_answers_one_of_many(broker):
    tasks = [await receiving(broker) for _ in range(5)]
    await broker.publish(letter(), SHOP)
    await turns()
    assert [task.done() for task in tasks] == [True, False, False, False, False]
    broker.drain()
    assert [len(got) for got in await asyncio.gather(*tasks)] == [1, 0, 0, 0, 0]


async def test_the_queues_lease_is_the_default(broker, clock):
    await settings(broker, lease_seconds=77)
    await broker.publish(letter(), SHOP)
    (delivery,) = await (await broker.session("acme", ACME)).receive()
    assert delivery.lease_until_ms == clock.wall_ms() + 77_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"max": 0},
        {"max": 1_001},
        {"wait_seconds": -1},
        {"wait_seconds": 60.1},
        {"lease_seconds": 0.5},
        {"lease_seconds": 43_201},
    ],
)
async def test_bounds(broker, wrong):
    session = await broker.session("acme", ACME)
    with pytest.raises(OutOfBounds):
        await session.receive(**wrong)


async def test_who_may_collect(broker):
    await broker.session("acme", OPERATOR)
    with pytest.raises(Forbidden):
        await broker.session("acme", SHOP)
    for queue in ("acme", "nowhere"):
        with pytest.raises(QueueNotFound, match=f"no queue {queue} here"):
            await broker.session(queue, BOB)


# -- leaving ------------------------------------------------------------------------------------


async def test_cancelled_while_it_waits(broker):
    first, second = await receiving(broker), await receiving(broker)
    first.cancel()
    await broker.publish(letter(), SHOP)
    assert len(await second) == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_cancelled_while_the_store_answers(broker, store):
    """What was leased for it is released: the next gets it at once, and the attempt is not counted."""
    await broker.publish(letter(), SHOP)
    store.gated = True
    task = await receiving(broker)
    assert (await figures(broker)).leased == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.gated = False
    waiting = await receiving(broker)
    store.answer()
    (delivery,) = await waiting
    assert delivery.attempt == 1


async def test_cancelled_just_as_the_store_has_answered(broker, store):
    await broker.publish(letter(), SHOP)
    store.gated = True
    task = await receiving(broker)
    store.answer()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await turns()
    assert (await figures(broker)).ready == 1


async def test_hung_up_while_it_waits(broker):
    line = Line()
    task = await receiving(broker, hangup=line)
    line.hang_up()
    assert await task == []
    assert line.watchers == []
    await broker.publish(letter(), SHOP)
    assert (await figures(broker)).ready == 1


async def test_hung_up_while_the_store_answers(broker, store):
    await broker.publish(letter(), SHOP)
    store.gated = True
    line = Line()
    task = await receiving(broker, hangup=line)
    line.hang_up()
    store.answer()
    assert await task == []
    assert (await figures(broker)).ready == 1


async def test_woken_and_hung_up_at_once(broker):
    line = Line()
    first, second = await receiving(broker, hangup=line), await receiving(broker)
    publishing = asyncio.create_task(broker.publish(letter(), SHOP))
    broker.wakeups.wake("acme")
    line.hang_up()
    await publishing
    assert await first == []
    assert len(await second) == 1


async def test_a_line_is_watched_only_while_it_waits(broker):
    line = Line()
    await broker.publish(letter(), SHOP)
    task = await receiving(broker, hangup=line)
    assert len(await task) == 1
    task = await receiving(broker, hangup=line)
    assert len(line.watchers) == 1
    await broker.publish(letter(), SHOP)
    await task
    assert line.watchers == []


async def test_draining_answers_all_who_wait(broker, store):
    tasks = [await receiving(broker) for _ in range(3)]
    store.gated = True
    looking = await receiving(broker)
    broker.drain()
    assert await asyncio.gather(*tasks) == [[], [], []]
    store.answer()
    assert await looking == []
    store.gated = False
    assert await (await receiving(broker)) == [], "who comes later does not wait"


# -- waking across flow control -----------------------------------------------------------------


async def test_who_is_held_back_is_woken_by_a_settle(broker):
    await settings(broker, max_in_flight=1)
    for _ in range(2):
        await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    (first,) = await session.receive()
    waiting = await receiving(broker)
    assert not waiting.done()
    await settle(session, first)
    assert [one.ref.seq for one in await waiting] == [2]


async def test_a_lease_that_ends_while_another_looks_wakes_it(broker, store):
    """The settle is told of after the look and before the consumer knows that it was held back."""
    await settings(broker, max_in_flight=1)
    for _ in range(2):
        await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    (first,) = await session.receive()
    store.gated = True
    waiting = await receiving(broker)
    await settle(session, first)
    store.gated = False
    store.answer()
    await turns()
    assert waiting.done()
    assert [one.ref.seq for one in waiting.result()] == [2]


async def test_a_batch_cut_short_by_the_limit_leaves_word(broker):
    """Two wait; one gets all that the limit allows. The next settle must wake the other."""
    await settings(broker, max_in_flight=2)
    for _ in range(4):
        await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    held = await session.receive()
    first, second = await receiving(broker), await receiving(broker)
    await settle(session, held[0])
    assert [one.ref.seq for one in await first] == [3]
    assert not second.done()
    await settle(session, held[1])
    await turns()
    assert second.done()
    assert [one.ref.seq for one in second.result()] == [4]


async def test_what_an_ack_lets_go_is_received(broker):
    for _ in range(2):
        await broker.publish(letter(ordering_key="k"), SHOP)
    session = await broker.session("acme", ACME)
    (first,) = await session.receive()
    waiting = await receiving(broker)
    await settle(session, first)
    assert [one.ref.seq for one in await waiting] == [2]


async def test_what_a_superseded_one_held_back_is_received(broker):
    await broker.publish(letter(ordering_key="k", collapse_key="c", deliver_after_seconds=90), SHOP)
    await broker.publish(letter(b"2", ordering_key="k"), SHOP)
    waiting = await receiving(broker)
    await broker.publish(letter(ordering_key="k", collapse_key="c"), SHOP)
    assert [one.body for one in await waiting] == [b"2"]


# -- settling -----------------------------------------------------------------------------------


async def test_every_verb(broker):
    for _ in range(5):
        await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    leased = await session.receive()
    items = [
        Settle(lease=session.token(one), verb=verb) for one, verb in zip(leased, Verb, strict=True)
    ]
    results = await (await session.settle(items)).results()
    assert [(one.outcome, one.state) for one in results] == [
        ("acked", State.ACKED),
        ("nacked", State.SCHEDULED),
        ("rejected", State.DEAD),
        ("released", State.READY),
        ("extended", State.LEASED),
    ]


async def test_each_item_is_answered_for_itself(broker):
    await broker.publish(letter(), SHOP)
    await broker.publish(letter(queue="bob"), SHOP)
    session, theirs = await broker.session("acme", ACME), await broker.session("bob", BOB)
    (mine,), (foreign,) = await session.receive(), await theirs.receive()
    token = session.token(mine)
    settling = await session.settle(
        [
            Settle(lease="nonsense", verb=Verb.ACK),
            Settle(lease=theirs.token(foreign), verb=Verb.ACK),
            Settle(lease=token, verb=Verb.NACK, retry_after_seconds=-1),
            Settle(lease=token, verb=Verb.REJECT, reason="x" * 1_025),
            Settle(lease=token, verb=Verb.ACK, reply=b"x" * 65_537),
            Settle(lease=token, verb=Verb.ACK, reply=b"x", reply_content_type="x" * 256),
            Settle(lease=token, verb=Verb.EXTEND, lease_seconds=43_201),
            Settle(lease=token, verb=Verb.ACK, reply=b"x" * 65_536),
            Settle(lease=token, verb=Verb.RELEASE),
        ]
    )
    results = await settling.results()
    told = [one.outcome if isinstance(one, Settled) else type(one) for one in results]
    out = OutOfBounds
    assert told == [LeaseNotFound, LeaseNotFound, out, out, out, out, out, "acked", LeaseLost]


async def test_leases_of_several_queues_are_settled_at_once(broker):
    """Each finds its queue by its token; what is forged or another's is not there."""
    await broker.store.configure([PutQueue(Queue("acme-2", "acme"))])
    tokens = []
    for queue, actor in (("acme", ACME), ("acme-2", ACME), ("bob", BOB)):
        await broker.publish(letter(queue=queue), SHOP)
        session = await broker.session(queue, actor)
        tokens.append(session.token((await session.receive())[0]))
    items = [Settle(lease=lease, verb=Verb.ACK) for lease in (*tokens, "nonsense")]
    settling = await broker.settle(items, ACME)
    results = [getattr(one, "outcome", type(one)) for one in await settling.results()]
    assert results == ["acked", "acked", LeaseNotFound, LeaseNotFound]
    assert settling.queues == ["acme", "acme-2", "", ""]
    with pytest.raises(Forbidden):
        await broker.settle(items, SHOP)


async def test_settling_begins_with_the_call(broker):
    """Who does not ask for the results has settled all the same."""
    await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    (delivery,) = await session.receive()
    await session.settle([Settle(lease=session.token(delivery), verb=Verb.ACK)])
    assert (await figures(broker)).acked == 1


async def test_what_comes_of_it_is_told_to_who_does_not_wait(broker, monkeypatch):
    for verb in ("settle", "extend"):
        slow(monkeypatch, broker.store, verb)
    for _ in range(2):
        await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    first, second = [session.token(one) for one in await session.receive()]
    settling = await session.settle(
        [
            Settle(lease=first, verb=Verb.ACK),
            Settle(lease=second, verb=Verb.EXTEND),
            Settle(lease="nonsense", verb=Verb.ACK),
        ]
    )
    told = []
    settling.when_known(lambda: told.extend(settling.known()))
    assert told == []
    await turns()
    results = [getattr(one, "outcome", type(one)) for one in told]
    assert results == ["acked", "extended", LeaseNotFound]


async def test_an_extension_nobody_asks_about_makes_no_noise(broker):
    await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    (delivery,) = await session.receive()
    await settle(session, delivery)
    noise = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    await session.settle([Settle(lease=session.token(delivery), verb=Verb.EXTEND)])
    await turns()
    gc.collect()
    assert noise == []
