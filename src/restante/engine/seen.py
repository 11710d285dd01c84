"""What each node has seen of a queue, told to the others and kept over a restart: a paper for each queue and node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

import msgspec

from restante.changes import PutPaper
from restante.metering import Tally
from restante.papers import Kind, Paper
from restante.ports import Store
from restante.queries import Papers
from restante.watching import Consumer, Contact, Failure

KEPT_SECONDS: Final = 8 * 86_400
CURRENT_SECONDS: Final = 60
"""What a node said longer ago tells when the client came, and nothing of what goes on now."""
_PAGE: Final = 500
_ALONE: Final = "-"
"""The node's place in the key where no other shares the store: started again, it goes on with what is there."""


class Seen(msgspec.Struct, kw_only=True, gc=False):
    """What one node has seen of one queue, as of ``at_ms``."""

    at_ms: int = 0
    contact: Contact | None = None
    ack_ms: int | None = None
    failure: Failure | None = None
    consumers: tuple[Consumer, ...] = ()
    minute: Tally = msgspec.field(default_factory=Tally)
    recent: Tally = msgspec.field(default_factory=Tally)

    def later(self, other: Seen) -> None:
        """Take over what the other knows of later."""
        if other.contact and (self.contact is None or other.contact.at_ms > self.contact.at_ms):
            self.contact = other.contact
        if other.failure and (self.failure is None or other.failure.at_ms > self.failure.at_ms):
            self.failure = other.failure
        if other.ack_ms is not None:
            self.ack_ms = max(other.ack_ms, self.ack_ms or 0)


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Seen).decode


class Sightings:
    """This node's own, and what others have said. ``node`` None: nobody else shares the store."""

    def __init__(self, store: Store, wall_ms: Callable[[], int], node: str | None) -> None:
        self._store = store
        self._wall_ms = wall_ms
        self._node = node
        self._own: dict[str, Seen] = {}
        self._others: dict[str, list[tuple[str, Seen]]] = {}
        self._read = False

    def own(self, queue: str) -> Seen:
        """What this node has seen of the queue, to be added to."""
        return self._own.setdefault(queue, Seen())

    def is_own(self, queue: str) -> bool:
        """Whether this node has seen anything of the queue."""
        return queue in self._own

    def merged(self, queue: str, alive: Collection[str]) -> Seen | None:
        """What all nodes have seen of it; None where none has. What goes on now is told by nodes ``alive`` only."""
        own, others = self._own.get(queue), self._others.get(queue)
        if own is not None and not others:
            return own
        if not others:
            return None
        now = self._wall_ms()
        merged = Seen() if own is None else msgspec.structs.replace(own)
        merged.minute, merged.recent = Tally(), Tally()
        if own is not None:
            merged.minute.add(own.minute)
            merged.recent.add(own.recent)
        for node, seen in others:
            merged.later(seen)
            if node in alive and now - seen.at_ms < CURRENT_SECONDS * 1_000:
                merged.consumers += seen.consumers
                merged.minute.add(seen.minute)
                merged.recent.add(seen.recent)
        return merged

    async def read(self) -> None:
        """Hear what others said; the first time, also what this node's place said before. Raises ``StoreError``."""
        if self._node is None and self._read:
            return
        others: dict[str, list[tuple[str, Seen]]] = {}
        after = ""
        while page := await self._store.browse(Papers(Kind.SEEN, after, limit=_PAGE)):
            for paper in page:
                queue, _, node = paper.key.rpartition("/")
                if node == _ALONE and self._node is None:
                    self.own(queue).later(_decode(paper.content))
                elif node != self._node:
                    others.setdefault(queue, []).append((node, _decode(paper.content)))
            after = page[-1].key
        self._others, self._read = others, True

    def papers(self, queues: Iterable[str]) -> Iterator[PutPaper]:
        """What is to be written of these."""
        now = self._wall_ms()
        for queue in queues:
            seen = self._own.get(queue)
            if seen is not None:
                seen.at_ms = now
                yield PutPaper(
                    Paper(
                        kind=Kind.SEEN,
                        key=f"{queue}/{self._node or _ALONE}",
                        content=_encode(seen),
                        expires_at_ms=now + KEPT_SECONDS * 1_000,
                    )
                )
