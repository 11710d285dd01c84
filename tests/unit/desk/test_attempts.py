import pytest

from restante.desk import attempts
from restante.desk.attempts import Attempts
from restante.errors import TooManySignIns
from restante.testing.clock import FakeClock


def test_a_network_of_ipv6_is_one_address():
    guard = Attempts(FakeClock())
    for number in range(attempts.BY_ADDRESS):
        guard.begin(f"2001:db8::{number}", f"name-{number}")
    with pytest.raises(TooManySignIns, match="wait 30 s"):
        guard.begin("2001:db8::ffff", "another")
    guard.begin("2001:db8:0:1::1", "another")


def test_what_succeeds_is_given_back():
    guard = Attempts(FakeClock())
    for _ in range(attempts.BY_ADDRESS * 3):
        guard.begin("192.0.2.1", "ada")
        guard.succeeded("192.0.2.1", "ada")


def test_it_remembers_only_so_many(monkeypatch):
    monkeypatch.setattr(attempts, "REMEMBERED", 5)
    guard = Attempts(FakeClock())
    for number in range(100):
        guard.begin(f"192.0.2.{number}", f"name-{number}")
    assert len(guard._addresses._all) <= 5
    assert len(guard._names._all) <= 5
