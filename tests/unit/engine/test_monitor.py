"""What is seen of queues: on one node, on two that share a store, and after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.engine.house import OPERATOR, SHOP, furnish, letter, settings, turns
from tests.unit.engine.neighbours import SharedStore

from restante.changes import PutQueue, PutWebhook
from restante.engine.broker import Broker
from restante.engine.history import ALL
from restante.engine.monitor import AT_ONCE
from restante.engine.settling import Settle
from restante.engine.windows import Window
from restante.errors import StoreUnavailable
from restante.metering import Meter, Tally, total
from restante.model import Actor, Publication, Queue, Role, Verb
from restante.nodes import NodeName
from restante.papers import Kind
from restante.queries import Papers
from restante.watching import Span
from restante.webhooks import Webhook

PROGRAM = Actor("acme", Role.CLIENT, "k-acme", "http", "192.0.2.7:4711", agent="erp/1.2")


async def look(clock, seconds=1.0, times=1):
    """Let time pass, and the monitor look."""
    for _ in range(times):
        clock.advance(seconds)
        await turns(80)


async def collect(broker, verb=Verb.ACK, actor=PROGRAM, **fields):
    """Receive the next delivery and settle it."""
    session = await broker.session("acme", actor)
    (delivery,) = await session.receive(max=1)
    settling = await session.settle([Settle(lease=session.token(delivery), verb=verb, **fields)])
    await settling.results()


def view(broker, queue="acme"):
    found = broker.monitor.view(queue)
    assert found is not None
    return found


# -- one node -----------------------------------------------------------------------------------


async def test_what_happened_is_seen_a_second_later(broker, clock):
    await turns()
    assert view(broker).figures.published == 0
    await broker.publish(letter(), SHOP)
    await broker.publish(letter(), SHOP)
    await collect(broker)
    await look(clock)
    seen = view(broker)
    assert (seen.figures.published, seen.figures.acked, seen.depth) == (2, 1, 1)
    assert (seen.minute.published, seen.minute.delivered, seen.minute.acked) == (2, 1, 1)
    assert seen.minute == seen.recent
    assert view(broker, "bob").minute == Tally()
    assert broker.monitor.counters["acme"].published == 2
    assert broker.monitor.counters[ALL] == broker.monitor.counters["acme"]


async def test_a_minute_and_five_are_forgotten_in_their_time(broker, clock):
    await broker.publish(letter(), SHOP)
    await look(clock)
    await look(clock, 10, times=6)
    assert (view(broker).minute.published, view(broker).recent.published) == (0, 1)
    await look(clock, 10, times=24)
    assert view(broker).recent == Tally()
    assert broker.monitor.total().recent == Tally()
    assert broker.monitor.counters["acme"].published == 1


async def test_a_queue_that_is_new_is_seen_at_the_next_round(broker, clock):
    await turns()
    await broker.store.configure([PutQueue(Queue("new", "acme"))])
    assert broker.monitor.view("new") is None
    await look(clock, 10)
    assert view(broker, "new").queue.owner == "acme"
    await broker.store.configure([PutQueue(Queue("newer", "acme"))])
    refreshed = await broker.monitor.refresh("newer")
    assert refreshed is broker.monitor.view("newer")
    assert await broker.monitor.refresh("nowhere") is None


async def test_the_oldest_grows_older_between_looks(broker, clock):
    await broker.publish(letter(), SHOP)
    await look(clock)
    seen = view(broker)
    assert seen.oldest_age_seconds(clock.wall_ms()) == 1
    clock.advance(5)
    assert seen.oldest_age_seconds(clock.wall_ms()) == 6


async def test_the_last_failure_is_the_most_frequent_reason(broker, clock):
    await settings(broker, backoff_base_seconds=0, max_attempts=10)
    await broker.publish(letter(), SHOP)
    for reason in ("slow", "HTTP 500", "HTTP 500"):
        await collect(broker, Verb.NACK, reason=reason, retry_after_seconds=0)
        await broker.store.overdue(10)
    await look(clock)
    failure = view(broker).last_failure
    assert failure is not None
    assert (failure.reason, failure.at_ms) == ("HTTP 500", clock.wall_ms())
    assert view(broker).recent.error_rate == 1.0


async def test_the_total_is_the_sum(broker, clock):
    await broker.publish(letter(), SHOP)
    clock.advance(3)
    await broker.publish(Publication(queue="bob", body=b"<hello/>"), SHOP)
    await look(clock)
    seen = broker.monitor.total()
    assert (seen.queues, seen.depth, seen.figures.published) == (2, 2, 2)
    assert seen.figures.oldest_age_seconds == 4
    assert seen.minute.published == 2
    assert broker.monitor.total() is seen


async def test_who_waits_for_a_change_is_told(broker, clock):
    await turns()
    before = broker.monitor.version
    waiting = asyncio.create_task(broker.monitor.changed(before))
    await turns()
    assert not waiting.done()
    await look(clock)
    assert not waiting.done()
    await broker.publish(letter(), SHOP)
    await look(clock)
    assert await waiting > before
    assert await broker.monitor.changed(before) > before


async def test_looks_that_find_nothing_new_leave_the_version_but_for_one_round(broker, clock):
    await broker.publish(letter(), SHOP)
    await look(clock, 10, times=2)
    versions = []
    for _ in range(30):
        await look(clock)
        versions.append(broker.monitor.version)
    # What waits grows older: each round says so, and the nine looks between do not.
    assert len(set(versions)) <= 4
    assert versions[-1] > versions[0]


async def test_a_look_tells_which_queues_are_not_as_they_were(broker, clock):
    await look(clock, 10, times=2)
    before = broker.monitor.version
    await broker.publish(letter(), SHOP)
    await look(clock)
    assert view(broker).version > before >= view(broker, "bob").version
    session = await broker.session("bob", Actor("bob", Role.CLIENT, transport="http"))
    await session.receive()
    await look(clock)
    assert view(broker, "bob").version == broker.monitor.version
    await look(clock, 10)
    before = broker.monitor.version
    await look(clock, 10)
    assert broker.monitor.version > before >= view(broker, "bob").version


async def test_the_total_looks_at_no_queue(broker, clock, monkeypatch):
    await broker.publish(letter(), SHOP)
    await look(clock)
    # Without a queue to look at, it tells the same.
    monkeypatch.setattr(broker.monitor, "_views", {})
    monkeypatch.setattr(broker.monitor, "_total", None)
    seen = broker.monitor.total()
    assert (seen.queues, seen.depth, seen.figures.oldest_age_seconds) == (2, 1, 1)


async def test_who_only_waits_is_not_told_of_at_each_look(broker, clock, monkeypatch):
    """Ten thousand long polls that wait cost a look nothing: their queues are gone over now and then."""
    told: list[str] = []
    tell = broker.monitor._tell

    def telling(view):
        told.append(view.queue.name)
        return tell(view)

    monkeypatch.setattr(broker.monitor, "_tell", telling)
    with await broker.stream("acme", PROGRAM):
        await look(clock)
        assert "acme" in told
        await look(clock, 10)
        told.clear()
        await look(clock, times=5)
        assert told == []


async def test_ten_thousand_queues_let_others_go_on_after_a_few_of_them(broker, clock, monkeypatch):
    await turns()
    done: list[str] = []
    count = broker.monitor._count

    def counting(queue, tally, bucket):
        done.append(queue)
        return count(queue, tally, bucket)

    monkeypatch.setattr(broker.monitor, "_count", counting)
    names = [f"q{n}" for n in range(300)]
    taking = asyncio.create_task(
        broker.monitor._take_in({name: Tally(published=1) for name in names})
    )
    between = []
    while not taking.done():
        before = len(done)
        await asyncio.sleep(0)
        between.append(len(done) - before)
    await taking
    assert len(done) == 301
    assert max(between) <= AT_ONCE + 1


async def test_a_store_that_fails_leaves_the_views_as_they_were(broker, clock, monkeypatch):
    await broker.publish(letter(), SHOP)
    await look(clock)

    def fails(query):
        failed = asyncio.get_running_loop().create_future()
        failed.set_exception(StoreUnavailable("gone"))
        return failed

    with monkeypatch.context() as broken:
        broken.setattr(broker.store, "browse", fails)
        await broker.publish(letter(), SHOP)
        await look(clock, times=2)
        assert view(broker).figures.published == 1
    await look(clock)
    assert view(broker).figures.published == 2
    assert view(broker).minute.published == 2


async def test_callbacks_are_called_after_each_look_and_may_fail(broker, clock):
    calls = []

    async def callback():
        calls.append(broker.monitor.version)
        raise ValueError

    await turns()
    broker.monitor.after_look(callback)
    await look(clock)
    await broker.publish(letter(), SHOP)
    await look(clock)
    assert len(calls) == 2
    assert calls[1] > calls[0]


async def test_a_webhook_is_seen(broker, clock):
    webhook = Webhook(queue="acme", url="https://hooks.example/", enabled=False, reason="HTTP 410")
    await broker.store.configure([PutWebhook(webhook)])
    await look(clock, 10)
    health = view(broker).webhook
    assert health is not None
    assert (health.url, health.enabled, health.reason) == (webhook.url, False, "HTTP 410")
    assert view(broker, "bob").webhook is None


# -- who comes ----------------------------------------------------------------------------------


async def test_a_long_poller_is_attached_while_it_waits_and_seen_for_a_minute(broker, clock):
    session = await broker.session("acme", PROGRAM)
    polling = asyncio.create_task(session.receive(wait_seconds=20))
    await look(clock)
    (consumer,) = view(broker).consumers
    assert consumer.attached
    assert (consumer.transport, consumer.address, consumer.agent) == (
        "http",
        "192.0.2.7",
        "erp/1.2",
    )
    assert broker.monitor.total().consumers == {"http": 1}
    clock.advance(20)
    assert await polling == []
    left_ms = clock.wall_ms()
    await look(clock, 10)
    (consumer,) = view(broker).consumers
    assert (consumer.attached, consumer.last_seen_ms) == (False, left_ms)
    await look(clock, 10, times=6)
    assert view(broker).consumers == ()
    contact = view(broker).last_contact
    assert contact is not None
    assert contact.at_ms == left_ms
    assert view(broker).silent_seconds(clock.wall_ms()) == 70


async def test_a_stream_is_contact_as_long_as_it_is_open(broker, clock):
    with await broker.stream("acme", PROGRAM, consumer="one"):
        await look(clock, 100, times=3)
        (consumer,) = view(broker).consumers
        assert (consumer.attached, consumer.consumer) == (True, "one")
        assert view(broker).silent_seconds(clock.wall_ms()) == 0
    await look(clock, 30)
    assert view(broker).silent_seconds(clock.wall_ms()) == 30


async def test_an_operator_who_collects_is_no_contact_of_the_client(broker, clock):
    session = await broker.session("acme", OPERATOR)
    await session.receive()
    await look(clock)
    assert len(view(broker).consumers) == 1
    assert view(broker).last_contact is None


async def test_a_webhook_s_own_calls_are_no_contact_but_its_acks_are_signatures(broker, clock):
    await broker.publish(letter(), SHOP)
    await collect(broker, actor=Actor("acme", Role.CLIENT, transport="webhook"))
    await look(clock)
    assert (view(broker).consumers, view(broker).last_contact) == ((), None)
    assert view(broker).last_ack_ms == clock.wall_ms()
    assert view(broker).silent_seconds(clock.wall_ms()) == 0


async def test_only_so_many_programs_are_remembered(broker, clock):
    for port in range(150):
        actor = Actor("acme", Role.CLIENT, "k", "http", "192.0.2.1", agent=f"erp/{port}")
        await (await broker.session("acme", actor)).receive()
        clock.advance(0.001)
    await look(clock)
    consumers = view(broker).consumers
    assert len(consumers) == 100
    assert consumers[-1].agent == "erp/149"


# -- what is kept -------------------------------------------------------------------------------


async def test_contacts_survive_a_restart(store, clock):
    async with Broker(store, clock) as broker:
        await broker.publish(letter(), SHOP)
        await collect(broker, Verb.REJECT, reason="bad")
        came_ms = clock.wall_ms()
        await turns()
    clock.advance(3_600)
    async with Broker(store, clock) as broker:
        await turns()
        seen = view(broker)
        assert seen.last_contact is not None
        assert (seen.last_contact.at_ms, seen.last_contact.agent) == (came_ms, "erp/1.2")
        assert seen.last_failure is not None
        assert seen.last_failure.reason == "bad"
        assert (seen.consumers, seen.recent) == ((), Tally())


async def test_an_idle_store_is_not_written_to(broker, clock, monkeypatch):
    await look(clock, 10, times=13)
    written: list[object] = []
    monkeypatch.setattr(broker.store, "configure", written.append)
    await look(clock, 10, times=13)
    assert written == []


@pytest.mark.parametrize("span", Span)
async def test_history_has_a_point_for_each_step(broker, clock, span):
    points = await broker.monitor.history("acme", span)
    assert len(points) == span.seconds / span.step_seconds
    assert [b.at_ms - a.at_ms for a, b in itertools.pairwise(points)] == [
        span.step_seconds * 1_000
    ] * (len(points) - 1)
    now = clock.wall_ms()
    assert points[-1].at_ms <= now < points[-1].at_ms + span.step_seconds * 1_000
    assert {point.depth for point in points} == {0}


async def test_history_tells_when_what_happened(broker, clock):
    await broker.publish(letter(), SHOP)
    await broker.publish(letter(), SHOP)
    await look(clock, times=3)
    await look(clock, 60, times=5)
    await collect(broker)
    await look(clock, times=3)
    await look(clock, 60, times=3)
    points = await broker.monitor.history("acme", Span.HOUR)
    assert [point.tally.published for point in points if point.tally.published] == [2]
    assert [point.tally.acked for point in points if point.tally.acked] == [1]
    first = next(n for n, point in enumerate(points) if point.tally.published)
    last = next(n for n, point in enumerate(points) if point.tally.acked)
    assert {point.depth for point in points[:first]} == {0}
    assert {point.depth for point in points[first:last]} == {2}
    assert {point.depth for point in points[last:]} == {1}
    assert points[first + 1].oldest_age_seconds is not None
    for span in (Span.DAY, Span.WEEK):
        points = await broker.monitor.history("acme", span)
        assert total(point.tally for point in points).published == 2
        assert points[-1].depth == 1
    everything = await broker.monitor.history(ALL, Span.HOUR)
    assert total(point.tally for point in everything).acked == 1
    assert await broker.monitor.history("bob", Span.HOUR) != everything


async def test_history_survives_a_restart_within_a_period(store, clock):
    for _ in range(2):
        async with Broker(store, clock) as broker:
            await broker.publish(letter(), SHOP)
            await turns()
    async with Broker(store, clock) as broker:
        await turns()
        points = await broker.monitor.history("acme", Span.HOUR)
        assert (points[-1].tally.published, points[-1].depth) == (2, 2)


async def test_history_is_let_go_of(broker, clock):
    await broker.publish(letter(), SHOP)
    await look(clock, 60, times=2)
    assert await broker.store.browse(Papers(Kind.HISTORY))
    clock.advance(8 * 86_400)
    await turns(200)
    assert await broker.store.browse(Papers(Kind.HISTORY)) == []


# -- two nodes ----------------------------------------------------------------------------------


class Place(SharedStore):
    """One node's way to a store that another has open too: each counts what came through it."""

    def __init__(self, other):
        self.__dict__ = dict(other.__dict__)
        self._own = Meter()

    @property
    def meter(self):
        return self._own

    def _done(self, work, *arguments):
        shared, self._tables.meter = self._tables.meter, self._own
        try:
            return super()._done(work, *arguments)
        finally:
            self._tables.meter = shared


@contextlib.asynccontextmanager
async def two_nodes(clock):
    async with SharedStore(clock, jitter=lambda: 0.5) as store:
        await furnish(store)
        async with (
            Broker(Place(store), clock, node=NodeName("one")) as one,
            Broker(Place(store), clock, node=NodeName("two")) as two,
        ):
            await turns()
            yield one, two


async def test_what_happens_on_another_node_is_seen_some_seconds_later(clock):
    async with two_nodes(clock) as (one, two):
        await one.publish(letter(), SHOP)
        await two.publish(letter(), SHOP)
        await collect(one, Verb.REJECT, reason="bad")
        await look(clock, times=25)
        for node in (one, two):
            seen = view(node)
            assert seen.figures.published == 2
            assert (seen.minute.published, seen.recent.rejected) == (2, 1)
            assert seen.last_contact is not None
            assert seen.last_failure is not None
            assert node.monitor.total().minute.published == 2
        assert one.monitor.counters["acme"].published == 1
        points = await two.monitor.history("acme", Span.DAY)
        await look(clock, 60, times=2)
        points = await two.monitor.history("acme", Span.DAY)
        assert total(point.tally for point in points).published == 2


async def test_consumers_of_a_node_that_is_gone_are_not_told_of(clock):
    async with two_nodes(clock) as (one, two):
        stream = await one.stream("acme", PROGRAM)
        with stream:
            await look(clock, times=25)
            (consumer,) = view(two).consumers
            assert consumer.node == "one"
            two.monitor._sightings._others["acme"] = [
                ("nobody", seen) for _, seen in two.monitor._sightings._others["acme"]
            ]
            await two.monitor.refresh("acme")
            assert view(two).consumers == ()
            assert view(two).last_contact is not None


# -- windows ------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 5), st.sampled_from(["a", "b", "c"])),
        max_size=60,
    )
)
def test_a_window_is_the_sum_of_what_is_not_too_old(events):
    window, bucket, kept = Window(), 0, []
    for step, count, reason in events:
        bucket += step
        tally = Tally(published=count, nacked=1, reasons={reason: 1})
        if count:
            tally.count_ack(count * 100)
        kept.append((bucket, tally))
        window.add(bucket, tally)
        for told, buckets in ((window.minute, 6), (window.recent, 30)):
            expected = total(one for at, one in kept if at > bucket - buckets)
            assert told.published == expected.published
            assert told.reasons == expected.reasons
            assert (told.ack_ms, sum(told.ack_classes or ())) == (
                expected.ack_ms,
                sum(expected.ack_classes or ()),
            )
    assert not window.forget(bucket + 30)
    assert (window.recent.published, window.recent.reasons) == (0, {})


def test_more_reasons_than_there_is_room_for_are_counted_as_others_and_taken_away_again():
    sums, parts = Tally(), [Tally(nacked=1, reasons={f"r{n}": 1}) for n in range(50)]
    for part in parts:
        sums.add(part)
    assert len(sums.reasons) <= 21
    assert sum(sums.reasons.values()) == 50
    for part in parts:
        sums.take(part)
    assert sums.reasons == {}
    assert sums.nacked == 0
