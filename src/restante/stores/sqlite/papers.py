"""The answers about papers, over one connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw

from restante.papers import Kind, Paper
from restante.queries import CountPapers, Papers

# Bytes, whatever somebody else has written there.
_PAPER: Final = "SELECT kind, key, version, CAST(content AS BLOB), expires_at FROM papers"


class PaperReads:
    """One method a question."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute: Callable[..., Any] = connection.execute

    def one(self, kind: Kind, key: str) -> Paper | None:
        row = self._execute(f"{_PAPER} WHERE kind = ? AND key = ?", (kind.value, key)).fetchone()
        return None if row is None else _paper(row)

    def versions(self, kind: Kind, keys: Sequence[str]) -> dict[str, int]:
        rows = self._execute(
            "SELECT key, version FROM papers WHERE kind = ?"
            " AND key IN (SELECT value FROM json_each(?))",
            (kind.value, json.dumps(keys)),
        )
        return dict(rows)

    def count(self, asked: CountPapers) -> int:
        (count,) = self._execute(
            "SELECT count(*) FROM (SELECT 1 FROM papers WHERE kind = ? AND key > ? AND key < ? LIMIT ?)",
            (asked.kind.value, asked.after, asked.before, asked.limit),
        ).fetchone()
        return int(count)

    def page(self, asked: Papers) -> list[Paper]:
        bound, before = ("AND key < ?", (asked.before,)) if asked.before else ("", ())
        order = "DESC" if asked.newest_first else "ASC"
        rows = self._execute(
            f"{_PAPER} WHERE kind = ? AND key > ? {bound} ORDER BY key {order} LIMIT ?",
            (asked.kind.value, asked.after, *before, asked.limit),
        )
        return [_paper(row) for row in rows]


def _paper(row: tuple[Any, ...]) -> Paper:
    kind, key, version, content, expires_at_ms = row
    return Paper(
        kind=Kind(kind), key=key, version=version, content=content, expires_at_ms=expires_at_ms
    )
