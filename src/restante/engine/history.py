"""What happened in each queue over hours and days: counted here by period, kept as papers, added up by who looks.

Each run of each node writes papers of its own, so that none has to read before it writes, and a node that is started
again in the middle of a period loses nothing of it but what it had not written. A queue in which nothing happens has
none: how deep it is then is what it was at the end of the last period in which something did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from restante.changes import PutPaper
from restante.metering import Tally
from restante.papers import Kind, Paper
from restante.ports import Store
from restante.queries import Papers
from restante.watching import Point, Span

ALL: Final = ""
"""Stands for all queues together, where a queue's name may."""
_PAGE: Final = 1_000
_SPARE_PERIODS: Final = 2
"""A paper outlives the chart that shows it by so many periods."""


class Period(msgspec.Struct):
    """One run's share of one period: what happened, and how the queue stood when that was written."""

    tally: Tally
    at_ms: int = 0
    depth: int = 0
    oldest_age_seconds: float | None = None


class _Open(msgspec.Struct):
    """Periods of one queue that are not over, by the span they are shown in."""

    begins: dict[Span, int]
    periods: dict[Span, Period]
    changed: bool = True


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Period).decode
Standing = Callable[[str], tuple[int, float | None]]
"""Of a queue by name: its depth, and the age in seconds of what is oldest in it."""


class History:
    """``run`` is a name that no other run of any node has."""

    def __init__(self, store: Store, wall_ms: Callable[[], int], run: str) -> None:
        self._store = store
        self._wall_ms = wall_ms
        self._run = run
        self._open: dict[str, _Open] = {}

    def count(self, queue: str, tally: Tally) -> list[Paper]:
        """Add what happened just now; what of the queue was not written yet and is over is handed back to be."""
        now = self._wall_ms() // 1_000
        found = self._open.get(queue)
        if found is None:
            found = _Open({span: _begin(span, now) for span in Span}, {})
            self._open[queue] = found
        over = [span for span in found.periods if found.begins[span] != _begin(span, now)]
        papers = [self._paper(queue, span, found) for span in over] if found.changed else []
        for span in over:
            del found.periods[span]
        for span in Span:
            found.begins[span] = _begin(span, now)
            if span not in found.periods:
                found.periods[span] = Period(Tally())
            found.periods[span].tally.add(tally)
        found.changed = True
        return papers

    def flush(self, standing: Standing) -> Iterator[PutPaper]:
        """What is to be written now, as it stands: of each queue in which something happened since the last time."""
        now = self._wall_ms()
        for queue, found in list(self._open.items()):
            if found.changed:
                depth, age = standing(queue)
                for span, period in found.periods.items():
                    period.at_ms, period.depth, period.oldest_age_seconds = now, depth, age
                    yield PutPaper(self._paper(queue, span, found))
                found.changed = False
            if found.begins[Span.WEEK] != _begin(Span.WEEK, now // 1_000):
                del self._open[queue]

    async def points(
        self, queue: str, span: Span, depth: int, oldest_age_seconds: float | None
    ) -> list[Point]:
        """Oldest first, ``span.seconds / span.step_seconds`` of them; the last is the period that is not over.

        ``depth`` and the oldest age are as of now. Raises ``StoreError``.
        """
        step = span.step_seconds
        last = _begin(span, self._wall_ms() // 1_000)
        begins = [last - back * step for back in reversed(range(span.seconds // step))]
        kept = await self._kept(queue, span, begins[0])
        return list(_points(begins, step, kept, depth, oldest_age_seconds))

    async def _kept(self, queue: str, span: Span, begin: int) -> dict[int, list[Period]]:
        found: dict[int, list[Period]] = {}
        after, before = _key(queue, span, begin), f"{queue}/{span.step_seconds}/~"
        while True:
            page = await self._store.browse(Papers(Kind.HISTORY, after, before, _PAGE))
            for paper in page:
                *_, at, run = paper.key.split("/")
                # This run's own are counted on in memory.
                if run != self._run or not self._is_open(queue, span, int(at)):
                    found.setdefault(int(at), []).append(_decode(paper.content))
            if len(page) < _PAGE:
                break
            after = page[-1].key
        own = self._open.get(queue)
        if own is not None and span in own.periods:
            found.setdefault(own.begins[span], []).append(own.periods[span])
        return found

    def _is_open(self, queue: str, span: Span, begin: int) -> bool:
        own = self._open.get(queue)
        return own is not None and span in own.periods and own.begins[span] == begin

    def _paper(self, queue: str, span: Span, found: _Open) -> Paper:
        begin = found.begins[span]
        ends = begin + span.seconds + _SPARE_PERIODS * span.step_seconds
        return Paper(
            kind=Kind.HISTORY,
            key=f"{_key(queue, span, begin)}{self._run}",
            content=_encode(found.periods[span]),
            expires_at_ms=ends * 1_000,
        )


def _points(
    begins: Sequence[int],
    step: int,
    kept: dict[int, list[Period]],
    depth_now: int,
    age_now: float | None,
) -> Iterator[Point]:
    depth: int | None = None
    age: float | None = None
    first = min(kept, default=None)
    if first is None:
        # Nothing happened all the while: it stood as it stands.
        depth, age = depth_now, None
    else:
        depth = max(0, _depth(kept[first]) - _rise(_sum(kept[first])))
    for begin in begins:
        periods = kept.get(begin)
        if begin == begins[-1]:
            yield Point(begin * 1_000, _sum(periods or ()), depth_now, age_now)
            return
        if periods is None:
            age = None if age is None or not depth else age + step
            yield Point(begin * 1_000, Tally(), depth, age)
            continue
        newest = max(periods, key=lambda one: one.at_ms)
        depth, age = newest.depth, newest.oldest_age_seconds
        if not newest.at_ms:
            # It was never told how it stood then.
            depth, age = depth_now, age_now
        yield Point(begin * 1_000, _sum(periods), depth, age)


def _depth(periods: list[Period]) -> int:
    return max(periods, key=lambda one: one.at_ms).depth


def _sum(periods: Iterable[Period]) -> Tally:
    tally = Tally()
    for period in periods:
        tally.add(period.tally)
    return tally


def _rise(tally: Tally) -> int:
    """By how much a queue became deeper by what happened."""
    ended = tally.acked + tally.superseded + tally.expired + tally.died
    return tally.published + tally.redriven - ended


def _begin(span: Span, now_seconds: int) -> int:
    """When the period began that it is in."""
    return now_seconds - now_seconds % span.step_seconds


def _key(queue: str, span: Span, begin: int) -> str:
    return f"{queue}/{span.step_seconds}/{begin:012d}/"
