"""Groups where something is refused, late, lost, or too much."""

import asyncio

import pytest
import structlog
from tests.unit.engine.group_house import (
    BOTH,
    OTHER,
    ask,
    discard,
    handed_out,
    left_over,
    member,
    outcome,
    receipts,
    refusing,
    settle,
    stands,
)
from tests.unit.engine.house import SHOP, settings, slow, turns

from restante.changes import AddClient, PutPaper, PutQueue
from restante.engine import group_papers, group_quota, groups
from restante.engine.broker import Broker
from restante.engine.group_request import Payload, Wanted, fingerprint_of
from restante.errors import (
    GroupNotFound,
    StoreUnavailable,
    TooManyGroups,
)
from restante.model import Client, Queue, Verb
from restante.papers import Kind, Paper
from restante.queries import Papers
from restante.testing.clock import FakeClock

# -- what cannot be had -------------------------------------------------------------------------


async def three(broker):
    """A third queue."""
    await broker.store.configure([AddClient(Client("carl")), PutQueue(Queue("carl", "carl"))])
    return (*BOTH, member("carl"))


async def test_a_compensation_that_is_refused_for_good_holds_up_no_other(broker, clock):
    wanted = (Wanted("acme", Payload(b"", "a/b"), Payload(bytes(100), "a/b"), True), *BOTH[1:])
    id = await ask(broker, (*wanted, (await three(broker))[2]))
    await settings(broker, "acme", max_body_bytes=10)
    await settle(broker, "acme")
    await settle(broker, "bob")
    await settle(broker, "carl", Verb.REJECT)
    assert await stands(broker, id) == ("compensated", ["acked", "acked", "dead"])
    first, second, _ = (await broker.groups.group(id, SHOP)).members
    assert (first.reason, first.compensation) == ("compensation refused: body_too_large", "")
    assert second.compensation
    clock.advance(60)
    await turns()
    assert await handed_out(broker, "bob") == [b"<undo-bob/>"]
    await discard(broker, "carl")
    assert await left_over(broker) == 0


async def test_what_was_published_and_not_written_down_is_found_when_its_key_is_forgotten(
    broker, store, clock, monkeypatch
):
    """Each paper fails for longer than idempotency keys are kept: nothing is published again."""
    with monkeypatch.context() as patch:
        papers = 0

        def written(changes):
            nonlocal papers
            papers += 1
            return StoreUnavailable("gone") if papers > 1 else None

        refusing(patch, store, "configure", written)
        id = await ask(broker, timeout_seconds=604_800)
        assert await handed_out(broker, "acme") == [b"<do-acme/>"]
        store._tables.idempotency.clear()
        clock.advance(2)
        await turns()
    clock.advance(2)
    await turns()
    published = [body for _, body in await receipts(broker, "acme")]
    assert published == [(await broker.groups.group(id, SHOP)).members[0].notification]


async def test_a_compensation_that_was_not_written_down_is_not_sent_again(
    broker, store, clock, monkeypatch
):
    id = await ask(broker)
    await settle(broker, "acme")
    with monkeypatch.context() as patch:
        writes = 0

        def written(changes):
            nonlocal writes
            writes += 1
            return StoreUnavailable("gone") if writes > 1 else None

        refusing(patch, store, "configure", written)
        await settle(broker, "bob", Verb.REJECT)
        assert await stands(broker, id) == ("compensating", ["acked", "dead"])
        store._tables.idempotency.clear()
    clock.advance(2)
    await turns()
    assert await stands(broker, id) == ("compensated", ["acked", "dead"])
    assert await handed_out(broker, "acme") == [b"<undo-acme/>"]


async def test_each_compensation_is_written_down_before_the_next(broker, store, clock, monkeypatch):
    wanted = await three(broker)
    id = await ask(broker, wanted)
    await settle(broker, "acme")
    await settle(broker, "bob")
    with monkeypatch.context() as patch:

        def full(drafts):
            bodies = [draft.body for draft in drafts]
            return StoreUnavailable("gone") if b"<undo-bob/>" in bodies else None

        refusing(patch, store, "append", full)
        await settle(broker, "carl", Verb.REJECT)
        first, second, _ = (await broker.groups.group(id, SHOP)).members
        assert first.compensation
        assert not second.compensation
    clock.advance(2)
    await turns()
    assert (await stands(broker, id))[0] == "compensated"


async def test_whose_time_is_up_is_not_published_any_more(store, clock, monkeypatch):
    async with Broker(store, clock) as one:
        with monkeypatch.context() as patch:
            refusing(patch, store, "append", lambda _: StoreUnavailable("gone"))
            id = await ask(one, timeout_seconds=10)
    clock.advance(10)
    async with Broker(store, clock) as two:
        await turns()
        assert await stands(two, id) == ("compensated", ["expired", "expired"])
        assert await receipts(two, "acme") == []
        assert await left_over(two) == 0


async def test_what_is_published_late_has_what_is_left_of_its_time(store, clock, monkeypatch):
    async with Broker(store, clock) as one:
        with monkeypatch.context() as patch:
            refusing(patch, store, "append", lambda _: StoreUnavailable("gone"))
            id = await ask(one, timeout_seconds=10)
    clock.jump_wall(2 * 86_400)
    clock.advance(7)
    async with Broker(store, clock) as two:
        await turns()
        assert await stands(two, id) == ("pending", ["ready", "ready"])
        clock.advance(3.1)
        await turns()
        assert await stands(two, id) == ("compensated", ["expired", "expired"])


# -- two nodes ----------------------------------------------------------------------------------


async def test_a_node_with_a_wrong_clock_ends_no_group_of_the_others(store, clock):
    async with Broker(store, clock) as one:
        id = await ask(one)
        async with Broker(store, FakeClock(clock.wall_ms() + 2 * 86_400_000)) as two:
            await turns()
            of_the_other = await ask(two)
            assert await stands(two, id) == ("pending", ["ready", "ready"])
        await one.groups._take_up()
        await turns()
        clock.advance(60)
        await turns()
        for each in (id, of_the_other):
            assert await stands(one, each) == ("compensated", ["expired", "expired"])


async def waited_for_on_another(one, two, id):
    """Somebody waits on the other node, which hears of nothing that is committed on the one."""
    task = asyncio.create_task(outcome(two, id, 30))
    await turns()
    two.store.meter.listener = one.waiting._hear
    return task


async def test_who_waits_where_the_paper_is_only_read_is_told(store, clock):
    async with Broker(store, clock) as one, Broker(store, clock) as two:
        id = await ask(one)
        task = await waited_for_on_another(one, two, id)
        await settle(one, "bob", Verb.REJECT)
        assert await stands(one, id) == ("compensating", ["ready", "dead"])
        assert not task.done()
        # As the question does that every node asks once a second.
        two.waiting.tell((await one.groups.group(id, SHOP)).members[1].notification)
        await turns()
        assert task.done()
        assert (await task).state == "compensating"


async def test_who_waits_where_the_paper_was_changed_meanwhile_is_told(store, clock, monkeypatch):
    async with Broker(store, clock) as one, Broker(store, clock) as two:
        id = await ask(one)
        notification = (await one.groups.group(id, SHOP)).members[1].notification
        task = await waited_for_on_another(one, two, id)
        store.meter.listener = None
        await settle(one, "bob", Verb.REJECT)
        put = two.groups._papers.put

        async def late(kept, group):
            one.waiting.tell(notification)
            await turns()
            return await put(kept, group)

        monkeypatch.setattr(two.groups._papers, "put", late)
        two.waiting.tell(notification)
        await turns(60)
        assert task.done()
        assert (await task).state == "compensating"


async def test_who_waits_on_a_node_that_has_not_heard_of_the_group_is_told(store, clock):
    async with Broker(store, clock) as one, Broker(store, clock) as two:
        await turns()
        id = await ask(one, (member("bob"),))
        task = await waited_for_on_another(one, two, id)
        await settle(one, "bob")
        assert not task.done()
        two.waiting.tell((await one.groups.group(id, SHOP)).members[0].notification)
        await turns()
        assert (await task).state == "complete"


# -- shares, keys and time-outs -----------------------------------------------------------------


async def test_each_publisher_has_its_share(broker, monkeypatch):
    monkeypatch.setattr(group_quota, "OPEN_GROUPS", 1)
    await ask(broker, key="k")
    with pytest.raises(TooManyGroups):
        await ask(broker)
    await ask(broker, key="k")
    other = await ask(broker, actor=OTHER)
    with pytest.raises(TooManyGroups):
        await ask(broker, actor=OTHER)
    for _ in range(2):
        for queue in ("acme", "bob"):
            await settle(broker, queue)
    assert (await stands(broker, other))[0] == "complete"
    await ask(broker, actor=OTHER)


async def test_as_many_as_may_be_at_the_same_moment(broker, store, monkeypatch):
    monkeypatch.setattr(group_quota, "OPEN_GROUPS", 2)
    slow(monkeypatch, store, "configure")
    asked = await asyncio.gather(*(ask(broker) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(one, TooManyGroups) for one in asked) == 3


async def test_as_many_bytes_as_may_be(broker, store, monkeypatch):
    each = sum(len(payload.body) for one in BOTH for payload in one.payloads())
    monkeypatch.setattr(group_quota, "OPEN_BODY_BYTES", 2 * each - 1)
    await ask(broker)
    with pytest.raises(TooManyGroups):
        await ask(broker)
    await ask(broker, actor=OTHER)
    # What was not written down takes nothing up.
    monkeypatch.setattr(group_quota, "OPEN_BODY_BYTES", 2 * each)
    with monkeypatch.context() as patch:
        refusing(patch, store, "configure", lambda _: StoreUnavailable("gone"))
        with pytest.raises(StoreUnavailable):
            await ask(broker)
    await ask(broker)


async def test_a_group_whose_caller_leaves_is_begun_all_the_same(broker, store, monkeypatch):
    with monkeypatch.context() as patch:
        slow(patch, store, "configure")
        asking = asyncio.create_task(ask(broker))
        await turns(2)
        asking.cancel()
        await turns()
    assert await handed_out(broker, "acme") == [b"<do-acme/>"]


async def test_more_open_groups_than_one_page_are_taken_up(store, clock, monkeypatch):
    monkeypatch.setattr(group_papers, "_PAGE", 2)
    async with Broker(store, clock) as one:
        ids = {await ask(one) for _ in range(5)}
    async with Broker(store, clock) as two:
        await turns()
        assert set(two.groups._running) == ids


async def test_one_that_cannot_be_read_holds_up_no_other(store, clock):
    async with Broker(store, clock) as one:
        ids = [await ask(one) for _ in range(3)]
    odd = Paper(kind=Kind.GROUP, key=f"open/{ids[0]}", content=b'{"id":')
    await store.configure([PutPaper(odd)])
    async with Broker(store, clock) as two:
        with structlog.testing.capture_logs() as logs:
            await turns()
        assert set(two.groups._running) == set(ids[1:])
        damaged = [line["paper"] for line in logs if line["event"] == "group.damaged"]
        assert damaged == [odd.key]
        assert {group.id for group in (await two.groups.page(SHOP)).groups} == set(ids[1:])


async def test_a_look_that_fails_is_not_the_last(store, clock, monkeypatch):
    async with Broker(store, clock) as one:
        id = await ask(one)
    browse = store.browse

    def broken(query):
        if isinstance(query, Papers) and query.kind is Kind.GROUP:
            raise OSError("the file cannot be read")
        return browse(query)

    with monkeypatch.context() as patch:
        patch.setattr(store, "browse", broken)
        two = Broker(store, clock)
        await two.__aenter__()
        with structlog.testing.capture_logs() as logs:
            await turns()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["groups.failed"]
    try:
        assert set(two.groups._running) == set()
        clock.advance(5)
        await turns()
        assert set(two.groups._running) == {id}
    finally:
        await two.__aexit__(None, None, None)


async def test_papers_are_gone_some_time_after_the_end(broker, store, clock):
    id = await ask(broker, key="k")
    await settle(broker, "acme")
    await settle(broker, "bob")
    clock.advance(31 * 86_400)
    while await store.prune(100):
        pass
    with pytest.raises(GroupNotFound):
        await broker.groups.group(id, SHOP)
    assert await store.browse(Papers(Kind.GROUP_KEY)) == []


class Unprinted(bytes):
    """A body that is made no text of."""

    def __repr__(self):
        raise AssertionError("a body was printed")


async def test_a_fingerprint_is_made_of_the_bytes_as_they_are(broker):
    wanted = (Wanted("acme", Payload(Unprinted(9), "a/b"), None, True),)
    await ask(broker, wanted)
    await ask(broker, wanted, key="k")


def test_what_differs_has_another_fingerprint():
    def one(queue="acme", body=b"ab", content_type="a/b", undo=None, required=True, seconds=1.0):
        return fingerprint_of(
            (Wanted(queue, Payload(body, content_type), undo, required),), seconds
        )

    undone = Payload(b"", "a/b")
    every = {
        one(),
        one(queue="bob"),
        one(body=b"a"),
        one(body=b"b/bab", content_type="a/"),
        one(undo=undone),
        one(required=False),
        one(seconds=2.0),
        fingerprint_of([Wanted("acme", Payload(b"ab", "a/b"), None, True)] * 2, 1.0),
    }
    assert len(every) == 8
    assert one() == one()


async def test_without_a_key_there_is_no_fingerprint(broker, monkeypatch):
    monkeypatch.setattr(groups, "fingerprint_of", None)
    await ask(broker)


async def test_when_the_time_is_up_the_answer_is_how_it_stands_then(broker, store, clock):
    """Another node has seen to its end, and this one has not heard of it."""
    id = await ask(broker)
    task = asyncio.create_task(outcome(broker, id, 30))
    await turns()
    broker.waiting.tell = lambda _: None
    await settle(broker, "bob", Verb.REJECT)
    assert not task.done()
    clock.advance(30)
    assert (await task).state == "compensating"
