"""Alerts: raised once and cleared once, by whichever node; told of at least once, also where a node ends in between."""

import asyncio
import contextlib

import pytest
from tests.unit.engine.house import turns
from tests.unit.engine.neighbours import SharedStore

from restante.alerting import GIVE_UP_SECONDS, Alerting, Limits, Rule
from restante.engine import alerts as judging
from restante.engine.alerts import Alerts
from restante.engine.notices import (
    MESSAGES,
    QUIET_SECONDS,
    NoticePost,
)
from restante.engine.sending import CLAIM_SECONDS, RETRY_SECONDS
from restante.metering import Tally
from restante.model import Figures, Queue
from restante.stores.memory import MemoryStore
from restante.testing.clock import FakeClock
from restante.watching import RECENT_SECONDS, Contact, QueueView, WebhookHealth

TO = "mail"


class Seen:
    """What a monitor sees: the test says what."""

    def __init__(self, clock):
        self.clock = clock
        self.all = {}
        self.is_complete = True

    def put(self, name="acme", contact_ms=None, **figures):
        contact = None if contact_ms is None else Contact(contact_ms)
        self.all[name] = QueueView(
            queue=Queue(name, name),
            figures=Figures(**figures),
            as_of_ms=self.clock.wall_ms(),
            last_contact=contact,
        )

    def views(self):
        return self.all.values()

    def view(self, queue):
        return self.all.get(queue)


class Sender:
    """Answers what it is told to, and keeps what it was sent."""

    def __init__(self):
        self.why = None
        self.sent = []

    async def send(self, message):
        self.sent.append(message)
        return self.why


class Hanging(Sender):
    """Never comes to its end."""

    async def send(self, message):
        self.sent.append(message)
        await asyncio.get_running_loop().create_future()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def store(clock):
    async with MemoryStore(clock) as store:
        yield store


@pytest.fixture
def seen(clock):
    return Seen(clock)


def alerts_of(store, clock, seen, destinations=(TO,), **limits):
    limits = limits or {"depth": 10}
    return Alerts(
        store, clock, seen, Alerting(limits=Limits(**limits), destinations=tuple(destinations))
    )


async def look(alerts, clock):
    clock.advance(judging.LOOK_SECONDS)
    await alerts.look()


async def rules(alerts):
    return [one.alert.rule for one in await alerts.opened()]


@contextlib.asynccontextmanager
async def delivering(store, clock, alerts, sender, node="a"):

    post = NoticePost(store, clock, alerts, TO, sender, node)
    task = asyncio.create_task(post.deliver())
    await turns()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_is_raised_once_and_cleared_well_below_its_limit(store, clock, seen):
    alerts = alerts_of(store, clock, seen)
    for depth, is_open in ((9, False), (10, True), (15, True), (8, True), (7, False), (9, False)):
        seen.put(ready=depth)
        await look(alerts, clock)
        assert bool(await alerts.opened()) is is_open, depth
    (past,) = (await alerts.history(limit=10)).alerts
    assert (past.rule, past.value) == (Rule.DEPTH, 10)
    assert past.cleared_at_ms is not None
    assert past.cleared_words == "acme is down to 7 waiting"


async def test_a_restart_neither_raises_again_nor_forgets(store, clock, seen):
    seen.put(ready=10)
    await look(alerts_of(store, clock, seen), clock)
    again = alerts_of(store, clock, seen)
    await look(again, clock)
    assert await rules(again) == [Rule.DEPTH]
    assert len((await again.history(limit=10)).alerts) == 1
    seen.put()
    await look(again, clock)
    assert await rules(again) == []


async def test_a_restart_does_not_take_what_it_has_not_seen_for_well(store, clock, seen):
    """After it no attempt is counted: that none has failed says nothing yet."""
    seen.put()
    seen.all["acme"].recent = Tally(nacked=30, acked=10)
    await look(alerts_of(store, clock, seen, error_rate=0.5), clock)
    seen.put()
    again = alerts_of(store, clock, seen, error_rate=0.5)
    await look(again, clock)
    assert await rules(again) == [Rule.ERROR_RATE]
    clock.advance(RECENT_SECONDS)
    await look(again, clock)
    assert await rules(again) == []


async def test_nothing_is_judged_before_everything_was_seen(store, clock, seen):
    """A webhook that was not looked at yet is not one that is called again."""
    off = WebhookHealth(
        url="https://a.test/", enabled=False, reason="410", disabled_by_service=True
    )
    seen.put()
    seen.all["acme"].webhook = off
    await look(alerts_of(store, clock, seen), clock)
    seen.put()
    seen.is_complete = False
    again = alerts_of(store, clock, seen)
    await look(again, clock)
    assert await rules(again) == [Rule.WEBHOOK_DISABLED]
    seen.is_complete = True
    await look(again, clock)
    assert await rules(again) == []


async def test_a_limit_that_is_gone_is_heeded_at_once(store, clock, seen):
    seen.put()
    seen.all["acme"].recent = Tally(nacked=30, acked=10)
    await look(alerts_of(store, clock, seen, error_rate=0.5), clock)
    seen.put()
    again = alerts_of(store, clock, seen, depth=10)
    await look(again, clock)
    assert await rules(again) == []


async def test_two_nodes_raise_and_clear_once(clock, seen):
    async with SharedStore(clock) as store:
        one, other = (alerts_of(store, clock, seen) for _ in range(2))
        for depth in (10, 0, 10):
            seen.put(ready=depth)
            clock.advance(judging.LOOK_SECONDS)
            await one.look()
            await other.look()
            assert await rules(one) == await rules(other) == [Rule.DEPTH] * bool(depth)
        assert len((await one.history(limit=10)).alerts) == 2
        sender = Sender()
        async with delivering(store, clock, one, sender):
            pass
        assert [(m.raised, m.cleared) for m in sender.sent] == [(2, 1)]


async def test_one_that_was_never_seen_is_silent_once_it_was_watched_for_that_long(
    store, clock, seen
):
    alerts = alerts_of(store, clock, seen, silence_seconds=3_600)
    seen.put()
    await look(alerts, clock)
    clock.advance(3_598)
    await look(alerts, clock)
    assert await rules(alerts) == []
    await look(alerts, clock)
    assert await rules(alerts) == [Rule.SILENCE]
    seen.put(contact_ms=clock.wall_ms())
    await look(alerts, clock)
    assert await rules(alerts) == []


async def test_one_that_never_came_is_silent_though_the_server_starts_again_and_again(
    store, clock, seen
):
    """What waits for it tells for how long, and outlasts each start."""
    for hours in range(4):
        seen.put(ready=1, oldest_age_seconds=hours * 3_600.0 + 1)
        alerts = alerts_of(store, clock, seen, silence_seconds=7_200)
        await look(alerts, clock)
        assert await rules(alerts) == ([Rule.SILENCE] if hours >= 2 else [])


async def test_a_clock_that_was_set_back_silences_nobody(clock, seen):
    async with SharedStore(clock) as store:
        alerts, sender = alerts_of(store, clock, seen), Sender()
        sender.why = "HTTP 503"
        seen.put(ready=10)
        await look(alerts, clock)
        async with delivering(store, clock, alerts, sender):
            assert len(sender.sent) == 1
        async with delivering(store, clock, alerts, Hanging()):
            clock.advance(RETRY_SECONDS)
            await turns()
        clock.jump_wall(-86_400)
        sender.why = None
        async with delivering(store, clock, alerts, sender, "another"):
            assert len(sender.sent) == 2
        seen.put()
        await look(alerts, clock)
        async with delivering(store, clock, alerts, sender, "another"):
            assert [(one.raised, one.cleared) for one in sender.sent] == [(1, 0), (1, 0), (0, 1)]


@pytest.mark.parametrize("seconds", [-2, 2])
async def test_clocks_that_are_somewhat_apart_have_nothing_told_twice(clock, seen, seconds):
    async with SharedStore(clock) as store:
        alerts, sender = alerts_of(store, clock, seen), Sender()
        seen.put(ready=10)
        await look(alerts, clock)
        async with delivering(store, clock, alerts, Hanging()):
            clock.jump_wall(seconds)
            async with delivering(store, clock, alerts, sender, "another"):
                clock.advance(2)
                await turns()
                assert sender.sent == []


async def test_what_fails_is_sent_again_under_its_id(store, clock, seen):
    alerts, sender = alerts_of(store, clock, seen), Sender()
    sender.why = "SMTP 451"
    async with delivering(store, clock, alerts, sender):
        seen.put(ready=10)
        await look(alerts, clock)
        await turns()
        assert len(sender.sent) == 1
        sender.why = None
        clock.advance(5)
        await turns()
        first, second = sender.sent
        assert first == second
        clock.advance(3_600)
        await turns()
        assert len(sender.sent) == 2


async def test_after_a_day_it_is_given_up_and_the_history_says_so(store, clock, seen):
    alerts, sender = alerts_of(store, clock, seen), Sender()
    sender.why = "SMTP 550"
    seen.put(ready=10)
    await look(alerts, clock)
    async with delivering(store, clock, alerts, sender):
        for _ in range(2 * GIVE_UP_SECONDS // 900):
            clock.advance(900)
            await turns()
        tried = len(sender.sent)
        clock.advance(GIVE_UP_SECONDS)
        await turns()
        assert len(sender.sent) == tried
    (past,) = (await alerts.history(limit=10)).alerts
    assert past.unsent == (TO,)


async def test_where_the_sending_node_dies_another_goes_on_with_the_same_message(clock, seen):
    async with SharedStore(clock) as store:
        alerts, dying = alerts_of(store, clock, seen), Hanging()
        other, sender = alerts_of(store, clock, seen), Sender()
        seen.put(ready=10)
        await look(alerts, clock)
        async with delivering(store, clock, alerts, dying, "a"):
            assert len(dying.sent) == 1
        async with delivering(store, clock, other, sender, "b"):
            clock.advance(CLAIM_SECONDS - 1)
            await turns()
            assert sender.sent == []
            clock.advance(20)
            await turns()
        assert sender.sent == dying.sent


async def test_a_storm_is_one_message_and_then_one_a_minute(store, clock, seen):
    alerts, sender = alerts_of(store, clock, seen), Sender()
    async with delivering(store, clock, alerts, sender):
        for number in range(1_000):
            seen.put(f"queue-{number}", ready=10)
        await look(alerts, clock)
        await turns()
        (message,) = sender.sent
        assert (message.raised, len(message.notices), message.left_out) == (1_000, 20, 980)
        for number in range(MESSAGES + 1):
            seen.put(f"queue-{number}")
        await look(alerts, clock)
        await turns()
        assert len(sender.sent) == 1
        clock.advance(QUIET_SECONDS)
        await turns()
        assert sender.sent[1].cleared == MESSAGES + 1
