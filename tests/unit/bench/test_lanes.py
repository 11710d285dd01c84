"""The turn-taking of a lane: one publish at a time, and not too far ahead of the consumer."""

from __future__ import annotations

import pytest

from restante.bench.lanes import LANE_BACKLOG, Lane, LoadFailed, Tally, measure


def lane_with_log() -> tuple[Lane, list[str]]:
    lane, log = Lane(Tally()), []
    lane.publish = lambda: log.append("publish")
    return lane, log


async def test_a_confirm_brings_the_next_publish():
    lane, log = lane_with_log()
    lane.begin()
    assert len(log) == 1
    lane.confirmed()
    assert len(log) == 2
    assert (lane.tally.published, lane.tally.completed) == (1, 0)


async def test_a_publisher_waits_for_its_consumer():
    lane, log = lane_with_log()
    lane.begin()
    for _ in range(LANE_BACKLOG):
        lane.confirmed()
    assert len(log) == LANE_BACKLOG
    lane.completed()
    assert len(log) == LANE_BACKLOG + 1
    lane.completed()
    assert len(log) == LANE_BACKLOG + 1


async def test_nothing_is_published_once_it_is_over():
    lane, log = lane_with_log()
    lane.begin()
    lane.tally.running = False
    lane.confirmed()
    lane.completed()
    assert len(log) == 1


async def test_the_first_failure_ends_the_measurement():
    tally = Tally()
    tally.fail("first")
    tally.fail("second")
    with pytest.raises(LoadFailed, match="first"):
        await measure(tally, [], warmup_seconds=60, seconds=60)


async def test_a_window_without_a_lifecycle_is_no_result():
    with pytest.raises(LoadFailed, match="not one lifecycle"):
        await measure(Tally(), [], warmup_seconds=0, seconds=0)
