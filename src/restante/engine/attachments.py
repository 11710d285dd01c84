"""Who is connected: connections that stay open, whatever they speak.

A connection is told why it has to end (``Ending``) and takes its leave in its own protocol's words. It is ended when
its key is revoked or runs out, when another takes its place, and when this node goes out of service.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from restante.engine.directory import Directory
from restante.errors import ShuttingDown, TooManyConnections
from restante.logs import get_logger
from restante.model import Actor
from restante.ports import Clock

_log = get_logger(__name__)

CONNECTIONS_PER_PRINCIPAL: Final = 1_000
RECONNECT_SECONDS: Final = (1.0, 9.0)
"""At least, and the spread on top of it."""


class Ending(enum.Enum):
    """Why the service ends a connection."""

    DRAIN = "the service is going out of operation; come back in a moment"
    KEY_ENDED = "the key was revoked or has expired"
    DISPLACED = "another connection has taken up where this one was"


class Attachment:
    """One open connection. Use it as a context manager; it counts while it is entered."""

    __slots__ = ("_attachments", "_cancel_expiry", "_on_end", "actor", "consumer", "ending")

    def __init__(
        self,
        attachments: Attachments,
        actor: Actor,
        on_end: Callable[[Ending], None],
        consumer: str,
    ) -> None:
        self._attachments = attachments
        self._on_end = on_end
        self._cancel_expiry: Callable[[], None] | None = None
        self.actor = actor
        self.consumer = consumer
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

    def become(self, consumer: str) -> None:
        """Give the connection a name that it did not have when it was attached; an earlier one of it is displaced."""
        self._attachments.take_name(self, consumer)

    def end(self, ending: Ending) -> None:
        """Tell the connection that it has to end; only the first reason counts."""
        if self.ending is None:
            self.ending = ending
            self._on_end(ending)


class Attachments:
    """All open connections of this node."""

    def __init__(
        self,
        directory: Directory,
        clock: Clock,
        limit: int,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._limit = limit
        self._jitter = jitter
        self._all: set[Attachment] = set()
        self._named: dict[str, Attachment] = {}
        self._of_principal: Counter[str] = Counter()
        self._draining = False
        self._gone: asyncio.Future[None] | None = None

    def attach(
        self, actor: Actor, on_end: Callable[[Ending], None], consumer: str = ""
    ) -> Attachment:
        """A connection of the actor's, to be entered: raises as ``admit`` does then.

        ``on_end`` is called at most once and must not wait: it sets going what takes the connection down.
        ``consumer``, where it has a name, is one at a time: an earlier connection of that name is displaced.
        """
        return Attachment(self, actor, on_end, consumer)

    def admit(self, actor: Actor) -> None:
        """Raise ``TooManyConnections`` or ``ShuttingDown`` where no connection of the actor's would be taken."""
        if self._draining:
            raise ShuttingDown(Ending.DRAIN.value)
        if self._of_principal[_principal(actor)] >= self._limit:
            raise TooManyConnections(
                f"{actor.name} has {self._limit} connections open: close one first"
            )

    def add(self, attachment: Attachment) -> Callable[[], None] | None:
        """Count it in; returns what cancels its end by its key's expiry, or its certificate's, if there is one."""
        actor = attachment.actor
        self.admit(actor)
        if attachment.consumer:
            self.take_name(attachment, attachment.consumer)
        self._of_principal[_principal(actor)] += 1
        self._all.add(attachment)
        _log.debug("connection.opened", **_seen(actor))
        key = self._directory.known_key(actor.key_id)
        ends = [actor.until_ms, None if key is None else key.expires_at_ms]
        if self._directory.has_ended(actor.key_id):
            ends.append(self._clock.wall_ms())
        until_ms = min((end for end in ends if end is not None), default=None)
        if until_ms is None:
            return None
        left_seconds = (until_ms - self._clock.wall_ms()) / 1_000
        return self._clock.call_later(left_seconds, lambda: attachment.end(Ending.KEY_ENDED))

    def take_name(self, attachment: Attachment, consumer: str) -> None:
        earlier = self._named.get(consumer)
        self._named[consumer] = attachment
        attachment.consumer = consumer
        if earlier is not None:
            earlier.end(Ending.DISPLACED)

    def remove(self, attachment: Attachment) -> None:
        if attachment not in self._all:
            return
        self._all.remove(attachment)
        ending = attachment.ending
        _log.debug(
            "connection.closed",
            by="client" if ending is None else ending.name.lower(),
            **_seen(attachment.actor),
        )
        if self._named.get(attachment.consumer) is attachment:
            del self._named[attachment.consumer]
        principal = _principal(attachment.actor)
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

    def key_ids(self) -> set[str]:
        """The keys that anybody here has come with."""
        return {attachment.actor.key_id for attachment in self._all}

    def reconnect_after_seconds(self) -> float:
        """When one of those that drain should come back: each at another time, so that they do not come at once."""
        return round(RECONNECT_SECONDS[0] + self._jitter() * RECONNECT_SECONDS[1], 2)

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


def _principal(actor: Actor) -> str:
    return f"{actor.role.value}/{actor.name}"


def _seen(actor: Actor) -> dict[str, str]:
    return {
        "principal": _principal(actor),
        "transport": actor.transport,
        "address": actor.remote_address,
    }
