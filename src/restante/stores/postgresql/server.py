"""Whether to trust the database, and bringing its tables to this version.

Migrations go forward only, under an advisory lock of the transaction, and add without taking away, so that nodes of
the version before go on working while the others are replaced.
"""

from __future__ import annotations

import secrets
from typing import Final

import asyncpg

from restante.errors import StoreRefused
from restante.redaction import shown
from restante.stores.postgresql import partitions
from restante.stores.postgresql.connections import (
    STATEMENT_SECONDS,
    Connection,
    Database,
    connection_error,
)
from restante.stores.postgresql.schema import (
    MIGRATION_LOCK,
    MIGRATIONS,
    OLDEST_SERVER,
    SCHEMA,
    VERSION,
)

TOKEN_SECRET: Final = "token_secret"  # noqa: S105 (a name)
COPYING: Final = "copying"
"""In ``meta`` while a store is being copied into this database."""
_MIGRATION_SECONDS: Final = 3_600.0
"""A migration of a large store may take its time."""


async def prepare(
    database: Database, url: str, wall_ms: int, *, half_copied: bool = False
) -> bytes:
    """Check the server, migrate the schema; the store's token secret. ``wall_ms`` is about now.

    ``half_copied``: also where a copy into it was never finished.

    Raises ``ConfigurationError`` for a server that cannot be used as it is, ``StoreRefused`` for what cannot be
    trusted.
    """
    try:
        connection = await database.connect()
    except (
        OSError,
        ValueError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    ) as error:
        raise connection_error(url, error) from error
    try:
        # All in one transaction, which behind a pooler is what has one server to itself.
        await _begin(connection, url)
        database.pooled = await _is_pooled(connection)
        await _check(connection, url)
        secret = await _migrate(connection, url, wall_ms, half_copied=half_copied)
        await connection.execute("COMMIT")
        return secret
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise connection_error(url, error) from error
    finally:
        # What was not committed is undone by it.
        connection.terminate()


async def _is_pooled(connection: Connection) -> bool:
    """Whether PgBouncer, or the like, is between: then the process asked is not the one that greeted."""
    pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    return pid != connection.get_server_pid()


async def _check(connection: Connection, url: str) -> None:
    place = shown(url)
    row = await connection.fetchrow(
        "SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS standby,"
        " current_setting('synchronous_commit') AS commits, current_setting('fsync') AS fsync,"
        " current_setting('full_page_writes') AS pages, current_setting('server_encoding') AS encoding,"
        " current_setting('default_transaction_isolation') AS isolation"
    )
    if row is None:
        raise StoreRefused(f"{place} does not tell its settings")
    if row["version"] < OLDEST_SERVER:
        raise StoreRefused(f"{place} is older than PostgreSQL 15")
    if row["standby"]:
        raise StoreRefused(
            f"{place} is a standby and takes no writes: name the primary, or all servers with commas between"
        )
    for setting, value in (
        ("synchronous_commit", row["commits"]),
        ("fsync", row["fsync"]),
        ("full_page_writes", row["pages"]),
    ):
        if value == "off":
            raise StoreRefused(
                f"{place} has {setting} = off: what it has committed may be lost. Turn it on for this user"
            )
    if row["encoding"] != "UTF8":
        raise StoreRefused(f"{place} has the encoding {row['encoding']}: make a database with UTF8")
    if row["isolation"] != "read committed":
        raise StoreRefused(
            f"{place} has default_transaction_isolation = {row['isolation']}: set it to read committed"
        )


async def _migrate(connection: Connection, url: str, wall_ms: int, *, half_copied: bool) -> bytes:
    """Bring the tables to this version; the store's token secret."""
    # Two nodes that start at once: the second waits here, and finds everything done.
    await connection.execute(
        f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})", timeout=3 * STATEMENT_SECONDS
    )
    found = await _version(connection, url)
    if found > VERSION:
        raise StoreRefused(
            f"{shown(url)} was written by a newer Restante (schema {found}, this one knows {VERSION}):"
            " upgrade Restante"
        )
    for number in range(found, VERSION):
        await connection.execute(
            f"SET LOCAL search_path = {SCHEMA}; {MIGRATIONS[number]}", timeout=_MIGRATION_SECONDS
        )
    if found < VERSION:
        await partitions.make_ahead(connection, wall_ms)
        await _put(connection, "version", str(VERSION).encode())
    if not half_copied and await _get(connection, COPYING) is not None:
        raise StoreRefused(
            f"{shown(url)} holds a copy that was never finished: run the same 'restante copy' again"
        )
    secret = await _get(connection, TOKEN_SECRET)
    if secret is None:
        secret = secrets.token_bytes(32)
        await _put(connection, TOKEN_SECRET, secret)
    return bytes(secret)


async def _begin(connection: Connection, url: str) -> None:
    try:
        await connection.execute("BEGIN")
        # Whatever time-outs the user is given: this may take longer.
        await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        if connection.is_in_transaction():
            return
    except asyncpg.PostgresError as error:
        if "statement pooling" not in str(error):
            raise
    raise StoreRefused(
        f"{shown(url)} is a pooler in statement mode, which has no transactions: set pool_mode = transaction"
    )


async def _version(connection: Connection, url: str) -> int:
    if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", SCHEMA):
        await connection.execute(f"CREATE SCHEMA {SCHEMA}")
        return 0
    tables = {
        row[0]
        for row in await connection.fetch(
            "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace($1)", SCHEMA
        )
    }
    if not tables:
        # Made beforehand by an administrator, it may be owned by this user, who then needs no right to make it.
        return 0
    foreign = StoreRefused(
        f"the schema {SCHEMA} of {shown(url)} holds something else than a store of Restante:"
        " name another database, or rename that schema"
    )
    if not {"meta", "tallies"} <= tables:
        raise foreign
    value = await _get(connection, "version")
    if value is None or not value.isdigit():
        raise foreign
    return int(value)


async def _get(connection: Connection, name: str) -> bytes | None:
    value: bytes | None = await connection.fetchval(
        f"SELECT value FROM {SCHEMA}.meta WHERE name = $1",  # noqa: S608 (a fixed name)
        name,
    )
    return value


async def _put(connection: Connection, name: str, value: bytes) -> None:
    await connection.execute(
        f"INSERT INTO {SCHEMA}.meta VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",  # noqa: S608 (a fixed name)
        name,
        value,
    )
