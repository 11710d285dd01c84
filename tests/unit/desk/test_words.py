import pytest

from restante.desk import words
from restante.desk.sparkline import sparkline


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "–"),  # noqa: RUF001
        (0, "0 s"),
        (0.7, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3_600, "1 h"),
        (11_100, "3 h 5 min"),
        (36_900, "10 h"),
        (100_000, "1 d 3 h"),
        (86_400 * 365, "365 d"),
    ],
)
def test_ages(seconds, told):
    assert words.age(seconds) == told


@pytest.mark.parametrize(
    ("number", "told"),
    [(0, "0"), (9_999, "9,999"), (12_345, "12.3 k"), (1_204_000, "1.2 M"), (2e9, "2 G")],
)
def test_compact(number, told):
    assert words.compact(number) == told


@pytest.mark.parametrize(
    ("fraction", "told"),
    [(None, "–"), (0, "0 %"), (0.001, "< 1 %"), (0.126, "13 %"), (1, "100 %")],  # noqa: RUF001
)
def test_shares(fraction, told):
    assert words.share(fraction) == told


def test_times_and_sizes():
    assert words.instant(1_767_225_605_250) == "2026-01-01 00:00:05"
    assert words.iso(1_767_225_605_250) == "2026-01-01T00:00:05Z"
    assert (words.size(8), words.size(1_536), words.size(1 << 20)) == ("8 B", "1.5 KiB", "1 MiB")
    assert words.plural(1, "queue needs", "queues need") == "1 queue needs"
    assert words.plural(1_200, "queue") == "1,200 queues"


def test_a_sparkline():
    drawn = sparkline([0, 10, 5], 'at most <10> "')
    assert 'd="M0.0 18.5L48.0 1.5L96.0 10.0"' in drawn
    assert 'aria-label="at most &lt;10&gt; &#34;"' in drawn
    flat = sparkline([0, 0], "nothing")
    assert 'class="area" d=""' in flat
    assert "NaN" not in sparkline([], "") + sparkline([7], "")
