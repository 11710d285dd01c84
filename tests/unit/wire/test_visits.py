import msgspec
import pytest

from restante.wire import visits
from restante.wire.visits import Visit

SECRET = b"s" * 32
VISIT = Visit(id="v1", name="ada", stamp="1", began=1_000, seen=1_000)


def test_a_visit_comes_back_as_it_was():
    assert visits.unseal(SECRET, visits.seal(SECRET, VISIT), 1_001) == VISIT


def test_another_secret_opens_nothing():
    assert visits.unseal(b"t" * 32, visits.seal(SECRET, VISIT), 1_001) is None


@pytest.mark.parametrize("place", range(0, 60, 7))
def test_no_character_of_it_can_be_changed(place):
    value = visits.seal(SECRET, VISIT)
    other = "A" if value[place] != "A" else "B"
    assert visits.unseal(SECRET, value[:place] + other + value[place + 1 :], 1_001) is None


def test_it_is_over_when_nobody_is_there_and_after_its_time():
    value = visits.seal(SECRET, VISIT)
    assert visits.unseal(SECRET, value, 1_000 + visits.IDLE_SECONDS - 1) == VISIT
    assert visits.unseal(SECRET, value, 1_000 + visits.IDLE_SECONDS) is None
    end = 1_000 + visits.LIFE_SECONDS
    busy = visits.seal(SECRET, msgspec.structs.replace(VISIT, seen=end - 1))
    assert visits.unseal(SECRET, busy, end - 1) is not None
    assert visits.unseal(SECRET, busy, end) is None


def test_a_forms_token_is_one_visits_and_no_cookie():
    token = visits.form_token(SECRET, VISIT)
    assert visits.is_form_token(SECRET, VISIT, token)
    assert not visits.is_form_token(SECRET, msgspec.structs.replace(VISIT, id="v2"), token)
    assert visits.form_token(SECRET, msgspec.structs.replace(VISIT, seen=2_000)) == token


def test_cookies_are_found_by_name():
    header = "a=1; __Host-restante=x=y; b=2"
    assert visits.cookie_of(header, visits.NAME) == "x=y"
    assert visits.cookie_of(header, "c") is None
