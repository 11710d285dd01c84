"""The shipped suite, over every store that comes with Restante."""

import pytest

from restante.lifecycle import TABLE
from restante.model import Outcome, State
from restante.testing.conformance import (
    Adapter,
    Scenario,
    lifecycle_steps,
    shipped_stores,
    store_scenarios,
)

CASES = [
    pytest.param(adapter, scenario, id=f"{adapter}-{scenario}")
    for adapter in shipped_stores()
    for scenario in store_scenarios(durable=adapter.durable)
]


@pytest.mark.parametrize(("adapter", "scenario"), CASES)
def test_store(adapter: Adapter, scenario: Scenario, tmp_path):
    scenario.run(adapter.open, tmp_path)


def test_the_stores_are_found():
    assert {"memory", "sqlite"} <= {adapter.name for adapter in shipped_stores()}


def test_every_outcome_of_the_table_has_its_scenario():
    assert {outcome.value for outcome in TABLE} <= vars(lifecycle_steps).keys()
    assert set(Outcome) - set(TABLE) == {Outcome.LATE_ACK}
    assert {state for start, end in TABLE.values() for state in start | end} == set(State)
