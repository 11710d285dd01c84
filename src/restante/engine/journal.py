"""What is committed, in the log: a line for each receipt at debug, and for each delivery that died at warning."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from restante.logs import get_logger
from restante.metering import Event
from restante.model import Outcome, State

REASON_CHARACTERS: Final = 200
_log = get_logger(__name__)
_NO_DEATHS: Final = frozenset({Outcome.LATE_ACK, Outcome.PUBLISHED})
"""Outcomes of deliveries that are dead already, or never were alive."""


def write(events: Sequence[Event]) -> None:
    """A ``Meter``'s journal. A line has no body and no reply; the reason is the client's own words, cut short."""
    every = _log.is_enabled_for(logging.DEBUG)
    if not every:
        events = [event for event in events if event[2] is State.DEAD]
    for queue, outcome, state, age_ms, reason, number, seq, notification, by in events:
        facts = {
            "queue": queue,
            "outcome": outcome.value,
            "seq": seq,
            "notification": notification,
            "reason": reason[:REASON_CHARACTERS],
            "age_seconds": age_ms / 1_000,
        }
        if every:
            _log.debug("delivery.receipt", **facts, number=number, by=by)
        if state is State.DEAD and outcome not in _NO_DEATHS:
            _log.warning("delivery.dead", **facts)
