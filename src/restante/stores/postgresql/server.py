"""Whether to trust the database, and bringing its tables to this version.

Migrations go forward only, under an advisory lock of the transaction, and add without taking away, so that nodes of
the version before go on working while the others are replaced.
"""

from __future__ import annotations

import secrets
from typing import Final

import asyncpg

from restante.errors import StartupError, StoreRefused
from restante.stores.postgresql import partitions
from restante.stores.postgresql.connections import (
    STATEMENT_SECONDS,
    Connection,
    Database,
    connection_error,
    shown,
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


async def prepare(
    database: Database, url: str, wall_ms: int, *, half_copied: bool = False
) -> bytes:
    """Check the server, migrate the schema; the store's token secret. ``wall_ms`` is about now.

    ``half_copied``: also where a copy into it was never finished.

    Raises ``ConfigurationError`` for a server that cannot be used as it is, ``StoreRefused`` for what cannot be
    trusted.
    """
    try:
        await database.find_pooler()
        connection = await database.connect()
    except (OSError, TimeoutError, ValueError) as error:
        raise connection_error(url, error) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise connection_error(url, error) from error
    try:
        await _check(connection, url)
        return await migrate(connection, url, wall_ms, half_copied=half_copied)
    except StartupError:
        raise
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise connection_error(url, error) from error
    finally:
        connection.terminate()


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


async def migrate(
    connection: Connection, url: str, wall_ms: int, *, half_copied: bool = False
) -> bytes:
    """Bring the tables to this version, in one transaction; the store's token secret."""
    await _begin(connection, url)
    try:
        # Two nodes that start at once: the second waits here, and finds everything done.
        await connection.execute(
            f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})", timeout=3 * STATEMENT_SECONDS
        )
        found = await _version(connection)
        if found > VERSION:
            raise StoreRefused(
                f"{shown(url)} was written by a newer Restante (schema {found}, this one knows {VERSION}):"
                " upgrade Restante"
            )
        for number in range(found, VERSION):
            await connection.execute(f"SET LOCAL search_path = {SCHEMA}; {MIGRATIONS[number]}")
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
        await connection.execute("COMMIT")
    except BaseException:
        await connection.execute("ROLLBACK")
        raise
    return bytes(secret)


async def _begin(connection: Connection, url: str) -> None:
    try:
        await connection.execute("BEGIN")
        await connection.execute("SELECT 1")
        if connection.is_in_transaction():
            return
    except asyncpg.PostgresError as error:
        if "statement pooling" not in str(error):
            raise
    raise StoreRefused(
        f"{shown(url)} is a pooler in statement mode, which has no transactions: set pool_mode = transaction"
    )


async def _version(connection: Connection) -> int:
    there = await connection.fetchval(
        "SELECT to_regclass($1) IS NOT NULL", f"{SCHEMA}.meta", timeout=STATEMENT_SECONDS
    )
    if not there:
        # Made beforehand by an administrator, it may be owned by this user, who then needs no right to make it.
        if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", SCHEMA):
            await connection.execute(f"CREATE SCHEMA {SCHEMA}")
        return 0
    value = await _get(connection, "version")
    if value is None:
        raise StoreRefused(f"the schema {SCHEMA} of this database is not a store of Restante")
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
