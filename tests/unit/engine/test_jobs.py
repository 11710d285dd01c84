"""Bulk work that outlives whoever asked for it."""

import asyncio
import contextlib

import pytest
from tests.unit.engine.house import OPERATOR, acts, bury, figures, slow, turns

from restante.engine.broker import Broker
from restante.engine.job import TRIES, JobState
from restante.engine.jobs import OPEN_JOBS, STEP
from restante.errors import (
    ClientNotFound,
    JobEnded,
    JobNotFound,
    OutOfBounds,
    QueueNotFound,
    StoreUnavailable,
    TooManyJobs,
)
from restante.model import Actor, Role, Selection
from restante.queries import Receipts
from restante.wire.job_messages import Task
from restante.wire.receipts import decode_entry

OTHER = Actor("other", Role.ADMIN, "k-other")


async def ask(broker, queues=("acme",), task=Task.REDRIVE, actor=OPERATOR, **options):
    selection = options.pop("selection", Selection())
    return await broker.jobs.ask(task, queues, selection, actor, **options)


async def redriven(broker):
    """How often each was redriven, by the ledger."""
    page = await broker.store.browse(Receipts("acme", 0, 10_000))
    entries = [decode_entry(one.entry) for one in page.receipts]
    return sorted(entry.seq for entry in entries if entry.outcome == "redriven")


@contextlib.contextmanager
def crashing(monkeypatch, store, after):
    """After so many steps the node can write nothing more; what it has in hand was done."""
    left = after
    redrive, configure = store.redrive, store.configure

    def counted(*asked):
        nonlocal left
        left -= 1
        return redrive(*asked)

    def dead(changes):
        if left <= 0:
            raise StoreUnavailable("gone")
        return configure(changes)

    with monkeypatch.context() as patch:
        patch.setattr(store, "redrive", counted)
        patch.setattr(store, "configure", dead)
        yield lambda: left <= 0


async def test_a_job_is_done_in_steps_and_told(broker):
    await bury(broker, 2 * STEP + 5)
    job = await ask(broker, reason="stock is back")
    assert (job.state, job.total, job.at_least, job.done) == ("running", 2 * STEP + 5, False, 0)
    ended = await broker.jobs.ended(job.id)
    assert (ended.state, ended.done, ended.skipped) == ("done", 2 * STEP + 5, 0)
    assert (await figures(broker)).ready == 2 * STEP + 5
    assert await broker.jobs.job(job.id) == ended
    (act,) = await acts(broker, what="job")
    assert (act.what, act.subject, act.queue) == ("job.asked", job.id, "acme")
    assert act.details["total"] == str(2 * STEP + 5)


async def test_a_job_takes_what_is_selected_of_all_its_queues(broker):
    await bury(broker, 3, reason="a")
    await bury(broker, 2, reason="b")
    await bury(broker, 4, queue="bob", reason="a")
    job = await ask(broker, ("acme", "bob"), Task.DISCARD, selection=Selection(reason="a"))
    ended = await broker.jobs.ended(job.id)
    assert (ended.total, ended.done) == (7, 7)
    assert [(await figures(broker, q)).discarded for q in ("acme", "bob")] == [3, 4]


async def test_a_rate_is_kept(broker, clock):
    await bury(broker, 5)
    job = await ask(broker, rate_per_second=2)
    await turns()
    assert (await figures(broker)).dead == 4
    for left in (3, 2, 1, 0):
        clock.advance(0.4)
        await turns()
        assert (await figures(broker)).dead == left + 1
        clock.advance(0.1)
        await turns()
        assert (await figures(broker)).dead == left
    clock.advance(0.5)
    await turns()
    assert (await broker.jobs.job(job.id)).state is JobState.DONE


async def test_two_operators_with_the_same_wish(broker):
    await bury(broker, 3 * STEP)
    jobs = await asyncio.gather(ask(broker), ask(broker, actor=OTHER))
    ended = [await broker.jobs.ended(job.id) for job in jobs]
    assert sum(job.done for job in ended) == 3 * STEP
    assert await redriven(broker) == list(range(1, 3 * STEP + 1))


async def test_paused_resumed_and_cancelled(broker, clock):
    await bury(broker, 4)
    job = await ask(broker, rate_per_second=1)
    await turns()
    paused = await broker.jobs.pause(job.id, OTHER)
    assert paused.state is JobState.PAUSED
    clock.advance(10)
    await turns()
    assert (await figures(broker)).dead == 3
    await broker.jobs.resume(job.id, OTHER)
    await turns()
    assert (await figures(broker)).dead == 2, "its last step is long ago"
    clock.advance(0.9)
    await turns()
    assert (await figures(broker)).dead == 2
    cancelled = await broker.jobs.cancel(job.id, OTHER)
    assert cancelled.state is JobState.CANCELLED
    assert cancelled.ended_at_ms == clock.wall_ms()
    clock.advance(10)
    await turns()
    assert (await figures(broker)).dead == 2
    told = await acts(broker, subject=job.id)
    assert [(act.what, act.who.name) for act in told] == [
        ("job.asked", "op"),
        ("job.paused", "other"),
        ("job.resumed", "other"),
        ("job.cancelled", "other"),
    ]
    for change in (broker.jobs.pause, broker.jobs.resume, broker.jobs.cancel):
        with pytest.raises(JobEnded):
            await change(job.id, OTHER)


async def test_another_broker_goes_on_where_one_died(store, clock, monkeypatch):
    """The step in hand was done, and its end never written: it is not done again, and told to be in doubt."""
    async with Broker(store, clock) as one:
        await bury(one, 3 * STEP)
        with crashing(monkeypatch, store, 2) as is_dead:
            job = await ask(one)
            while not is_dead():
                await turns()
            await turns()
            assert (await figures(one)).dead == STEP
    async with Broker(store, clock) as two:
        ended = await two.jobs.ended(job.id)
        assert (ended.done, ended.skipped, ended.unsure) == (2 * STEP, 0, STEP)
        assert ended.state is JobState.DONE
        assert await redriven(two) == list(range(1, 3 * STEP + 1))


async def test_an_unexpected_error_does_not_end_it(broker, clock, monkeypatch):
    await bury(broker, 2 * STEP)
    redrive, failures = broker.store.redrive, iter([RuntimeError("a defect"), StoreUnavailable("")])

    def failing(*asked):
        for error in failures:
            raise error
        return redrive(*asked)

    monkeypatch.setattr(broker.store, "redrive", failing)
    job = await ask(broker)
    for _ in range(2):
        await turns()
        assert (await figures(broker)).dead == 2 * STEP
        clock.advance(2)
    ended = await broker.jobs.ended(job.id)
    assert (ended.state, ended.done, ended.skipped, ended.unsure) == ("done", 2 * STEP, 0, 0)
    assert await redriven(broker) == list(range(1, 2 * STEP + 1))


async def test_given_up_after_some_tries(broker, clock, monkeypatch):
    await bury(broker, 3)

    def failing(*_):
        raise RuntimeError("a defect that names a secret")

    monkeypatch.setattr(broker.store, "redrive", failing)
    job = await ask(broker)
    for pause in (2, 4, 8, 16):
        await turns()
        clock.advance(pause - 0.1)
        await turns()
        failures = (await broker.jobs.job(job.id)).failures
        clock.advance(0.1)
        await turns()
        assert (await broker.jobs.job(job.id)).failures == failures + 1
    ended = await broker.jobs.ended(job.id)
    assert (ended.state, ended.failures, ended.done) == ("failed", TRIES, 0)
    assert ended.error.startswith("given up after 5 tries: RuntimeError;")
    assert "secret" not in ended.error
    assert (await figures(broker)).dead == 3
    with pytest.raises(JobEnded):
        await broker.jobs.resume(job.id, OPERATOR)
    monkeypatch.undo()
    again = await broker.jobs.ended((await ask(broker)).id)
    assert (again.state, again.done) == ("done", 3)


async def test_a_store_that_is_away_is_waited_for(broker, clock, monkeypatch):
    await bury(broker, 3)

    def away(*_):
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(broker.store, "redrive", away)
        job = await ask(broker)
        for _ in range(3 * TRIES):
            await turns()
            clock.advance(2)
        assert (await broker.jobs.job(job.id)).state is JobState.RUNNING
    await turns()
    clock.advance(2)
    ended = await broker.jobs.ended(job.id)
    assert (ended.state, ended.done) == ("done", 3)


async def test_two_nodes_never_do_one_step_both(store, clock, monkeypatch):
    """Both find its claim run out at the same moment: one gets it."""
    monkeypatch.setattr(type(store), "nodes", property(lambda _: Together()))
    async with Broker(store, clock) as one:
        await bury(one, 3 * STEP)
        job = await ask(one, rate_per_second=1)
        await turns()
    steps = []
    redrive = store.redrive

    def told(*asked):
        steps.append(asked[1].seqs)
        return redrive(*asked)

    monkeypatch.setattr(store, "redrive", told)
    async with Broker(store, clock) as two, Broker(store, clock) as three:
        for _ in range(20):
            clock.advance(1)
            await turns()
        assert len(steps) > 3
        assert len(set(steps)) == len(steps)
        assert (await two.jobs.job(job.id)).node in {two.membership.id, three.membership.id}


async def test_stopped_in_the_middle_of_a_step(broker, monkeypatch):
    """Paused by another node while a step is under way: what that did is counted once, and nothing more is done."""
    await bury(broker, 2 * STEP)
    slow(monkeypatch, broker.store, "redrive")
    job = await ask(broker)
    while not (await broker.jobs.job(job.id)).hand:
        await turns(1)
    await broker.jobs.pause(job.id, OTHER)
    await turns(50)
    paused = await broker.jobs.job(job.id)
    assert (paused.state, paused.done, paused.hand) == ("paused", STEP, ())
    assert (await figures(broker)).dead == STEP
    await broker.jobs.resume(job.id, OTHER)
    ended = await broker.jobs.ended(job.id)
    assert (ended.state, ended.done, ended.unsure) == ("done", 2 * STEP, 0)


async def test_a_claim_is_another_nodes_until_it_runs_out(store, clock, monkeypatch):
    monkeypatch.setattr(type(store), "nodes", property(lambda _: Together()))
    async with Broker(store, clock) as one, Broker(store, clock) as two:
        await bury(one, 3)
        job = await ask(one, rate_per_second=1)
        await turns()
        assert (await two.jobs.job(job.id)).node == one.membership.id
        for _ in range(5):
            clock.advance(2)
            await turns()
        ended = await two.jobs.ended(job.id)
        assert (ended.done, ended.node) == (3, one.membership.id)
        assert await redriven(one) == [1, 2, 3]


async def test_a_node_takes_over_from_one_that_is_silent(store, clock, monkeypatch):
    """Not before the claim has run out."""

    async def dead():
        return True

    monkeypatch.setattr(type(store), "nodes", property(lambda _: Together()))
    async with Broker(store, clock) as one:
        await bury(one, 3)
        job = await ask(one, rate_per_second=1)
        await turns()
        monkeypatch.setattr(one.jobs, "_take_up", dead)
        one.jobs._running[job.id].cancel()
        async with Broker(store, clock) as two:
            clock.advance(8)
            await turns()
            assert (await two.jobs.job(job.id)).node == one.membership.id
            for _ in range(4):
                clock.advance(2)
                await turns()
            ended = await two.jobs.ended(job.id)
            assert (ended.done, ended.node) == (3, two.membership.id)
            assert await redriven(two) == [1, 2, 3]


async def test_a_node_that_stops_leaves_its_jobs_to_the_others(store, clock, monkeypatch):
    """At their next look, and not when its claim would have run out."""
    monkeypatch.setattr(type(store), "nodes", property(lambda _: Together()))
    async with Broker(store, clock) as two:
        async with Broker(store, clock) as one:
            await bury(one, 3)
            job = await ask(one, rate_per_second=1)
            await turns()
        for _ in range(5):
            clock.advance(1)
            await turns()
        ended = await two.jobs.ended(job.id)
        assert (ended.done, ended.node) == (3, two.membership.id)
        assert await redriven(two) == [1, 2, 3]


class Together:
    """Nodes that hear nothing of one another."""

    def beat(self, _):
        return asyncio.get_running_loop().create_future()

    async def leave(self, _):
        return None


async def test_what_dies_after_it_was_asked_for_is_left_alone(broker, clock):
    await bury(broker, 2)
    job = await ask(broker, rate_per_second=1)
    await turns()
    clock.advance(0.5)
    await bury(broker, 1)
    for _ in range(4):
        clock.advance(1)
        await turns()
    assert (await broker.jobs.ended(job.id)).done == 2
    assert (await figures(broker)).dead >= 1


async def test_counting_is_bounded(broker, monkeypatch):
    await bury(broker, 30)
    await bury(broker, 5, queue="bob")
    count = broker.jobs.count
    assert await count(["acme", "bob"], Selection()) == (35, False)
    monkeypatch.setattr("restante.engine.jobs.COUNTED", 20)
    assert await count(["acme", "bob"], Selection()) == (20, True)
    assert await count(["bob"], Selection()) == (5, False)


async def test_refused_jobs(broker):
    for queues, options, error in (
        ((), {}, OutOfBounds),
        (("nowhere",), {}, QueueNotFound),
        (("acme",), {"rate_per_second": 0.5}, OutOfBounds),
        (("acme",), {"reason": "x" * 1_025}, OutOfBounds),
    ):
        with pytest.raises(error):
            await ask(broker, queues, **options)
    for id in ("nothing", "\0", "ü"):
        with pytest.raises(JobNotFound):
            await broker.jobs.job(id)
    assert await broker.jobs.queues_of("acme") == ("acme",)
    with pytest.raises(ClientNotFound):
        await broker.jobs.queues_of("nobody")
    assert await acts(broker) == []


async def test_open_jobs_are_bounded_and_listed_first(broker, clock):
    await bury(broker, 1)
    old = await broker.jobs.ended((await ask(broker)).id)
    await bury(broker, 1)
    newest = ""
    for _ in range(OPEN_JOBS):
        clock.advance(0.001)
        newest = (await ask(broker)).id
        await broker.jobs.pause(newest, OPERATOR)
    with pytest.raises(TooManyJobs):
        await ask(broker)
    page = await broker.jobs.page(limit=1)
    assert [one.id for one in page.jobs][:1] == [newest]
    assert [one.id for one in page.jobs][-1:] == [old.id]
    assert (len(page.jobs), page.next) == (OPEN_JOBS + 1, old.id)
    assert (await broker.jobs.page(page.next, 1)).jobs == []
