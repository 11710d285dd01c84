"""Who waits for which operation to change. However many they are, the store is asked once a second, and for all.

Arm before you look: who wants to know of an operation is entered here first and then reads it, so that a change after
the reading finds the entry. A change on this node is told at once and without the store. Where nodes share the store,
one question for the versions of all that is watched finds what others changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Final, NamedTuple, Self

import msgspec

from restante.errors import ShuttingDown, StoreError
from restante.logs import get_logger
from restante.model import check_bounds
from restante.operation import Operation
from restante.papers import Kind, Paper
from restante.ports import Clock, Store
from restante.queries import PaperOf, PaperVersions

_log = get_logger(__name__)

WATCHED: Final = 1_000
"""Operations that one watch is over, at most."""
_LOOK_SECONDS: Final = 1.0
_ASKED: Final = 5_000
"""Versions are asked for so many to a question, and what has changed is read so many at a time:"""
_READ: Final = 50
_decode = msgspec.json.Decoder(Operation).decode


class Kept(NamedTuple):
    """An operation as it stands in the store; its version rises by one with each change."""

    operation: Operation
    version: int


def kept_of(paper: Paper) -> Kept:
    """What a paper of kind ``OPERATION`` holds."""
    return Kept(_decode(paper.content), paper.version)


class Watch:
    """Operations that somebody wants to hear of. Use it as a context manager; it is told of while it is entered."""

    __slots__ = ("_alarm", "_known", "_news", "_watches", "ended", "key_id")

    def __init__(self, watches: Watches, key_id: str) -> None:
        self._watches = watches
        self._known: dict[str, int] = {}
        # Of each the latest only: who is slow to take what is new is told less, and holds no more.
        self._news: dict[str, Kept] = {}
        self._alarm: asyncio.Future[None] | None = None
        self.key_id = key_id
        self.ended = False

    def __enter__(self) -> Self:
        self._watches.enter(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for id in list(self._known):
            self.drop(id)
        self._watches.leave(self)

    def __contains__(self, id: str) -> bool:
        return id in self._known

    def arm(self, id: str) -> None:
        """From now on what changes of it is told. ``OutOfBounds`` for more than ``WATCHED``."""
        if id not in self._known:
            check_bounds("number of operations", len(self._known) + 1, 1, WATCHED)
            self._known[id] = 0
            self._watches.add(self, id)

    def seen(self, kept: Kept) -> bool:
        """It stood so when it was read: whether that is to be told. If so, only what is newer is told after it."""
        id = kept.operation.id
        if id not in self._known or kept.version <= self._known[id]:
            return False  # What came while it was read was told already, its end perhaps, or is told next.
        self._known[id] = kept.version
        self._news.pop(id, None)
        # The others that watch it need not wait for the next look.
        self._watches.tell(kept)
        self._over(kept)
        return True

    def drop(self, id: str) -> None:
        """Tell no more of it."""
        if self._known.pop(id, None) is not None:
            self._news.pop(id, None)
            self._watches.remove(self, id)

    def tell(self, kept: Kept) -> None:
        """It stands so now, or did a moment ago."""
        id = kept.operation.id
        if kept.version > self._known[id]:
            self._known[id] = kept.version
            self._news[id] = kept
            self._resolve()

    async def next(self, seconds: float) -> Kept | None:
        """One that has changed since it was last told, as it stands; None when time is up, or it has to end.

        One at a time: what was taken and waits to be told would be out of date once that one is watched anew.
        """
        if not self._news and not self.ended:
            self._alarm = asyncio.get_running_loop().create_future()
            cancel = self._watches.clock.call_later(seconds, self._resolve)
            try:
                await self._alarm
            finally:
                cancel()
        if not self._news:
            return None
        kept = self._news.pop(next(iter(self._news)))
        self._over(kept)
        return kept

    def end(self) -> None:
        """Whoever waits is answered now."""
        self.ended = True
        self._resolve()

    def _over(self, kept: Kept) -> None:
        if kept.operation.state.ended:
            self.drop(kept.operation.id)

    def _resolve(self) -> None:
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)


class _Watched:
    __slots__ = ("version", "watches")

    def __init__(self) -> None:
        self.version = 0
        self.watches: set[Watch] = set()


class Watches:
    """All watches of a node."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self.clock = clock
        self._all: set[Watch] = set()
        self._watched: dict[str, _Watched] = {}
        self._alarm: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        """How many wait for operations, or follow them."""
        return len(self._all)

    def watch(self, key_id: str) -> Watch:
        """For somebody who came with that key, to be entered."""
        return Watch(self, key_id)

    def enter(self, watch: Watch) -> None:
        self._all.add(watch)

    def leave(self, watch: Watch) -> None:
        self._all.discard(watch)

    def add(self, watch: Watch, id: str) -> None:
        self._watched.setdefault(id, _Watched()).watches.add(watch)
        if self._alarm is not None:
            _resolve(self._alarm)

    def remove(self, watch: Watch, id: str) -> None:
        watched = self._watched[id]
        watched.watches.discard(watch)
        if not watched.watches:
            del self._watched[id]

    def tell(self, kept: Kept) -> None:
        """It stands so, as somebody has just written or read: whoever watches it and does not know is told."""
        watched = self._watched.get(kept.operation.id)
        if watched is not None:
            watched.version = max(watched.version, kept.version)
            for watch in list(watched.watches):
                watch.tell(kept)

    def dismiss(self, key_id: str | None = None) -> None:
        """End the watches of that key; None: all."""
        for watch in list(self._all):
            if key_id is None or watch.key_id == key_id:
                watch.end()

    async def look(self) -> None:
        """Until cancelled: find what other nodes have changed. Alone with its store, a node knows it all."""
        while self._store.nodes is not None:
            self._alarm = asyncio.get_running_loop().create_future()
            if not self._watched:
                await self._alarm
            await self.clock.wait(_LOOK_SECONDS)
            try:
                await self._look()
            except ShuttingDown:
                return
            except StoreError as error:
                _log.warning("operations.store_error", error=str(error))
            except Exception:  # noqa: BLE001 (logged; the next look may succeed)
                _log.exception("operations.failed")

    async def _look(self) -> None:
        for ids in _portions(list(self._watched), _ASKED):
            versions = await self._store.browse(PaperVersions(Kind.OPERATION, ids))
            news = [
                id
                for id, version in versions.items()
                if (watched := self._watched.get(id)) is not None and version > watched.version
            ]
            for some in _portions(news, _READ):
                read = [self._store.browse(PaperOf(Kind.OPERATION, id)) for id in some]
                for paper in await asyncio.gather(*read):
                    if paper is not None:
                        self.tell(kept_of(paper))


def _portions(ids: list[str], size: int) -> Iterable[tuple[str, ...]]:
    for start in range(0, len(ids), size):
        yield tuple(ids[start : start + size])


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
