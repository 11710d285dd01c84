"""What needs somebody: the rules by which an alert is raised for a queue and cleared again, and its words.

Each rule compares a value with a limit. An alert is raised once the value reaches the limit, and cleared only once the
value is below 80 % of it, so that one which wavers about its limit tells of itself once. ``docs/alerts.md`` has the
table.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from restante.model import Settings
from restante.watching import QueueView

CLEARED_BELOW: Final = 0.8
"""The share of its limit below which a value has to fall."""
ATTEMPTS: Final = 20
"""So many have to have ended lately before their rate of errors says anything."""
HISTORY_SECONDS: Final = 90 * 86_400
"""How long an alert is told of after its end."""
GIVE_UP_SECONDS: Final = 86_400
"""How long sending a message is tried."""
SHOWN: Final = 20
"""So many alerts are told of one by one in a message; of more there is a number."""


class Rule(enum.StrEnum):
    DEPTH = "depth"
    OLDEST_AGE = "oldest_age"
    ERROR_RATE = "error_rate"
    DEAD_LETTERS = "dead_letters"
    SILENCE = "silence"
    WEBHOOK_DISABLED = "webhook_disabled"


class Severity(enum.StrEnum):
    """How soon somebody should look: in time, or now, since a client gets nothing any more."""

    WARNING = "warning"
    CRITICAL = "critical"


SEVERITIES: Final = {
    Rule.DEPTH: Severity.WARNING,
    Rule.OLDEST_AGE: Severity.CRITICAL,
    Rule.ERROR_RATE: Severity.WARNING,
    Rule.DEAD_LETTERS: Severity.WARNING,
    Rule.SILENCE: Severity.CRITICAL,
    Rule.WEBHOOK_DISABLED: Severity.CRITICAL,
}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What may not be reached; 0: it may be as it likes. ``error_rate`` is a share of the attempts that ended."""

    depth: int = 0
    oldest_age_seconds: int = 0
    silence_seconds: int = 0
    dead: int = 0
    error_rate: float = 0.0


class Alerting(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator says of alerts: limits for queues that have none of their own, and where it is told."""

    limits: Limits = Limits()
    destinations: tuple[str, ...] = ()


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What needs, or needed, somebody. ``words`` are of when it was raised, ``cleared_words`` of when it was cleared.

    ``id`` is a UUIDv7 of the time it was raised. ``value`` and ``limit`` are of when it was raised as well, in the
    rule's own unit: deliveries, seconds, a share. ``unsent`` are destinations that could not be told of it.
    """

    id: str
    queue: str
    owner: str
    rule: Rule
    value: float
    limit: float
    words: str
    raised_at_ms: int
    cleared_at_ms: int | None = None
    cleared_words: str = ""
    unsent: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity:
        return SEVERITIES[self.rule]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """That an alert was raised, or cleared, for one who is to be told."""

    event: Literal["raised", "cleared"]
    at_ms: int
    alert: Alert


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Notices as they are sent together: the first ``SHOWN``, and how many there are.

    ``id`` is the same however often it has to be sent.
    """

    id: str
    made_at_ms: int
    raised: int
    cleared: int
    notices: tuple[Notice, ...]

    @property
    def left_out(self) -> int:
        return self.raised + self.cleared - len(self.notices)


class Raise(NamedTuple):
    rule: Rule
    value: float
    limit: float


class Clear(NamedTuple):
    """``value`` is None where there is nothing left to measure, ``limit`` 0 where there is no limit any more."""

    rule: Rule
    value: float | None
    limit: float


Verdict = Raise | Clear


def limits_of(settings: Settings, defaults: Limits) -> Limits:
    """A queue's own limits, and the server's for those that it leaves open."""
    return Limits(
        depth=_own(settings.depth_limit, defaults.depth),
        oldest_age_seconds=_own(settings.oldest_age_limit_seconds, defaults.oldest_age_seconds),
        silence_seconds=_own(settings.silence_limit_seconds, defaults.silence_seconds),
        dead=_own(settings.dead_limit, defaults.dead),
        error_rate=defaults.error_rate
        if settings.error_rate_limit is None
        else settings.error_rate_limit,
    )


def _own(own: int | None, default: int) -> int:
    return default if own is None else own


def judge(
    view: QueueView,
    limits: Limits,
    now_ms: int,
    opened: Collection[Rule],
    watched_seconds: float = 0.0,
) -> list[Verdict]:
    """What is to be raised and what to be cleared; what is in neither stays as it is.

    ``opened`` are the rules of the queue's open alerts. ``watched_seconds`` is how long the queue has been watched by
    who asks: a client of whom nothing is known has been silent for that long.
    """
    verdicts: list[Verdict] = []
    for rule, limit in (
        (Rule.DEPTH, limits.depth),
        (Rule.OLDEST_AGE, limits.oldest_age_seconds),
        (Rule.DEAD_LETTERS, limits.dead),
    ):
        if limit or rule in opened:
            _judge_level(verdicts, rule, measured(rule, view, now_ms), limit, rule in opened)
    _judge_errors(verdicts, view, limits.error_rate, Rule.ERROR_RATE in opened)
    _judge_silence(verdicts, view, limits.silence_seconds, now_ms, opened, watched_seconds)
    disabled = view.webhook is not None and view.webhook.disabled_by_service
    if disabled and Rule.WEBHOOK_DISABLED not in opened:
        verdicts.append(Raise(Rule.WEBHOOK_DISABLED, 1, 1))
    elif not disabled and Rule.WEBHOOK_DISABLED in opened:
        verdicts.append(Clear(Rule.WEBHOOK_DISABLED, None, 1))
    return verdicts


def measured(rule: Rule, view: QueueView, now_ms: int) -> float | None:
    """What the rule compares with its limit; None where there is nothing to measure."""
    match rule:
        case Rule.DEPTH:
            return view.depth
        case Rule.OLDEST_AGE:
            return view.oldest_age_seconds(now_ms)
        case Rule.DEAD_LETTERS:
            return view.figures.dead
        case Rule.ERROR_RATE:
            # Where nothing fails any more nothing is wrong, be it that nothing is attempted.
            return view.recent.error_rate if view.recent.failed else None
        case Rule.SILENCE:
            return silent_seconds(view, now_ms)
        case Rule.WEBHOOK_DISABLED:
            return None


def _judge_level(
    verdicts: list[Verdict], rule: Rule, value: float | None, limit: float, is_open: bool
) -> None:
    if is_open:
        if not limit or value is None or value < CLEARED_BELOW * limit:
            verdicts.append(Clear(rule, value, limit))
    elif limit and value is not None and value >= limit:
        verdicts.append(Raise(rule, value, limit))


def _judge_errors(verdicts: list[Verdict], view: QueueView, limit: float, is_open: bool) -> None:
    if not limit and not is_open:
        return
    recent = view.recent
    if recent.failed and recent.failed + recent.acked < ATTEMPTS and limit:
        return  # too few to say anything
    rate = measured(Rule.ERROR_RATE, view, 0)
    _judge_level(verdicts, Rule.ERROR_RATE, rate, limit, is_open)


def _judge_silence(
    verdicts: list[Verdict],
    view: QueueView,
    limit: int,
    now_ms: int,
    opened: Collection[Rule],
    watched_seconds: float,
) -> None:
    if Rule.SILENCE in opened:
        silent = silent_seconds(view, now_ms)
        if not limit or (silent is not None and silent < limit):
            verdicts.append(Clear(Rule.SILENCE, silent, limit))
    elif limit:
        silent = silent_seconds(view, now_ms, watched_seconds)
        if silent is not None and silent >= limit:
            verdicts.append(Raise(Rule.SILENCE, silent, limit))


def silent_seconds(
    view: QueueView, now_ms: int, watched_seconds: float | None = None
) -> float | None:
    """How long the client has neither asked nor signed; 0 while it is connected, None where nothing is known.

    Whose webhook is called cannot ask: it is as silent as its oldest notification is old, at most.
    """
    if any(consumer.attached for consumer in view.consumers):
        return 0.0
    silent = view.silent_seconds(now_ms)
    if silent is None:
        silent = watched_seconds
    if silent is not None and view.webhook is not None and view.webhook.enabled:
        silent = min(silent, view.oldest_age_seconds(now_ms) or 0.0)
    return silent


def bundle(id: str, now_ms: int, notices: Sequence[Notice]) -> Message:
    """Notices as one message: what was raised comes first, the critical before the rest, then the oldest."""
    first = sorted(
        notices,
        key=lambda one: (
            one.event != "raised",
            one.alert.severity is not Severity.CRITICAL,
            one.at_ms,
        ),
    )
    raised = sum(one.event == "raised" for one in notices)
    return Message(
        id=id,
        made_at_ms=now_ms,
        raised=raised,
        cleared=len(notices) - raised,
        notices=tuple(first[:SHOWN]),
    )


# -- in words -----------------------------------------------------------------------------------


def words_now(alert: Alert, view: QueueView, now_ms: int) -> str:
    """Why an open alert's queue needs somebody, as things stand now."""
    value = measured(alert.rule, view, now_ms)
    return in_words(
        Raise(alert.rule, alert.value if value is None else value, alert.limit), view, now_ms
    )


def in_words(verdict: Raise, view: QueueView, now_ms: int) -> str:
    """Why a queue needs somebody: ``acme has signed nothing for 3 h; 1,204 waiting; last error: HTTP 500 x 38``."""
    said = [*_reasons(verdict, view, now_ms), last_error(view)]
    return "; ".join(part for part in said if part)


def _reasons(verdict: Raise, view: QueueView, now_ms: int) -> list[str]:
    rule, value, limit = verdict
    name, recent = view.queue.name, view.recent
    waiting = f"{view.depth:,} waiting"
    match rule:
        case Rule.DEPTH:
            age = view.oldest_age_seconds(now_ms)
            oldest = "" if age is None else f"the oldest for {duration(age)}"
            return [f"{name} has {value:,.0f} waiting (limit {limit:,.0f})", oldest]
        case Rule.OLDEST_AGE:
            oldest = f"has left its oldest unsigned for {duration(value)}"
            return [f"{name} {oldest} (limit {duration(limit)})", waiting]
        case Rule.ERROR_RATE:
            attempts = f"{recent.failed:,} of its last {recent.failed + recent.acked:,} attempts"
            return [f"{name} failed {attempts} ({value:.0%}, limit {limit:.0%})", waiting]
        case Rule.DEAD_LETTERS:
            letters = "1 dead letter" if value == 1 else f"{value:,.0f} dead letters"
            return [f"{name} has {letters} (limit {limit:,.0f})"]
        case Rule.SILENCE:
            return [f"{name} has signed nothing for {duration(value)}", waiting]
        case Rule.WEBHOOK_DISABLED:
            why = "" if view.webhook is None else view.webhook.reason
            return [f"{name} is no longer called: its webhook is disabled", why, waiting]


def last_error(view: QueueView) -> str:
    """``last error: HTTP 500 x 38``: what failed most often lately, else what failed last; empty where nothing did."""
    if view.recent.reasons:
        reason, count = max(view.recent.reasons.items(), key=lambda item: item[1])
        return f"last error: {reason} x {count:,}" if count > 1 else f"last error: {reason}"
    if view.last_failure is not None and view.last_failure.reason:
        return f"last error: {view.last_failure.reason}"
    return ""


def in_words_cleared(verdict: Clear, alert: Alert, view: QueueView, now_ms: int) -> str:
    """Why it needs nobody any more: ``acme came again after 3 h 5 min; 1,204 waiting``."""
    rule, value, limit = verdict
    name = alert.queue
    waiting = f"{view.depth:,} waiting"
    if not limit:
        return f"{name} has no limit for {rule.value.replace('_', ' ')} any more"
    match rule:
        case Rule.DEPTH:
            return f"{name} is down to {waiting}"
        case Rule.OLDEST_AGE if value is None:
            return f"{name} has signed for all there was"
        case Rule.OLDEST_AGE:
            return f"{name} is down to {duration(value or 0)} for its oldest; {waiting}"
        case Rule.ERROR_RATE if value is None:
            return f"{name} fails no more; {waiting}"
        case Rule.ERROR_RATE:
            return f"{name} is down to {value or 0:.0%} of failed attempts; {waiting}"
        case Rule.DEAD_LETTERS:
            return f"{name} is down to {value or 0:,.0f} dead letters"
        case Rule.SILENCE:
            lasted = alert.value + (now_ms - alert.raised_at_ms) / 1_000
            return f"{name} came again after {duration(lasted)}; {waiting}"
        case Rule.WEBHOOK_DISABLED:
            if view.webhook is not None and view.webhook.enabled:
                return f"{name} is called again; {waiting}"
            return f"{name} has no webhook that wants to be called; {waiting}"


def duration(seconds: float) -> str:
    """A duration for people: its largest unit, and the next below where it is less than ten."""
    whole = max(0, round(seconds))
    for (unit, size), (lower, part) in (
        (("d", 86_400), ("h", 3_600)),
        (("h", 3_600), ("min", 60)),
        (("min", 60), ("s", 1)),
    ):
        if whole >= size:
            many, rest = divmod(whole, size)
            below = rest // part
            return f"{many} {unit} {below} {lower}" if below and many < 10 else f"{many} {unit}"
    return f"{whole} s"
