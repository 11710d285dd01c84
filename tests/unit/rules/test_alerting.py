"""What is raised, what is cleared, and in which words: rules that are pure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.rules.test_attention import CONTACT, HERE, HOOK, NOW, view

from restante.alerting import (
    ATTEMPTS,
    CLEARED_BELOW,
    SHOWN,
    Alert,
    Clear,
    Limits,
    Notice,
    Raise,
    Rule,
    Severity,
    bundle,
    duration,
    in_words,
    in_words_cleared,
    judge,
    limits_of,
    silent_seconds,
    words_now,
)
from restante.metering import Tally
from restante.model import Settings
from restante.watching import WebhookHealth

OFF = WebhookHealth(url="https://a.example/", enabled=False, reason="HTTP 410")
BY_SERVICE = WebhookHealth(
    url="https://a.example/", enabled=False, reason="HTTP 410", disabled_by_service=True
)
ALL = Limits(depth=10, oldest_age_seconds=60, silence_seconds=60, dead=5, error_rate=0.5)


def alert(rule=Rule.DEPTH, value=10.0, limit=10.0, number=1, raised_at_ms=NOW):
    return Alert(
        id=f"a-{number}",
        queue="acme",
        owner="acme",
        rule=rule,
        value=value,
        limit=limit,
        words="as it was",
        raised_at_ms=raised_at_ms,
    )


@pytest.mark.parametrize(
    ("seen", "raised"),
    [
        (view(), {}),
        (view(ready=9), {}),
        (view(ready=4, leased=6), {Rule.DEPTH: 10}),
        (view(ready=1, oldest_age_seconds=60.0), {Rule.OLDEST_AGE: 60, Rule.SILENCE: 60}),
        (
            view(leased=1, oldest_age_seconds=61.0, consumers=(HERE,)),
            {Rule.OLDEST_AGE: 61},
        ),
        (view(dead=5), {Rule.DEAD_LETTERS: 5}),
        (view(recent=Tally(nacked=ATTEMPTS - 1)), {}),
        (view(recent=Tally(nacked=ATTEMPTS)), {Rule.ERROR_RATE: 1}),
        (view(recent=Tally(rejected=6, lease_expired=4, acked=10)), {Rule.ERROR_RATE: 0.5}),
        (view(recent=Tally(rejected=9, acked=11)), {}),
        (view(last_contact=CONTACT), {Rule.SILENCE: 10_800}),
        (view(last_contact=CONTACT, consumers=(HERE,)), {}),
        (view(last_contact=CONTACT, webhook=HOOK), {}),
        (
            view(ready=1, oldest_age_seconds=59.0, last_contact=CONTACT, webhook=HOOK),
            {},
        ),
        (view(webhook=OFF), {}),
        (view(webhook=BY_SERVICE), {Rule.WEBHOOK_DISABLED: 1}),
    ],
)
def test_what_is_raised(seen, raised):
    verdicts = judge(seen, ALL, NOW, ())
    assert {one.rule: one.value for one in verdicts if isinstance(one, Raise)} == raised
    assert not any(isinstance(one, Clear) for one in verdicts)


@pytest.mark.parametrize(
    ("rule", "seen", "value"),
    [
        (Rule.DEPTH, view(ready=7), 7),
        (Rule.OLDEST_AGE, view(), None),
        (Rule.OLDEST_AGE, view(ready=1, oldest_age_seconds=47.0), 47),
        (Rule.DEAD_LETTERS, view(dead=3), 3),
        (Rule.ERROR_RATE, view(), None),
        (Rule.ERROR_RATE, view(recent=Tally(acked=5)), None),
        (Rule.ERROR_RATE, view(recent=Tally(nacked=5, acked=15)), 0.25),
        (Rule.SILENCE, view(consumers=(HERE,)), 0),
        (Rule.WEBHOOK_DISABLED, view(webhook=HOOK), None),
        (Rule.WEBHOOK_DISABLED, view(webhook=OFF), None),
        (Rule.WEBHOOK_DISABLED, view(), None),
    ],
)
def test_what_is_cleared(rule, seen, value):
    (verdict,) = judge(seen, ALL, NOW, (rule,))
    assert (type(verdict), verdict.rule, verdict.value) == (Clear, rule, value)


@pytest.mark.parametrize(
    ("rule", "seen"),
    [
        (Rule.DEPTH, view(ready=8)),
        (Rule.OLDEST_AGE, view(ready=1, oldest_age_seconds=48.0)),
        (Rule.DEAD_LETTERS, view(dead=4)),
        (Rule.ERROR_RATE, view(recent=Tally(nacked=3, acked=1))),
        (Rule.ERROR_RATE, view(recent=Tally(nacked=8, acked=12))),
        (Rule.SILENCE, view()),
        (Rule.SILENCE, view(last_contact=CONTACT)),
        (Rule.WEBHOOK_DISABLED, view(webhook=BY_SERVICE)),
    ],
)
def test_what_stays_open(rule, seen):
    assert judge(seen, ALL, NOW, (rule,)) == []


@pytest.mark.parametrize("rule", [rule for rule in Rule if rule is not Rule.WEBHOOK_DISABLED])
def test_without_a_limit_nothing_is_raised_and_what_is_open_is_cleared(rule):
    worst = view(
        ready=99,
        dead=99,
        oldest_age_seconds=9e9,
        last_contact=CONTACT,
        recent=Tally(nacked=99),
    )
    assert judge(worst, Limits(), NOW, ()) == []
    (verdict,) = judge(worst, Limits(), NOW, (rule,))
    assert isinstance(verdict, Clear)
    assert (verdict.rule, verdict.limit) == (rule, 0)
    words = in_words_cleared(verdict, alert(rule), worst, NOW)
    assert words == f"acme has no limit for {rule.value.replace('_', ' ')} any more"


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 20))
def test_an_alert_is_raised_at_its_limit_and_cleared_well_below_it_and_never_twice(depths, limit):
    is_open = False
    for depth in depths:
        verdicts = judge(
            view(ready=depth), Limits(depth=limit), NOW, (Rule.DEPTH,) if is_open else ()
        )
        assert len(verdicts) <= 1
        for verdict in verdicts:
            assert isinstance(verdict, Clear if is_open else Raise)
            is_open = not is_open
        if depth >= limit:
            assert is_open
        elif depth < CLEARED_BELOW * limit:
            assert not is_open


def test_one_that_never_came_is_as_silent_as_it_was_watched_or_as_what_waits_is_old():
    new, old = view(ready=1, oldest_age_seconds=5.0), view(ready=1, oldest_age_seconds=500.0)
    assert silent_seconds(new, NOW) is None
    assert silent_seconds(new, NOW, 50.0) == 50
    assert silent_seconds(old, NOW, 50.0) == 500
    assert silent_seconds(view(webhook=HOOK), NOW, 50.0) == 0


def test_a_queues_own_limits_come_first_and_0_is_none():
    defaults = Limits(depth=1, oldest_age_seconds=2, silence_seconds=3, dead=4, error_rate=0.5)
    assert limits_of(Settings(), defaults) == defaults
    own = Settings(depth_limit=0, dead_limit=9, error_rate_limit=0.25)
    assert limits_of(own, defaults) == Limits(
        depth=0, oldest_age_seconds=2, silence_seconds=3, dead=9, error_rate=0.25
    )


@pytest.mark.parametrize(
    ("rule", "value", "words"),
    [
        (Rule.DEPTH, 1_204, "acme has 1,204 waiting (limit 10); the oldest for 3 h"),
        (
            Rule.OLDEST_AGE,
            10_800,
            "acme has left its oldest unsigned for 3 h (limit 10 s); 1,204 waiting",
        ),
        (Rule.DEAD_LETTERS, 1, "acme has 1 dead letter (limit 10)"),
        (Rule.DEAD_LETTERS, 2_000, "acme has 2,000 dead letters (limit 10)"),
        (Rule.SILENCE, 10_800, "acme has signed nothing for 3 h; 1,204 waiting"),
    ],
)
def test_in_words(rule, value, words):
    seen = view(
        ready=1_204, oldest_age_seconds=10_800.0, recent=Tally(nacked=38, reasons={"HTTP 500": 38})
    )
    assert in_words(Raise(rule, value, 10), seen, NOW) == f"{words}; last error: HTTP 500 x 38"


def test_words_of_now_are_of_now():
    assert words_now(alert(), view(ready=12), NOW).startswith("acme has 12 waiting (limit 10)")
    words = in_words_cleared(
        Clear(Rule.SILENCE, 0.0, 60), alert(Rule.SILENCE, 60, 60), view(ready=3), NOW + 240_000
    )
    assert words == "acme came again after 5 min; 3 waiting"


def test_a_message_has_the_worst_first_and_says_how_many_it_leaves_out():
    notices = [
        Notice(event="cleared", at_ms=1, alert=alert(Rule.SILENCE)),
        Notice(event="raised", at_ms=2, alert=alert(Rule.DEPTH)),
        Notice(event="raised", at_ms=4, alert=alert(Rule.SILENCE)),
        Notice(event="raised", at_ms=3, alert=alert(Rule.OLDEST_AGE)),
    ]
    message = bundle("m", 5, notices)
    assert [one.at_ms for one in message.notices] == [3, 4, 2, 1]
    assert (message.raised, message.cleared, message.left_out) == (3, 1, 0)
    assert alert(Rule.SILENCE).severity is Severity.CRITICAL
    many = bundle("m", 5, [notices[1]] * (SHOWN + 7))
    assert (len(many.notices), many.left_out) == (SHOWN, 7)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3_700, "1 h 1 min"), (11 * 3_600 + 60, "11 h")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words
