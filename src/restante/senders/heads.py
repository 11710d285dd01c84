"""Heads of the log of receipts, sent off this machine: to a file, or into a queue that another system collects from."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from restante.errors import ConfigurationError
from restante.model import SYSTEM, Actor, Appended, Publication
from restante.wire.checkpoints import CONTENT_TYPE, notes_of

TYPE: Final = "restante.ledger.head"
"""The attribute ``type`` of a head that is a notification."""
LAST_BYTES: Final = 65_536
"""Of a file, in which the newest heads are."""
Publish = Callable[[Publication, Actor], Awaitable[Appended]]


def to_file(path: Path) -> Callable[[str], Awaitable[None]]:
    """Append each head to a file, an empty line behind it; durable when it returns. Raises ``OSError``."""

    async def tell(checkpoint: str) -> None:
        await asyncio.to_thread(_append, path, checkpoint)

    return tell


def in_file(path: Path) -> Callable[[str], Awaitable[bool]]:
    """Whether a head is among the last of a file. Raises ``ConfigurationError`` as ``of_file``."""

    async def holds(checkpoint: str) -> bool:
        return checkpoint in await asyncio.to_thread(of_file, path)

    return holds


def to_queue(queue: str, publish: Publish) -> Callable[[str], Awaitable[None]]:
    """Publish each head to a queue: kept until whoever keeps heads has signed for it. Raises ``RestanteError``.

    One that is sent again is not there twice, as long as idempotency keys are kept.
    """

    async def tell(checkpoint: str) -> None:
        publication = Publication(
            queue=queue,
            body=checkpoint.encode(),
            content_type=CONTENT_TYPE,
            attributes={"type": TYPE},
            idempotency_key=hashlib.sha256(checkpoint.encode()).hexdigest(),
        )
        await publish(publication, SYSTEM)

    return tell


def of_file(path: Path) -> list[str]:
    """The last heads of a file, none where there is no file yet. ``ConfigurationError`` where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - LAST_BYTES, 0))
            return notes_of(file.read().decode(errors="replace"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def _append(path: Path, checkpoint: str) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    with os.fdopen(handle, "r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            # It may have been made just now: its name has to last as what will be in it. Whoever gave this process
            # the file and not the folder has made it before.
            with contextlib.suppress(PermissionError):
                _sync_folder(path.resolve().parent)
        # What a crash cut off is kept apart from what comes behind it.
        between = "" if not size or os.pread(handle, 2, max(size - 2, 0)) == b"\n\n" else "\n\n"
        data = f"{between}{checkpoint}\n".encode()
        try:
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(size)
            raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
