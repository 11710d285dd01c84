"""What the files of broken histories share."""

from __future__ import annotations

from collections.abc import Callable

from tests.unit.testing.world import World

from restante.testing.history import History

Broken = Callable[[], History]


class Register:
    """Histories in which something is wrong, each under the invariants it violates."""

    def __init__(self) -> None:
        self.histories: list[tuple[str, Broken]] = []

    def __call__(self, *names: str) -> Callable[[Broken], Broken]:
        def register(broken: Broken) -> Broken:
            self.histories.extend((name, broken) for name in names)
            return broken

        return register


def edit(world: World, at: int, **changes: object) -> None:
    """Falsify a receipt, before its digest is made."""
    world.receipts[at - 1].update(changes)
