"""The store in a file: the library, who has it open, and whether it is whole."""

from __future__ import annotations

import contextlib
import fcntl
from pathlib import Path
from typing import Final

import apsw

from restante.cli.doctor import ledger
from restante.cli.doctor.findings import Case, Finding, failure, ok
from restante.cli.doctor.machine import installed
from restante.errors import StoreInUse, StoreRefused
from restante.papers import Kind
from restante.receipt_log import STATE_KEY
from restante.stores.sqlite import check_file
from restante.stores.sqlite.folder import FILE_NAME
from restante.stores.sqlite.schema import SAFE_SQLITE

PROBLEMS: Final = 3


def library(case: Case) -> Finding | None:
    return judge_library(apsw.sqlite_lib_version()) if case.on_sqlite else None


def judge_library(version: str) -> Finding:
    """Whether that SQLite can be trusted with a write-ahead log."""
    if tuple(int(part) for part in version.split(".")[:3]) < SAFE_SQLITE:
        safe = ".".join(str(part) for part in SAFE_SQLITE)
        return failure(
            "SQLite",
            f"version {version} can damage a store (the WAL-reset bug, mended in {safe})",
            "pip install --upgrade apsw",
        )
    return ok("SQLite", f"version {version}")


def whole(case: Case) -> Finding | None:
    """A quick check of a store that nobody has open; one that is served is looked at by its server."""
    folder = case.config.data
    if not case.on_sqlite or not (folder / FILE_NAME).exists():
        return None
    if owner(folder) is not None:
        return ok("store", f"process {owner(folder)} serves it, and has checked it at its start")
    try:
        problems = check_file(folder, full=False)
    except StoreInUse as error:
        return ok("store", error.detail)
    except StoreRefused as error:
        return failure(
            "store", error.detail, "see docs/operating.md on what to do with a damaged store"
        )
    if problems:
        return failure(
            "store",
            f"it is damaged: {'; '.join(problems[:PROBLEMS])}",
            "do not serve it: keep a copy of the folder, and `restante restore` the last backup",
        )
    return ok(
        "store", "it opens, and a quick check finds nothing (`restante check` looks at all of it)"
    )


def webhooks(case: Case) -> Finding | None:
    """Whether the package that calls webhooks is there, where there are any; a server that runs has it."""
    folder = case.config.data
    if not case.on_sqlite or not (folder / FILE_NAME).exists() or owner(folder) is not None:
        return None
    count = count_webhooks(folder / FILE_NAME)
    if not count:
        return None
    return judge_webhooks(count, there=installed("aiohttp"))


def judge_webhooks(count: int, *, there: bool) -> Finding:
    """Whether so many webhooks can be called."""
    if not there:
        return failure(
            "webhooks",
            f"there are {count:,}, and the package that calls them is not installed",
            "pip install 'restante[webhooks]' (the server does not start otherwise)",
        )
    return ok("webhooks", f"there are {count:,}, and the package that calls them is installed")


def count_webhooks(path: Path) -> int:
    """How many there are in the store of that file; 0 where it cannot be read, which ``whole`` tells of."""
    try:
        with contextlib.closing(
            apsw.Connection(str(path), apsw.SQLITE_OPEN_READONLY)
        ) as connection:
            return int(connection.execute("SELECT count(*) FROM webhooks").get)
    except apsw.Error:
        return 0


def ledger_key(case: Case) -> Finding | None:
    """Whether the log can be gone on with; a server that runs is asked whether it does."""
    path = case.config.data / FILE_NAME
    if not case.on_sqlite or not path.exists() or owner(case.config.data) is not None:
        return None
    return ledger.examine(case, log_state(path))


def log_state(path: Path) -> bytes | None:
    """How far the log in the store of that file has come; None: there is none, or it cannot be read."""
    asked = "SELECT CAST(content AS BLOB) FROM papers WHERE kind = ? AND key = ?"
    try:
        with contextlib.closing(
            apsw.Connection(str(path), apsw.SQLITE_OPEN_READONLY)
        ) as connection:
            content: bytes | None = connection.execute(asked, (Kind.LOG.value, STATE_KEY)).get
            return content
    except apsw.Error:
        return None


def owner(folder: Path) -> str | None:
    """The process that has the store open, by its number where it has said so; None: nobody has."""
    try:
        with (folder / "lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read(20).strip() or "?"
    except OSError:
        return None
    return None


CHECKS: Final = (library, whole, webhooks, ledger_key)
