"""The cookie that stands for a key: nobody makes or changes one but the service, and it ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.errors import Unauthenticated
from restante.wire import cookies

SECRET = b"s" * 32
KEY_ID = "abcdefghij"
key_ids = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=1, max_size=20)
seconds = st.integers(1, 2**40)


@given(key_id=key_ids, ends_at=seconds)
def test_a_cookie_gives_its_key_until_it_ends(key_id, ends_at):
    value = cookies.seal(SECRET, key_id, ends_at)
    assert cookies.unseal(SECRET, value, ends_at - 1) == key_id
    with pytest.raises(Unauthenticated, match="expired"):
        cookies.unseal(SECRET, value, ends_at)


@given(key_id=key_ids, ends_at=seconds)
def test_it_can_stand_in_a_header_as_it_is(key_id, ends_at):
    """RFC 6265, section 4.1.1: no white space, quotes, commas, semicolons or backslashes."""
    value = cookies.seal(SECRET, key_id, ends_at)
    assert set(value) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert cookies.of_header(f"a=b; {cookies.NAME}={value}; c=d") == value


@given(place=st.integers(0, 200), to=st.sampled_from("AZaz09-_"))
def test_a_changed_one_is_refused(place, to):
    value = cookies.seal(SECRET, KEY_ID, 1_000)
    place %= len(value)
    # The last character carries bits that base64 does not use: another may stand for the same bytes.
    if value[place] == to or place == len(value) - 1:
        return
    with pytest.raises(Unauthenticated, match="not one of ours"):
        cookies.unseal(SECRET, value[:place] + to + value[place + 1 :], 0)


@given(value=st.text(max_size=80))
def test_no_text_does_any_harm(value):
    with pytest.raises(Unauthenticated):
        cookies.unseal(SECRET, value, 0)


def test_one_of_another_service_is_refused():
    with pytest.raises(Unauthenticated):
        cookies.unseal(b"t" * 32, cookies.seal(SECRET, KEY_ID, 1_000), 0)


def test_the_time_is_sealed_too():
    early, late = cookies.seal(SECRET, KEY_ID, 1_000), cookies.seal(SECRET, KEY_ID, 2_000)
    mac_characters = 16 * 8 // 6
    with pytest.raises(Unauthenticated):
        cookies.unseal(SECRET, early[:mac_characters] + late[mac_characters:], 1_500)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("restante_events=x", "x"),
        ("a=1; restante_events=x", "x"),
        ("a=1;restante_events=x;b=2", "x"),
        ("restante_events=x=y", "x=y"),
        ("restante_events=", ""),
        ("restante_events=first; restante_events=second", "first"),
        ("not_restante_events=x", None),
        ("restante_events", ""),
        ("RESTANTE_EVENTS=x", None),
        ("", None),
        (";;;", None),
    ],
)
def test_it_is_found_among_others(header, value):
    assert cookies.of_header(header) == value
