"""What operators do with dead letters."""

import asyncio

import pytest
from tests.unit.engine.house import (
    ACME,
    OPERATOR,
    SHOP,
    acts,
    bury,
    failing,
    figures,
    letter,
    settings,
    slow,
    turns,
)

from restante.engine.dead_letters import DeadLetterDesk
from restante.engine.jobs import PATIENCE_SECONDS, STEP
from restante.engine.settling import Settle
from restante.errors import (
    BodyTooLarge,
    DeadLetterNotFound,
    IdempotencyKeyReused,
    InvalidHeader,
    JobEnded,
    OutcomeUnknown,
    QueueNotFound,
    ShuttingDown,
    StoreFull,
    StoreUnavailable,
)
from restante.model import Selection, State, Verb
from restante.queries import BodyOf, NotificationById, OpenDeliveries


@pytest.fixture
def desk(broker):
    return DeadLetterDesk(broker, OPERATOR)


async def test_many_are_redriven_in_steps(desk, broker):
    count = 2 * STEP + 10
    await bury(broker, count)
    assert await desk.redrive("acme", Selection(), preview=True) == (count, 0)
    assert (await figures(broker)).dead == count
    assert await desk.redrive("acme", Selection()) == (count, count)
    assert (await figures(broker)).ready == count


async def test_exactly_one_steps_worth(desk, broker):
    await bury(broker, STEP)
    assert await desk.redrive("acme", Selection()) == (STEP, STEP)


async def test_what_was_cancelled_on_the_way_is_not_told_as_done(desk, broker, clock, monkeypatch):
    await bury(broker, 2 * STEP)
    slow(monkeypatch, broker.store, "redrive")
    asked = asyncio.create_task(desk.redrive("acme", Selection()))
    while not (found := (await broker.jobs.page()).jobs) or not found[0].hand:
        await turns(1)
    await broker.jobs.cancel(found[0].id, OPERATOR)
    await turns(50)
    clock.advance(10)
    with pytest.raises(JobEnded, match="is cancelled: at least 0 of 200 were done"):
        await asked


async def begun(desk, broker, count=5):
    """A redrive of all that waits for its job, which is under way."""
    await bury(broker, count)
    asked = asyncio.create_task(desk.redrive("acme", Selection()))
    while not (found := (await broker.jobs.page()).jobs):
        await turns(1)
    return asked, found[0].id


async def test_a_look_at_the_job_that_fails_is_not_the_end(desk, broker, clock, monkeypatch):
    """The job is there, and goes on: "nothing was done" would have it asked for twice."""
    away = StoreUnavailable("for a moment")
    slow(monkeypatch, broker.store, "redrive")
    asked, id = await begun(desk, broker)
    failing(monkeypatch, broker.store, "browse", *[away] * 10)
    while not asked.done():
        await turns()
        clock.advance(2)
    assert await asked == (5, 5)
    assert [job.id for job in (await broker.jobs.page()).jobs] == [id]


async def test_a_store_that_stays_away_leaves_the_job_s_end_unknown(
    desk, broker, clock, monkeypatch
):
    slow(monkeypatch, broker.store, "redrive")
    asked, id = await begun(desk, broker)
    with monkeypatch.context() as away:
        failing(away, broker.store, "browse", *[StoreUnavailable()] * 1_000)
        until = clock.monotonic() + PATIENCE_SECONDS
        while not asked.done():
            assert clock.monotonic() <= until + 10
            await turns()
            clock.advance(2)
        assert clock.monotonic() >= until
        with pytest.raises(OutcomeUnknown, match=id):
            await asked


async def test_a_store_that_is_closed_leaves_the_job_s_end_unknown(
    desk, broker, clock, monkeypatch
):
    slow(monkeypatch, broker.store, "redrive")
    asked, id = await begun(desk, broker)
    failing(monkeypatch, broker.store, "browse", *[ShuttingDown()] * 1_000)
    clock.advance(2)
    with pytest.raises(OutcomeUnknown, match=id):
        await asked


@pytest.mark.parametrize("error", [StoreFull(), StoreUnavailable(), QueueNotFound()])
async def test_what_fails_after_something_was_done_is_not_told_as_nothing_done(
    desk, broker, monkeypatch, error
):
    await bury(broker, STEP + 5)
    seqs = tuple(range(1, STEP + 6))
    failing(monkeypatch, broker.store, "discard", None, error)
    with pytest.raises(OutcomeUnknown, match="100 of 105 were done"):
        await desk.discard("acme", Selection(seqs=seqs))
    assert (await figures(broker)).dead == 5


async def test_what_fails_before_anything_was_done_is_told_so(desk, broker, monkeypatch):
    await bury(broker, 1)
    failing(monkeypatch, broker.store, "redrive", None, StoreFull())
    with pytest.raises(StoreFull):
        await desk.redrive("acme", Selection(seqs=tuple(range(2, STEP + 3))))
    assert (await figures(broker)).dead == 1


async def test_some_are_discarded(desk, broker):
    await bury(broker, 5)
    chosen = Selection(seqs=(2, 4, 99))
    assert await desk.discard("acme", chosen, preview=True) == (2, 0)
    assert await desk.discard("acme", chosen, reason="old") == (2, 2)
    assert await desk.discard("acme", Selection(reason="good")) == (0, 0)
    assert await desk.discard("acme", Selection(reason="bad")) == (3, 3)


async def test_what_dies_again_meanwhile_is_left_alone(desk, broker, store, monkeypatch):
    """A consumer that rejects everything at once must not keep a redrive of all going for ever."""
    await bury(broker, STEP)
    session = await broker.session("acme", OPERATOR)
    redrive = store.redrive

    def redriven_and_rejected(*arguments):
        done = redrive(*arguments)
        broker.clock.advance(1)

        async def reject():
            result = await done
            leased = await session.receive(max=1_000)
            items = [Settle(lease=session.token(one), verb=Verb.REJECT) for one in leased]
            await (await session.settle(items)).results()
            return result

        return asyncio.ensure_future(reject())

    monkeypatch.setattr(store, "redrive", redriven_and_rejected)
    work = asyncio.create_task(desk.redrive("acme", Selection()))
    while not work.done():
        await turns()
        broker.clock.advance(1)
    assert await work == (STEP, STEP)


async def test_a_redrive_wakes_who_waits(desk, broker):
    await bury(broker, 2)
    session = await broker.session("acme", ACME)
    tasks = [asyncio.create_task(session.receive(max=1, wait_seconds=60)) for _ in range(2)]
    await turns()
    await desk.redrive("acme", Selection())
    assert [len(got) for got in await asyncio.gather(*tasks)] == [1, 1]


async def test_an_operator_who_leaves_leaves_whole_steps(desk, broker, store, monkeypatch):
    await bury(broker, 10)
    slow(monkeypatch, store, "redrive")
    task = asyncio.create_task(desk.redrive("acme", Selection()))
    await turns(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await figures(broker)).ready == 10


async def test_unknown_queues(desk):
    for work in (desk.redrive, desk.discard):
        with pytest.raises(QueueNotFound):
            await work("nowhere", Selection())


async def test_named_ones_are_done_once_each(desk, broker, store, monkeypatch):
    """Those that a consumer rejects at once are not redriven for ever."""
    await bury(broker, STEP + 5)
    asked = []
    redrive = store.redrive

    def noted(queue, selection, actor, limit):
        asked.append(selection.seqs)
        return redrive(queue, selection, actor, limit)

    monkeypatch.setattr(store, "redrive", noted)
    chosen = tuple(range(1, STEP + 6))
    assert await desk.redrive("acme", Selection(seqs=chosen)) == (STEP + 5, STEP + 5)
    assert asked == [chosen[:STEP], chosen[STEP:]]


async def test_named_ones_are_written_down_before_they_are_done(desk, broker):
    await bury(broker, 3)
    await desk.redrive("acme", Selection(seqs=(1,)))
    await desk.discard("acme", Selection(seqs=(2, 3)), reason="old")
    redriven, discarded = await acts(broker, what="dead")
    assert (redriven.who.name, redriven.what, redriven.queue) == ("op", "dead.redriven", "acme")
    assert redriven.details == {"seqs": "1", "matched": "1"}
    assert discarded.what == "dead.discarded"
    assert discarded.details == {"seqs": "2, 3", "matched": "2", "reason": "old"}


async def test_what_cannot_be_written_down_is_not_done(desk, broker, store, monkeypatch):
    await bury(broker, 1)

    def refused(_):
        raise OSError("no")

    monkeypatch.setattr(store, "configure", refused)
    with pytest.raises(OSError, match="no"):
        await desk.discard("acme", Selection(seqs=(1,)))
    with pytest.raises(OSError, match="no"):
        await desk.replace("acme", 1, b"new", "text/plain")
    assert (await figures(broker)).dead == 1


# -- replacing ----------------------------------------------------------------------------------


async def test_a_replacement_refers_to_what_it_replaces(desk, broker):
    await bury(broker, 1, topic="", attributes={"region": "eu"}, ordering_key="k")
    (old,) = await broker.store.browse(OpenDeliveries("acme", State.DEAD))
    made = await desk.replace("acme", 1, b"<better/>", "application/xml")
    new = await broker.store.browse(NotificationById(made.id))
    assert new.attributes == {"region": "eu", "restante-replaces": old.id}
    assert new.publisher == "op"
    (there,) = await broker.store.browse(OpenDeliveries("acme", State.READY))
    assert (there.id, there.seq, there.ordering_key) == (made.id, 2, "k")
    told = (await broker.store.browse(NotificationById(old.id))).deliveries[0]
    assert told.state is State.DISCARDED
    assert f"replaced by {made.id}".encode() in told.last.entry
    assert (await broker.store.browse(BodyOf(old.id))).content is None
    (act,) = await acts(broker, what="dead.replaced")
    assert (act.subject, act.details) == (old.id, {"seq": "1", "by": made.id})


async def test_a_replacement_wakes_who_waits(desk, broker):
    await bury(broker, 1)
    session = await broker.session("acme", ACME)
    waiting = asyncio.create_task(session.receive(wait_seconds=60))
    await turns()
    await desk.replace("acme", 1, b"new", "text/plain")
    (got,) = await waiting
    assert (got.body, got.content_type) == (b"new", "text/plain")


async def test_asked_again_it_answers_the_same(desk, broker):
    await bury(broker, 1)
    first = await desk.replace("acme", 1, b"new", "text/plain")
    again = await desk.replace("acme", 1, b"new", "text/plain")
    assert (again.id, again.deliveries, again.replayed) == (first.id, first.deliveries, True)
    other = DeadLetterDesk(broker, ACME)
    assert (await other.replace("acme", 1, b"new", "text/plain")).id == first.id
    with pytest.raises(IdempotencyKeyReused):
        await desk.replace("acme", 1, b"newer", "text/plain")
    with pytest.raises(IdempotencyKeyReused):
        await desk.replace("acme", 1, b"new", "text/html")
    assert (await figures(broker)).published == 2


async def test_what_cannot_replace(desk, broker):
    await settings(broker, max_body_bytes=10)
    await bury(broker, 1)
    for queue, seq, body, media, error in (
        ("nowhere", 1, b"", "text/plain", QueueNotFound),
        ("acme", 2, b"", "text/plain", DeadLetterNotFound),
        ("acme", 1, b"x" * 11, "text/plain", BodyTooLarge),
        ("acme", 1, b"", "nonsense", InvalidHeader),
    ):
        with pytest.raises(error):
            await desk.replace(queue, seq, body, media)
    assert (await figures(broker)).dead == 1
    assert await acts(broker, what="dead.replaced") == []


async def test_a_replacement_goes_before_those_that_were_held_up(desk, broker):
    await settings(broker, after_dead="park")
    await bury(broker, 1, ordering_key="k")
    for body in (b"2", b"3"):
        await broker.publish(letter(body, ordering_key="k"), SHOP)
    made = await desk.replace("acme", 1, b"1", "text/plain")
    session = await broker.session("acme", ACME)
    got = []
    while deliveries := await session.receive(max=10):
        got += [one.body for one in deliveries]
        items = [Settle(lease=session.token(one), verb=Verb.ACK) for one in deliveries]
        await (await session.settle(items)).results()
    assert got == [b"1", b"2", b"3"]
    assert made.ready == {"acme": 1}


# -- passing by ---------------------------------------------------------------------------------


async def test_those_behind_a_dead_letter_are_let_go(desk, broker):
    await settings(broker, after_dead="park")
    await bury(broker, 1, ordering_key="k")
    await broker.publish(letter(b"2", ordering_key="k"), SHOP)
    session = await broker.session("acme", ACME)
    waiting = asyncio.create_task(session.receive(wait_seconds=60))
    await turns()
    assert await desk.open_ordering_key("acme", 1) == "k"
    assert [one.body for one in await waiting] == [b"2"]
    assert (await figures(broker)).dead == 1
    (act,) = await acts(broker, what="ordering_key")
    assert (act.queue, act.details) == ("acme", {"seq": "1", "ordering_key": "k"})
    with pytest.raises(DeadLetterNotFound):
        await desk.open_ordering_key("acme", 2)
    with pytest.raises(QueueNotFound):
        await desk.open_ordering_key("nowhere", 1)
