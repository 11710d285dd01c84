"""What is said of a queue."""

import pytest

from restante.desk.attention import Health, assess
from restante.metering import Tally
from restante.model import Figures, Queue, Settings
from restante.watching import Consumer, Contact, Failure, QueueView, WebhookHealth
from restante.webhooks import Circuit

NOW = 1_767_225_600_000
HOUR = 3_600_000


def view(figures=None, settings=None, **fields):
    queue = Queue("acme", "acme", Settings(**(settings or {})))
    return QueueView(queue=queue, figures=Figures(**(figures or {})), as_of_ms=NOW, **fields)


def test_a_silent_client_in_words():
    silent = view(
        {"ready": 1_204, "oldest_age_seconds": 10_800.0},
        {"silence_limit_seconds": 3_600},
        last_contact=Contact(NOW - 3 * HOUR),
        recent=Tally(nacked=38, acked=2, reasons={"HTTP 500": 38, "busy": 1}),
    )
    health, sentence = assess(silent, NOW)
    assert health is Health.BAD
    assert sentence == (
        "has neither come nor signed for 3 h (agreed: 1 h); 38 of 40 attempts failed;"
        " 1,204 waiting; last error: HTTP 500 × 38"  # noqa: RUF001
    )


def test_without_a_limit_too_something_waits_and_nobody_comes():
    late = view({"ready": 1, "oldest_age_seconds": 1_800.0}, last_ack_ms=NOW - HOUR)
    assert assess(late, NOW) == (Health.WARNING, "has signed nothing for 1 h; 1 waiting")
    never = view({"ready": 1, "oldest_age_seconds": 1_800.0})
    assert assess(never, NOW) == (Health.WARNING, "nobody has come for it yet; 1 waiting")
    here = Consumer(transport="sse", address="", since_ms=NOW, last_seen_ms=NOW)
    assert assess(view({"ready": 1, "oldest_age_seconds": 1_800.0}, consumers=(here,)), NOW) == (
        Health.GOOD,
        "",
    )
    young = view({"ready": 1, "oldest_age_seconds": 800.0}, last_ack_ms=NOW - HOUR)
    assert assess(young, NOW).health is Health.GOOD


@pytest.mark.parametrize(
    ("seen", "health", "sentence"),
    [
        (view(), Health.IDLE, ""),
        (view(recent=Tally(acked=1)), Health.GOOD, ""),
        (
            view({"ready": 6}, {"depth_limit": 5}),
            Health.BAD,
            "6 waiting (limit 5)",
        ),
        (view({"ready": 5}, {"depth_limit": 5}), Health.GOOD, ""),
        (
            view(
                {"leased": 1, "oldest_age_seconds": 61.0},
                {"oldest_age_limit_seconds": 60},
            ),
            Health.BAD,
            "the oldest is 1 min 1 s old (limit 1 min); 1 waiting",
        ),
        (
            view(recent=Tally(acked=40, rejected=5)),
            Health.WARNING,
            "5 of 45 attempts failed",
        ),
        (view(recent=Tally(acked=4, rejected=4)), Health.GOOD, ""),
        (view({"dead": 1}), Health.WARNING, "1 dead letter"),
        (
            view({"dead": 2}, last_failure=Failure(NOW, "no such order")),
            Health.WARNING,
            "2 dead letters; last error: no such order",
        ),
        (
            view(webhook=WebhookHealth(url="https://a.example", enabled=False, reason="HTTP 410")),
            Health.BAD,
            "its webhook is off: HTTP 410",
        ),
        (
            view(
                webhook=WebhookHealth(url="https://a.example", enabled=True, circuit=Circuit.OPEN)
            ),
            Health.WARNING,
            "its webhook does not answer",
        ),
    ],
)
def test_each_concern(seen, health, sentence):
    assert assess(seen, NOW) == (health, sentence)
