"""What the engine tells of each step to who makes traces of them. Without a tracer nothing is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from restante.errors import RestanteError
from restante.model import Appended, Draft, Leased, LeaseRequest, Settled, Settlement

WhenAppended: TypeAlias = Callable[[asyncio.Future[list[Appended | RestanteError]]], None]
WhenLeased: TypeAlias = Callable[[asyncio.Future[Leased]], None]
WhenSettled: TypeAlias = Callable[[asyncio.Future[list[Settled | RestanteError]]], None]


class Tracer(Protocol):
    """Told as each step begins; what it returns is called when the step is done, with what has become of it.

    It stands in the way of every notification: it never waits and raises nothing, and a future that failed or was
    cancelled is no error of its own.
    """

    def publishing(self, drafts: Sequence[Draft]) -> tuple[list[Draft], WhenAppended]:
        """Notifications are being stored: with them goes the context that is returned in their attributes."""

    def leasing(self, request: LeaseRequest) -> WhenLeased:
        """A queue is being looked into."""

    def settling(self, settlements: Sequence[Settlement]) -> WhenSettled:
        """Leases are being ended."""
