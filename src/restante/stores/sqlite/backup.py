"""A copy of the file while its owner goes on, and a store made of such a copy.

The copy is made page by page over a connection that reads one state of the file throughout (WAL): it holds up no
commit, and no commit makes it begin again. The log cannot be started over meanwhile, and grows by what is written.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from restante.errors import ConfigurationError, StoreFull, StoreRefused
from restante.stores.sqlite import schema
from restante.stores.sqlite.folder import FILE_NAME, lock

STEP_PAGES: Final = 2_048
"""8 MiB at once, and then the progress is told."""

Watch = Callable[[int, int], None]
"""Told ``(pages done, pages in all)``."""


_BESIDE: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a file that is open, or was when its process was killed."""


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds. ``webhooks`` have secrets that only the keyring of their server opens."""

    bytes: int
    queues: int
    notifications: int
    receipts: int
    webhooks: int


def backup(folder: Path, file: Path, watch: Watch, *, force: bool = False) -> Contents:
    """Copy the store of ``folder``, which may be served meanwhile, into ``file``, durably, whole or not at all.

    Raises ``ConfigurationError`` where ``file`` is there already and not ``force``, ``StoreRefused`` for what is no
    whole store, and for a copy that is damaged: nothing gets the name ``file`` then.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise StoreRefused(f"there is no store in {folder}")
    if file.exists() and not force:
        raise ConfigurationError(f"{file} is there already: name another, or say --force")
    with _told(path), _beside(file) as new:
        source = schema.open_reader(path)
        try:
            _check_kind(source, path)
            _copy_pages(source, new, watch)
        finally:
            source.close()
        return _look(new)


def restore(file: Path, folder: Path, watch: Watch) -> Contents:
    """Make a store in ``folder`` of a backup, with a new token secret: no lease token given out before opens in it.

    After the state of the backup the old store has given out tokens that name deliveries which are yet to come here.
    Raises ``ConfigurationError`` where there is no such file, ``StoreInUse`` and ``StoreRefused`` for a folder that
    is in use or holds a store, and for a file that is damaged, newer than this version, or no backup.
    """
    if not file.is_file():
        raise ConfigurationError(f"there is no file {file}")
    with lock(folder):
        path = folder / FILE_NAME
        if path.exists():
            raise StoreRefused(f"{folder} holds a store already: name another folder")
        for remains in (folder / f"{FILE_NAME}{suffix}" for suffix in _BESIDE):
            if remains.exists():
                # SQLite would play it into the restored store, without a word.
                raise StoreRefused(
                    f"{remains} is of a store that was here: move it away, or name another folder"
                )
        with _told(file), _beside(path) as new:
            source = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
            try:
                _check_kind(source, file)
                _copy_pages(source, new, watch)
            finally:
                source.close()
            contents = _look(new)
            _renew_secret(new)
        return contents


@contextlib.contextmanager
def _beside(file: Path) -> Iterator[Path]:
    """A new file beside ``file`` that only its owner may read; it takes the name ``file`` once all is well."""
    new = file.with_name(f"{file.name}.new")
    try:
        # What an earlier run left when it was killed.
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        try:
            yield new
            _sync(new)
            new.replace(file)
            _sync(file.parent)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise StoreRefused(f"cannot write {file}: {error.strerror}") from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_kind(connection: apsw.Connection, path: Path) -> None:
    """Raise ``StoreRefused`` unless it is a whole store of this version or an older one."""
    if connection.pragma("application_id") != schema.APPLICATION_ID:
        raise StoreRefused(f"{path} is not a store of Restante")
    found = connection.pragma("user_version")
    if found > schema.VERSION:
        raise StoreRefused(
            f"{path} was written by a newer Restante (schema {found}, this one knows {schema.VERSION}):"
            " upgrade Restante"
        )
    schema.refuse_half_copied(connection, path)


def _copy_pages(source: apsw.Connection, new: Path, watch: Watch) -> None:
    target = apsw.Connection(str(new))
    try:
        target.pragma("synchronous", "OFF")  # it is synced once, when it is whole
        # A transaction of our own around all steps: each then reads the same state.
        source.execute("BEGIN")
        source.execute("SELECT 1 FROM meta LIMIT 1").fetchall()
        with target.backup("main", source, "main") as pages:
            while not pages.done:
                pages.step(STEP_PAGES)
                watch(pages.page_count - pages.remaining, pages.page_count)
        source.execute("COMMIT")
        # One file, that can be read without a log beside it.
        target.pragma("journal_mode", "DELETE")
    finally:
        target.close()


def _look(path: Path) -> Contents:
    """What is in the copy; ``StoreRefused`` where its pages, its figures or its ledgers do not add up."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        problems = schema.check(connection, full=False) or schema.miscounted(connection)
        if problems:
            raise StoreRefused(f"the store is damaged: {problems[0]}")
        older = connection.pragma("user_version") < schema.WEBHOOKS_SINCE
        return Contents(
            bytes=path.stat().st_size,
            queues=_count(connection, "queues"),
            notifications=_count(connection, "notifications"),
            receipts=_count(connection, "receipts"),
            webhooks=0 if older else _count(connection, "webhooks"),
        )
    finally:
        connection.close()


def _renew_secret(path: Path) -> None:
    connection = apsw.Connection(str(path))
    try:
        with connection:
            connection.execute(
                "UPDATE meta SET value = ? WHERE name = 'token_secret'", (secrets.token_bytes(32),)
            )
    finally:
        connection.close()


def _count(connection: apsw.Connection, table: str) -> int:
    row: Any = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 (fixed names)
    return int(row[0])


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors in words of ours."""
    try:
        yield
    except apsw.FullError as error:
        raise StoreFull("the disk is full") from error
    except apsw.CantOpenError as error:
        raise StoreRefused(
            f"cannot open {path}: may this user read it, and write beside it?"
        ) from error
    except apsw.BusyError as error:
        raise StoreRefused(f"{path} is locked by another program") from error
    except apsw.Error as error:
        raise StoreRefused(f"{path} is damaged or not a store of Restante ({error})") from error
