"""The clock: whether it goes with the others', and whether it jumps."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from restante.cli.doctor.findings import Finding, ok, warning

OFF_SECONDS: Final = 5.0
JUMP_SECONDS: Final = 0.5
_ADVICE: Final = (
    "let a service keep the clock (chrony, systemd-timesyncd); `timedatectl` shows how it is"
)


class Instant(NamedTuple):
    """The wall clock and the monotonic one, at the same moment, in seconds."""

    wall: float
    monotonic: float


def now() -> Instant:
    """This moment."""
    return Instant(time.time(), time.monotonic())


def offset(subject: str, whose: str, theirs: float, before: Instant, after: Instant) -> Finding:
    """This clock against another's time, which was read between two moments; seconds since 1970."""
    off = max(before.wall - theirs, theirs - after.wall, 0.0)
    if off > OFF_SECONDS:
        ahead = "ahead of" if before.wall > theirs else "behind"
        return warning(
            subject, f"this machine is {off:,.1f} s {ahead} {whose}", f"on both machines, {_ADVICE}"
        )
    return ok(subject, f"goes with {whose}, to {OFF_SECONDS:.0f} s")


def steadiness(began: Instant, ended: Instant) -> Finding:
    """Whether the wall clock went on as the monotonic one did, while the other checks were made."""
    passed = ended.monotonic - began.monotonic
    jumped = (ended.wall - began.wall) - passed
    if abs(jumped) > JUMP_SECONDS:
        return warning(
            "clock",
            f"the wall clock jumped by {jumped:+,.1f} s within {passed:,.1f} s: leases do not mind, what people read"
            " does",
            _ADVICE,
        )
    return ok("clock", f"the wall clock did not jump within {passed:,.1f} s")
