"""Requests whose parts have keys of their own: run again where not all was done, and never left unknown."""

import asyncio

import pytest
from tests.unit.engine.house import turns
from tests.unit.engine.request_house import WHO, Work, asked, crash

from restante.engine.broker import Broker
from restante.engine.requests import RETENTION_SECONDS
from restante.errors import IdempotencyKeyReused, RequestInProgress, RequestNotFound
from restante.idempotency import ANSWER_BYTES, Fate, Policy, Reply, State
from restante.queries import Now
from restante.stores.memory import MemoryStore

DAY = 86_400
LONG = Reply(200, (), b"x" * (ANSWER_BYTES + 1))


def parts(**more):
    return asked(in_parts=True, **more)


async def test_what_was_not_done_whole_is_run_again_and_then_replayed(broker):
    work = Work(fate=Fate.INCOMPLETE)
    assert not (await broker.requests.once(parts(), work)).replayed
    record = await broker.requests.find(WHO, "k1")
    assert (record.state, record.reply) == (State.INCOMPLETE, None)
    with pytest.raises(IdempotencyKeyReused):
        await broker.requests.once(parts(fingerprint=b"g"), work)
    work.fate = Fate.KEEP
    assert not (await broker.requests.once(parts(), work)).replayed
    assert (await broker.requests.once(parts(), work)).replayed
    assert work.runs == 2
    assert (await broker.requests.find(WHO, "k1")).state is State.DONE


@pytest.mark.parametrize("fate", [Fate.FREE, Fate.UNKNOWN])
async def test_a_run_that_did_nothing_does_not_free_what_an_earlier_one_did(broker, fate):
    await broker.requests.once(parts(), Work(fate=Fate.INCOMPLETE))
    await broker.requests.once(parts(), Work(fate=fate))
    assert (await broker.requests.find(WHO, "k1")).state is State.INCOMPLETE
    assert broker.requests.unknown == 0


async def test_a_first_run_that_did_nothing_frees_the_key(broker):
    await broker.requests.once(parts(), Work(fate=Fate.FREE))
    with pytest.raises(RequestNotFound):
        await broker.requests.find(WHO, "k1")
    await broker.requests.once(parts(fingerprint=b"g"), Work())


@pytest.mark.parametrize("policy", Policy)
async def test_one_that_was_crashed_in_is_run_again_whatever_the_policy(store, clock, policy):
    await crash(store, clock, Work(held=True), parts())
    async with Broker(store, clock, unknown_requests=policy) as broker:
        assert (await broker.requests.find(WHO, "k1")).state is State.INCOMPLETE
        work = Work()
        assert not (await broker.requests.once(parts(), work)).replayed
        assert (await broker.requests.once(parts(), work)).replayed
        assert (work.runs, broker.requests.unknown) == (1, 0)


async def test_one_that_broke_is_run_again(broker):
    async def broken():
        raise RuntimeError("it broke")

    with pytest.raises(RuntimeError):
        await broker.requests.once(parts(), broken)
    assert (await broker.requests.find(WHO, "k1")).state is State.INCOMPLETE
    work = Work()
    await broker.requests.once(parts(), work)
    assert (work.runs, broker.requests.unknown) == (1, 0)


async def test_one_at_the_same_time_is_told_so_also_when_it_goes_on(broker):
    await broker.requests.once(parts(), Work(fate=Fate.INCOMPLETE))
    work = Work(held=True)
    first = asyncio.create_task(broker.requests.once(parts(), work))
    await turns()
    with pytest.raises(RequestInProgress):
        await broker.requests.once(parts(), work)
    work.gate.set()
    await first
    assert work.runs == 1


async def test_an_answer_too_long_is_made_again_of_its_parts(broker):
    work = Work(LONG)
    for _ in range(2):
        given = await broker.requests.once(parts(), work)
        assert (given.reply, given.replayed) == (LONG, False)
        record = await broker.requests.find(WHO, "k1")
        assert (record.state, record.status) == (State.DONE, 200)
    assert work.runs == 2


@pytest.mark.parametrize("work", [Work(LONG), Work(fate=Fate.INCOMPLETE)])
async def test_it_is_forgotten_before_the_keys_of_its_parts(broker, clock, work):
    """They are of when it was first run. A repeat after they are gone would do everything twice."""
    until = clock.wall_ms() + round(RETENTION_SECONDS * 1_000)
    for _ in range(3):
        await broker.requests.once(parts(), work)
        assert (await broker.requests.find(WHO, "k1")).expires_at_ms == until
        clock.advance(86_400)
    await broker.requests.once(parts(), Work())
    record = await broker.requests.find(WHO, "k1")
    assert record.expires_at_ms == until + 3 * 86_400_000
    clock.advance(RETENTION_SECONDS)
    with pytest.raises(RequestNotFound):
        await broker.requests.find(WHO, "k1")


@pytest.mark.parametrize("jump", [-2 * DAY, -RETENTION_SECONDS])
@pytest.mark.parametrize("work", [Work(LONG), Work(fate=Fate.INCOMPLETE)])
async def test_a_wall_clock_that_is_set_back_has_it_outlive_no_key(broker, clock, work, jump):
    await broker.requests.once(parts(), work)
    clock.jump_wall(jump)
    clock.advance(RETENTION_SECONDS - 1)
    before = (await broker.requests.find(WHO, "k1")).state
    await broker.requests.once(parts(), work)
    assert (await broker.requests.find(WHO, "k1")).state is before
    clock.advance(1)
    with pytest.raises(RequestNotFound):
        await broker.requests.find(WHO, "k1")
    # Begun anew, it lasts as long as what is begun now.
    await broker.requests.once(parts(fingerprint=b"g"), work)
    clock.advance(RETENTION_SECONDS - 1)
    assert (await broker.requests.find(WHO, "k1")).state is before
    clock.advance(1)
    with pytest.raises(RequestNotFound):
        await broker.requests.find(WHO, "k1")


async def test_an_answer_that_is_kept_needs_no_keys(broker, clock):
    work = Work()
    await broker.requests.once(parts(), work)
    clock.jump_wall(-2 * DAY)
    clock.advance(RETENTION_SECONDS + DAY)
    assert (await broker.requests.once(parts(), work)).replayed
    assert work.runs == 1


@pytest.mark.parametrize(
    ("of_requests", "of_keys"), [(30 * DAY, 7 * DAY), (7 * DAY, 30 * DAY), (0.5, 1)]
)
async def test_it_is_remembered_no_longer_than_the_store_keeps_keys(clock, of_requests, of_keys):
    until = clock.wall_ms() + round(min(of_requests, of_keys) * 1_000)
    async with (
        MemoryStore(clock, idempotency_retention_seconds=of_keys) as store,
        Broker(store, clock, request_retention_seconds=of_requests) as broker,
    ):
        await broker.requests.once(parts(), Work(fate=Fate.INCOMPLETE))
        assert (await broker.requests.find(WHO, "k1")).expires_at_ms == until
        clock.advance(min(of_requests, of_keys))
        with pytest.raises(RequestNotFound):
            await broker.requests.find(WHO, "k1")
        await broker.requests.once(asked("ordinary"), Work())
        record = await broker.requests.find(WHO, "ordinary")
        assert record.expires_at_ms == clock.wall_ms() + round(of_requests * 1_000)


async def test_only_for_one_in_parts_is_the_store_asked_what_time_it_is(broker, store, monkeypatch):
    browse = store.browse
    looks = []

    def seen(query):
        looks.append(query)
        return browse(query)

    monkeypatch.setattr(store, "browse", seen)
    for request in (asked(), asked(), asked("secret", secret=True)):
        await broker.requests.once(request, Work())
    assert Now() not in looks
    await broker.requests.once(parts(key="k2"), Work())
    assert looks.count(Now()) == 1
