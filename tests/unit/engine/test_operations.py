"""Operations that complete later: who may move them, who hears of it, and how their ends are told."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
from tests.unit.engine.house import ACME, BOB, OPERATOR, SHOP, settings, slow, turns

from restante.engine import operations
from restante.engine.broker import Broker
from restante.engine.operation_watches import Watches
from restante.errors import (
    ClientNotFound,
    Forbidden,
    IdempotencyKeyReused,
    OperationChanged,
    OperationEnded,
    OperationNotFound,
    OutOfBounds,
    QueueNotFound,
    TooManyOperations,
)
from restante.model import Actor, Role
from restante.operation import Asked, Failure, Move, OperationState, Result
from restante.papers import Kind
from restante.queries import Papers
from restante.testing.clock import FakeClock

OTHER = Actor("other", Role.PUBLISHER, "k-other")
RUNNING = Move(state=OperationState.RUNNING)
KINDS = (Kind.OPERATION, Kind.OPERATION_OPEN, Kind.OPERATION_DUE)
DONE = Move(state=OperationState.SUCCEEDED, result=Result(b"<report/>", "application/xml"))
FAILED = Move(state=OperationState.FAILED, failure=Failure("no_paper", "the printer is empty"))
FOR_ACME = Asked(title="a report", client="acme", queue="acme")


async def make(broker, asked=FOR_ACME, actor=SHOP, key=""):
    return (await broker.operations.make(asked, actor, key)).kept


async def collected(broker, queue="acme"):
    """What the queue was told, each signed for."""
    session = await broker.session(queue, OPERATOR)
    return [json.loads(one.body) for one in await session.receive(max=1_000)]


async def papers(broker, kind):
    return await broker.store.browse(Papers(kind, limit=1_000))


async def test_from_its_beginning_to_its_end(broker, clock):
    made = await make(broker)
    id = made.operation.id
    assert (made.operation.state, made.version) == (OperationState.QUEUED, 1)
    assert await broker.operations.find(id, ACME) == made
    running = await broker.operations.move(
        id, Move(state=OperationState.RUNNING, progress=0.5), SHOP
    )
    assert (running.version, running.operation.progress) == (2, 0.5)
    assert [kept.operation.id for kept in (await broker.operations.page(SHOP)).kept] == [id]
    ended = await broker.operations.move(id, DONE, SHOP)
    assert (ended.version, ended.operation.progress) == (3, 1.0)
    await turns()
    (told,) = await collected(broker)
    assert (told["id"], told["version"], told["state"]) == (id, 3, "succeeded")
    assert (told["result"], told["result_content_type"]) == ("<report/>", "application/xml")
    assert await broker.operations.page(SHOP) == ([], None)
    assert await papers(broker, Kind.OPERATION_OPEN) == []


async def test_an_end_told_again_changes_nothing_and_another_is_refused(broker):
    id = (await make(broker)).operation.id
    ended = await broker.operations.move(id, DONE, SHOP)
    assert await broker.operations.move(id, DONE, SHOP) == ended
    for move in (FAILED, RUNNING, Move(note="one more thing")):
        with pytest.raises(OperationEnded):
            await broker.operations.move(id, move, SHOP)
    await turns()
    assert len(await collected(broker)) == 1


async def test_who_may(broker):
    id = (await make(broker)).operation.id
    for actor in (BOB, OTHER):
        with pytest.raises(OperationNotFound):
            await broker.operations.find(id, actor)
        with pytest.raises(OperationNotFound):
            await broker.operations.move(id, DONE, actor)
    with pytest.raises(Forbidden):
        await broker.operations.move(id, DONE, ACME)
    for call in (make(broker, actor=ACME), broker.operations.page(ACME)):
        with pytest.raises(Forbidden):
            await call
    assert await broker.operations.page(OTHER) == ([], None)
    await broker.operations.move(id, DONE, OPERATOR)
    for unknown in ("", "é", "x" * 1_000, id[:-1]):
        with pytest.raises(OperationNotFound):
            await broker.operations.find(unknown, OPERATOR)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (Asked(client="nobody"), ClientNotFound),
        (Asked(queue="nowhere"), QueueNotFound),
        (Asked(timeout_seconds=0.5), OutOfBounds),
        (Asked(timeout_seconds=float("nan")), OutOfBounds),
        (Asked(keep_seconds=1), OutOfBounds),
        (Asked(title="x" * 256), OutOfBounds),
    ],
)
async def test_refused(broker, asked, error):
    with pytest.raises(error):
        await make(broker, asked)
    assert await papers(broker, Kind.OPERATION) == []


async def test_a_key_makes_one_operation_however_often(broker, store, monkeypatch):
    slow(monkeypatch, store, "configure")
    made = await asyncio.gather(*(make(broker, key="order-7") for _ in range(5)))
    assert len({kept.operation.id for kept in made}) == 1
    assert len(await papers(broker, Kind.OPERATION_OPEN)) == 1
    moved = await broker.operations.move(made[0].operation.id, RUNNING, SHOP)
    assert await make(broker, key="order-7") == moved
    with pytest.raises(IdempotencyKeyReused):
        await make(broker, Asked(title="another"), key="order-7")
    for actor in (OTHER, Actor(SHOP.name, Role.ADMIN, "k-admin")):
        another = await broker.operations.make(FOR_ACME, actor, "order-7")
        assert not another.replayed
        assert another.kept.operation.id != made[0].operation.id
    assert await broker.operations.made_with(SHOP.principal, "order-7") == moved.operation
    assert await broker.operations.made_with(ACME.principal, "order-7") is None


async def test_from_a_given_version_only(broker):
    id = (await make(broker)).operation.id
    await broker.operations.move(id, RUNNING, SHOP, version=1)
    with pytest.raises(OperationChanged):
        await broker.operations.move(id, DONE, SHOP, version=1)


async def test_of_many_at_once_one_ends_it(broker, store, monkeypatch):
    id = (await make(broker)).operation.id
    slow(monkeypatch, store, "configure")
    ends = [DONE, FAILED, Move(state=OperationState.CANCELLED)]
    outcomes = await asyncio.gather(
        *(broker.operations.move(id, end, SHOP) for end in ends), return_exceptions=True
    )
    assert sum(isinstance(one, OperationEnded) for one in outcomes) == 2
    await turns(60)
    assert len(await collected(broker)) == 1


async def test_there_is_room_for_so_many(broker, clock, monkeypatch):
    monkeypatch.setattr(operations, "OPEN_OPERATIONS", 3)
    made = [await make(broker) for _ in range(3)]
    with pytest.raises(TooManyOperations):
        await make(broker)
    await make(broker, actor=OTHER)
    await broker.operations.move(made[0].operation.id, DONE, SHOP)
    await make(broker)
    with pytest.raises(TooManyOperations):
        await make(broker)
    clock.advance(60)
    with pytest.raises(TooManyOperations):
        await make(broker)


# -- waiting ------------------------------------------------------------------------------------


async def test_who_waits_is_answered_by_the_change_itself(broker, clock):
    id = (await make(broker)).operation.id
    first = asyncio.create_task(broker.operations.wait(id, ACME, after=1, seconds=30))
    end = asyncio.create_task(broker.operations.wait(id, ACME, after=None, seconds=30))
    await turns()
    assert len(broker.operations.watches) == 2
    await broker.operations.move(id, RUNNING, SHOP)
    assert (await first).operation.state is OperationState.RUNNING
    await turns()
    assert not end.done()
    await broker.operations.move(id, FAILED, SHOP)
    assert (await end).operation.failure == FAILED.failure
    assert len(broker.operations.watches) == 0
    again = await broker.operations.wait(id, ACME, after=3, seconds=30)
    assert again.version == 3, "nothing more comes of one that has ended"


async def test_who_waits_in_vain_is_shown_how_it_stands(broker, clock):
    id = (await make(broker)).operation.id
    waiting = asyncio.create_task(broker.operations.wait(id, ACME, after=1, seconds=5))
    await clock.until_armed()
    await turns()
    clock.advance(5)
    assert (await waiting).version == 1
    for seconds in (-1, 61, float("nan")):
        with pytest.raises(OutOfBounds):
            await broker.operations.wait(id, ACME, after=1, seconds=seconds)


@pytest.mark.parametrize("how", ["drain", "dismiss"])
async def test_nobody_waits_beyond_the_service_or_the_key(broker, how):
    id = (await make(broker)).operation.id
    waiting = asyncio.create_task(broker.operations.wait(id, ACME, after=1, seconds=60))
    await turns()
    if how == "drain":
        broker.drain()
    else:
        broker.dismiss(ACME.key_id)
    assert (await waiting).version == 1


async def test_a_change_while_it_is_looked_at_is_not_missed(broker, store, monkeypatch):
    id = (await make(broker)).operation.id
    slow(monkeypatch, store, "browse")
    waiting = asyncio.create_task(broker.operations.wait(id, ACME, after=1, seconds=60))
    await turns(2)
    await broker.operations.move(id, RUNNING, SHOP)
    assert (await waiting).version == 2


async def test_a_watch_over_many_hears_of_each_the_latest(broker):
    ids = [(await make(broker)).operation.id for _ in range(3)]
    with broker.operations.watches.watch("k") as watch:
        for id in ids:
            assert watch.seen(await broker.operations.watch(watch, id, ACME))
        await broker.operations.move(ids[0], RUNNING, SHOP)
        await broker.operations.move(ids[0], Move(progress=0.5), SHOP)
        await broker.operations.move(ids[2], DONE, SHOP)
        news = [await watch.next(1) for _ in range(2)]
        assert [(one.operation.id, one.version) for one in news] == [(ids[0], 3), (ids[2], 2)]
        assert [id in watch for id in ids] == [True, True, False], "nothing comes after the end"
        watch.drop(ids[0])
        await broker.operations.move(ids[0], DONE, SHOP)
        watch.end()
        assert await watch.next(1) is None
        with pytest.raises(OperationNotFound):
            await broker.operations.watch(watch, ids[1], BOB)
        assert ids[1] in watch


async def test_what_one_reads_the_others_need_not_look_for(broker, store, clock):
    """Another node has changed it, and somebody here comes to know before the next look does."""
    id = (await make(broker)).operation.id
    with broker.operations.watches.watch("k") as watch:
        assert watch.seen(await broker.operations.watch(watch, id, ACME))
        async with Broker(store, clock) as other:
            await other.operations.move(id, RUNNING, SHOP)
        assert (await broker.operations.wait(id, ACME, after=1, seconds=1)).version == 2
        assert (await watch.next(1)).version == 2


class Shared:
    """The store as a node sees it that is not alone with it; every question is written down."""

    nodes = object()

    def __init__(self, store):
        self._store = store
        self.asked = []

    def browse(self, query):
        self.asked.append(query)
        return self._store.browse(query)


async def test_one_look_is_for_all_that_wait_whoever_made_the_change(broker, store, clock):
    ids = [(await make(broker)).operation.id for _ in range(30)]
    shared: Any = Shared(store)
    watches = Watches(shared, clock)
    looking = asyncio.create_task(watches.look())
    await turns()
    clock.advance(10)
    await turns()
    assert shared.asked == [], "nobody waits"
    with contextlib.ExitStack() as stack:
        all_of_them = [stack.enter_context(watches.watch("k")) for _ in range(50)]
        for watch in all_of_them:
            for id in ids:
                watch.arm(id)
                watch.seen(await broker.operations.find(id, ACME))
        await broker.operations.move(ids[0], RUNNING, SHOP)
        await turns()
        clock.advance(1)
        await turns()
        versions, changed = shared.asked
        assert (set(versions.keys), changed.key) == (set(ids), ids[0])
        for watch in all_of_them:
            kept = await watch.next(1)
            assert kept is not None
            assert kept.version == 2
        await turns()
        clock.advance(1)
        await turns()
        assert len(shared.asked) == 3, "nothing has changed"
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


# -- time ------------------------------------------------------------------------------


async def test_what_nobody_ends_in_its_time_fails_and_is_told(broker, clock):
    id = (await make(broker, Asked(queue="acme", timeout_seconds=60))).operation.id
    await turns()
    clock.advance(59)
    await turns()
    assert (await broker.operations.find(id, SHOP)).operation.state is OperationState.QUEUED
    clock.advance(1)
    await turns()
    (told,) = await collected(broker)
    assert (told["state"], told["error"]["code"]) == ("failed", "timed_out")
    with pytest.raises(OperationEnded):
        await broker.operations.move(id, DONE, SHOP)


@pytest.mark.parametrize("queue", ["", "acme"])
async def test_it_is_kept_for_its_time_after_the_end(broker, store, clock, queue):
    asked = Asked(client="acme", queue=queue, keep_seconds=60)
    id = (await make(broker, asked)).operation.id
    await broker.operations.move(id, DONE, SHOP)
    await turns()
    clock.advance(59)
    await turns()
    await broker.operations.find(id, ACME)
    clock.advance(1)
    await turns()
    with pytest.raises(OperationNotFound):
        await broker.operations.find(id, ACME)
    for kind in KINDS:
        assert await papers(broker, kind) == []


async def test_a_key_that_was_forgotten_makes_one_whose_end_is_told_as_well(broker, clock):
    """The id is the same again, and the queue still knows under which key it was told the first time."""
    asked = Asked(queue="acme", keep_seconds=60)
    lives = []
    for count in (1, 2, 3):
        kept = await make(broker, asked, key="nightly-report")
        assert kept.version == 1
        await broker.operations.move(kept.operation.id, DONE, SHOP)
        await turns()
        lives.append(kept.operation)
        clock.advance(3 * 3_600)
        await turns()
        with pytest.raises(OperationNotFound):
            await broker.operations.find(kept.operation.id, SHOP)
        assert await papers(broker, Kind.OPERATION_DUE) == [], count
    told = await collected(broker)
    assert [one["id"] for one in told] == [life.id for life in lives]
    assert len({one["made_at"] for one in told}) == len(lives)


@pytest.mark.parametrize("days", [2, -2])
async def test_a_wall_clock_that_jumps_ends_nothing_and_keeps_nothing_open(
    broker, store, clock, days
):
    queued = (await make(broker)).operation.id
    ended = (await make(broker)).operation.id
    await broker.operations.move(ended, DONE, SHOP)
    await turns()
    clock.jump_wall(days * 86_400)
    broker.operations.hurry()
    await turns()
    await store.prune(100)
    assert (await broker.operations.find(queued, SHOP)).operation.state is OperationState.QUEUED
    await broker.operations.find(ended, SHOP)
    later = (await make(broker)).operation
    assert later.ends_by_ms == clock.wall_ms() + 86_400_000, "what people read is the wall clock"
    clock.advance(86_399)
    await turns()
    assert (await broker.operations.find(queued, SHOP)).operation.state is OperationState.QUEUED
    clock.advance(1)
    await turns()
    for id in (queued, later.id):
        failure = (await broker.operations.find(id, SHOP)).operation.failure
        assert failure is not None
        assert failure.code == "timed_out"


async def test_a_node_with_a_wrong_clock_ends_nothing_of_the_others(broker, store, clock):
    id = (await make(broker)).operation.id
    wrong = FakeClock(clock.wall_ms() + 2 * 86_400_000)
    async with Broker(store, wrong) as other:
        await turns()
        of_the_other = (await make(other)).operation.id
    assert (await broker.operations.find(id, SHOP)).operation.state is OperationState.QUEUED
    broker.operations.hurry()
    await turns()
    clock.advance(86_400)
    await turns()
    for one in (id, of_the_other):
        assert (await broker.operations.find(one, SHOP)).operation.state is OperationState.FAILED


async def test_a_queue_that_takes_little_is_told_without_the_result(broker):
    id = (await make(broker)).operation.id
    await settings(broker, max_body_bytes=1_024)
    await broker.operations.move(
        id, Move(state=OperationState.SUCCEEDED, result=Result(b"x" * 2_000)), SHOP
    )
    await turns()
    (told,) = await collected(broker)
    assert (told["state"], told["result"], told["result_base64"]) == ("succeeded", None, None)
    assert (await broker.operations.find(id, ACME)).operation.result == Result(b"x" * 2_000)


async def test_more_than_one_look_can_see_to_are_all_told(broker, clock):
    count = operations._AT_ONCE * 2 + 7
    for _ in range(count):
        await make(broker, Asked(queue="acme", timeout_seconds=10))
    clock.advance(10)
    await turns(100)
    assert len(await collected(broker)) == count
