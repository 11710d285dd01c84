"""All queues as rows: assessed once for each look of the monitor, then searched, sorted and cut into pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from restante.desk.attention import Health, assess
from restante.engine.monitor import Monitor
from restante.ports import Clock
from restante.watching import QueueView

PAGE: Final = 50
NEVER: Final = -1.0


class Row(NamedTuple):
    """One queue. Ages are as of when it was assessed; ``NEVER`` where there is none."""

    name: str
    view: QueueView
    health: Health
    sentence: str
    depth: int
    oldest_seconds: float
    silent_seconds: float


class Wanted(NamedTuple):
    """What is asked of the table: words to search for, a health, an order and a page."""

    words: str = ""
    health: Health | None = None
    sort: str = "health"
    down: bool = True
    page: int = 1


class Shown(NamedTuple):
    """A page of the table. ``found`` is how many rows there are on all of them."""

    rows: Sequence[Row]
    found: int
    page: int
    pages: int


SORTS: Final[Mapping[str, tuple[Callable[[Row], Any], bool]]] = {
    "name": (lambda row: row.name, False),
    "health": (lambda row: (row.health, row.depth), True),
    "depth": (lambda row: row.depth, True),
    "oldest": (lambda row: row.oldest_seconds, True),
    "leased": (lambda row: row.view.figures.leased, True),
    "dead": (lambda row: row.view.figures.dead, True),
    "acked": (lambda row: row.view.minute.acked, True),
    "failed": (lambda row: row.view.recent.failed, True),
    "silent": (lambda row: row.silent_seconds, True),
}
"""By what the table is sorted, and whether the largest comes first unless the other way is asked for."""


class Board:
    """The rows of one node's monitor."""

    def __init__(self, monitor: Monitor, clock: Clock) -> None:
        self._monitor = monitor
        self._clock = clock
        self._version = -1
        self._rows: list[Row] = []

    def rows(self) -> list[Row]:
        """All of them, in no order. Not to be changed."""
        if self._version != self._monitor.version:
            self._version = self._monitor.version
            now = self._clock.wall_ms()
            self._rows = [_row(view, now) for view in self._monitor.views()]
        return self._rows

    def needing_attention(self, most: int) -> tuple[list[Row], int]:
        """The worst, so many at most, and how many there are."""
        found = [row for row in self.rows() if row.health >= Health.WARNING]
        found.sort(key=lambda row: (-row.health, -row.depth, row.name))
        return found[:most], len(found)

    def page(self, wanted: Wanted) -> Shown:
        """A page of the table; the last one where there are fewer."""
        rows = self.rows()
        words = wanted.words.lower()
        if words:
            rows = [
                row
                for row in rows
                if words in row.name.lower() or words in row.view.queue.owner.lower()
            ]
        if wanted.health is not None:
            rows = [row for row in rows if row.health is wanted.health]
        key, _ = SORTS[wanted.sort]
        rows = sorted(rows, key=lambda row: row.name)
        rows.sort(key=key, reverse=wanted.down)
        pages = max(1, -(-len(rows) // PAGE))
        page = min(wanted.page, pages)
        return Shown(rows[(page - 1) * PAGE : page * PAGE], len(rows), page, pages)


def _row(view: QueueView, now_ms: int) -> Row:
    health, sentence = assess(view, now_ms)
    oldest, silent = view.oldest_age_seconds(now_ms), view.silent_seconds(now_ms)
    return Row(
        view.queue.name,
        view,
        health,
        sentence,
        view.depth,
        NEVER if oldest is None else oldest,
        NEVER if silent is None else silent,
    )
