"""How a queue fares and what of it needs a person, worst first, in words; and queues in the order somebody asks for."""

from __future__ import annotations

import enum
import heapq
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from restante.alerting import Limits, last_error, limits_of
from restante.metering import Tally
from restante.watching import QueueView, WebhookHealth
from restante.webhooks import Circuit

UNANSWERED_SECONDS: Final = 900.0
"""Where no limit is set: something waits, and nobody has come for so long."""
FAILING_SHARE: Final = 0.1
BROKEN_SHARE: Final = 0.5
FAILURES: Final = 5
"""Fewer failures within what is recent say nothing yet."""
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


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
    """``say`` puts it into words, which most are never asked for."""

    health: Health
    say: Callable[[], str]


class Assessment(NamedTuple):
    """``sentence`` is what is wrong, in words that go on after the queue's name; empty where nothing is."""

    health: Health
    sentence: str


class Sort(enum.StrEnum):
    """What queues can be put in order by."""

    NAME = "name"
    DEPTH = "depth"
    OLDEST_AGE = "oldest_age"
    DEAD = "dead"
    ERROR_RATE = "error_rate"
    LAST_CONTACT = "last_contact"
    PUBLISHED = "published"
    ACKED = "acked"


class Order(enum.StrEnum):
    ASCENDING = "asc"
    DESCENDING = "desc"


class Found(NamedTuple):
    """``number`` is how many there are, of which ``views`` are the page asked for."""

    number: int
    views: list[QueueView]


def assess(view: QueueView, now_ms: int, defaults: Limits) -> Assessment:
    """How a queue fares at that time (wall clock); ``defaults`` are the server's limits, for those it leaves open."""
    concerns = _concerns(view, now_ms, defaults)
    if not concerns:
        recent = view.recent
        busy = view.depth or recent.published or recent.acked or recent.failed or view.consumers
        return Assessment(Health.GOOD if busy else Health.IDLE, "")
    concerns.sort(key=lambda concern: -concern.health)
    words = [concern.say() for concern in concerns]
    if view.depth and not any("waiting" in one for one in words):
        words.append(f"{view.depth:,} waiting")
    if error := last_error(view):
        words.append(error)
    return Assessment(concerns[0].health, "; ".join(words))


def neediest(
    views: Iterable[QueueView], now_ms: int, limit: int, defaults: Limits
) -> list[tuple[QueueView, Assessment]]:
    """The queues that need a person first: the worst, and of these the deepest; at most ``limit``."""
    needy: list[tuple[int, int, str, QueueView]] = []
    for view in views:
        concerns = _concerns(view, now_ms, defaults)
        if concerns:
            worst = max(concern.health for concern in concerns)
            needy.append((-worst, -view.depth, view.queue.name, view))
    first = heapq.nsmallest(limit, needy)
    return [(view, assess(view, now_ms, defaults)) for *_, view in first]


def find(
    views: Iterable[QueueView],
    *,
    search: str = "",
    sort: Sort = Sort.NAME,
    order: Order = Order.ASCENDING,
    offset: int = 0,
    limit: int,
    now_ms: int,
) -> Found:
    """The page of queues in whose name, or owner's name, ``search`` stands, in capitals or not.

    Those of which what they are sorted by is not known come last in either order, and equals by name.
    """
    text = search.lower()
    found = [
        view
        for view in views
        if not text or text in view.queue.name.lower() or text in view.queue.owner.lower()
    ]
    sign = -1 if order is Order.DESCENDING else 1
    if sort is Sort.NAME:
        found.sort(key=lambda view: view.queue.name, reverse=sign < 0)
        return Found(len(found), found[offset : offset + limit])

    def place(view: QueueView) -> tuple[bool, float, str]:
        value = _measure(sort, view, now_ms)
        return value is None, sign * (value or 0), view.queue.name

    first = heapq.nsmallest(offset + limit, found, key=place)
    return Found(len(found), first[offset:])


def _measure(sort: Sort, view: QueueView, now_ms: int) -> float | None:
    match sort:
        case Sort.DEPTH:
            return view.depth
        case Sort.OLDEST_AGE:
            return view.oldest_age_seconds(now_ms)
        case Sort.DEAD:
            return view.figures.dead
        case Sort.ERROR_RATE:
            return view.recent.error_rate
        case Sort.LAST_CONTACT:
            return None if view.last_contact is None else view.last_contact.at_ms
        case Sort.PUBLISHED:
            return view.minute.published
        case _:
            return view.minute.acked


def _concerns(view: QueueView, now_ms: int, defaults: Limits) -> list[Concern]:
    found: list[Concern] = []
    limits, depth = limits_of(view.queue.settings, defaults), view.depth
    if view.webhook is not None:
        found += _of_webhook(view.webhook)
    if depth or limits.silence_seconds:
        found += _of_silence(view, limits.silence_seconds, now_ms)
    limit = limits.depth
    if limit and depth >= limit:
        found.append(Concern(Health.BAD, lambda: f"{depth:,} waiting (limit {limit:,})"))
    if limits.oldest_age_seconds:
        found += _of_age(view, limits.oldest_age_seconds, now_ms)
    found += _of_failures(view.recent, limits.error_rate)
    if view.figures.dead:
        found.append(_of_dead(view.figures.dead, limits.dead))
    return found


def _of_webhook(webhook: WebhookHealth) -> list[Concern]:
    if not webhook.enabled:
        why = f": {webhook.reason}" if webhook.reason else ""
        return [Concern(Health.BAD, lambda: f"its webhook is off{why}")]
    if webhook.circuit is Circuit.OPEN:
        return [Concern(Health.WARNING, lambda: "its webhook does not answer")]
    return []


def _of_age(view: QueueView, limit: int, now_ms: int) -> list[Concern]:
    oldest = view.oldest_age_seconds(now_ms)
    if oldest is None or oldest < limit:
        return []
    return [Concern(Health.BAD, lambda: f"the oldest is {age(oldest)} old (limit {age(limit)})")]


def _of_dead(dead: int, limit: int) -> Concern:
    words = f"{dead:,} dead letter{'s' * (dead > 1)}"
    if limit and dead >= limit:
        return Concern(Health.BAD, lambda: f"{words} (limit {limit:,})")
    return Concern(Health.WARNING, lambda: words)


def _of_failures(recent: Tally, limit: float) -> list[Concern]:
    failed = recent.failed
    if failed < FAILURES:
        return []
    ended = failed + recent.acked
    if failed < min(FAILING_SHARE, limit or FAILING_SHARE) * ended:
        return []
    health = Health.BAD if failed >= (limit or BROKEN_SHARE) * ended else Health.WARNING
    return [Concern(health, lambda: f"{failed:,} of {ended:,} attempts failed")]


def _of_silence(view: QueueView, limit: int, now_ms: int) -> list[Concern]:
    for consumer in view.consumers:
        if consumer.attached:
            return []
    silent = view.silent_seconds(now_ms)
    if limit and silent is not None and silent >= limit:
        words = "has neither come nor signed for"
        return [Concern(Health.BAD, lambda: f"{words} {age(silent)} (agreed: {age(limit)})")]
    if not view.depth or view.webhook is not None:
        return []
    oldest = view.oldest_age_seconds(now_ms) or 0.0
    if silent is None and oldest > UNANSWERED_SECONDS:
        return [Concern(Health.WARNING, lambda: "nobody has come for it yet")]
    if silent is not None and min(silent, oldest) > UNANSWERED_SECONDS:
        return [Concern(Health.WARNING, lambda: f"has signed nothing for {age(silent)}")]
    return []


def age(seconds: float) -> str:
    """``3 h``, ``1 d 4 h``, ``12 s``: the two largest units where the second counts."""
    left = int(seconds)
    for index, (size, unit) in enumerate(_UNITS):
        if left >= size:
            whole, rest = divmod(left, size)
            if whole < 10 and index + 1 < len(_UNITS):
                smaller, name = _UNITS[index + 1]
                if rest >= smaller:
                    return f"{whole} {unit} {rest // smaller} {name}"
            return f"{whole} {unit}"
    return "0 s"
