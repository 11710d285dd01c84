"""Operations of one transaction: what each needs to know, reading that for all, and doing them in their order.

Each says what it needs before anything is read, and is done in memory when all has been: one that refuses has
changed nothing, so that its neighbours in the transaction stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from restante.errors import RestanteError
from restante.model import LeaseRef, State
from restante.stores.postgresql import loading
from restante.stores.postgresql.unit import Glance, Unit

GLANCED_AT: Final = 8


class LookAgain(Exception):
    """To be done once more, in a transaction of its own time."""


class Needs:
    """What the operations of one transaction need to know."""

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []
        self.ready: dict[int, tuple[int, int]] = {}
        self.collapse_keys: list[tuple[int, str]] = []
        self.ordering_keys: list[tuple[int, str]] = []
        self.idempotency_keys: list[tuple[str, str]] = []
        self.refs: list[LeaseRef] = []
        self.held: list[tuple[int, str, int, int]] = []
        self.notifications = 0
        self.ends = 0


class Operation:
    """Something asked of the store that concerns the queues it names."""

    queues: tuple[str, ...]
    size = 0
    """Bytes of bodies it brings along or takes away, at most."""
    looks = False
    """Whether it only looks at its one queue for something to do, and mostly finds nothing."""

    def idle(self, glances: Mapping[str, Glance]) -> Any:
        """Its result, where a glance at the queues shows that it has nothing to do; else None."""
        return None

    def ask(self, unit: Unit, needs: Needs) -> None:
        """Say what it needs of the queues, which are locked now."""
        raise NotImplementedError

    def run(self, unit: Unit) -> Any:
        """Do it, in memory; what was asked for has been read."""
        raise NotImplementedError


async def play(unit: Unit, operations: Sequence[Operation]) -> list[Any]:
    """Lock, read, and do all operations in their order: for each its result, or the error by which it refused.

    Where all that was asked for is many looks, as of consumers who wait, a glance comes first: a lock is written to the
    log, and whoever waits looks for nothing most of the time. A few were mostly woken, and the glance would delay them.
    """
    results: list[Any] = [None] * len(operations)
    if len(operations) >= GLANCED_AT and all(operation.looks for operation in operations):
        glances = await unit.glance(operation.queues[0] for operation in operations)
        results = [operation.idle(glances) for operation in operations]
    left = [
        operation for operation, result in zip(operations, results, strict=True) if result is None
    ]
    if left:
        await unit.lock(name for operation in left for name in operation.queues)
        needs = Needs()
        for operation in left:
            operation.ask(unit, needs)
        await read(unit, needs)
        done = iter([_result(operation, unit) for operation in left])
        results = [next(done) if result is None else result for result in results]
    return results


async def read(unit: Unit, needs: Needs) -> None:
    """Read all that is needed, each kind in one statement, and no kind that nobody needs."""
    memory = unit.memory
    if needs.notifications:
        await memory.numbers.reserve(unit.connection, needs.notifications)
    if needs.idempotency_keys:
        for publisher, key, *known in await loading.earlier(
            unit.connection, needs.idempotency_keys
        ):
            unit.earlier[publisher, key] = (known[0], known[1], known[2])
    if needs.places:
        await unit.read_rows(needs.places)
    await unit.read_ready([(queue, *asked) for queue, asked in needs.ready.items()])
    if needs.held:
        await unit.read_held(needs.held)
    if needs.collapse_keys:
        await unit.read_collapsing(needs.collapse_keys)
    await unit.read_neighbours(needs.ordering_keys, needs.ends)
    lost: list[LeaseRef] = []
    for ref in needs.refs:
        book = unit.books.get(ref.queue)
        row = None if book is None else unit.rows.row_of(book, ref)
        if row is None or row.standing.fence != ref.fence or row.standing.state is not State.LEASED:
            lost.append(ref)
    if lost:
        places = [
            (r.notification, unit.books[r.queue].id, r.seq) for r in lost if r.queue in unit.books
        ]
        await unit.read_told(places)
    await unit.read_subjects([ref.notification for ref in lost])


def _result(operation: Operation, unit: Unit) -> Any:
    try:
        return operation.run(unit)
    except (RestanteError, LookAgain) as error:
        return error
