"""Papers in the database: put and dropped in the order of their keys on every node, so that none wait for one another.

Puts without a version, which are many, go in one statement; it does not look before it writes, since whoever put a
paper meanwhile is told by the conflict. What is sealed goes with the paper that says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

from restante.changes import AddSeals, DropPaper, PutPaper
from restante.errors import PaperChanged
from restante.papers import Kind, Paper
from restante.queries import CountPapers, Papers
from restante.stores.postgresql import seals
from restante.stores.postgresql.arrays import argument, columns
from restante.stores.postgresql.connections import Connection
from restante.stores.postgresql.unit import Unit

PaperChange = PutPaper | DropPaper | AddSeals

_KINDS: Final = ("text", "text", "bigint", "bytea", "bigint")
_ARGUMENTS: Final = ", ".join(argument(number, kind) for number, kind in enumerate(_KINDS, 1))
_PUT: Final = (
    "INSERT INTO restante.papers AS p (kind, key, version, content, expires_at)"  # noqa: S608 (fixed terms)
    f" SELECT * FROM unnest({_ARGUMENTS}) AS u (kind, key, rises, content, expires_at)"
    ' ORDER BY u.kind COLLATE "C", u.key COLLATE "C"'
    " ON CONFLICT (kind, key) DO UPDATE SET version = p.version + excluded.version, content = excluded.content,"
    " expires_at = excluded.expires_at"
)
_PUT_FIRST: Final = (
    "INSERT INTO restante.papers (kind, key, version, content, expires_at) VALUES ($1, $2, $3, $4, $5)"
    " ON CONFLICT DO NOTHING RETURNING 1"
)
_PUT_NEXT: Final = (
    "UPDATE restante.papers SET version = $3, content = $4, expires_at = $5"
    " WHERE kind = $1 AND key = $2 AND version = $3 - 1 RETURNING 1"
)
_DROP: Final = "DELETE FROM restante.papers WHERE kind = $1 AND key = $2"
_PAPER: Final = (
    "SELECT kind, key, version, content, expires_at FROM restante.papers WHERE kind = $1"
)
_COUNT: Final = (
    "SELECT count(*) FROM"
    " (SELECT FROM restante.papers WHERE kind = $1 AND key > $2 AND key < $3 LIMIT $4) AS p"
)
_VERSIONS: Final = "SELECT key, version FROM restante.papers WHERE kind = $1 AND key = ANY($2)"


def is_repeatable(changes: Sequence[PaperChange]) -> bool:
    """Whether doing them twice does no harm: none of them must find a given version."""
    return all(
        isinstance(item, DropPaper) or (isinstance(item, PutPaper) and not item.paper.version)
        for item in changes
    )


async def put(unit: Unit, changes: Sequence[PaperChange]) -> None:
    """Put and drop papers, those of one key in their order; ``PaperChanged`` where a version is not the next one."""
    if not changes:
        return
    unit.written = True
    of_papers = [item for item in changes if not isinstance(item, AddSeals)]
    for one_by_one, items in itertools.groupby(sorted(of_papers, key=_place), key=_goes_alone):
        if one_by_one:
            for item in items:
                await _change(unit.connection, item)
        else:
            papers = [item.paper for item in items if isinstance(item, PutPaper)]
            await _put_all(unit.connection, papers)
    for sealing in changes:
        if isinstance(sealing, AddSeals):
            await seals.add(unit.connection, sealing)


def _goes_alone(item: PutPaper | DropPaper) -> bool:
    return isinstance(item, DropPaper) or bool(item.paper.version)


async def _change(connection: Connection, item: PutPaper | DropPaper) -> None:
    if isinstance(item, DropPaper):
        await connection.execute(_DROP, item.kind.value, item.key)
    else:
        await _put_next(connection, item.paper)


async def _put_all(connection: Connection, papers: Sequence[Paper]) -> None:
    """In the place of whatever is there. Of several of one key the last counts, and each raises the version."""
    rows: dict[tuple[str, str], tuple[Any, ...]] = {}
    for paper in papers:
        place = (paper.kind.value, paper.key)
        rises = rows[place][2] + 1 if place in rows else 1
        rows[place] = (*place, rises, paper.content, paper.expires_at_ms)
    await connection.execute(_PUT, *columns(list(rows.values()), _KINDS))


async def _put_next(connection: Connection, paper: Paper) -> None:
    done = await connection.fetchval(
        _PUT_FIRST if paper.version == 1 else _PUT_NEXT,
        *(paper.kind.value, paper.key, paper.version, paper.content, paper.expires_at_ms),
    )
    if done is None:
        raise PaperChanged("it was changed by another meanwhile")


def _place(item: PutPaper | DropPaper) -> tuple[str, str]:
    named = item.paper if isinstance(item, PutPaper) else item
    return named.kind.value, named.key


async def one(connection: Connection, kind: Kind, key: str) -> Paper | None:
    """The answer to ``PaperOf``."""
    row = await connection.fetchrow(f"{_PAPER} AND key = $2", kind.value, key)
    return None if row is None else _paper(row)


async def versions(connection: Connection, kind: Kind, keys: Sequence[str]) -> dict[str, int]:
    """The answer to ``PaperVersions``."""
    rows = await connection.fetch(_VERSIONS, kind.value, list(keys))
    return {key: version for key, version in rows}  # noqa: C416 (a Record is no pair to the checker)


async def count(connection: Connection, asked: CountPapers) -> int:
    """The answer to ``CountPapers``."""
    found: int = await connection.fetchval(
        _COUNT, asked.kind.value, asked.after, asked.before, asked.limit
    )
    return found


async def page(connection: Connection, asked: Papers) -> list[Paper]:
    """The answer to ``Papers``."""
    order = "DESC" if asked.newest_first else "ASC"
    bound, before = ("AND key < $4", (asked.before,)) if asked.before else ("", ())
    rows = await connection.fetch(
        f"{_PAPER} AND key > $2 {bound} ORDER BY key {order} LIMIT $3",
        *(asked.kind.value, asked.after, asked.limit, *before),
    )
    return [_paper(row) for row in rows]


def _paper(row: Any) -> Paper:
    kind, key, version, content, expires_at_ms = row
    return Paper(
        kind=Kind(kind), key=key, version=version, content=content, expires_at_ms=expires_at_ms
    )
