"""Finds the transports that come with Restante, and what to run over each."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from restante import transports
from restante.testing.transports import attaching, leasing, settling
from restante.testing.transports.driver import Driver
from restante.testing.transports.stage import Scenario, needs_of

DRIVERS = "restante.testing.transports.drivers"
_PARTS = (settling, leasing, attaching)


def all_drivers() -> list[type[Driver]]:
    """The clients of every transport. ``ModuleNotFoundError`` for a transport that has none."""
    found: list[type[Driver]] = []
    for module in pkgutil.iter_modules(transports.__path__):
        found += importlib.import_module(f"{DRIVERS}.{module.name}").DRIVERS
    return found


def scenarios() -> list[Scenario]:
    """All scenarios. A coroutine function without an underscore in front is one; its name says what is true."""
    found: list[Scenario] = []
    for part in _PARTS:
        for name, play in vars(part).items():
            own = inspect.iscoroutinefunction(play) and play.__module__ == part.__name__
            if own and not name.startswith("_"):
                title = f"{part.__name__.rpartition('.')[2]}-{name}"
                found.append(Scenario(title, play, needs_of(play)))
    return found


def transport_cases() -> list[tuple[type[Driver], Scenario]]:
    """Every scenario with every driver that offers what it needs."""
    return [
        (driver, scenario)
        for driver in all_drivers()
        for scenario in scenarios()
        if scenario.needs <= driver.offers
    ]
