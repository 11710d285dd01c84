"""What needs a person: the concerns about one queue, worst first, in words. Pure."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from restante.desk.words import age, count, plural
from restante.watching import QueueView
from restante.webhooks import Circuit

UNANSWERED_SECONDS: Final = 900.0
"""Where no limit is set: something waits, and nobody has come for so long."""
FAILING_SHARE: Final = 0.1
BROKEN_SHARE: Final = 0.5
FAILURES: Final = 5
"""Fewer failures within what is recent say nothing yet."""


class Health(enum.IntEnum):
    """Worst last, so that the worst of some is their maximum."""

    IDLE = 0
    GOOD = 1
    WARNING = 2
    BAD = 3

    @property
    def label(self) -> str:
        return self.name.lower()


class Concern(NamedTuple):
    health: Health
    words: str


class Assessment(NamedTuple):
    """``sentence`` is what is wrong, in words; empty where nothing is."""

    health: Health
    sentence: str


def assess(view: QueueView, now_ms: int) -> Assessment:
    """How a queue fares at that time (wall clock)."""
    concerns = list(_concerns(view, now_ms))
    if not concerns:
        busy = bool(view.depth or view.recent.published or view.recent.acked or view.consumers)
        return Assessment(Health.GOOD if busy else Health.IDLE, "")
    concerns.sort(key=lambda concern: -concern.health)
    words = [concern.words for concern in concerns]
    depth = view.depth
    if depth and not any("waiting" in one for one in words):
        words.append(f"{count(depth)} waiting")
    if error := _last_error(view):
        words.append(error)
    return Assessment(concerns[0].health, "; ".join(words))


def _concerns(view: QueueView, now_ms: int) -> list[Concern]:
    found: list[Concern] = []
    settings = view.queue.settings
    webhook = view.webhook
    if webhook is not None and not webhook.enabled:
        why = f": {webhook.reason}" if webhook.reason else ""
        found.append(Concern(Health.BAD, f"its webhook is off{why}"))
    elif webhook is not None and webhook.circuit is Circuit.OPEN:
        found.append(Concern(Health.WARNING, "its webhook does not answer"))
    if silence := _silence(view, now_ms):
        found.append(silence)
    if settings.depth_limit and view.depth > settings.depth_limit:
        limit = count(settings.depth_limit)
        found.append(Concern(Health.BAD, f"{count(view.depth)} waiting (limit {limit})"))
    oldest = view.oldest_age_seconds(now_ms)
    limit_seconds = settings.oldest_age_limit_seconds
    if oldest is not None and limit_seconds and oldest > limit_seconds:
        words = f"the oldest is {age(oldest)} old (limit {age(limit_seconds)})"
        found.append(Concern(Health.BAD, words))
    failed, rate = view.recent.failed, view.recent.error_rate
    if rate is not None and failed >= FAILURES and rate >= FAILING_SHARE:
        health = Health.BAD if rate >= BROKEN_SHARE else Health.WARNING
        ended = failed + view.recent.acked
        found.append(Concern(health, f"{count(failed)} of {plural(ended, 'attempt')} failed"))
    if view.figures.dead:
        found.append(Concern(Health.WARNING, plural(view.figures.dead, "dead letter")))
    return found


def _silence(view: QueueView, now_ms: int) -> Concern | None:
    silent = view.silent_seconds(now_ms)
    limit = view.queue.settings.silence_limit_seconds
    if limit and silent is not None and silent > limit:
        words = f"has neither come nor signed for {age(silent)} (agreed: {age(limit)})"
        return Concern(Health.BAD, words)
    attached = any(consumer.attached for consumer in view.consumers)
    if not view.depth or attached or view.webhook is not None:
        return None
    oldest = view.oldest_age_seconds(now_ms) or 0.0
    if silent is None and oldest > UNANSWERED_SECONDS:
        return Concern(Health.WARNING, "nobody has come for it yet")
    if silent is not None and min(silent, oldest) > UNANSWERED_SECONDS:
        return Concern(Health.WARNING, f"has signed nothing for {age(silent)}")
    return None


def _last_error(view: QueueView) -> str:
    if view.recent.reasons:
        reason, number = max(view.recent.reasons.items(), key=lambda item: item[1])
        times = f" × {count(number)}" if number > 1 else ""  # noqa: RUF001
        return f"last error: {reason}{times}"
    if view.last_failure is not None and view.last_failure.reason:
        return f"last error: {view.last_failure.reason}"
    return ""
