"""The log of receipts, page by page, as ``wire/log_lines.py`` writes it: what an auditor takes away and checks.

A page's cursor says where the next begins, so that nothing is kept between two of them. What is written meanwhile comes
or does not: the first line says how far the log had come, and it is judged by that.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from restante.engine.receipt_log import ReceiptLog
from restante.errors import LogDamaged, LogEmpty, Malformed
from restante.papers import Kind, Paper
from restante.ports import Clock, Store
from restante.queries import LedgerSpan, Papers, Queues, Receipts, Seals
from restante.receipt_log import LogState, tile_of
from restante.wire import log_lines

LINES: Final = 1_000
PAGE_BYTES: Final = 4 * 1024 * 1024
"""A page that has so many is not gone on with."""
_PAGE: Final = 1_000
_RECEIPTS_AT_ONCE: Final = 500
_TILES: Final = 50
_START: Final = ""
_QUEUES: Final = "queues"
_SEALS: Final = "seals"
_RECEIPTS: Final = "receipts"
_TILES_PART: Final = "tiles"
_HEADS: Final = "heads"


class Exported(NamedTuple):
    """``next`` is the cursor to go on with; None at the end."""

    lines: list[bytes]
    next: str | None


class LogExport:
    """Over a store and the log of it."""

    def __init__(self, store: Store, clock: Clock, log: ReceiptLog) -> None:
        self._store = store
        self._clock = clock
        self._log = log

    async def page(self, cursor: str = _START) -> Exported:
        """About ``LINES`` lines from a cursor on. ``Malformed`` for what is no cursor."""
        lines: list[bytes] = []
        following: str | None = cursor
        size = 0
        while following is not None and len(lines) < LINES and size < PAGE_BYTES:
            more, following = await self._part(following)
            lines += more
            size += sum(map(len, more))
        return Exported(lines, following)

    async def _part(self, cursor: str) -> Exported:
        part, _, rest = cursor.partition("/")
        match part:
            case "":
                return Exported(await self._beginning(), f"{_QUEUES}/")
            case "queues":
                return await self._next_queue(rest)
            case "seals":
                return await self._seals(*_place(rest))
            case "receipts":
                return await self._receipts(*_place(rest))
            case "tiles":
                return await self._tiles(rest)
            case "heads":
                return await self._heads(rest)
        raise Malformed(f"{cursor[:100]!r} is no cursor of an export")

    async def _beginning(self) -> list[bytes]:
        """How far the log has come, and what of that is damaged, or is not there: the rest is told all the same."""
        state: LogState | None = None
        damaged: list[str] = []
        try:
            state = await self._log.state()
        except LogEmpty:
            pass
        except LogDamaged:
            damaged.append("how far the log has come")
        keys, damage = await self._log.readable_keys()
        if damage is not None:
            damaged.append("a key of the log")
        first = log_lines.of_log(state, keys, self._clock.wall_ms())
        return [first, *map(log_lines.of_damage, damaged)]

    async def _next_queue(self, after: str) -> Exported:
        found = await self._store.browse(Queues(after, limit=1))
        if not found:
            return Exported([], f"{_TILES_PART}/")
        queue = found[0]
        return Exported([log_lines.of_queue(queue)], f"{_SEALS}/{queue.name}/1")

    async def _seals(self, queue: str, start: int) -> Exported:
        found = await self._store.browse(Seals(queue, start, limit=_PAGE))
        lines = [log_lines.of_seal(seal) for seal in found]
        if len(found) == _PAGE:
            return Exported(lines, f"{_SEALS}/{queue}/{found[-1].first + found[-1].count}")
        return Exported(lines, f"{_RECEIPTS}/{queue}/0")

    async def _receipts(self, queue: str, after: int) -> Exported:
        page = await self._store.browse(Receipts(queue, after, limit=_RECEIPTS_AT_ONCE))
        lines = [log_lines.of_receipt(receipt) for receipt in page.receipts]
        if page.next is not None:
            return Exported(lines, f"{_RECEIPTS}/{queue}/{page.next}")
        # Behind them: what was let go of meanwhile is told with what was before.
        span = await self._store.browse(LedgerSpan(queue))
        end = log_lines.of_pruned(span.pruned_to, self._clock.wall_ms())
        return Exported([*lines, end], f"{_QUEUES}/{queue}")

    async def _tiles(self, after: str) -> Exported:
        papers = await self._store.browse(Papers(Kind.LOG_TILE, after, limit=_TILES))
        lines = list(map(_tile, papers))
        more = len(papers) == _TILES
        return Exported(lines, f"{_TILES_PART}/{papers[-1].key}" if more else f"{_HEADS}/")

    async def _heads(self, after: str) -> Exported:
        papers = await self._store.browse(Papers(Kind.LOG_HEAD, after, limit=_PAGE))
        lines = [log_lines.of_head(paper.content.decode(errors="replace")) for paper in papers]
        if len(papers) == _PAGE:
            return Exported(lines, f"{_HEADS}/{papers[-1].key}")
        return Exported([*lines, log_lines.of_end()], None)


def _place(rest: str) -> tuple[str, int]:
    queue, _, number = rest.rpartition("/")
    if not queue or not number.isascii() or not number.isdigit() or len(number) > 18:
        raise Malformed("that is no cursor of an export")
    return queue, int(number)


def _tile(paper: Paper) -> bytes:
    try:
        tile = tile_of(paper.key)
    except ValueError:
        return log_lines.of_damage(f"tile {paper.key}")
    return log_lines.of_tile(tile, paper.content)
