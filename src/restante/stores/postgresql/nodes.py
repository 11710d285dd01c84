"""What nodes that share a store tell one another through it."""

from __future__ import annotations

from collections.abc import Sequence

from restante.nodes import Changed
from restante.stores.postgresql.connections import Connection


async def record(connection: Connection, changes: Sequence[Changed]) -> None:
    """Tell other nodes what is changed in this transaction; whoever records at the same time waits for its end."""
    version = await connection.fetchval(
        "UPDATE restante.change_count SET version = version + 1 RETURNING version"
    )
    await connection.execute(
        "INSERT INTO restante.changelog SELECT $1, item, subject, name"
        " FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS u (subject, name, item)",
        version,
        [changed.subject.value for changed in changes],
        [changed.name for changed in changes],
    )
