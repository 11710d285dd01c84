"""The clock of the tests, and the timeline that a store lays over any clock."""

import asyncio

import pytest
from tests.unit.engine.house import turns

from restante.testing.clock import START_WALL_MS, FakeClock
from restante.timeline import Timeline


@pytest.fixture
def clock():
    return FakeClock()


def test_time_stands_still(clock):
    assert clock.monotonic() == clock.monotonic() == 0
    assert clock.wall_ms() == START_WALL_MS
    clock.advance(1.5)
    assert clock.monotonic() == 1.5
    assert clock.wall_ms() == START_WALL_MS + 1_500


def test_many_small_steps_are_one_large_one(clock):
    for _ in range(1_000):
        clock.advance(0.001)
    assert clock.monotonic() == 1


def test_the_wall_clock_jumps_alone(clock):
    clock.jump_wall(-3_600)
    assert clock.monotonic() == 0
    assert clock.wall_ms() == START_WALL_MS - 3_600_000


def test_calls_come_in_order_and_at_their_time(clock):
    called = []
    for seconds in (3, 1, 2, 1):
        clock.call_later(
            seconds, lambda seconds=seconds: called.append((seconds, clock.monotonic()))
        )
    clock.advance(0.9)
    assert called == []
    clock.advance(10)
    assert called == [(1, 1), (1, 1), (2, 2), (3, 3)]
    assert clock.monotonic() == 10.9
    clock.advance(10)
    assert len(called) == 4


def test_a_call_that_calls_again_does_so_within_the_same_advance(clock):
    called = []

    def tick():
        called.append(clock.monotonic())
        clock.call_later(1, tick)

    clock.call_later(1, tick)
    clock.advance(3.5)
    assert called == [1, 2, 3]
    assert (clock.timers, clock.next_in_seconds) == (1, 0.5)


def test_a_cancelled_call_does_not_come(clock):
    cancel = clock.call_later(1, pytest.fail)
    clock.call_later(2, lambda: None)
    cancel()
    cancel()
    assert (clock.timers, clock.next_in_seconds) == (1, 2)
    clock.advance(3)
    assert (clock.timers, clock.next_in_seconds) == (0, None)


async def test_waits_end_in_order(clock):
    ended = []

    async def wait(seconds):
        await clock.wait(seconds)
        ended.append(seconds)

    tasks = [asyncio.create_task(wait(seconds)) for seconds in (2, 1, 0)]
    await clock.until_armed(2)
    await turns()
    assert ended == [0]
    clock.advance(5)
    await asyncio.gather(*tasks)
    assert ended == [0, 1, 2]


async def test_a_cancelled_wait_leaves_nothing_behind(clock):
    task = asyncio.create_task(clock.wait(1))
    await clock.until_armed()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.timers == 0


def test_a_timeline_runs_with_the_monotonic_clock_alone(clock):
    timeline = Timeline(clock)
    clock.jump_wall(86_400)
    clock.advance(2)
    assert timeline.now_ms() == START_WALL_MS + 2_000
    assert timeline.wall_ms() == START_WALL_MS + 86_402_000


@pytest.mark.parametrize(("ahead_ms", "expected"), [(5_000, 5_000), (-5_000, 0)])
def test_a_timeline_never_goes_back(clock, ahead_ms, expected):
    """Where it last stood, if the wall clock has been set back; else the wall clock."""
    timeline = Timeline(clock, START_WALL_MS + ahead_ms)
    assert timeline.now_ms() == START_WALL_MS + expected
