"""Heads of the log of receipts, sent off this machine: to a file, or into a queue that another system collects from."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from restante.model import SYSTEM, Actor, Appended, Publication
from restante.wire.checkpoints import CONTENT_TYPE

TYPE: Final = "restante.ledger.head"
"""The attribute ``type`` of a head that is a notification."""
Publish = Callable[[Publication, Actor], Awaitable[Appended]]


def to_file(path: Path) -> Callable[[str], Awaitable[None]]:
    """Append each head to a file, an empty line behind it; durable when it returns. Raises ``OSError``."""

    async def tell(checkpoint: str) -> None:
        await asyncio.to_thread(_append, path, checkpoint)

    return tell


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


def _append(path: Path, checkpoint: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    with os.fdopen(handle, "a", encoding="utf-8") as file:
        file.write(f"{checkpoint}\n")
        file.flush()
        os.fsync(file.fileno())
