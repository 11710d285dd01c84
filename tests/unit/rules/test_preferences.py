"""The header Prefer, as RFC 7240 has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.wire.preferences import preferences_of, wait_of

TOKENS = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=8)
TEXTS = st.text("".join(map(chr, (*range(0x20, 0x7F), *range(0xA0, 0x100)))), max_size=12)
SPACES = st.text(" \t", max_size=2)


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def words(draw):
    """A value, and how it may be written."""
    if draw(st.booleans()):
        token = draw(TOKENS)
        return token, token
    text = draw(TEXTS)
    return text, quoted(text)


@st.composite
def preferences(draw):
    """A name, its value, and how both may be written, with parameters behind them."""
    name = draw(TOKENS)
    value, written = draw(st.one_of(st.just(("", "")), words()))
    text = name + (f"{draw(SPACES)}={draw(SPACES)}{written}" if written else "")
    for parameter, (_, word) in draw(st.lists(st.tuples(TOKENS, words()), max_size=2)):
        text += f"{draw(SPACES)};{draw(SPACES)}{parameter}={word}"
    return name.lower(), value, f"{draw(SPACES)}{text}{draw(SPACES)}"


@given(st.lists(st.lists(preferences(), max_size=4), max_size=3))
def test_what_is_written_is_read(lines):
    wanted: dict[str, str] = {}
    for line in lines:
        for name, value, _ in line:
            wanted.setdefault(name, value)
    assert preferences_of([",".join(text for *_, text in line) for line in lines]) == wanted


@given(st.lists(st.text(), max_size=3))
def test_whatever_comes_is_taken(lines):
    preferences_of(lines)


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ([], {}),
        (["wait=3"], {"wait": "3"}),
        (["Respond-Async, WAIT = 10"], {"respond-async": "", "wait": "10"}),
        (["respond-async", "wait=3", "wait=4"], {"respond-async": "", "wait": "3"}),
        (['wait="30"; x="a,b;c", , return=minimal'], {"wait": "30", "return": "minimal"}),
        (['foo="a, wait=3"'], {"foo": "a, wait=3"}),
        (['foo="a\\", wait=3"'], {"foo": 'a", wait=3'}),
        (["waitress=1, wait-for-it"], {"waitress": "1", "wait-for-it": ""}),
        (['foo="a, wait=3', "wait=4"], {"foo": '"a, wait=3', "wait": "4"}),
    ],
)
def test_by_hand(lines, wanted):
    found = preferences_of(lines)
    found.pop("", None)
    assert found == wanted


@given(st.integers(0, 10**30), st.integers(0, 5))
def test_a_wait_of_any_length_is_cut(seconds, zeros):
    assert wait_of({"wait": "0" * zeros + str(seconds)}) == min(seconds, 60)


@given(st.text())
def test_whatever_is_waited_for_is_within_bounds(text):
    wait = wait_of({"wait": text})
    assert wait is None or 0 <= wait <= 60


def test_no_wait():
    assert wait_of({"wait-for-it": "1"}) is None
