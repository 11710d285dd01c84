"""The folder of a store, and the lock by which one process owns it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final, TextIO

from restante.errors import StoreInUse, StoreRefused

FILE_NAME: Final = "restante.db"


def lock(folder: Path) -> TextIO:
    """Hold the folder's lock file; the kernel lets go of it when the process ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (folder / "lock").open("a+")
    except OSError as error:
        raise StoreRefused(f"cannot use {folder}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read(20).strip()
        file.close()
        who = f"process {holder}" if holder else "another process"
        raise StoreInUse(f"{folder} is in use by {who}: a store has one owner at a time") from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
