"""Topics find their queues, as a regular expression would have it."""

import re

import hypothesis.strategies as st
import pytest
from hypothesis import given

from restante.errors import InvalidName
from restante.model import Subscription
from restante.routing import Router, check_pattern, matches

words = st.sampled_from(["a", "b", "ab", "A", "0_-"])
topics = st.lists(words, min_size=1, max_size=6).map(".".join)
patterns = st.lists(words | st.sampled_from(["*", "#"]), min_size=1, max_size=6).map(".".join)


def naive(pattern, topic):
    """Each word with a dot behind it: ``*`` is one of those, ``#`` any number."""
    forms = {"*": r"[^.]*\.", "#": r"(?:[^.]*\.)*"}
    parts = [forms.get(word, re.escape(word) + r"\.") for word in pattern.split(".")]
    return re.fullmatch("".join(parts), topic + ".") is not None


@given(patterns, topics)
def test_matching_agrees_with_a_regular_expression(pattern, topic):
    assert matches(pattern.split("."), topic.split(".")) == naive(pattern, topic)


@given(st.lists(st.tuples(patterns, st.sampled_from(["q1", "q2", "q3"])), max_size=8), topics)
def test_a_router_agrees_with_a_regular_expression(routes, topic):
    router = Router(Subscription(f"s{n}", *route) for n, route in enumerate(routes))
    expected = tuple(sorted({queue for pattern, queue in routes if naive(pattern, topic)}))
    assert router.queues(topic, {}) == expected
    assert router.queues(topic, {}) == expected, "the second time from memory"


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("orders.*", "orders.new", True),
        ("orders.*", "orders", False),
        ("orders.*", "orders.new.eu", False),
        ("orders.#", "orders", True),
        ("orders.#", "orders.new.eu", True),
        ("#", "anything.at.all", True),
        ("#.eu", "eu", True),
        ("#.eu.#", "orders.eu.new", True),
        ("*.#.*", "one", False),
        ("*", "a", True),
        ("a", "A", False),
        ("a.b", "a..b", False),
        ("a.*.b", "a..b", True),
    ],
)
def test_examples(pattern, topic, expected):
    assert matches(pattern.split("."), topic.split(".")) is expected
    assert naive(pattern, topic) is expected


def test_many_wildcards_do_not_take_long():
    """A backtracking matcher would not come back from this one."""
    assert not matches(["#", "a"] * 30, ["a"] * 60 + ["b"])


@pytest.mark.parametrize("pattern", ["a", "a.b", "*", "#", "a.*.b.#", "x" * 128])
def test_a_pattern(pattern):
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize(
    "pattern", ["", ".", "a.", ".a", "a..b", "a*", "**", "a.#b", "a b", "x" * 129, "ä"]
)
def test_no_pattern(pattern):
    with pytest.raises(InvalidName):
        check_pattern(pattern)


def test_a_filter_wants_every_attribute_to_have_one_of_its_values():
    router = Router(
        [
            Subscription("1", "a", "filtered", {"region": ["eu", "us"], "kind": ["new"]}),
            Subscription("2", "a", "always"),
            Subscription("3", "*", "filtered-wild", {"region": ["eu"]}),
        ]
    )
    for attributes, expected in (
        ({}, ("always",)),
        ({"region": "eu"}, ("always", "filtered-wild")),
        ({"region": "us", "kind": "new"}, ("always", "filtered")),
        ({"region": "eu", "kind": "new"}, ("always", "filtered", "filtered-wild")),
        ({"region": "asia", "kind": "new"}, ("always",)),
    ):
        assert router.queues("a", attributes) == expected


def test_a_queue_is_named_once_however_many_ways_lead_there():
    router = Router(
        [
            Subscription("1", "a.b", "q"),
            Subscription("2", "a.*", "q"),
            Subscription("3", "#", "q", {"x": ["1"]}),
        ]
    )
    assert router.queues("a.b", {"x": "1"}) == ("q",)


def test_the_memory_of_topics_is_bounded():
    router = Router([Subscription("1", "#", "q")])
    for number in range(5_000):
        assert router.queues(f"t{number}", {}) == ("q",)
    assert len(router._memory) <= 4_096
