"""Alerts as they are answered, and as they are sent: in JSON, and as text for people."""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from restante.alerting import Alert, Message, Notice
from restante.wire import times
from restante.wire.messages import Answered

TYPE: Final = "restante.alerts"
"""What a message says it is."""
_SUBJECT_CHARACTERS: Final = 150
# Reasons of errors are clients' words: of what steers a terminal or ends a line nothing is left.
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_encode = msgspec.json.Encoder().encode


class AlertOut(Answered, kw_only=True, omit_defaults=False):
    """An alert. ``value`` and ``limit`` are of when it was raised, in the rule's own unit; times are RFC 3339."""

    id: str
    queue: str
    owner: str
    rule: str
    severity: str
    value: float
    limit: float
    words: str
    raised_at: str
    cleared_at: str | None
    cleared_words: str
    unsent: list[str]


class AlertList(Answered, kw_only=True, omit_defaults=False):
    alerts: list[AlertOut]


class AlertPage(Answered, kw_only=True, omit_defaults=False):
    alerts: list[AlertOut]
    next: str | None


class NoticeOut(Answered, kw_only=True, omit_defaults=False):
    event: Literal["raised", "cleared"]
    at: str
    alert: AlertOut


class MessageOut(Answered, kw_only=True, omit_defaults=False):
    """What is sent. ``notices`` are the first of them, ``left_out`` how many are not shown."""

    type: str
    id: str
    at: str
    raised: int
    cleared: int
    notices: list[NoticeOut]
    left_out: int


def alert_out(alert: Alert, words: str | None = None) -> AlertOut:
    """The alert, with other words than those it was raised with, where there are."""
    cleared = alert.cleared_at_ms
    return AlertOut(
        id=alert.id,
        queue=alert.queue,
        owner=alert.owner,
        rule=alert.rule.value,
        severity=alert.severity.value,
        value=round(alert.value, 3),
        limit=alert.limit,
        words=alert.words if words is None else words,
        raised_at=times.to_text(alert.raised_at_ms),
        cleared_at=None if cleared is None else times.to_text(cleared),
        cleared_words=alert.cleared_words,
        unsent=list(alert.unsent),
    )


def to_json(message: Message) -> bytes:
    """The message as it is posted and published."""
    return _encode(
        MessageOut(
            type=TYPE,
            id=message.id,
            at=times.to_text(message.made_at_ms),
            raised=message.raised,
            cleared=message.cleared,
            notices=[
                NoticeOut(event=one.event, at=times.to_text(one.at_ms), alert=alert_out(one.alert))
                for one in message.notices
            ],
            left_out=message.left_out,
        )
    )


def subject(message: Message) -> str:
    """One line: the words of the only notice, or how many there are and of whom."""
    if len(message.notices) == 1:
        text = _words(message.notices[0])
    else:
        counts = ((message.raised, "raised"), (message.cleared, "cleared"))
        names = dict.fromkeys(one.alert.queue for one in message.notices)
        told = ", ".join(f"{count:,} {what}" for count, what in counts if count)
        text = f"{told}: {', '.join(names)}"
    line = f"[restante] {text}"
    return line if len(line) <= _SUBJECT_CHARACTERS else f"{line[: _SUBJECT_CHARACTERS - 3]}..."


def to_lines(message: Message) -> str:
    """The message as text, a line for each notice."""
    lines = [
        f"{times.to_text(one.at_ms)}  {one.event}  {one.alert.severity.value}  {_words(one)}"
        for one in message.notices
    ]
    if message.left_out:
        lines.append(f"and {message.left_out:,} more, which `restante alerts list` shows")
    return "\n".join(lines) + "\n"


def _words(notice: Notice) -> str:
    alert = notice.alert
    words = alert.words if notice.event == "raised" else alert.cleared_words
    return _CONTROLS.sub(" ", words)
