"""No wake is lost, and none wakes more than there is work for.

A model of a consumer: it looks (at ``work``, as the store would), then waits, and so on. The tests put what others do
at each of the places between.
"""

import asyncio
import itertools

import pytest
from tests.unit.engine.house import turns

from restante.engine.wakeups import Wakeups
from restante.testing.clock import FakeClock


class Desk:
    """A queue's worth of work, and consumers that stop at every step until they are let go on."""

    def __init__(self):
        self.clock = FakeClock()
        self.wakeups = Wakeups(self.clock)
        self.work = 0
        self.looks = 0

    def publish(self, count=1):
        self.work += count
        self.wakeups.wake("q", count)

    async def consume(self, seconds=60, after_look=None, max=1):
        """How many it got: 0 when the time was up."""
        with self.wakeups.attend("q") as ticket:
            while True:
                ticket.look()
                self.looks += 1
                got = min(self.work, max)
                self.work -= got
                if after_look is not None:
                    await after_look()
                if got:
                    ticket.found(more=got == max)
                    return got
                if not await ticket.wait(seconds):
                    return 0


@pytest.fixture
def desk():
    return Desk()


async def start(desk, count=1, **options):
    tasks = [asyncio.create_task(desk.consume(**options)) for _ in range(count)]
    await turns()
    return tasks


async def test_a_wake_after_the_look_is_heard(desk):
    (task,) = await start(desk)
    desk.publish()
    assert await task == 1


async def test_a_wake_before_the_look_is_not_needed(desk):
    desk.publish()
    (task,) = await start(desk)
    assert await task == 1
    assert desk.looks == 1


async def test_a_wake_during_the_look_makes_it_look_again(desk):
    """Committed after the store looked, and told before the consumer began to wait."""
    gate = asyncio.Event()
    (task,) = await start(desk, after_look=gate.wait)
    desk.publish()
    gate.set()
    assert await task == 1
    assert desk.looks == 2


async def test_the_time_is_up(desk):
    (task,) = await start(desk, seconds=10)
    desk.clock.advance(9.9)
    await turns()
    assert not task.done()
    desk.clock.advance(0.1)
    assert await task == 0
    assert desk.clock.timers == 0


async def test_waiting_leaves_no_timer_behind(desk):
    (task,) = await start(desk)
    assert desk.clock.timers == 1
    desk.publish()
    await task
    assert desk.clock.timers == 0


@pytest.mark.parametrize("wakes", [1, 2, 3, 5])
async def test_n_wakes_wake_n(desk, wakes):
    tasks = await start(desk, 5)
    desk.publish(wakes)
    await turns()
    assert sum(task.done() for task in tasks) == wakes
    # Each that took all it could sends one more to look: no stampede.
    assert desk.looks <= 5 + wakes + 1 + wakes
    desk.wakeups.dismiss()
    assert sum(await asyncio.gather(*tasks)) == wakes


async def test_the_longest_waiting_is_first(desk):
    (first,) = await start(desk)
    (second,) = await start(desk)
    desk.publish()
    assert await first == 1
    assert not second.done()
    desk.publish()
    assert await second == 1


async def test_a_full_batch_wakes_the_next(desk):
    """One wake for much work (as after a poll): whoever finds much passes it on."""
    tasks = await start(desk, 3)
    desk.work = 3
    desk.wakeups.wake("q")
    assert await asyncio.gather(*tasks) == [1, 1, 1]


async def test_a_short_batch_wakes_nobody(desk):
    tasks = await start(desk, 3, max=10)
    desk.work = 3
    desk.wakeups.wake("q")
    await turns()
    assert desk.looks == 4
    desk.wakeups.dismiss()
    assert await asyncio.gather(*tasks) == [3, 0, 0]


# -- races: what comes in the same turn of the loop ---------------------------------------------


async def test_woken_and_cancelled_at_once(desk):
    first, second = await start(desk, 2)
    desk.publish()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == 1


async def test_cancelled_and_woken_at_once(desk):
    first, second = await start(desk, 2)
    first.cancel()
    desk.publish()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == 1


async def test_cancelled_during_the_look(desk):
    """Whatever it found or did not find, the next one looks."""
    gate = asyncio.Event()
    (first,) = await start(desk, after_look=gate.wait)
    desk.publish()
    (second,) = await start(desk, seconds=60)
    assert await second == 1
    (third,) = await start(desk)
    desk.publish()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await third == 1


async def test_timed_out_and_woken_at_once(desk):
    first, second = await start(desk, 2, seconds=10)
    third = asyncio.create_task(desk.consume(seconds=60))
    await turns()
    desk.clock.advance(10)
    desk.publish()
    assert [await first, await second] == [0, 0]
    assert await third == 1


async def test_woken_and_timed_out_at_once(desk):
    (first,) = await start(desk, seconds=10)
    desk.publish()
    desk.clock.advance(10)
    assert await first == 1


async def test_timed_out_and_cancelled_at_once(desk):
    (first,) = await start(desk, seconds=10)
    desk.clock.advance(10)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert desk.wakeups.attended() == []


async def test_dismissed_and_woken_at_once(desk):
    (first,) = await start(desk)
    desk.wakeups.dismiss()
    desk.publish()
    assert await first == 0
    assert await desk.consume() == 1, "the work is there for the next"


@pytest.mark.parametrize(
    "order", sorted({*itertools.permutations(["wake", "cancel", "time out", "wake"])})
)
async def test_whatever_the_order_no_wake_is_lost(desk, order):
    """Four wait; the first is cancelled, the second's time is up, two pieces of work come, all in one turn."""
    (first,) = await start(desk)
    (second,) = await start(desk, seconds=10)
    (third,) = await start(desk)
    (fourth,) = await start(desk)
    for event in order:
        match event:
            case "wake":
                desk.publish()
            case "cancel":
                first.cancel()
            case "time out":
                desk.clock.advance(10)
    await turns()
    # The third and the fourth have time enough for both.
    assert desk.work == 0
    desk.wakeups.dismiss()
    await asyncio.gather(first, second, third, fourth, return_exceptions=True)
    assert desk.wakeups.attended() == []


# -- flow control -------------------------------------------------------------------------------


async def test_a_settle_wakes_who_was_held_back(desk):
    with desk.wakeups.attend("q") as ticket:
        ticket.look()
        ticket.limited()
        waiting = asyncio.create_task(ticket.wait(60))
        await turns()
        desk.wakeups.settled("q")
        assert await waiting


async def test_a_settle_wakes_nobody_when_nobody_was_held_back(desk):
    (task,) = await start(desk)
    desk.wakeups.settled("q")
    await turns()
    assert desk.looks == 1
    desk.wakeups.dismiss()
    await task


async def test_a_settle_during_the_look_is_heard(desk):
    """The look found the limit reached; the lease that ended meanwhile was told of before it could say so."""
    with desk.wakeups.attend("q") as ticket:
        ticket.look()
        desk.wakeups.settled("q")
        ticket.limited()
        waiting = asyncio.create_task(ticket.wait(60))
        await turns()
        assert waiting.done()
        assert waiting.result()


# -- lines --------------------------------------------------------------------------------------


async def test_queues_do_not_wake_each_other(desk):
    (task,) = await start(desk)
    desk.wakeups.wake("another")
    await turns()
    assert desk.looks == 1
    desk.wakeups.dismiss()
    await task


async def test_attended_names_the_queues_somebody_waits_on(desk):
    assert desk.wakeups.attended() == []
    (task,) = await start(desk)
    assert desk.wakeups.attended() == ["q"]
    desk.publish()
    await task
    assert desk.wakeups.attended() == []


async def test_no_line_is_kept_for_nobody(desk):
    tasks = await start(desk, 3)
    desk.publish(2)
    await turns()
    tasks[-1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert desk.wakeups._lines == {}


async def test_one_key_can_be_dismissed(desk):
    with desk.wakeups.attend("q", "old") as old, desk.wakeups.attend("q", "new") as new:
        waits = [asyncio.create_task(ticket.wait(60)) for ticket in (old, new)]
        await turns()
        desk.wakeups.dismiss("old")
        assert await waits[0] is False
        assert not waits[1].done()
        desk.wakeups.wake("q")
        assert await waits[1] is True
