"""The circuit of an endpoint, as a table of steps."""

import pytest

from restante.transports.webhook.breaker import (
    COOL_DOWN_MAXIMUM_SECONDS,
    FAILURES,
    PAUSE_MAXIMUM_SECONDS,
    Breaker,
)
from restante.webhooks import Circuit

CLOSED, OPEN, HALF_OPEN = Circuit.CLOSED, Circuit.OPEN, Circuit.HALF_OPEN
FAIL, WELL = "fail", "well"
# Jitter is 1 here: each cool-down is as long as it can be, 1, 2, 4, ... seconds.
STORIES = {
    "fewer than the limit leave it closed": [(0, [FAIL] * (FAILURES - 1), CLOSED)],
    "the limit in a row opens it": [(0, [FAIL] * FAILURES, OPEN)],
    "a success starts the count over": [
        (0, [FAIL] * (FAILURES - 1) + [WELL] + [FAIL] * (FAILURES - 1), CLOSED),
        (0, [FAIL], OPEN),
    ],
    "it cools down": [(0, [FAIL] * FAILURES, OPEN), (0.999, [], OPEN), (1, [], HALF_OPEN)],
    "a probe that goes well closes it": [
        (0, [FAIL] * FAILURES, OPEN),
        (1, [WELL], CLOSED),
        (1, [FAIL] * (FAILURES - 1), CLOSED),
    ],
    "a probe that fails opens it for twice as long": [
        (0, [FAIL] * FAILURES, OPEN),
        (1, [FAIL], OPEN),
        (2.999, [], OPEN),
        (3, [FAIL], OPEN),
        (6.999, [], OPEN),
        (7, [], HALF_OPEN),
    ],
    "what fails while it is open was counted already": [
        (0, [FAIL] * FAILURES, OPEN),
        (0.5, [FAIL] * 20, OPEN),
        (1, [], HALF_OPEN),
    ],
    "what goes well while it is open closes it": [
        (0, [FAIL] * FAILURES, OPEN),
        (0.5, [WELL], CLOSED),
    ],
    "not now opens it at once": [(0, [0], OPEN), (1, [], HALF_OPEN)],
    "not now, for as long as is asked": [(0, [30], OPEN), (29.9, [], OPEN), (30, [], HALF_OPEN)],
    "the cool-down is the least": [(0, [0.1], OPEN), (0.9, [], OPEN), (1, [], HALF_OPEN)],
    "the longest that was asked counts": [
        (0, [5], OPEN),
        (1, [10], OPEN),
        (2, [3], OPEN),
        (10.9, [], OPEN),
        (11, [], HALF_OPEN),
    ],
    "not now again and again takes longer and longer": [
        (0, [0], OPEN),
        (1, [0], OPEN),
        (2.9, [], OPEN),
        (3, [], HALF_OPEN),
    ],
    "nobody is paused for ever": [
        (0, [10**9], OPEN),
        (PAUSE_MAXIMUM_SECONDS - 1, [], OPEN),
        (PAUSE_MAXIMUM_SECONDS, [], HALF_OPEN),
    ],
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_breaker(story):
    breaker = Breaker()
    assert breaker.state(0) is CLOSED
    for now, events, state in story:
        for event in events:
            if event == FAIL:
                breaker.failed(now, 1)
            elif event == WELL:
                breaker.succeeded()
            else:
                breaker.throttled(now, 1, event)
        assert breaker.state(now) is state, (now, events)


def test_the_cool_down_grows_to_its_limit_and_half_of_it_is_chance():
    for jitter, share in ((0.0, 0.5), (0.5, 0.75), (1.0, 1.0)):
        breaker, now, waits = Breaker(), 0.0, []
        for _ in range(FAILURES - 1):
            breaker.failed(now, jitter)
        for _ in range(40):
            breaker.failed(now, jitter)
            waits.append(breaker.wait_seconds(now))
            now += waits[-1]
            assert breaker.wait_seconds(now) == 0
        assert waits[:4] == [share, 2 * share, 4 * share, 8 * share]
        assert set(waits[10:]) == {COOL_DOWN_MAXIMUM_SECONDS * share}


def test_how_long_a_throttled_one_waits():
    breaker = Breaker()
    assert breaker.throttled(100, 0.0) == 0.5
    assert breaker.throttled(100, 0.0, 7) == 7
    assert breaker.throttled(105, 0.0, 1) == 2
    assert breaker.wait_seconds(105) == 2
    breaker.succeeded()
    assert breaker.wait_seconds(105) == 0
