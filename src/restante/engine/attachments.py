"""Who is connected: connections that stay open, whatever they speak.

A connection is told why it has to end (``Ending``) and takes its leave in its own protocol's words. It is ended when
its key is revoked or runs out, when another takes its place, and when this node goes out of service.
"""

from __future__ import annotations

import asyncio
import enum
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from restante.engine.directory import Directory
from restante.errors import ShuttingDown, TooManyConnections
from restante.model import Actor
from restante.ports import Clock

CONNECTIONS_PER_PRINCIPAL: Final = 1_000


class Ending(enum.Enum):
    """Why the service ends a connection."""

    DRAIN = "the service is going out of operation; come back in a moment"
    KEY_ENDED = "the key was revoked or has expired"
    DISPLACED = "another connection has taken up where this one was"


class Attachment:
    """One open connection. Use it as a context manager; it counts while it is entered."""

    __slots__ = ("_attachments", "_cancel_expiry", "_on_end", "actor", "ending", "since_ms")

    def __init__(
        self,
        attachments: Attachments,
        actor: Actor,
        on_end: Callable[[Ending], None],
        since_ms: int,
    ) -> None:
        self._attachments = attachments
        self._on_end = on_end
        self._cancel_expiry: Callable[[], None] | None = None
        self.actor = actor
        self.since_ms = since_ms
        self.ending: Ending | None = None

    def __enter__(self) -> Self:
        self._cancel_expiry = self._attachments.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._cancel_expiry is not None:
            self._cancel_expiry()
        self._attachments.remove(self)

    def end(self, ending: Ending) -> None:
        """Tell the connection that it has to end; only the first reason counts."""
        if self.ending is None:
            self.ending = ending
            self._on_end(ending)


class Attachments:
    """All open connections of this node."""

    def __init__(self, directory: Directory, clock: Clock, limit: int) -> None:
        self._directory = directory
        self._clock = clock
        self._limit = limit
        self._all: set[Attachment] = set()
        self._of_principal: Counter[str] = Counter()
        self._draining = False
        self._gone: asyncio.Future[None] | None = None

    def attach(self, actor: Actor, on_end: Callable[[Ending], None]) -> Attachment:
        """A connection of the actor's, to be entered: ``TooManyConnections`` or ``ShuttingDown`` then.

        ``on_end`` is called at most once and must not wait: it sets going what takes the connection down.
        """
        return Attachment(self, actor, on_end, self._clock.wall_ms())

    def add(self, attachment: Attachment) -> Callable[[], None] | None:
        """Count it in; returns what cancels its end by its key's expiry, if that has one."""
        if self._draining:
            raise ShuttingDown(Ending.DRAIN.value)
        actor = attachment.actor
        principal = f"{actor.role.value}/{actor.name}"
        if self._of_principal[principal] >= self._limit:
            raise TooManyConnections(
                f"{actor.name} has {self._limit} connections open: close one first"
            )
        self._of_principal[principal] += 1
        self._all.add(attachment)
        key = self._directory.known_key(actor.key_id)
        if key is None or key.expires_at_ms is None:
            return None
        left_seconds = (key.expires_at_ms - self._clock.wall_ms()) / 1_000
        return self._clock.call_later(left_seconds, lambda: attachment.end(Ending.KEY_ENDED))

    def remove(self, attachment: Attachment) -> None:
        if attachment not in self._all:
            return
        self._all.remove(attachment)
        actor = attachment.actor
        principal = f"{actor.role.value}/{actor.name}"
        self._of_principal[principal] -= 1
        if not self._of_principal[principal]:
            del self._of_principal[principal]
        if self._gone is not None and not self._all and not self._gone.done():
            self._gone.set_result(None)

    def dismiss(self, key_id: str) -> None:
        """End all that came with one key."""
        for attachment in list(self._all):
            if attachment.actor.key_id == key_id:
                attachment.end(Ending.KEY_ENDED)

    def drain(self) -> None:
        """End all, and take no more."""
        self._draining = True
        for attachment in list(self._all):
            attachment.end(Ending.DRAIN)

    async def gone(self, seconds: float) -> bool:
        """Wait until nobody is connected any more, at most ``seconds``; whether that came to be."""
        if not self._all:
            return True
        self._gone = asyncio.get_running_loop().create_future()
        cancel = self._clock.call_later(seconds, self._give_up)
        try:
            await self._gone
        finally:
            cancel()
        return not self._all

    def _give_up(self) -> None:
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def __len__(self) -> int:
        return len(self._all)
