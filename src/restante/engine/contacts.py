"""Who comes for a queue: programs that wait, hold a connection, or came a moment ago.

Every transport comes through a session or a stream, which tell here when they begin and end. What is remembered is
bounded: so many programs for a queue, and those that came and went for a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from restante.model import Actor, Queue, Role
from restante.watching import Consumer, Contact

CONSUMERS: Final = 100
"""How many programs are remembered for each queue."""
SEEN_SECONDS: Final = 60
"""How long a program that came and went is taken to be there: a long poll may be that long."""
OURS: Final = frozenset({"webhook", "internal"})
"""Transports that this service collects over by itself: no client came."""
_REMEMBERED: Final = 10_000
"""Remote addresses whose host is known."""
_Name = tuple[str, str, str, str, str]


class Visit:
    """A program that collects from a queue, ``open`` times at once."""

    __slots__ = ("actor", "address", "is_owner", "last_ms", "open", "since_ms")

    def __init__(self, actor: Actor, address: str, *, is_owner: bool, now_ms: int) -> None:
        self.actor = actor
        self.address = address
        self.is_owner = is_owner
        self.since_ms = self.last_ms = now_ms
        self.open = 0


class Contacts:
    """Of this node. ``changed`` are the queues whose client came since somebody took that set, and ``moved`` those
    that anybody came for or left.
    """

    def __init__(self, wall_ms: Callable[[], int]) -> None:
        self._wall_ms = wall_ms
        self._of_queue: dict[str, dict[_Name, Visit]] = {}
        self._last: dict[str, Visit] = {}
        self._hosts: dict[str, str] = {}
        self.changed: set[str] = set()
        self.moved: set[str] = set()

    def enter(self, queue: Queue, actor: Actor) -> Visit | None:
        """Somebody begins to collect; None where that is no program of a client's. ``leave`` must follow."""
        if actor.transport in OURS:
            return None
        address = self._hosts.get(actor.remote_address)
        if address is None:
            address = self._host(actor.remote_address)
        name = (actor.transport, address, actor.agent, actor.consumer, actor.name)
        visits = self._of_queue.get(queue.name)
        if visits is None:
            visits = self._of_queue[queue.name] = {}
        visit = visits.get(name)
        now = self._wall_ms()
        if visit is None:
            is_owner = actor.role is Role.CLIENT and actor.name == queue.owner
            visit = Visit(actor, address, is_owner=is_owner, now_ms=now)
            if len(visits) >= CONSUMERS:
                _make_room(visits)
            if len(visits) < CONSUMERS:
                visits[name] = visit
        visit.open += 1
        visit.last_ms = now
        if queue.name not in self.moved:
            self.moved.add(queue.name)
        if visit.is_owner:
            self._last[queue.name] = visit
            if queue.name not in self.changed:
                self.changed.add(queue.name)
        return visit

    def leave(self, queue: Queue, visit: Visit | None) -> None:
        """It has ended, or got what it came for."""
        if visit is not None:
            visit.open -= 1
            visit.last_ms = self._wall_ms()
            # Most often they are in there since it came, and looking costs less than putting.
            if queue.name not in self.moved:
                self.moved.add(queue.name)
            if visit.is_owner and queue.name not in self.changed:
                self.changed.add(queue.name)

    def _host(self, remote_address: str) -> str:
        if len(self._hosts) >= _REMEMBERED:
            self._hosts.clear()
        host = self._hosts[remote_address] = _host(remote_address)
        return host

    def queues(self) -> list[str]:
        """Those that somebody came for lately."""
        return list(self._of_queue)

    def last(self, queue: str) -> Contact | None:
        """When its own client was last here, and how: now, while one of its programs is."""
        visit = self._last.get(queue)
        if visit is None:
            return None
        if not visit.open:
            # Another program of the client's may still be here.
            here = (one for one in self._of_queue.get(queue, {}).values() if one.is_owner)
            visit = max((one for one in here if one.open), key=_last_ms, default=visit)
        actor = visit.actor
        at_ms = self._wall_ms() if visit.open else visit.last_ms
        return Contact(at_ms, actor.transport, visit.address, actor.agent)

    def consumers(self, queue: str, node: str) -> tuple[Consumer, ...]:
        """Who collects from the queue here, the newest last."""
        now = self._wall_ms()
        visits = self._of_queue.get(queue)
        if not visits:
            return ()
        return tuple(
            Consumer(
                transport=visit.actor.transport,
                address=visit.address,
                agent=visit.actor.agent,
                consumer=visit.actor.consumer,
                since_ms=visit.since_ms,
                last_seen_ms=now if visit.open else visit.last_ms,
                attached=bool(visit.open),
                node=node,
            )
            for visit in visits.values()
        )

    def forget(self, queue: str) -> None:
        """Let go of programs of the queue that came and went more than ``SEEN_SECONDS`` ago."""
        visits = self._of_queue.get(queue)
        if visits is None:
            return
        before = self._wall_ms() - SEEN_SECONDS * 1_000
        for name in [name for name, one in visits.items() if not one.open and one.last_ms < before]:
            del visits[name]
        if not visits:
            del self._of_queue[queue]


def _make_room(visits: dict[_Name, Visit]) -> None:
    """Let go of the one that left longest ago, if any has left."""
    gone = [(visit.last_ms, name) for name, visit in visits.items() if not visit.open]
    if gone:
        del visits[min(gone)[1]]


def _last_ms(visit: Visit) -> int:
    return visit.last_ms


def _host(address: str) -> str:
    """``host`` or ``[host]`` of ``host:port``: each connection comes from another port."""
    host, colon, port = address.rpartition(":")
    return host if colon and port.isdigit() and not host.endswith(":") else address
