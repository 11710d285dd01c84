"""Counting what was committed, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.metering import ACK_BOUNDS_SECONDS, COUNTS, OTHER, REASONS, Event, Meter, Tally, total
from restante.model import Outcome, State


def told(meter, queue, outcome, state=State.ACKED, age_ms=0, reason=""):
    meter.receipt((queue, outcome, state, age_ms, reason, 1, 1, "id", "acme"))


EVENTS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(list(Outcome)),
        st.sampled_from(list(State)),
        st.integers(0, 10**8),
        st.sampled_from(["", "x", "y"]),
    )
)


def test_what_is_undone_did_not_take_place():
    meter = Meter()
    journal: list[Event] = []
    meter.journal = journal.extend
    told(meter, "a", Outcome.PUBLISHED)
    meter.leased(("a", 3, 1))
    assert meter.drain() == {}
    meter.undone()
    meter.committed()
    assert (meter.drain(), journal) == ({}, [])
    told(meter, "a", Outcome.PUBLISHED)
    meter.leased(("a", 3, 1))
    meter.committed()
    assert meter.drain() == {"a": Tally(published=1, delivered=3, redelivered=1)}
    assert len(journal) == 1
    assert meter.drain() == {}


def test_what_another_was_told_counts_here_once():
    meter, of_one_transaction = Meter(), Meter()
    told(of_one_transaction, "a", Outcome.ACKED, age_ms=20)
    meter.take_over(of_one_transaction)
    of_one_transaction.committed()
    assert meter.drain()["a"].acked == 1
    assert of_one_transaction.drain() == {}


def test_a_death_is_counted_once_whatever_it_died_of():
    meter = Meter()
    told(meter, "a", Outcome.NACKED, State.READY, reason="HTTP 500")
    told(meter, "a", Outcome.NACKED, State.DEAD, reason="HTTP 500")
    told(meter, "a", Outcome.LATE_ACK, State.DEAD)
    told(meter, "a", Outcome.LEASE_EXPIRED, State.DEAD)
    meter.committed()
    tally = meter.drain()["a"]
    assert (tally.died, tally.failed, tally.late_ack) == (2, 3, 1)
    assert tally.reasons == {"HTTP 500": 2, "lease_expired": 1}
    assert tally.error_rate == 1


def test_reasons_are_bounded():
    tally = Tally()
    for number in range(REASONS + 5):
        tally.count_reason(f"r{number}")
    assert len(tally.reasons) == REASONS + 1
    assert tally.reasons[OTHER] == 5


@pytest.mark.parametrize(
    ("milliseconds", "low", "high"),
    [(0, 0, 0.01), (10, 0, 0.01), (11, 0.01, 0.03), (86_400_000, 21_600, 86_400)],
)
def test_the_time_to_an_ack_is_within_its_class(milliseconds, low, high):
    tally = Tally()
    tally.count_ack(milliseconds)
    assert low <= tally.ack_seconds(0.5) <= high
    assert tally.ack_ms == milliseconds


def test_what_took_longer_than_every_bound_is_told_as_the_last():
    tally = Tally()
    assert tally.ack_seconds(0.5) is None
    tally.count_ack(10**9)
    assert tally.ack_seconds(0.5) == ACK_BOUNDS_SECONDS[-1]


@given(EVENTS, EVENTS)
def test_sums_agree_with_what_was_told_and_taking_away_undoes_adding(first, second):
    meter = Meter()
    for event in first + second:
        told(meter, *event)
    meter.committed()
    all_of_it = total(meter.drain().values())
    assert sum(getattr(all_of_it, outcome.value) for outcome in Outcome) == len(first + second)
    assert sum(all_of_it.ack_classes or ()) == all_of_it.acked
    assert sum(all_of_it.reasons.values()) == all_of_it.failed

    parts = []
    for events in (first, second):
        for event in events:
            told(meter, *event)
        meter.committed()
        parts.append(total(meter.drain().values()))
    both = total(parts)
    assert both == all_of_it
    both.take(parts[1])
    for name in (*COUNTS, "ack_ms", "reasons"):
        assert getattr(both, name) == getattr(parts[0], name), name
