"""The SQL that writes a notification into an outbox."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

CHANNEL: Final = "restante_outbox"
"""What nodes listen to, so that they take over what was written as soon as it is committed."""
WRITTEN: Final = "written"
COLUMNS: Final = (
    "id",
    "publisher",
    "queue",
    "topic",
    "content_type",
    "attributes",
    "body",
    "ordering_key",
    "collapse_key",
    "deliver_after_seconds",
    "expires_after_seconds",
)
_TYPES: Final = {
    "body": "bytea",
    "deliver_after_seconds": "double precision",
    "expires_after_seconds": "double precision",
}
_TABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)?", re.ASCII)

Placeholder = Callable[[str], str]
"""How a parameter of that name is written in the SQL of some library."""


def to_queue(place: Placeholder, notify: bool) -> str:
    """Into the store's own outbox, where the queue is there and takes a body of that size.

    The one value it answers with is ``WRITTEN``, or else the most bytes the queue takes, as text; NULL where there is
    no such queue.
    """
    found = (
        "SELECT CAST(CAST(settings AS json)->>'max_body_bytes' AS bigint) AS most"  # noqa: S608 (fixed terms)
        f" FROM restante.queues WHERE name = CAST({place('queue')} AS text)"
    )
    source = f"FROM found WHERE most >= CAST({place('body_bytes')} AS bigint)"
    return (
        f"WITH found AS ({found}), {_written(place, source, notify)}"  # noqa: S608 (fixed terms)
        f" SELECT CASE (SELECT count(*) FROM told) WHEN 0 THEN (SELECT CAST(most AS text) FROM found)"
        f" ELSE '{WRITTEN}' END"
    )


def to_topic(place: Placeholder, notify: bool) -> str:
    """Into the store's own outbox, for whichever queues are subscribed when a node takes it over."""
    return (
        f"WITH {_written(place, '', notify)}"  # noqa: S608 (fixed terms)
        f" SELECT CASE (SELECT count(*) FROM told) WHEN 0 THEN NULL ELSE '{WRITTEN}' END"
    )


def to_table(place: Placeholder, table: str) -> str:
    """Into a table of the same columns in whatever database. ``ValueError`` for what is no plain table's name."""
    if not _TABLE.fullmatch(table):
        raise ValueError(f"{table!r} is not the plain name of a table, nor schema.table")
    values = ", ".join(place(name) for name in COLUMNS)
    return f"INSERT INTO {table} ({', '.join(COLUMNS)}) VALUES ({values})"  # noqa: S608 (a checked name)


def _written(place: Placeholder, source: str, notify: bool) -> str:
    values = ", ".join(f"CAST({place(name)} AS {_TYPES.get(name, 'text')})" for name in COLUMNS)
    told = f"pg_notify('{CHANNEL}', '')" if notify else "1"
    return (
        f"written AS (INSERT INTO restante.outbox ({', '.join(COLUMNS)}) SELECT {values} {source}"  # noqa: S608 (fixed terms)
        f" RETURNING 1), told AS (SELECT {told} FROM written)"
    )
