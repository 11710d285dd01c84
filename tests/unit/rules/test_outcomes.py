"""What a notification has come to, as a whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.errors import InvalidHeader, Malformed
from restante.lifecycle import TABLE
from restante.model import State
from restante.outcomes import ALL, FAILED, OVER, Requirement, Result, reckon

STATES = st.lists(st.sampled_from(State), max_size=8)
REQUIREMENTS = st.none() | st.integers(1, 9)


def test_what_is_required_is_read():
    assert Requirement.parse("all") is ALL
    assert Requirement.parse("any") == Requirement(1)
    assert Requirement.parse("12") == Requirement(12)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "ALL", "100000", "\u0663", "any one"])
def test_what_is_no_requirement(text):
    with pytest.raises(Malformed):
        Requirement.parse(text)


def test_one_queue_can_sign_once():
    for text in ("all", "any", "1"):
        Requirement.parse(text).check_one_queue()
    with pytest.raises(InvalidHeader, match="one queue signs once"):
        Requirement.parse("2").check_one_queue()


def test_every_state_is_open_met_or_failed():
    ends = {State.DEAD, State.ACKED, State.SUPERSEDED, State.EXPIRED, State.DISCARDED}
    assert ends == OVER
    # From one that is not dead nothing leads away: what has failed stays so, but for a redrive.
    for outcome, (before, _) in TABLE.items():
        if outcome.value not in ("redriven", "discarded"):
            assert not before & OVER, outcome


@given(STATES, REQUIREMENTS)
def test_it_is_met_failed_or_pending_by_what_may_still_come(states, acks):
    acked = states.count(State.ACKED)
    possible = len(states) - sum(state in FAILED for state in states)
    needed = len(states) if acks is None else acks
    found = reckon(Requirement(acks), states)
    if acked >= needed:
        assert found.result is Result.MET
    elif possible < needed:
        assert found.result is Result.FAILED
    else:
        assert found.result is Result.PENDING


@given(STATES, REQUIREMENTS, st.data())
def test_so_many_more_decide_it_and_no_fewer(states, acks, data):
    requirement = Requirement(acks)
    found = reckon(requirement, states)
    still_open = [index for index, state in enumerate(states) if state not in OVER]
    if found.result is not Result.PENDING:
        return
    for end, count, result in (
        (State.ACKED, found.acks, Result.MET),
        (data.draw(st.sampled_from(sorted(FAILED))), found.failures, Result.FAILED),
    ):
        assert 1 <= count <= len(still_open)
        for ended in range(1, count + 1):
            states_then = list(states)
            for index in still_open[:ended]:
                states_then[index] = end
            expected = result if ended == count else Result.PENDING
            assert reckon(requirement, states_then).result is expected


def test_where_nobody_has_subscribed():
    assert reckon(ALL, []).result is Result.MET
    assert reckon(Requirement(1), []).result is Result.FAILED
