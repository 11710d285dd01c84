"""A queue as ``restante queue show`` tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from restante.cli import output
from restante.cli.sparkline import sparkline
from restante.model import Settings
from restante.wire.watching import (
    ConsumerOut,
    ContactOut,
    FailureOut,
    HistoryOut,
    QueueSeen,
    WebhookHealthOut,
)

_DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(Settings)}


def show_queue(
    settings: Settings, view: QueueSeen, history: HistoryOut, consumers: Sequence[ConsumerOut]
) -> None:
    """Print how it fares, who collects from it, and its settings."""
    pace, figures = view.pace, view.figures
    output.details(
        [
            ("queue", view.name),
            ("owner", view.owner),
            ("health", f"{view.health}: {view.problem}" if view.problem else view.health),
        ]
    )
    print()
    output.details(
        [
            ("published", f"{figures.published:,}"),
            *(
                (state, f"{getattr(figures, state):,}")
                for state in (
                    *("ready", "scheduled", "held", "leased", "dead"),
                    *("acked", "superseded", "expired", "discarded"),
                )
            ),
            ("oldest waiting", output.age(figures.oldest_age_seconds)),
        ]
    )
    print()
    output.details(
        [
            ("published/s", pace.rates.published),
            ("delivered/s", f"{pace.rates.delivered}, {pace.rates.redelivered} of them again"),
            ("acked/s", pace.rates.acked),
            ("failed/s", f"{pace.rates.failed}{_share(pace.error_rate)}"),
            ("time to ack", _ack(pace.ack_p50_seconds, pace.ack_p99_seconds)),
            *((f"failed {error.count}x", error.reason) for error in pace.errors),
            ("last contact", _contact(view.last_contact)),
            ("last ack", "never" if view.last_ack_at is None else output.clock(view.last_ack_at)),
            ("last error", _failure(view.last_failure)),
            ("webhook", _webhook(view.webhook)),
        ]
    )
    print()
    depths = [point.depth for point in history.points]
    acked = [point.acked for point in history.points]
    output.details(
        [
            ("waiting, last hour", f"{sparkline(depths)} at most {max(depths, default=0):,}"),
            ("acked, last hour", f"{sparkline(acked)} {sum(acked):,} in all"),
        ]
    )
    print()
    if consumers:
        _consumers(consumers)
    else:
        print("Nobody collects from it.")
    print()
    output.details(
        (name, shown(name, value)) for name, value in msgspec.structs.asdict(settings).items()
    )


def shown(name: str, value: object) -> object:
    """A limit of alerts is the server's own where it is None, and 0 where there is none."""
    if _DEFAULTS[name] is not None:
        return value
    return "default" if value is None else value or "off"


def _consumers(consumers: Sequence[ConsumerOut]) -> None:
    output.table(
        ["over", "from", "program", "since", "last seen", "state", "node"],
        [
            (
                one.transport,
                one.address,
                one.agent or "-",
                output.clock(one.since),
                output.clock(one.last_seen),
                "attached" if one.attached else "gone",
                one.node or "-",
            )
            for one in consumers
        ],
        empty="",
    )


def _ack(half: float | None, most: float | None) -> str:
    if half is None:
        return "nothing was signed lately"
    return f"half within {output.age(half)}, 99 % within {output.age(most)}"


def _share(rate: float | None) -> str:
    return "" if rate is None else f", {rate:.0%} of the attempts of five minutes"


def _contact(contact: ContactOut | None) -> str:
    if contact is None:
        return "never"
    words = (contact.transport, contact.address, contact.agent)
    return " ".join((output.clock(contact.at), *filter(None, words)))


def _failure(failure: FailureOut | None) -> str:
    return "" if failure is None else f"{output.clock(failure.at)} {failure.reason}"


def _webhook(webhook: WebhookHealthOut | None) -> str:
    if webhook is None:
        return ""
    state = "enabled" if webhook.enabled else "disabled"
    if webhook.circuit is not None and webhook.enabled:
        state = {"closed": "called", "open": "not answering", "half_open": "being tried"}[
            webhook.circuit.value
        ]
    why = f" ({webhook.reason})" if webhook.reason else ""
    return f"{state}{why}: {webhook.url}"
