"""The life of a delivery, as a table, and the decisions that follow from it. Nothing else decides.

            publish                      lease                      ack
  (SCHEDULED) -----> READY ----------------------------> LEASED ----------> ACKED
        |              ^   nack, lease ran out, release    |
        |              +-----------------------------------+
        |              ^                                   | reject, or attempts used up
   deliver-after,      | redrive                           v
   a nack's delay      +--------------------------------- DEAD ---> DISCARDED
      HELD  (ordering key: an earlier one of the same key has not ended)
  READY/HELD/SCHEDULED -> SUPERSEDED (collapse key: a newer state arrived), -> EXPIRED (past its expiry)

What may live where:

  SCHEDULED   waits for a time: ``deliver_after``, or the delay after a nack
  READY       may be leased now; nothing of its ordering key is before it
  HELD        waits for an earlier delivery of the same ordering key
  LEASED      handed out until a deadline, under the current fence
  DEAD        rejected, or out of attempts; ``parked`` when it keeps its ordering key shut
  the others  are ends: the delivery's row is gone and the ledger alone tells of it

A store keeps a ``Standing`` for each delivery that has not ended, asks here what is to become of it, and writes
the answer, the receipt with it, in one transaction.
"""

from __future__ import annotations

from typing import Final

import msgspec

from restante.errors import LeaseLost
from restante.model import Outcome, Settings, State, Verb

WAITING: Final = frozenset({State.SCHEDULED, State.READY, State.HELD})
OPEN: Final = WAITING | {State.LEASED}
ENDED: Final = frozenset({State.ACKED, State.SUPERSEDED, State.EXPIRED, State.DISCARDED})

_BACK: Final = frozenset({State.READY, State.SCHEDULED})

TABLE: Final[dict[Outcome, tuple[frozenset[State], frozenset[State]]]] = {
    # outcome: (the states it may start from, the states it may lead to)
    Outcome.PUBLISHED: (frozenset(), WAITING),
    # From READY only by a late ack, before a newer lease was given out.
    Outcome.ACKED: (frozenset({State.LEASED, State.READY}), frozenset({State.ACKED})),
    Outcome.NACKED: (frozenset({State.LEASED}), _BACK | {State.DEAD}),
    # From READY when the store finds the body damaged: what was published is no longer there to hand out.
    Outcome.REJECTED: (frozenset({State.LEASED, State.READY}), frozenset({State.DEAD})),
    Outcome.RELEASED: (frozenset({State.LEASED}), _BACK),
    Outcome.LEASE_EXPIRED: (frozenset({State.LEASED}), _BACK | {State.DEAD}),
    Outcome.SUPERSEDED: (WAITING, frozenset({State.SUPERSEDED})),
    Outcome.EXPIRED: (WAITING, frozenset({State.EXPIRED})),
    Outcome.REDRIVEN: (frozenset({State.DEAD}), frozenset({State.READY, State.HELD})),
    Outcome.DISCARDED: (frozenset({State.DEAD}), frozenset({State.DISCARDED})),
}


class Standing(msgspec.Struct):
    """Where one delivery stands: the mutable part of a store's row.

    ``fence`` counts its leases for ever; ``attempt`` those since it was published or redriven, less the released.
    ``forgiving`` is set while the last lease ran out and nothing else happened: a late ack is still welcome.
    """

    state: State
    attempt: int = 0
    fence: int = 0
    forgiving: bool = False
    parked: bool = False


class Decision(msgspec.Struct, frozen=True):
    """What becomes of a delivery. ``delay_seconds`` is only meant where ``state`` is SCHEDULED."""

    outcome: Outcome
    state: State
    attempt: int
    delay_seconds: float = 0.0
    forgiving: bool = False
    parked: bool = False


def check_transition(outcome: Outcome, before: State, after: State) -> None:
    """Raise ``AssertionError`` for a step the table does not know: a store's last check before it writes."""
    start, end = TABLE[outcome]
    if before not in start or after not in end:
        raise AssertionError(f"{outcome.value} does not lead from {before.label} to {after.label}")


def entry_state(*, delay_seconds: float, held: bool) -> State:
    """The state of a delivery that is published, comes back, or is let go by its ordering key."""
    if held:
        return State.HELD
    return State.SCHEDULED if delay_seconds > 0 else State.READY


def backoff_seconds(settings: Settings, attempt: int, jitter: float) -> float:
    """Exponential backoff with full jitter: ``jitter`` in [0, 1) times base * factor ** (attempt - 1), capped."""
    base, cap = settings.backoff_base_seconds, settings.backoff_cap_seconds
    try:
        raised = base * float(settings.backoff_factor) ** (attempt - 1)
    except OverflowError:
        # 1,000 attempts at factor 10: past every cap, but for a base of nothing.
        raised = cap if base else 0
    return jitter * min(raised, cap)


def decide_settle(
    standing: Standing,
    fence: int,
    verb: Verb,
    settings: Settings,
    *,
    retry_after_seconds: float | None = None,
    jitter: float = 0.0,
) -> Decision:
    """What an ack, nack, reject or release of the lease ``fence`` leads to; ``LeaseLost`` when it is not current."""
    if fence != standing.fence:
        raise LeaseLost("a newer lease of this delivery has been given out")
    if standing.state is not State.LEASED:
        if verb is Verb.ACK and standing.forgiving:
            return Decision(Outcome.ACKED, State.ACKED, standing.attempt)
        raise LeaseLost("the lease has ended")
    match verb:
        case Verb.ACK:
            return Decision(Outcome.ACKED, State.ACKED, standing.attempt)
        case Verb.REJECT:
            return _dead(Outcome.REJECTED, standing, settings)
        case Verb.RELEASE:
            return Decision(Outcome.RELEASED, State.READY, standing.attempt - 1)
        case _:
            if standing.attempt >= settings.max_attempts:
                return _dead(Outcome.NACKED, standing, settings)
            if retry_after_seconds is None:
                delay = backoff_seconds(settings, standing.attempt, jitter)
            else:
                delay = min(retry_after_seconds, settings.backoff_cap_seconds)
            state = entry_state(delay_seconds=delay, held=False)
            return Decision(Outcome.NACKED, state, standing.attempt, delay_seconds=delay)


def decide_extend(standing: Standing, fence: int) -> None:
    """Raise ``LeaseLost`` unless the lease ``fence`` is the current one and still runs."""
    if fence != standing.fence or standing.state is not State.LEASED:
        raise LeaseLost("the lease has ended")


def decide_lease_expired(standing: Standing, settings: Settings) -> Decision:
    """A lease ran out: ready again at once (the lease itself was the delay), or dead when attempts are used up."""
    if standing.attempt >= settings.max_attempts:
        return _dead(Outcome.LEASE_EXPIRED, standing, settings)
    return Decision(Outcome.LEASE_EXPIRED, State.READY, standing.attempt, forgiving=True)


def decide_redrive(*, held: bool) -> Decision:
    """An operator gives a dead letter a new set of attempts."""
    return Decision(Outcome.REDRIVEN, entry_state(delay_seconds=0, held=held), 0)


def _dead(outcome: Outcome, standing: Standing, settings: Settings) -> Decision:
    return Decision(outcome, State.DEAD, standing.attempt, parked=settings.after_dead == "park")
