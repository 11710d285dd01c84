"""The rules of the idempotency key, and what is kept of a request."""

import itertools

import msgspec
import pytest

from restante.errors import IdempotencyKeyReused, InvalidHeader
from restante.idempotency import (
    ANSWER_BYTES,
    HEADERS_BYTES,
    Asked,
    Fate,
    Policy,
    Record,
    Reply,
    State,
    Verdict,
    fate_of,
    fingerprint_of,
    judge,
    key_of_header,
)
from restante.papers import KEY_CHARACTERS


def record(state):
    return Record(method="POST", path="/", fingerprint=b"f", state=state, run="r", since_ms=0)


@pytest.mark.parametrize(
    ("state", "running", "policy", "verdict"),
    [
        (State.FREE, False, Policy.REFUSE, Verdict.RUN),
        (State.DONE, False, Policy.RUN_AGAIN, Verdict.REPLAY),
        (State.IN_PROGRESS, True, Policy.RUN_AGAIN, Verdict.WAIT),
        (State.IN_PROGRESS, False, Policy.REFUSE, Verdict.REFUSE),
        (State.IN_PROGRESS, False, Policy.RUN_AGAIN, Verdict.RUN),
        (State.UNKNOWN, False, Policy.REFUSE, Verdict.REFUSE),
        (State.UNKNOWN, False, Policy.RUN_AGAIN, Verdict.RUN),
    ],
)
def test_what_is_done_with_a_repeat(state, running, policy, verdict):
    assert judge(record(state), b"f", running=running, policy=policy) is verdict
    if state is State.FREE:
        assert judge(record(state), b"g", running=running, policy=policy) is Verdict.RUN
    else:
        with pytest.raises(IdempotencyKeyReused):
            judge(record(state), b"g", running=running, policy=policy)


@pytest.mark.parametrize("policy", Policy)
def test_one_whose_parts_have_keys_is_run_until_its_answer_is_kept(policy):
    def verdict(state, *, running=False, reply=None):
        one = msgspec.structs.replace(record(state), in_parts=True, reply=reply)
        with pytest.raises(IdempotencyKeyReused):
            judge(one, b"g", running=running, policy=policy)
        return judge(one, b"f", running=running, policy=policy)

    for state in (State.INCOMPLETE, State.IN_PROGRESS, State.DONE):
        assert verdict(state) is Verdict.RUN
    assert verdict(State.IN_PROGRESS, running=True) is Verdict.WAIT
    assert verdict(State.DONE, reply=Reply(200)) is Verdict.REPLAY


def test_a_part_has_a_key_that_is_no_other_part_s():
    def keys(key="k", who="publisher/shop", fingerprint=b"f"):
        asked = Asked(who=who, key=key, method="POST", path="/", fingerprint=fingerprint)
        return [asked.key_of_part(index) for index in (0, 1, 11, 999)]

    asked = [keys(), keys("l"), keys(who="publisher/other"), keys(fingerprint=b"g")]
    assert len({key for some in asked for key in some}) == 16
    assert keys() == asked[0]
    assert max(len(key) for key in keys("x" * 255)) == 50


def test_the_first_is_run():
    for policy in Policy:
        assert judge(None, b"f", running=False, policy=policy) is Verdict.RUN


def test_what_becomes_of_a_key():
    assert {status for status in range(100, 600) if fate_of(status) is Fate.FREE} == {
        *(401, 403, 404, 405, 406, 408, 413, 414, 415, 421, 426, 428, 429, 431),
        *(501, 503, 507),
    }
    assert {fate_of(status) for status in (200, 302, 400, 409, 410, 422)} == {Fate.KEEP}
    assert {fate_of(status) for status in (500, 502, 504)} == {Fate.UNKNOWN}


def test_a_fingerprint_tells_every_part():
    parts = ("POST", "/a", b"b=c", "text/xml", b"\0" * 32)
    others = [
        ("PATCH", *parts[1:]),
        (parts[0], "/ab", *parts[2:]),
        (*parts[:2], b"b=", *parts[3:]),
        (*parts[:3], "text/plain", parts[4]),
        (*parts[:4], b"\1" * 32),
        # What stands in one part is not what stands in the next.
        ("POST", "/a1:b", b"=c", "text/xml", b"\0" * 32),
    ]
    prints = [fingerprint_of(*one) for one in (parts, *others)]
    assert all(one != other for one, other in itertools.combinations(prints, 2))
    assert fingerprint_of(*parts) == prints[0]


@pytest.mark.parametrize(
    ("value", "key"),
    [("k", "k"), ('"k"', "k"), (r'"a\"b\\c"', r'a"b\c'), ('"', '"'), ("a b", "a b")],
)
def test_a_key_in_a_header(value, key):
    assert key_of_header(value) == key


@pytest.mark.parametrize("value", ["", '""'])
def test_no_key_in_a_header(value):
    with pytest.raises(InvalidHeader):
        key_of_header(value)


def test_principals_and_keys_have_places_of_their_own():
    def place(who, key):
        asked = Asked(who=who, key=key, method="POST", path="/", fingerprint=b"")
        assert len(asked.place) <= KEY_CHARACTERS
        return asked.place

    assert len({place(who, key) for who in ("a", "ab", "é" * 300) for key in ("b", "", "é")}) == 9


def test_what_of_an_answer_is_kept():
    assert Reply(200, ((b"x", b"y"),), b"z" * ANSWER_BYTES).may_be_kept
    assert not Reply(200, (), b"z" * (ANSWER_BYTES + 1)).may_be_kept
    assert not Reply(200, ((b"x", b"y" * HEADERS_BYTES),)).may_be_kept
