"""Every decision is a step of the table, and says what the design says."""

import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given

from restante.errors import LeaseLost
from restante.lifecycle import (
    ENDED,
    OPEN,
    TABLE,
    WAITING,
    Standing,
    backoff_seconds,
    check_transition,
    decide_extend,
    decide_lease_expired,
    decide_redrive,
    decide_settle,
    entry_state,
)
from restante.model import SETTING_BOUNDS, Outcome, Settings, State, Verb

SETTLING = [Verb.ACK, Verb.NACK, Verb.REJECT, Verb.RELEASE]

standings = st.builds(
    Standing,
    state=st.sampled_from(sorted(OPEN | {State.DEAD})),
    attempt=st.integers(0, 12),
    fence=st.integers(0, 5),
    forgiving=st.booleans(),
    parked=st.booleans(),
)
some_settings = st.builds(
    Settings,
    max_attempts=st.integers(1, 12),
    backoff_base_seconds=st.floats(0, 3_600),
    backoff_factor=st.floats(1, 10),
    backoff_cap_seconds=st.floats(0, 86_400),
    after_dead=st.sampled_from(["continue", "park"]),
)
jitters = st.floats(0, 1, exclude_max=True)


def leased(**fields):
    return Standing(State.LEASED, **({"attempt": 1, "fence": 1} | fields))


@given(
    standings,
    st.integers(0, 5),
    st.sampled_from(SETTLING),
    some_settings,
    st.none() | st.floats(0, 100_000),
    jitters,
)
def test_a_settlement_is_a_step_of_the_table_or_lost(
    standing, fence, verb, settings, retry_after, jitter
):
    before = (standing.state, standing.attempt, standing.fence)
    try:
        decision = decide_settle(
            standing, fence, verb, settings, retry_after_seconds=retry_after, jitter=jitter
        )
    except LeaseLost:
        late_ack = standing.forgiving and verb is Verb.ACK
        assert fence != standing.fence or (standing.state is not State.LEASED and not late_ack)
        return
    assert fence == standing.fence
    if standing.state in (State.LEASED, State.READY):
        check_transition(decision.outcome, standing.state, decision.state)
    assert (decision.delay_seconds > 0) == (decision.state is State.SCHEDULED)
    assert 0 <= decision.delay_seconds <= settings.backoff_cap_seconds
    assert not decision.forgiving
    assert decision.parked == (decision.state is State.DEAD and settings.after_dead == "park")
    assert (standing.state, standing.attempt, standing.fence) == before, "deciding changes nothing"


@given(standings.filter(lambda one: one.state is State.LEASED), some_settings)
def test_a_lease_that_ran_out_is_a_step_of_the_table(standing, settings):
    decision = decide_lease_expired(standing, settings)
    check_transition(Outcome.LEASE_EXPIRED, State.LEASED, decision.state)
    assert decision.outcome is Outcome.LEASE_EXPIRED
    used_up = standing.attempt >= settings.max_attempts
    assert decision.state is (State.DEAD if used_up else State.READY)
    assert decision.forgiving != used_up


@pytest.mark.parametrize("held", [False, True])
def test_a_redrive_is_a_step_of_the_table(held):
    decision = decide_redrive(held=held)
    check_transition(decision.outcome, State.DEAD, decision.state)
    assert (decision.attempt, decision.forgiving, decision.parked) == (0, False, False)


@given(st.floats(0, 1_000), st.booleans())
def test_whatever_enters_waits(delay, held):
    state = entry_state(delay_seconds=delay, held=held)
    assert state in TABLE[Outcome.PUBLISHED][1]
    assert (state is State.HELD) == held


def test_the_table_speaks_of_every_state_and_ends_where_lives_end():
    assert {*WAITING, State.LEASED, State.DEAD, *ENDED} == set(State)
    assert not WAITING & ENDED
    for outcome, (start, end) in TABLE.items():
        assert end, outcome
        assert not start & ENDED, "nothing leads out of an end"
    for state in State:
        for outcome in TABLE:
            if state not in TABLE[outcome][0] or state not in TABLE[outcome][1]:
                with pytest.raises(AssertionError, match="does not lead"):
                    check_transition(outcome, state, state)


def test_acks_and_rejects():
    assert decide_settle(leased(), 1, Verb.ACK, Settings()).state is State.ACKED
    decision = decide_settle(leased(), 1, Verb.REJECT, Settings(after_dead="park"))
    assert (decision.state, decision.parked) == (State.DEAD, True)


def test_a_release_gives_the_attempt_back():
    assert decide_settle(leased(attempt=3), 1, Verb.RELEASE, Settings(max_attempts=3)).attempt == 2


@pytest.mark.parametrize("fence", [0, 2])
@pytest.mark.parametrize("verb", SETTLING)
def test_another_fence_is_lost(fence, verb):
    with pytest.raises(LeaseLost):
        decide_settle(leased(), fence, verb, Settings())
    with pytest.raises(LeaseLost):
        decide_extend(leased(), fence)


def test_only_an_ack_is_forgiven_and_only_once_the_lease_ran_out():
    standing = Standing(State.READY, attempt=1, fence=1, forgiving=True)
    assert decide_settle(standing, 1, Verb.ACK, Settings()).state is State.ACKED
    for verb, forgiving in itertools.product(SETTLING, (False, True)):
        if verb is not Verb.ACK or not forgiving:
            standing.forgiving = forgiving
            with pytest.raises(LeaseLost):
                decide_settle(standing, 1, verb, Settings())
    with pytest.raises(LeaseLost):
        decide_extend(standing, 1)


def test_a_nack_at_the_limit_is_the_last():
    settings = Settings(max_attempts=3)
    assert decide_settle(leased(attempt=2), 1, Verb.NACK, settings, jitter=0.5).delay_seconds == 1
    assert decide_settle(leased(attempt=3), 1, Verb.NACK, settings).state is State.DEAD


def test_a_nacks_own_delay_wins_up_to_the_cap():
    settings = Settings(backoff_cap_seconds=10)
    for asked, delay in ((0, 0), (3, 3), (11, 10)):
        decision = decide_settle(leased(), 1, Verb.NACK, settings, retry_after_seconds=asked)
        assert decision.delay_seconds == delay


# -- backoff ------------------------------------------------------------------------------------


@given(some_settings, st.integers(1, 1_000), jitters)
def test_backoff_is_between_nothing_and_the_cap(settings, attempt, jitter):
    assert 0 <= backoff_seconds(settings, attempt, jitter) <= settings.backoff_cap_seconds


@given(some_settings, st.integers(1, 999))
def test_backoff_never_falls_with_the_attempts(settings, attempt):
    """Half of the jitter keeps the comparison from the edge; it is a factor all the same."""
    now, then = (backoff_seconds(settings, one, 0.5) for one in (attempt, attempt + 1))
    assert now <= then


def test_backoff_doubles_up_to_the_cap():
    settings = Settings(backoff_base_seconds=1, backoff_factor=2, backoff_cap_seconds=300)
    delays = [backoff_seconds(settings, attempt, 0.5) for attempt in range(1, 12)]
    assert delays == [0.5, 1, 2, 4, 8, 16, 32, 64, 128, 150, 150]


def test_backoff_of_a_small_factor_reaches_the_cap_too():
    settings = Settings(backoff_base_seconds=1, backoff_factor=1.02, backoff_cap_seconds=86_400)
    assert backoff_seconds(settings, 1_000, 0.5) == 43_200


@pytest.mark.parametrize("end", ["low", "high"])
def test_backoff_at_its_bounds(end):
    bounds = {name: getattr(bound, end) for name, bound in SETTING_BOUNDS.items()}
    settings = Settings(
        backoff_base_seconds=bounds["backoff_base_seconds"],
        backoff_factor=bounds["backoff_factor"],
        backoff_cap_seconds=bounds["backoff_cap_seconds"],
    )
    for attempt in (1, 2, 1_000):
        assert backoff_seconds(settings, attempt, 0.0) == 0
        assert backoff_seconds(settings, attempt, 0.999) <= bounds["backoff_cap_seconds"]
