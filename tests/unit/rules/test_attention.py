"""What needs somebody is said first and in words, and queues come in the order asked for."""

import msgspec
import pytest

from restante.alerting import Limits
from restante.attention import Health, Order, Sort, age, assess, find, neediest
from restante.metering import Tally
from restante.model import Figures, Queue, Settings
from restante.watching import Consumer, Contact, Failure, QueueView, WebhookHealth
from restante.webhooks import Circuit

NOW = 1_000_000_000
HOUR_MS = 3_600_000
CONTACT = Contact(NOW - 3 * HOUR_MS, "longpoll")
HERE = Consumer(transport="websocket", address="192.0.2.1", since_ms=1, last_seen_ms=NOW)
HOOK = WebhookHealth(url="https://a.example/", enabled=True, circuit=Circuit.CLOSED)


def view(name="acme", **fields):
    settings = fields.pop("settings", Settings())
    figures = {
        key: fields.pop(key)
        for key in ("ready", "leased", "dead", "oldest_age_seconds")
        if key in fields
    }
    return QueueView(
        queue=Queue(name, f"owner-of-{name}", settings),
        figures=Figures(**figures),
        as_of_ms=NOW,
        **fields,
    )


@pytest.mark.parametrize(
    ("seen", "health", "words"),
    [
        (view(), Health.IDLE, ""),
        (view(recent=Tally(acked=1)), Health.GOOD, ""),
        (view(ready=3, oldest_age_seconds=1.0), Health.GOOD, ""),
        (view(dead=1), Health.WARNING, "1 dead letter"),
        (
            view(dead=1_204, ready=7, oldest_age_seconds=1.0),
            Health.WARNING,
            "1,204 dead letters; 7 waiting",
        ),
        (
            view(ready=1_204, oldest_age_seconds=10_800.0, last_contact=CONTACT),
            Health.WARNING,
            "has signed nothing for 3 h; 1,204 waiting",
        ),
        (
            view(ready=2, oldest_age_seconds=10_800.0),
            Health.WARNING,
            "nobody has come for it yet; 2 waiting",
        ),
        (
            view(settings=Settings(silence_limit_seconds=3_600), last_contact=CONTACT),
            Health.BAD,
            "has neither come nor signed for 3 h (agreed: 1 h)",
        ),
        (
            view(ready=5, settings=Settings(depth_limit=5)),
            Health.BAD,
            "5 waiting (limit 5)",
        ),
        (
            view(ready=1, oldest_age_seconds=90.0, settings=Settings(oldest_age_limit_seconds=60)),
            Health.BAD,
            "the oldest is 1 min 30 s old (limit 1 min); 1 waiting",
        ),
        (
            view(recent=Tally(nacked=38, acked=2, reasons={"HTTP 500": 37, "slow": 1})),
            Health.BAD,
            "38 of 40 attempts failed; last error: HTTP 500 x 37",
        ),
        (
            view(recent=Tally(rejected=5, acked=45), last_failure=Failure(NOW, "no")),
            Health.WARNING,
            "5 of 50 attempts failed; last error: no",
        ),
        (
            view(webhook=msgspec.structs.replace(HOOK, enabled=False, reason="HTTP 410")),
            Health.BAD,
            "its webhook is off: HTTP 410",
        ),
        (
            view(webhook=msgspec.structs.replace(HOOK, circuit=Circuit.OPEN)),
            Health.WARNING,
            "its webhook does not answer",
        ),
    ],
)
def test_what_is_wrong_is_said_with_numbers(seen, health, words):
    assert assess(seen, NOW, Limits()) == (health, words)


@pytest.mark.parametrize(
    ("limits", "seen", "words"),
    [
        ({"depth": 5}, view(ready=5), "5 waiting (limit 5)"),
        (
            {"oldest_age_seconds": 60},
            view(ready=1, oldest_age_seconds=90.0),
            "the oldest is 1 min 30 s old (limit 1 min); 1 waiting",
        ),
        (
            {"silence_seconds": 3_600},
            view(last_contact=CONTACT),
            "has neither come nor signed for 3 h (agreed: 1 h)",
        ),
        ({"dead": 3}, view(dead=3), "3 dead letters (limit 3)"),
        ({"error_rate": 0.05}, view(recent=Tally(nacked=5, acked=90)), "5 of 95 attempts failed"),
    ],
)
def test_the_servers_limits_count_where_a_queue_has_none(limits, seen, words):
    """As they do for alerts: the page does not call well what somebody is told of by mail."""
    assert assess(seen, NOW, Limits(**limits)) == (Health.BAD, words)
    none = Settings(
        depth_limit=0,
        oldest_age_limit_seconds=0,
        silence_limit_seconds=0,
        dead_limit=0,
        error_rate_limit=0,
    )
    own = msgspec.structs.replace(seen.queue, settings=none)
    without = msgspec.structs.replace(seen, queue=own)
    assert assess(without, NOW, Limits(**limits)).health is not Health.BAD


@pytest.mark.parametrize(
    "seen",
    [
        view(ready=1, oldest_age_seconds=10_800.0, last_contact=CONTACT, consumers=(HERE,)),
        view(ready=1, oldest_age_seconds=10.0, last_contact=CONTACT),
        view(ready=1, oldest_age_seconds=10_800.0, webhook=HOOK),
        view(recent=Tally(nacked=4)),
        view(recent=Tally(nacked=5, acked=46)),
    ],
)
def test_what_is_as_it_should_be_needs_nobody(seen):
    assert assess(seen, NOW, Limits()).health is Health.GOOD


def test_the_worst_come_first_and_then_the_deepest():
    views = [
        view("well", ready=9),
        view("dead-small", dead=1),
        view("deep", ready=50, settings=Settings(depth_limit=50)),
        view("deeper", ready=70, settings=Settings(depth_limit=50)),
        view("dead-and-deep", dead=1, ready=3),
    ]
    found = [one.queue.name for one, _ in neediest(views, NOW, 20, Limits())]
    assert found == ["deeper", "deep", "dead-and-deep", "dead-small"]
    assert len(neediest(views, NOW, 2, Limits())) == 2


FOUR = [
    view("b", ready=2, oldest_age_seconds=1.0, recent=Tally(acked=1)),
    view("a", dead=3, minute=Tally(acked=9), last_contact=Contact(5)),
    view("c", ready=2, recent=Tally(nacked=1), last_contact=Contact(9)),
    view("d", leased=1, minute=Tally(published=4), oldest_age_seconds=8.0),
]


@pytest.mark.parametrize(
    ("sort", "order", "names"),
    [
        (Sort.NAME, Order.ASCENDING, "abcd"),
        (Sort.NAME, Order.DESCENDING, "dcba"),
        (Sort.DEPTH, Order.DESCENDING, "bcda"),
        (Sort.DEPTH, Order.ASCENDING, "adbc"),
        (Sort.OLDEST_AGE, Order.DESCENDING, "dbac"),
        (Sort.OLDEST_AGE, Order.ASCENDING, "bdac"),
        (Sort.DEAD, Order.DESCENDING, "abcd"),
        (Sort.ERROR_RATE, Order.DESCENDING, "cbad"),
        (Sort.LAST_CONTACT, Order.ASCENDING, "acbd"),
        (Sort.PUBLISHED, Order.DESCENDING, "dabc"),
        (Sort.ACKED, Order.DESCENDING, "abcd"),
    ],
)
def test_what_is_unknown_comes_last_and_equals_by_name(sort, order, names):
    found = find(FOUR, sort=sort, order=order, limit=10, now_ms=NOW)
    assert "".join(one.queue.name for one in found.views) == names


def test_a_page_of_what_is_searched_for():
    found = find(FOUR, search="OWNER-OF-", sort=Sort.DEPTH, offset=1, limit=2, now_ms=NOW)
    assert found.number == 4
    assert [one.queue.name for one in found.views] == ["d", "b"]
    assert find(FOUR, search="owner-of-c", limit=9, now_ms=NOW).number == 1
    assert find(FOUR, search="nobody", limit=9, now_ms=NOW) == (0, [])
    assert find(FOUR, offset=4, limit=9, now_ms=NOW) == (4, [])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3_700, "1 h 1 min"), (11 * 3_600 + 60, "11 h")],
)
def test_ages(seconds, words):
    assert age(seconds) == words
