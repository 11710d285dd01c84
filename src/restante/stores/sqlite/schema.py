"""The file: its tables, its versions, and whether to trust it.

One row of ``deliveries`` is one delivery that has not ended: small, without the body, gone when it ends. What ended
is told by ``receipts``, which stand one behind the other whatever their queues, so that a commit touches few pages;
each knows the one before it in its queue, and ``shelves`` knows where every 64th stands (see ``ledger.py``).
``tallies`` holds what a queue counts; it is written once per queue and commit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import apsw

from restante.errors import StoreRefused

APPLICATION_ID: Final = 0x52535445  # "RSTE"
SAFE_SQLITE: Final = (3, 51, 3)
"""3.51.3 mended the WAL-reset bug (https://sqlite.org/wal.html): an older library can damage the file."""
QUICK_CHECK_BYTES: Final = 64 * 1024 * 1024
"""Files up to this size are checked whole at every start; larger ones by ``restante check``."""

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE clients (name TEXT PRIMARY KEY, created_at INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE queues (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL, settings TEXT NOT NULL
    );
    CREATE INDEX queues_by_owner ON queues (owner, name);
    CREATE TABLE tallies (
        queue INTEGER PRIMARY KEY, seq INTEGER NOT NULL, receipts INTEGER NOT NULL, last INTEGER NOT NULL,
        chain BLOB NOT NULL,
        scheduled INTEGER NOT NULL, ready INTEGER NOT NULL, held INTEGER NOT NULL, leased INTEGER NOT NULL,
        dead INTEGER NOT NULL, acked INTEGER NOT NULL, superseded INTEGER NOT NULL, expired INTEGER NOT NULL,
        discarded INTEGER NOT NULL
    );
    CREATE TABLE pruned (queue INTEGER PRIMARY KEY, bodies INTEGER NOT NULL, receipts INTEGER NOT NULL);
    CREATE TABLE keys (
        id TEXT PRIMARY KEY, role TEXT NOT NULL, name TEXT NOT NULL, secret_hash BLOB NOT NULL,
        created_at INTEGER NOT NULL, expires_at INTEGER, revoked_at INTEGER, label TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX keys_by_principal ON keys (role, name);
    CREATE TABLE subscriptions (
        id TEXT PRIMARY KEY, pattern TEXT NOT NULL, queue TEXT NOT NULL, filter TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX subscriptions_once ON subscriptions (pattern, queue, filter);
    CREATE TABLE notifications (
        n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL,
        content_type TEXT NOT NULL, attributes BLOB, published_at INTEGER NOT NULL, publisher TEXT NOT NULL,
        body_sha256 BLOB NOT NULL, body_bytes INTEGER NOT NULL, body BLOB
    );
    CREATE TABLE deliveries (
        queue INTEGER NOT NULL, seq INTEGER NOT NULL, notification INTEGER NOT NULL, state INTEGER NOT NULL,
        due INTEGER, attempt INTEGER NOT NULL DEFAULT 0, fence INTEGER NOT NULL DEFAULT 0,
        forgiving INTEGER NOT NULL DEFAULT 0, parked INTEGER NOT NULL DEFAULT 0, overtaken INTEGER NOT NULL DEFAULT 0,
        ordering_key TEXT, collapse_key TEXT, expires INTEGER, leased_at INTEGER, holder BLOB,
        dead_at INTEGER, reason TEXT,
        PRIMARY KEY (queue, seq)
    ) WITHOUT ROWID;
    CREATE INDEX deliveries_by_state ON deliveries (queue, state, seq);
    CREATE INDEX deliveries_due ON deliveries (due) WHERE state IN (0, 3);
    CREATE INDEX deliveries_expiring ON deliveries (expires) WHERE expires IS NOT NULL AND state IN (0, 1, 2);
    CREATE INDEX deliveries_ordered ON deliveries (queue, ordering_key, state, seq) WHERE ordering_key IS NOT NULL;
    CREATE INDEX deliveries_collapsed ON deliveries (queue, collapse_key, seq) WHERE collapse_key IS NOT NULL;
    CREATE TABLE idempotency (
        publisher TEXT NOT NULL, key TEXT NOT NULL, fingerprint BLOB NOT NULL, notification INTEGER NOT NULL,
        at INTEGER NOT NULL, PRIMARY KEY (publisher, key)
    ) WITHOUT ROWID;
    CREATE INDEX idempotency_by_age ON idempotency (at);
    CREATE TABLE receipts (
        r INTEGER PRIMARY KEY, queue INTEGER NOT NULL, number INTEGER NOT NULL, previous INTEGER NOT NULL,
        notification INTEGER NOT NULL, seq INTEGER NOT NULL, outcome TEXT NOT NULL, fence INTEGER NOT NULL,
        at INTEGER NOT NULL, entry BLOB NOT NULL, digest BLOB NOT NULL
    );
    CREATE TABLE shelves (
        queue INTEGER NOT NULL, number INTEGER NOT NULL, r INTEGER NOT NULL, PRIMARY KEY (queue, number)
    ) WITHOUT ROWID;
    CREATE INDEX receipts_by_notification ON receipts (notification, queue);
    """,
    "ALTER TABLE keys ADD COLUMN certificate_san TEXT NOT NULL DEFAULT '';",
    """
    CREATE TABLE webhooks (
        queue TEXT PRIMARY KEY, version INTEGER NOT NULL, webhook BLOB NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE papers (
        kind TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, content BLOB NOT NULL,
        expires_at INTEGER, PRIMARY KEY (kind, key)
    ) WITHOUT ROWID;
    CREATE INDEX papers_by_expiry ON papers (expires_at) WHERE expires_at IS NOT NULL;
    """,
    """
    CREATE TABLE seals (
        queue INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL, place INTEGER NOT NULL,
        PRIMARY KEY (queue, first)
    ) WITHOUT ROWID;
    """,
)
VERSION: Final = len(MIGRATIONS)
WEBHOOKS_SINCE: Final = 3
"""The version that has webhooks."""
COPYING: Final = "copying"
"""In ``meta`` while a store is being copied into this file: how far that has come."""
COPIED: Final = "copied"
"""In ``meta``: how far the copy had come that was finished here, which is to its end."""
_LIVING: Final = ("scheduled", "ready", "held", "leased", "dead")
"""Counts of ``tallies`` that are of rows in ``deliveries``, in the order of their states."""
_NAMED: Final = "SELECT type || ' ' || name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"


def open_file(path: Path | None, *, half_copied: bool = False) -> apsw.Connection:
    """Open the store's file (None: a store in memory), check it, bring it to this version, and set it durable.

    Raises ``StoreRefused`` for a file that is damaged, not a store, or written by a newer version, for a SQLite
    library that could damage it, and for a copy that was never finished unless ``half_copied``.
    """
    version = apsw.sqlite_lib_version()
    if tuple(int(part) for part in version.split(".")[:3]) < SAFE_SQLITE:
        raise StoreRefused(
            f"SQLite {version} has the WAL-reset bug; 3.51.3 or newer is needed (pip install -U apsw)"
        )
    connection = apsw.Connection(":memory:" if path is None else str(path))
    try:
        # Nobody else writes here; who does all the same may not hold up the event loop.
        connection.set_busy_timeout(100)
        _prepare(connection, path)
        if not half_copied:
            refuse_half_copied(connection, path)
    except (apsw.NotADBError, apsw.CorruptError, apsw.IOError) as error:
        connection.close()
        raise StoreRefused(f"{path} is damaged or not a store of Restante ({error})") from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """A second, read-only connection, so that long questions never hold up a commit."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(5_000)
    connection.pragma("cache_size", -16_384)
    return connection


def refuse_half_copied(connection: apsw.Connection, path: Path | None) -> None:
    """Raise ``StoreRefused`` where a copy into this file was begun and never finished."""
    if connection.execute("SELECT 1 FROM meta WHERE name = ?", (COPYING,)).fetchone() is not None:
        raise StoreRefused(
            f"{path} holds a copy that was never finished: run the same 'restante copy' again"
        )


def check(connection: apsw.Connection, *, full: bool) -> list[str]:
    """What SQLite's own check finds wrong; empty when all is well."""
    pragma = "integrity_check" if full else "quick_check"
    found = [str(row[0]) for row in connection.execute(f"PRAGMA {pragma}(20)")]
    return [] if found == ["ok"] else found


def miscounted(connection: apsw.Connection) -> list[str]:
    """Queues whose figures are not what their deliveries and receipts are."""
    counted = ", ".join(
        f"count(*) FILTER (WHERE state = {number}) AS {name}" for number, name in enumerate(_LIVING)
    )
    differ = " OR ".join(f"t.{name} <> coalesce(d.{name}, 0)" for name in _LIVING)
    rows: Any = connection.execute(
        "SELECT q.name FROM queues q JOIN tallies t ON t.queue = q.id"  # noqa: S608 (fixed names)
        f" LEFT JOIN (SELECT queue, {counted} FROM deliveries GROUP BY queue) d ON d.queue = q.id"
        " LEFT JOIN (SELECT queue, count(*) AS kept, sum(number) AS numbers FROM receipts GROUP BY queue) r"
        " ON r.queue = q.id"
        " LEFT JOIN (SELECT q.id AS queue, coalesce(p.receipts, 0) AS gone"
        " FROM queues q LEFT JOIN pruned p ON p.queue = q.id) p ON p.queue = q.id"
        f" WHERE {differ} OR coalesce(r.kept, 0) <> t.receipts - p.gone"
        # Each number is there once, and so they add up.
        " OR coalesce(r.numbers, 0) <> (t.receipts - p.gone) * (t.receipts + p.gone + 1) / 2"
        " OR t.seq <> t.scheduled + t.ready + t.held + t.leased + t.dead + t.acked + t.superseded + t.expired"
        " + t.discarded LIMIT 20"
    )
    return [f"the figures of queue {name} are not what it holds" for (name,) in rows]


def _prepare(connection: apsw.Connection, path: Path | None) -> None:
    fresh = connection.pragma("schema_version") == 0
    if not fresh and connection.pragma("application_id") != APPLICATION_ID:
        raise StoreRefused(f"{path} is a SQLite file, but not a store of Restante")
    found = connection.pragma("user_version")
    if found > VERSION:
        raise StoreRefused(
            f"{path} was written by a newer Restante (schema {found}, this one knows {VERSION}): upgrade Restante"
        )
    if path is not None:
        _set("journal_mode", "wal", connection)
    _set("synchronous", 2, connection, "FULL")
    # Plan each statement once. Without this, one compiled with STAT4 is planned anew whenever its values change,
    # which took a quarter of the time of a lifecycle.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.pragma("cache_size", -65_536)
    connection.pragma("temp_store", "MEMORY")
    connection.pragma("journal_size_limit", 32 * 1024 * 1024)
    if path is not None and not fresh and path.stat().st_size <= QUICK_CHECK_BYTES:
        problems = check(connection, full=False)
        if problems:
            raise StoreRefused(f"{path} is damaged: {problems[0]}")
    for number in range(found, VERSION):
        with connection:
            connection.execute(MIGRATIONS[number])
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", number + 1)
    if not fresh:
        missing = _parts_of_this_version() - {str(name) for (name,) in connection.execute(_NAMED)}
        if missing:
            raise StoreRefused(f"{path} is damaged: {min(missing)} is not there")


def _parts_of_this_version() -> set[str]:
    """The tables and indexes that a store has, as in ``table queues``."""
    connection = apsw.Connection(":memory:")
    try:
        for migration in MIGRATIONS:
            connection.execute(migration)
        return {str(name) for (name,) in connection.execute(_NAMED)}
    finally:
        connection.close()


def _set(pragma: str, value: object, connection: apsw.Connection, text: str = "") -> None:
    connection.pragma(pragma, text or value)
    actual = connection.pragma(pragma)
    if actual != value:
        raise StoreRefused(f"SQLite would not set {pragma} to {value} (it is {actual})")
