"""Finds the stores that come with Restante."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec

from restante import stores
from restante.ports import Clock, Store

Opener = Callable[[Path, Clock, Callable[[], float]], AbstractAsyncContextManager[Store]]
"""Opens a store: ``(folder, clock, jitter)``."""


class Adapter(msgspec.Struct, frozen=True):
    """A store of this package, and how to open it."""

    name: str
    open: Opener
    durable: bool

    def __str__(self) -> str:
        return self.name


def shipped_stores() -> list[Adapter]:
    """Every module in ``restante.stores``. ``AttributeError`` for one that the suite cannot open."""
    found = []
    for module in pkgutil.iter_modules(stores.__path__):
        store = importlib.import_module(f"{stores.__name__}.{module.name}")
        found.append(Adapter(module.name, store.open_for_tests, store.DURABLE))
    return found
