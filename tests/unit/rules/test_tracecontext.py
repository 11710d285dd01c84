"""Which headers are a W3C trace context, and what becomes of those that are not."""

import pytest

from restante.tracecontext import carried, context_of, with_context

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-00"


@pytest.mark.parametrize(
    "parent", [PARENT, OTHER, f"01{PARENT[2:]}", f"cc{PARENT[2:]}-what-the-future-holds"]
)
def test_a_context_is_carried(parent):
    assert context_of([("traceparent", parent)]) == {"traceparent": parent}
    attributes = {"traceparent": parent, "region": "eu"}
    assert carried(attributes) is attributes


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "yes",
        PARENT.upper(),
        f"ff{PARENT[2:]}",
        f"{PARENT}-more",
        f"{PARENT}\n",
        PARENT[:-1],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        PARENT.replace("b", "٣"),
        f"cc{PARENT[2:]}x",
    ],
)
def test_a_malformed_one_is_left_out_with_its_state(parent):
    assert context_of([("traceparent", parent), ("tracestate", "a=1")]) == {}
    attributes = {"traceparent": parent, "tracestate": "a=1", "region": "eu"}
    assert carried(attributes) == {"region": "eu"}


def test_two_parents_are_none_and_two_states_are_one_list():
    assert context_of([("traceparent", PARENT), ("traceparent", PARENT)]) == {}
    headers = [("tracestate", "a=1"), ("traceparent", PARENT), ("tracestate", "t@b=2")]
    assert context_of(headers) == {"traceparent": PARENT, "tracestate": "a=1,t@b=2"}
    assert context_of([("tracestate", "a=1")]) == {}
    assert context_of([("authorization", "x"), ("traceparent-bin", b"x")]) == {}


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("congo=t61rcWkgMzE", True),
        ("a=1, b=2 ,,c=3", True),
        ("0tenant@sys=1", True),
        (",".join(f"k{n}=v" for n in range(32)), True),
        (",".join(f"k{n}=v" for n in range(33)), False),
        ("a=1,a=2", False),
        ("A=1", False),
        ("a", False),
        ("a=b=c", False),
        ("a=é", False),
        ("", False),
        (f"a={'v' * 256}", True),
        (f"a={'v' * 257}", False),
        (f"a={'v' * 250},b={'v' * 250},c={'v' * 5}", False),
    ],
)
def test_a_state_that_is_malformed_or_too_long_is_left_out_alone(state, kept):
    told = {"traceparent": PARENT, "tracestate": state}
    assert carried(told) == (told if kept else {"traceparent": PARENT})


def test_a_context_of_its_own_goes_first():
    call = {"traceparent": OTHER}
    own = {"traceparent": PARENT, "tracestate": "a=1"}
    assert with_context(own, call) is own
    assert with_context({"region": "eu", "tracestate": "a=1"}, call) == {"region": "eu", **call}
    assert with_context({"region": "eu"}, {}) == {"region": "eu"}
