"""Requests that count once: repeats, crashes, several at a time, and what is kept of them."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.unit.engine.house import turns
from tests.unit.engine.request_house import WHO, Work, asked, crash, kill

from restante.engine import requests
from restante.engine.broker import Broker
from restante.engine.requests import OPEN_REQUESTS, RETENTION_SECONDS, Ran
from restante.errors import (
    AnswerNotKept,
    IdempotencyKeyReused,
    InvalidHeader,
    RequestInProgress,
    RequestNotFound,
    RequestUnknown,
    StoreUnavailable,
    TooManyKeptRequests,
    TooManyOpenRequests,
)
from restante.idempotency import ANSWER_BYTES, Fate, Policy, Reply, State
from restante.papers import Kind
from restante.queries import Papers
from restante.stores.memory import MemoryStore
from restante.testing.clock import FakeClock
from restante.wire.sealing import Keyring

KEYRING = Keyring([b"k" * 32])


async def test_a_repeat_is_given_the_first_answer(broker):
    work = Work()
    first = await broker.requests.once(asked(), work)
    again = await broker.requests.once(asked(), work)
    assert (first, again.reply, work.runs) == ((work.reply, False), work.reply, 1)
    assert again.replayed
    record = await broker.requests.find(WHO, "k1")
    assert (record.state, record.status, record.reply) == (State.DONE, 201, work.reply)
    assert record.expires_at_ms == broker.clock.wall_ms() + round(RETENTION_SECONDS * 1_000)


async def test_neither_key_nor_principal_can_be_read_in_the_store(broker):
    await broker.requests.once(asked("secret-order"), Work())
    papers = await broker.store.browse(Papers(Kind.REQUEST))
    assert len(papers) == 1
    assert "secret" not in papers[0].key
    assert b"secret" not in papers[0].content
    assert "op" not in papers[0].key.split("/")[0].split("-")


async def test_another_request_with_the_key_is_refused(broker):
    work = Work()
    await broker.requests.once(asked(), work)
    with pytest.raises(IdempotencyKeyReused):
        await broker.requests.once(asked(fingerprint=b"g"), work)
    assert work.runs == 1


async def test_the_same_key_of_another_principal_is_another_request(broker):
    work = Work()
    await broker.requests.once(asked(), work)
    assert not (await broker.requests.once(asked(who="client/op"), work)).replayed
    assert work.runs == 2
    with pytest.raises(RequestNotFound):
        await broker.requests.find("client/other", "k1")


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb"])
async def test_what_is_no_key(broker, key):
    with pytest.raises(InvalidHeader):
        await broker.requests.once(asked(key), Work())
    with pytest.raises(InvalidHeader):
        await broker.requests.find(WHO, key)


async def test_one_at_the_same_time_is_told_so(broker):
    work = Work(held=True)
    first = asyncio.create_task(broker.requests.once(asked(), work))
    await turns()
    with pytest.raises(RequestInProgress, match=r"2026-01-01T00:00:00\.000Z"):
        await broker.requests.once(asked(), work)
    with pytest.raises(IdempotencyKeyReused):
        await broker.requests.once(asked(fingerprint=b"g"), work)
    assert (await broker.requests.find(WHO, "k1")).state is State.IN_PROGRESS
    work.gate.set()
    assert ((await first).reply, work.runs) == (work.reply, 1)


async def test_one_at_the_same_time_may_wait(broker, clock):
    work = Work(held=True)
    first = asyncio.create_task(broker.requests.once(asked(), work))
    await turns()
    later = asyncio.create_task(broker.requests.once(asked(), work, wait_seconds=5))
    sooner = asyncio.create_task(broker.requests.once(asked(), work, wait_seconds=1))
    await turns()
    clock.advance(2)
    with pytest.raises(RequestInProgress):
        await sooner
    work.gate.set()
    assert (await later).replayed
    assert not (await first).replayed
    assert work.runs == 1


async def test_what_was_begun_goes_on_without_its_caller(broker):
    work = Work(held=True)
    first = asyncio.create_task(broker.requests.once(asked(), work))
    await turns()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    work.gate.set()
    await turns()
    assert (await broker.requests.once(asked(), work)).replayed
    assert work.runs == 1


async def test_a_refusal_frees_the_key_also_for_another_request(broker):
    refused = Work(Reply(503), Fate.FREE)
    assert not (await broker.requests.once(asked(), refused)).replayed
    with pytest.raises(RequestNotFound):
        await broker.requests.find(WHO, "k1")
    work = Work()
    assert not (await broker.requests.once(asked(fingerprint=b"g"), work)).replayed
    assert (await broker.requests.once(asked(fingerprint=b"g"), work)).replayed


async def test_of_what_failed_inside_nobody_knows(broker):
    async def failing():
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        await broker.requests.once(asked(), failing)
    with pytest.raises(RequestUnknown):
        await broker.requests.once(asked(), Work())
    assert (await broker.requests.find(WHO, "k1")).state is State.UNKNOWN


async def test_of_an_unknown_one_the_operator_learns_once(store, clock, monkeypatch):
    monkeypatch.setattr(requests, "_UNKNOWN_REQUESTS", 2)

    def unknowns(logs):
        return [
            (one.get("principal", "-"), one["path"])
            for one in logs
            if one["event"] == "request.unknown"
        ]

    lost = Work(Reply(500), Fate.UNKNOWN)
    async with Broker(store, clock) as broker:
        with capture_logs() as logs:
            await broker.requests.once(asked(), lost)
            await broker.requests.once(asked(who="Bearer t0ken", private=True), lost)
            await broker.requests.once(asked("fine"), Work())
            for _ in range(2):
                with pytest.raises(RequestUnknown):
                    await broker.requests.once(asked(), Work())
                await broker.requests.find(WHO, "k1")
        assert unknowns(logs) == [(WHO, "/x"), ("-", "/x")]
        assert broker.requests.unknown == 2
    # Another run of the process, which finds it when somebody looks; by its policy it is run again, and lost again.
    async with Broker(store, clock, unknown_requests=Policy.RUN_AGAIN) as broker:
        with capture_logs() as logs:
            await broker.requests.find("Bearer t0ken", "k1", private=True)
            await broker.requests.once(asked(), Work())
            clock.advance(1)
            for key in ("k2", "k3", "k4"):
                await broker.requests.once(asked(key), lost)
        assert unknowns(logs) == [("-", "/x"), *[(WHO, "/x")] * 4]
        assert broker.requests.unknown == 5
        assert "t0ken" not in str(logs)


async def test_nothing_is_run_that_could_not_be_written_down(broker, monkeypatch):
    work = Work()

    def away(_):
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(broker.store, "configure", away)
        with pytest.raises(StoreUnavailable):
            await broker.requests.once(asked(), work)
    assert work.runs == 0
    assert not (await broker.requests.once(asked(), work)).replayed


async def test_an_answer_that_could_not_be_written_down_is_given_and_then_unknown(
    broker, monkeypatch
):
    configure = broker.store.configure

    def away(_):
        raise StoreUnavailable("away")

    async def run():
        monkeypatch.setattr(broker.store, "configure", away)
        return Ran(Reply(201), Fate.KEEP)

    assert (await broker.requests.once(asked(), run)).reply.status == 201
    monkeypatch.setattr(broker.store, "configure", configure)
    with pytest.raises(RequestUnknown):
        await broker.requests.once(asked(), Work())


async def test_an_answer_too_long_is_remembered_by_its_status(broker):
    fits = Work(Reply(200, body=b"x" * ANSWER_BYTES))
    await broker.requests.once(asked("fits"), fits)
    assert (await broker.requests.once(asked("fits"), fits)).reply == fits.reply
    work = Work(Reply(200, body=b"x" * (ANSWER_BYTES + 1)))
    await broker.requests.once(asked(), work)
    with pytest.raises(AnswerNotKept, match="200"):
        await broker.requests.once(asked(), work)
    assert work.runs == 1


async def test_an_answer_with_a_secret_is_sealed(store, clock):
    work = Work(Reply(201, body=b"the-secret"))
    async with Broker(store, clock, keyring=KEYRING) as broker:
        await broker.requests.once(asked(secret=True), work)
        papers = await store.browse(Papers(Kind.REQUEST))
        assert b"the-secret" not in papers[0].content
    async with Broker(store, clock, keyring=KEYRING) as broker:
        assert (await broker.requests.once(asked(secret=True), work)).reply == work.reply
    async with Broker(store, clock, keyring=Keyring([b"o" * 32])) as broker:
        with pytest.raises(AnswerNotKept, match="201"):
            await broker.requests.once(asked(secret=True), work)
    assert work.runs == 1


async def test_a_key_is_remembered_for_its_time(broker, clock):
    work = Work()
    await broker.requests.once(asked(), work)
    clock.advance(RETENTION_SECONDS - 1)
    assert (await broker.requests.once(asked(), work)).replayed
    clock.advance(1)
    with pytest.raises(RequestNotFound):
        await broker.requests.find(WHO, "k1")
    # Whether the paper is still there or not.
    assert not (await broker.requests.once(asked(fingerprint=b"g"), work)).replayed
    clock.advance(RETENTION_SECONDS)
    while await broker.store.prune(100):
        pass
    assert await broker.store.browse(Papers(Kind.REQUEST)) == []
    assert not (await broker.requests.once(asked(), work)).replayed


async def test_a_principal_has_so_many_under_way_at_once(broker, monkeypatch):
    assert OPEN_REQUESTS >= 2
    monkeypatch.setattr(requests, "OPEN_REQUESTS", 2)
    work = Work(held=True)
    held = [asyncio.create_task(broker.requests.once(asked(f"k{n}"), work)) for n in range(2)]
    await turns()
    with pytest.raises(TooManyOpenRequests):
        await broker.requests.once(asked("k9"), work)
    other = asyncio.create_task(broker.requests.once(asked("k9", who="other"), work))
    work.gate.set()
    await asyncio.gather(*held, other)
    assert not (await broker.requests.once(asked("k9"), work)).replayed


async def test_a_freed_key_leaves_no_paper(broker):
    for number in range(50):
        await broker.requests.once(asked(f"k{number}"), Work(Reply(404), Fate.FREE))
    assert await broker.store.browse(Papers(Kind.REQUEST)) == []


async def test_whoever_has_taken_a_key_over_keeps_it_when_it_is_freed(store, clock):
    """A node that was taken for dead goes on, and its request has done nothing."""
    slow, work = Work(Reply(503), Fate.FREE, held=True), Work()
    async with (
        Broker(store, clock) as one,
        Broker(store, clock, unknown_requests=Policy.RUN_AGAIN) as two,
    ):
        first = asyncio.create_task(one.requests.once(asked(), slow))
        await turns()
        assert not (await two.requests.once(asked(), work)).replayed
        slow.gate.set()
        assert (await first).reply.status == 503
        assert (await two.requests.once(asked(), work)).replayed
    assert work.runs == 1


async def test_of_a_principal_so_many_are_remembered(store, clock):
    async def refused(broker, key):
        with pytest.raises(TooManyKeptRequests):
            await broker.requests.once(asked(key), Work())

    async with Broker(store, clock, requests_per_principal=3) as broker:
        for key in ("k1", "k2"):
            await broker.requests.once(asked(key), Work())
        await broker.requests.once(asked("k3"), Work(Reply(404), Fate.FREE))
        await broker.requests.once(asked("k3"), Work())
        await refused(broker, "k4")
        assert (await broker.requests.once(asked("k1"), Work())).replayed
        assert not (await broker.requests.once(asked("k4", who="other"), Work())).replayed
    # It is counted in the store: a restart changes nothing.
    async with Broker(store, clock, requests_per_principal=3) as broker:
        await refused(broker, "k4")
        clock.advance(RETENTION_SECONDS)
        while await store.prune(100):
            pass
        assert not (await broker.requests.once(asked("k4"), Work())).replayed
        assert list(broker.requests._counts) == [WHO]


async def test_cookies_are_not_kept(broker):
    reply = Reply(201, ((b"Set-Cookie", b"visit=secret"), (b"x", b"y")), b"made")
    assert (await broker.requests.once(asked(), Work(reply))).reply == reply
    again = await broker.requests.once(asked(), Work())
    assert again.reply == Reply(201, ((b"x", b"y"),), b"made")
    (paper,) = await broker.store.browse(Papers(Kind.REQUEST))
    assert b"secret" not in paper.content


@pytest.mark.parametrize("policy", list(Policy))
async def test_after_a_crash_the_policy_decides(store, clock, policy):
    work = Work(held=True)
    await crash(store, clock, work)
    work.gate.set()
    async with Broker(store, clock, unknown_requests=policy) as broker:
        assert (await broker.requests.find(WHO, "k1")).state is State.UNKNOWN
        with pytest.raises(IdempotencyKeyReused):
            await broker.requests.once(asked(fingerprint=b"g"), work)
        if policy is Policy.REFUSE:
            for _ in range(2):
                with pytest.raises(RequestUnknown, match=r"2026-01-01T00:00:00\.000Z"):
                    await broker.requests.once(asked(), work)
            assert work.runs == 1
        else:
            assert not (await broker.requests.once(asked(), work)).replayed
            assert (await broker.requests.once(asked(), work)).replayed
            assert work.runs == 2


async def test_what_ended_while_it_was_looked_at_is_not_taken_for_unknown(broker, monkeypatch):
    """The paper is read as it was before the end, and the answer comes after it."""
    work = Work(held=True)
    browse = broker.store.browse
    first = None

    async def late(found):
        result = await found
        if first is not None and not first.done():
            work.gate.set()
            await first
        return result

    def slow(query):
        nonlocal first
        if first is None:
            monkeypatch.setattr(broker.store, "browse", browse)
            first = asyncio.create_task(broker.requests.once(asked(), work))

            async def after():
                await turns()
                return await late(browse(query))

            return asyncio.ensure_future(after())
        return browse(query)

    monkeypatch.setattr(broker.store, "browse", slow)
    given_ = await broker.requests.once(asked(), work)
    assert (given_.replayed, work.runs) == (True, 1)


async def test_what_ended_while_somebody_asks_of_it_is_not_told_to_be_unknown(broker, monkeypatch):
    work = Work(held=True)
    running = asyncio.create_task(broker.requests.once(asked(), work))
    await turns()
    browse = broker.store.browse

    def slow(query):
        monkeypatch.setattr(broker.store, "browse", browse)
        before = browse(query)

        async def after():
            found = await before
            work.gate.set()
            await running
            return found

        return asyncio.ensure_future(after())

    monkeypatch.setattr(broker.store, "browse", slow)
    assert (await broker.requests.find(WHO, "k1")).state is State.DONE
    assert broker.requests.unknown == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "other", "end", "fail", "crash", "leave"]), st.integers(0, 2)
    ),
    max_size=25,
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
async def test_whatever_happens_each_key_is_run_once_and_answers_agree(steps):
    """Three keys; repeats, other requests, ends, failures, crashes and callers that leave, in any order."""
    clock = FakeClock()
    async with MemoryStore(clock) as store:
        broker = await Broker(store, clock).__aenter__()
        runs = [0, 0, 0]
        ends = [asyncio.Event() for _ in range(3)]
        failing = [False] * 3
        callers = []
        answers: list[set[bytes]] = [set(), set(), set()]

        async def call(n, fingerprint):
            async def run():
                runs[n] += 1
                await ends[n].wait()
                if failing[n]:
                    raise ValueError("inside")
                return Ran(Reply(201, body=b"%d-%d" % (n, runs[n])), Fate.KEEP)

            try:
                got = await broker.requests.once(asked(f"k{n}", fingerprint), run)
            except (RequestInProgress, RequestUnknown, IdempotencyKeyReused, ValueError):
                return
            answers[n].add(got.reply.body)

        for step, n in steps:
            if step in ("ask", "other"):
                callers.append(asyncio.create_task(call(n, b"f" if step == "ask" else b"g")))
            elif step in ("end", "fail"):
                failing[n] = failing[n] or (step == "fail" and not ends[n].is_set())
                ends[n].set()
            elif step == "leave" and callers:
                callers[n % len(callers)].cancel()
            elif step == "crash":
                await kill(broker, *callers)
                broker = await Broker(store, clock).__aenter__()
            await turns(8)
            assert max(runs) <= 1
        for end in ends:
            end.set()
        await asyncio.gather(*callers, return_exceptions=True)
        await broker.__aexit__(None, None, None)
        assert all(len(seen) <= 1 for seen in answers)
