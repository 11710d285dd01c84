"""All scenarios. A coroutine function whose name has no underscore in front is one; its name says what is true."""

from __future__ import annotations

import inspect

from restante.testing.conformance import (
    administering,
    appending,
    browsing,
    dead_letters,
    leasing,
    lifecycle_steps,
    ordering,
    papers,
    persistence,
    retention,
    seals,
    settling,
    signing,
    times,
    watching,
    webhooks,
)
from restante.testing.conformance.stage import Scenario

_PARTS = (
    appending,
    leasing,
    settling,
    signing,
    times,
    ordering,
    lifecycle_steps,
    dead_letters,
    administering,
    browsing,
    retention,
    webhooks,
    watching,
    papers,
    seals,
)


def store_scenarios(*, durable: bool = True) -> list[Scenario]:
    """What to run on a store; those about opening it again only where it is ``durable``."""
    found: list[Scenario] = []
    for part in (*_PARTS, *((persistence,) if durable else ())):
        for name, play in vars(part).items():
            own = inspect.iscoroutinefunction(play) and play.__module__ == part.__name__
            if own and not name.startswith("_"):
                title = f"{part.__name__.rpartition('.')[2]}-{name}"
                found.append(Scenario(title, play, part is persistence))
    return found
