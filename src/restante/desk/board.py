"""All queues as rows: assessed when something has changed, then searched, sorted and cut into pages.

A look at the rows of 10,000 queues must not keep the event loop: what is as it was is not assessed again, and what
merely gets older only now and then, a few at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from restante.alerting import Limits
from restante.attention import Health, assess
from restante.engine.monitor import Monitor
from restante.ports import Clock
from restante.watching import QueueView

PAGE: Final = 50
STALE_MS: Final = 5_000
"""What has not changed is assessed anew after so long, or up to twice that: each queue at another time."""


class Row(NamedTuple):
    """One queue. ``view`` is as the monitor has it now, the rest as of when it was assessed."""

    name: str
    view: QueueView
    health: Health
    sentence: str


class _Assessed(NamedTuple):
    """``made_of`` is what was looked at; the row is good until ``until_ms`` while that stays the same."""

    row: Row
    made_of: tuple[object, ...]
    until_ms: int


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


SORTS: Final[Mapping[str, tuple[Callable[[Row, int], Any], bool]]] = {
    "name": (lambda row, _: row.name, False),
    "health": (lambda row, _: (row.health, row.view.depth), True),
    "depth": (lambda row, _: row.view.depth, True),
    "oldest": (lambda row, now_ms: row.view.oldest_age_seconds(now_ms) or 0.0, True),
    "leased": (lambda row, _: row.view.figures.leased, True),
    "dead": (lambda row, _: row.view.figures.dead, True),
    "acked": (lambda row, _: row.view.minute.acked, True),
    "failed": (lambda row, _: row.view.recent.failed, True),
    "silent": (lambda row, now_ms: row.view.silent_seconds(now_ms) or 0.0, True),
}
"""By what the table is sorted, and whether the largest comes first unless the other way is asked for."""


class Board:
    """The rows of one node's monitor. ``defaults`` are the server's limits, for queues that leave one open."""

    def __init__(self, monitor: Monitor, clock: Clock, defaults: Limits) -> None:
        self._defaults = defaults
        self._monitor = monitor
        self._clock = clock
        self._version = -1
        self._assessed: dict[str, _Assessed] = {}
        self._rows: list[Row] = []

    def rows(self) -> list[Row]:
        """All of them, by name. Not to be changed."""
        if self._version != self._monitor.version:
            self._version = self._monitor.version
            now_ms = self._clock.wall_ms()
            before, self._assessed = self._assessed, {}
            for view in self._monitor.views():
                name = view.queue.name
                self._assessed[name] = _assessed(view, before.get(name), now_ms, self._defaults)
            self._rows = [self._assessed[name].row for name in sorted(self._assessed)]
        return self._rows

    def needing_attention(self, most: int) -> tuple[list[Row], int]:
        """The worst, so many at most, and how many there are."""
        found = [row for row in self.rows() if row.health >= Health.WARNING]
        found.sort(key=lambda row: (-row.health, -row.view.depth))
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
        now_ms = self._clock.wall_ms()
        rows = sorted(rows, key=lambda row: key(row, now_ms), reverse=wanted.down)
        pages = max(1, -(-len(rows) // PAGE))
        page = min(wanted.page, pages)
        return Shown(rows[(page - 1) * PAGE : page * PAGE], len(rows), page, pages)


def _assessed(
    view: QueueView, before: _Assessed | None, now_ms: int, defaults: Limits
) -> _Assessed:
    figures = view.figures
    made_of = (
        view.queue,
        figures.dead,
        view.depth,
        view.recent,
        view.last_contact,
        view.last_ack_ms,
        view.consumers,
        view.webhook,
    )
    if (
        before is not None
        and before.row.view is view
        and now_ms < before.until_ms
        and made_of == before.made_of
    ):
        return before
    health, sentence = assess(view, now_ms, defaults)
    spread_ms = zlib.crc32(view.queue.name.encode()) % STALE_MS
    row = Row(view.queue.name, view, health, sentence)
    return _Assessed(row, made_of, now_ms + STALE_MS + spread_ms)
