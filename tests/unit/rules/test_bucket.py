"""So many calls a second."""

import pytest

from restante.bucket import Bucket


def test_a_second_s_worth_at_once_and_then_as_time_passes():
    bucket = Bucket(10, 100.0)
    assert bucket.available(100) == 10
    bucket.take(10, 100)
    assert bucket.available(100) == 0
    assert bucket.wait_seconds(100) == pytest.approx(0.1)
    assert bucket.available(100.35) == 3
    assert bucket.available(200) == 10


def test_a_slow_one_lets_one_through_at_a_time():
    bucket = Bucket(0.5, 0.0)
    assert bucket.available(0) == 1
    bucket.take(1, 0)
    assert bucket.wait_seconds(0) == 2
    assert bucket.wait_seconds(1.5) == 0.5
    assert bucket.available(2) == 1
    assert bucket.available(1_000) == 1


def test_what_is_taken_too_much_is_paid_off():
    bucket = Bucket(2, 0.0)
    bucket.take(6, 0)
    assert bucket.available(0) == 0
    assert bucket.wait_seconds(0) == 2.5
    assert bucket.available(2) == 0
    assert bucket.available(2.5) == 1


def test_never_more_than_the_rate_over_any_time():
    bucket, taken = Bucket(5, 0.0), 0
    for step in range(1_000):
        now = step / 100
        count = bucket.available(now)
        bucket.take(count, now)
        taken += count
        assert taken <= 5 + 5 * now + 1e-6
    assert taken >= 5 * 9.9
