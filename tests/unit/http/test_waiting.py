"""For how long a request would wait."""

import pytest

from restante.errors import Malformed
from restante.http.request import Request
from restante.http.waiting import Wanted, wanted_of
from restante.outcomes import ALL, Requirement


async def nothing_more():
    raise AssertionError("the body is not looked at")


def wanted(*lines, **headers):
    pairs = [(b"prefer", line.encode("latin-1")) for line in lines]
    pairs += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"path": "/", "method": "POST", "headers": pairs}
    return wanted_of(Request(scope, nothing_more))


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["wait=3"], 3),
        (['respond-async, WAIT = "30"; x=y'], 30),
        (["wait=86400"], 60),
        (["wait=10000000000"], 60),
        (["wait=" + "9" * 20_000], 60),
        (["wait=" + "0" * 20_000 + "7"], 7),
        (["wait=000"], 0),
        (["wait=3, wait=4"], 3),
        (["return=minimal", "wait=4"], 4),
        (['foo="a, wait=3", wait=4'], 4),
    ],
)
def test_so_long_at_most(lines, seconds):
    assert wanted(*lines) == Wanted(seconds, ALL)
    requirement = Requirement.parse("2")
    assert wanted(*lines, restante_require="2") == Wanted(seconds, requirement)


@pytest.mark.parametrize(
    "line", ["", "return=minimal", "waitress=1", "wait-for-it", 'foo="a, wait=3"', "x; wait=3"]
)
def test_other_preferences_are_passed_over(line):
    assert wanted(line) is None


@pytest.mark.parametrize(
    "line",
    [
        *("wait", "wait=", 'wait=""', "wait=soon", "wait=1.5", "wait=-1", "wait=3 4", "Wait=٣"),
        *("wait=soon, wait=3", "wait=1e1", "wait=+1", "wait=inf", "wait=1_0"),
    ],
)
def test_a_wait_that_cannot_be_read_is_no_preference(line):
    """RFC 7240, section 2: whoever cannot do what is preferred passes it over, and does not refuse the request."""
    assert wanted(line.encode().decode("latin-1")) is None


def test_what_is_required_is_no_preference():
    for lines in (["wait=3"], ["wait=soon"], []):
        with pytest.raises(Malformed):
            wanted(*lines, restante_require="most")
