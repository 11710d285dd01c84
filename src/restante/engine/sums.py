"""All queues together: sums that are kept as each of them changes, so that asking for them looks at none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from restante.model import Figures
from restante.watching import Consumer

_COUNTS: Final = tuple(
    name for name in Figures.__struct_fields__ if name != "oldest_age_seconds"
)  # the age is the last field


class Sums:
    """Of the figures and the consumers of queues, each told by its name whenever it is looked at."""

    def __init__(self) -> None:
        self._counts: tuple[int, ...] = (0,) * len(_COUNTS)
        self._of_queue: dict[str, tuple[int, ...]] = {}
        self._oldest_at_ms: dict[str, int] = {}
        """Where something has yet to be signed for: when the oldest of it was published."""
        self._attached: dict[str, tuple[str, ...]] = {}
        """Where programs are attached: the transport of each."""
        self._consumers: dict[str, int] = {}

    def see(self, queue: str, figures: Figures, as_of_ms: int) -> bool:
        """A queue stands like that; whether its counts were others before."""
        *found, age = msgspec.structs.astuple(figures)
        counts = tuple(found)
        if age is None:
            self._oldest_at_ms.pop(queue, None)
        else:
            self._oldest_at_ms[queue] = as_of_ms - round(age * 1_000)
        before = self._of_queue.get(queue)
        if counts == before:
            return False
        if before is None:
            before = (0,) * len(_COUNTS)
        self._of_queue[queue] = counts
        self._counts = tuple(
            total + now - then
            for total, now, then in zip(self._counts, counts, before, strict=True)
        )
        return True

    def attach(self, queue: str, consumers: Iterable[Consumer]) -> None:
        """These are all who collect from the queue, attached or not."""
        transports = tuple(one.transport for one in consumers if one.attached)
        before = self._attached.get(queue, ())
        if transports == before:
            return
        if transports:
            self._attached[queue] = transports
        else:
            del self._attached[queue]
        for transport in before:
            self._consumers[transport] -= 1
        for transport in transports:
            self._consumers[transport] = self._consumers.get(transport, 0) + 1

    @property
    def queues(self) -> int:
        return len(self._of_queue)

    def figures(self, now_ms: int) -> Figures:
        """The sums; of the age that of the oldest of all."""
        # A pass over plain numbers: some two tenths of a millisecond for 10,000 queues.
        oldest = min(self._oldest_at_ms.values(), default=None)
        age = None if oldest is None else max(0, now_ms - oldest) / 1_000
        counts = dict(zip(_COUNTS, self._counts, strict=True))
        return Figures(oldest_age_seconds=age, **counts)

    def consumers(self) -> dict[str, int]:
        """How many are attached, by transport."""
        return {transport: count for transport, count in self._consumers.items() if count}
