"""What is asked for as a group: bodies for queues, and what undoes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple


class Payload(NamedTuple):
    body: bytes
    content_type: str


class Wanted(NamedTuple):
    """What is to go to one queue, and what is to undo it."""

    queue: str
    payload: Payload
    compensation: Payload | None
    required: bool

    def payloads(self) -> tuple[Payload, ...]:
        """One, or two."""
        return (self.payload,) if self.compensation is None else (self.payload, self.compensation)


def fingerprint_of(wanted: Sequence[Wanted], timeout_seconds: float) -> str:
    """The same for the same group only: the length of each part comes before it."""
    digest = hashlib.sha256(repr(timeout_seconds).encode())
    for one in wanted:
        parts: list[bytes] = [one.queue.encode(), b"required" if one.required else b""]
        for payload in one.payloads():
            parts += (payload.content_type.encode(), payload.body)
        digest.update(b"\n%d" % len(parts))
        for part in parts:
            digest.update(b"\n%d\n" % len(part))
            digest.update(part)
    return digest.hexdigest()
