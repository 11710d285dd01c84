"""How often a client may ask."""

import pytest
from tests.unit.engine.house import ACME, BOB, OPERATOR, SHOP

from restante.engine.rates import Rates
from restante.errors import TooManyRequests
from restante.testing.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


def asks(rates, actor, most=1_000):
    """How many requests of the actor's are admitted now."""
    for number in range(most):
        try:
            rates.admit(actor)
        except TooManyRequests:
            return number
    return most


def test_two_seconds_worth_at_once_and_then_by_the_second(clock):
    rates = Rates(clock, 5)
    assert asks(rates, ACME) == 10
    clock.advance(1)
    assert asks(rates, ACME) == 5
    clock.advance(60)
    assert asks(rates, ACME) == 10


def test_who_is_refused_is_told_when_to_ask_again(clock):
    rates = Rates(clock, 0.25)
    assert asks(rates, ACME) == 1
    with pytest.raises(TooManyRequests, match="acme may ask") as refused:
        rates.admit(ACME)
    assert refused.value.retry_after_seconds == pytest.approx(4)
    clock.advance(refused.value.retry_after_seconds)
    rates.admit(ACME)


def test_each_client_has_its_own(clock):
    rates = Rates(clock, 5)
    asks(rates, ACME)
    assert asks(rates, BOB) == 10


@pytest.mark.parametrize("actor", [SHOP, OPERATOR])
def test_publishers_and_administrators_have_no_limit(clock, actor):
    assert asks(Rates(clock, 1), actor) == 1_000


def test_none_means_none(clock):
    rates = Rates(clock, 0)
    assert asks(rates, ACME) == 1_000
    assert rates.wait_seconds(ACME) == 0


def test_what_comes_on_streams_is_held_back_in_its_order(clock):
    rates = Rates(clock, 10)
    assert [rates.wait_seconds(ACME) for _ in range(20)] == [0] * 20
    # Each of its connections waits behind the others.
    waits = [rates.wait_seconds(ACME) for _ in range(3)]
    assert waits == pytest.approx([0.1, 0.2, 0.3])
    with pytest.raises(TooManyRequests):
        rates.admit(ACME)


def test_clients_that_ask_no_more_are_forgotten(clock):
    rates = Rates(clock, 10)
    for number in range(5_000):
        rates.admit(ACME.__class__(f"c{number}", ACME.role, "k"))
        clock.advance(0.01)
    assert len(rates._buckets) <= 2_000
