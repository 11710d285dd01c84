"""Papers in the database. Who puts several locks them in the order of their keys, so that none waits in a circle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from restante.changes import Change, DropPaper, PutPaper
from restante.errors import PaperChanged
from restante.papers import Kind, Paper
from restante.queries import PaperOf, Papers
from restante.stores.postgresql.connections import Connection

PaperChange = PutPaper | DropPaper
_PUT: Final = """
    INSERT INTO restante.papers AS there (kind, key, version, content, expires_at)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::bigint[])
    ON CONFLICT (kind, key) DO UPDATE SET version = there.version + excluded.version,
        content = excluded.content, expires_at = excluded.expires_at
"""
_PUT_NEW: Final = """
    INSERT INTO restante.papers (kind, key, version, content, expires_at) VALUES ($1, $2, 1, $3, $4)
    ON CONFLICT DO NOTHING RETURNING version
"""
_PUT_NEXT: Final = """
    UPDATE restante.papers SET version = $3, content = $4, expires_at = $5
    WHERE kind = $1 AND key = $2 AND version = $3 - 1 RETURNING version
"""
_DROP: Final = "DELETE FROM restante.papers WHERE kind = $1 AND key = $2"
_PRUNE: Final = (
    "DELETE FROM restante.papers WHERE ctid IN (SELECT ctid FROM restante.papers"
    " WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)"
)
_SELECT: Final = "SELECT kind, key, version, content, expires_at FROM restante.papers"


def of(changes: Sequence[Change]) -> list[PaperChange]:
    """Those of papers, by kind and key; those of one paper in their order."""
    found = [item for item in changes if isinstance(item, PutPaper | DropPaper)]
    return sorted(found, key=_place)


def is_repeatable(changes: Sequence[Change]) -> bool:
    """Whether doing it all twice leaves the same as once, but for versions that nobody has asked about."""
    return all(
        isinstance(item, DropPaper) or (isinstance(item, PutPaper) and not item.paper.version)
        for item in changes
    )


async def change(connection: Connection, changes: Sequence[PaperChange]) -> None:
    """Put and drop, in the order of ``of``. Raises ``PaperChanged``."""
    blind: dict[tuple[str, str], tuple[Paper, int]] = {}
    for item in changes:
        if isinstance(item, PutPaper) and not item.paper.version:
            place = _place(item)
            blind[place] = (item.paper, blind[place][1] + 1 if place in blind else 1)
            continue
        # What is put whatever is there goes before, or the order of locks would not be that of keys.
        await _put(connection, blind)
        blind.clear()
        await _change(connection, item)
    await _put(connection, blind)


async def _put(connection: Connection, papers: dict[tuple[str, str], tuple[Paper, int]]) -> None:
    """``papers`` come with how many times each is put: the last counts, and its version rises as often."""
    if papers:
        rows = [
            (paper.kind.value, paper.key, times, paper.content, paper.expires_at_ms)
            for paper, times in papers.values()
        ]
        await connection.execute(_PUT, *(list(column) for column in zip(*rows, strict=True)))


async def _change(connection: Connection, item: PaperChange) -> None:
    kind, key = _place(item)
    if isinstance(item, DropPaper):
        await connection.execute(_DROP, kind, key)
        return
    paper = item.paper
    if paper.version == 1:
        version = await connection.fetchval(_PUT_NEW, kind, key, paper.content, paper.expires_at_ms)
    else:
        version = await connection.fetchval(
            _PUT_NEXT, kind, key, paper.version, paper.content, paper.expires_at_ms
        )
    if version is None:
        raise PaperChanged("it was changed by another meanwhile")


async def prune(connection: Connection, wall_ms: int, limit: int) -> int:
    """Delete up to ``limit`` that are past their time; how many it were."""
    status = await connection.execute(_PRUNE, wall_ms, limit)
    return int(status.rpartition(" ")[2])


async def answer(connection: Connection, asked: PaperOf | Papers) -> Paper | list[Paper] | None:
    """As ``Store.browse``."""
    if isinstance(asked, PaperOf):
        row = await connection.fetchrow(
            f"{_SELECT} WHERE kind = $1 AND key = $2", asked.kind.value, asked.key
        )
        return None if row is None else _paper(row)
    order = "DESC" if asked.newest_first else "ASC"
    bound, before = ("AND key < $4", (asked.before,)) if asked.before else ("", ())
    rows = await connection.fetch(
        f"{_SELECT} WHERE kind = $1 AND key > $2 {bound} ORDER BY key {order} LIMIT $3",
        asked.kind.value,
        asked.after,
        asked.limit,
        *before,
    )
    return [_paper(row) for row in rows]


def _paper(row: Any) -> Paper:
    kind, key, version, content, expires_at_ms = row
    return Paper(
        kind=Kind(kind), key=key, version=version, content=content, expires_at_ms=expires_at_ms
    )


def _place(item: PaperChange) -> tuple[str, str]:
    if isinstance(item, PutPaper):
        return item.paper.kind.value, item.paper.key
    return item.kind.value, item.key
