"""What is taken in, and what is refused with which words."""

from typing import Any

import pytest

from restante.admission import admit, check_body, check_text
from restante.errors import BodyTooLarge, InvalidHeader, InvalidName, OutOfBounds
from restante.model import (
    ATTRIBUTES_BYTES,
    DELAY_SECONDS_MAXIMUM,
    Actor,
    Draft,
    Idempotency,
    Role,
    Settings,
    check_bounds,
    check_name,
)


def draft(**fields: Any) -> Draft:
    values: dict[str, Any] = {
        "id": "n",
        "queues": ("acme",),
        "body": b"",
        "body_sha256": bytes(32),
        "content_type": "application/xml",
        "actor": Actor("shop", Role.PUBLISHER),
    }
    return Draft(**(values | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"topic": "orders.new_2-A"},
        {"content_type": "text/plain; charset=utf-8"},
        {"content_type": "application/vnd.acme.order+xml;version=1"},
        {"ordering_key": "k" * 255, "collapse_key": "größe \u2028"},
        {"idempotency": Idempotency("shop", "k", b"")},
        {"deliver_after_seconds": DELAY_SECONDS_MAXIMUM},
        {"expires_after_seconds": 0.001},
        {"expires_after_seconds": DELAY_SECONDS_MAXIMUM},
        {"attributes": {"ce-type": "é", "a" * 128: "", "x.y_z-0": "v"}},
        {"attributes": {"a": "v" * (ATTRIBUTES_BYTES - 1)}},
    ],
)
def test_taken_in(fields):
    admit(draft(**fields))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"topic": "a/b"}, InvalidName),
        ({"topic": "t" * 129}, InvalidName),
        ({"content_type": ""}, InvalidHeader),
        ({"content_type": "xml"}, InvalidHeader),
        ({"content_type": "text/plain\r\nx: y"}, InvalidHeader),
        ({"content_type": "text/pläin"}, InvalidHeader),
        ({"content_type": "text/plain; title=€"}, InvalidHeader),
        ({"content_type": "a/" + "b" * 254}, InvalidHeader),
        ({"ordering_key": "k" * 256}, InvalidHeader),
        ({"ordering_key": "a\x00"}, InvalidHeader),
        ({"collapse_key": "a\x7f"}, InvalidHeader),
        ({"idempotency": Idempotency("shop", "a\n", b"")}, InvalidHeader),
        ({"idempotency": Idempotency("shop", "", b"")}, InvalidHeader),
        ({"deliver_after_seconds": -1}, OutOfBounds),
        ({"deliver_after_seconds": DELAY_SECONDS_MAXIMUM + 1}, OutOfBounds),
        ({"deliver_after_seconds": float("nan")}, OutOfBounds),
        ({"expires_after_seconds": 0}, OutOfBounds),
        ({"expires_after_seconds": 0.0009}, OutOfBounds),
        ({"expires_after_seconds": float("inf")}, OutOfBounds),
        ({"attributes": {"Upper": "v"}}, InvalidHeader),
        ({"attributes": {"": "v"}}, InvalidHeader),
        ({"attributes": {"a" * 129: "v"}}, InvalidHeader),
        ({"attributes": {"a": "v\r\nSet-Cookie: x"}}, InvalidHeader),
        ({"attributes": {"a": "v" * ATTRIBUTES_BYTES}}, InvalidHeader),
        ({"attributes": {"a": "é" * (ATTRIBUTES_BYTES // 2)}}, InvalidHeader),
    ],
)
def test_refused(fields, error):
    with pytest.raises(error):
        admit(draft(**fields))


def test_a_body_may_be_as_large_as_its_queue_allows():
    check_body(10, "acme", Settings(max_body_bytes=10))
    check_body(0, "acme", Settings(max_body_bytes=0))
    with pytest.raises(BodyTooLarge, match="at most 10 bytes"):
        check_body(11, "acme", Settings(max_body_bytes=10))


def test_text_is_given_back():
    assert check_text("key", "x") == "x"
    with pytest.raises(InvalidHeader, match="key must be 1 to 255"):
        check_text("key", "")


def test_bounds_are_inclusive_and_named():
    check_bounds("wait", 0, 0, 60)
    check_bounds("wait", 60, 0, 60)
    with pytest.raises(OutOfBounds) as caught:
        check_bounds("wait", 61, 0, 60)
    assert caught.value.bounds == {"name": "wait", "minimum": 0, "maximum": 60}
    for value, told in ((61.0, "61"), (60.5, "60.5"), (float("nan"), "nan"), (float("inf"), "inf")):
        with pytest.raises(OutOfBounds, match=f"between 0 and 60, not {told}$"):
            check_bounds("wait", value, 0, 60)


@pytest.mark.parametrize("name", ["a", "A-z_0.9", "x" * 128])
def test_a_name(name):
    assert check_name("queue", name) == name


@pytest.mark.parametrize("name", ["", "x" * 129, "a b", "a~1", "a\n", "ä", "a/b"])
def test_no_name(name):
    with pytest.raises(InvalidName):
        check_name("queue", name)


@pytest.mark.parametrize(
    "wrong",
    [{"lease_seconds": 0}, {"max_attempts": 1_001}, {"backoff_factor": 0.5}, {"depth_limit": -1}],
)
def test_a_setting_outside_its_bounds_is_named(wrong):
    Settings().check()
    with pytest.raises(OutOfBounds) as caught:
        Settings(**wrong).check()
    assert caught.value.bounds["name"] == next(iter(wrong))
