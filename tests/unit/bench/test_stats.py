"""Percentiles are values that were measured; medians are the usual ones."""

from __future__ import annotations

import pytest

from restante.bench.stats import median, percentile


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (1, 1), (50, 50), (50.5, 51), (99, 99), (99.5, 100), (100, 100)]
)
def test_percentiles_of_one_to_a_hundred(percent: float, value: int):
    assert percentile(list(range(100, 0, -1)), percent) == value


def test_the_p99_of_a_few_is_the_highest():
    assert percentile([3.0, 9.0, 1.0], 99) == 9.0


def test_one_value_is_every_percentile():
    assert [percentile([4.0], percent) for percent in (0, 50, 100)] == [4.0, 4.0, 4.0]


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], -1), ([1.0], 100.5)])
def test_what_has_no_percentile(values: list[float], percent: float):
    with pytest.raises(ValueError, match="percent"):
        percentile(values, percent)


def test_medians():
    assert median([5.0, 1.0, 3.0]) == 3.0
    assert median([4.0, 1.0, 3.0, 2.0]) == 2.5


def test_no_median_of_nothing():
    with pytest.raises(ValueError, match="no values"):
        median([])
