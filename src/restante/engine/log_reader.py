"""What is kept of the log of receipts beside its hashes: how far it has come, its keys, and its heads.

Whoever can write into the database can put a paper there that is none of the log's: it hides none of the others, and
what is handed on as the newest head was signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import msgspec

from restante.errors import LogDamaged, LogEmpty
from restante.logs import get_logger
from restante.papers import Kind, Paper
from restante.ports import Clock, Store
from restante.queries import CountPapers, PaperOf, Papers
from restante.receipt_log import (
    STATE_KEY,
    LogKey,
    LogState,
    decode_key,
    decode_state,
    head_key,
    head_size,
)
from restante.wire.checkpoints import NO_KEYS, LogKeys, NotSigned, of_note

_log = get_logger(__name__)

TOLD_SECONDS: Final = 60.0
"""How often it is logged, at most, that something fails for one reason, or is damaged."""
_DAMAGED: Final = "log.head_damaged"
T = TypeVar("T")


class LogReader:
    """``keys`` are those whose signatures are believed, for ``newest_kept``."""

    def __init__(self, store: Store, clock: Clock, keys: LogKeys = NO_KEYS) -> None:
        self._store = store
        self._clock = clock
        self._keys = keys
        self._told_at: dict[str, float] = {}
        """When it was logged that something failed, by why."""

    async def state(self) -> LogState:
        """How far the log has come. ``LogEmpty`` before anything was sealed."""
        paper = await self._store.browse(PaperOf(Kind.LOG, STATE_KEY))
        if paper is None:
            raise LogEmpty("nothing is in the log of receipts yet")
        return decoded(decode_state, paper)

    async def keys(self) -> list[LogKey]:
        """Every key that heads were ever signed with, in no order. ``LogDamaged`` where one cannot be read."""
        keys, damage = await self.readable_keys()
        if damage is not None:
            raise damage
        return keys

    async def readable_keys(self) -> tuple[list[LogKey], LogDamaged | None]:
        """Those that can be read, and what is wrong with one that cannot."""
        keys: list[LogKey] = []
        damage: LogDamaged | None = None
        for paper in await self._store.browse(Papers(Kind.LOG_KEY, limit=1_000)):
            try:
                keys.append(decoded(decode_key, paper))
            except LogDamaged as error:
                damage = error
        return keys, damage

    async def heads(self, after: int | None, limit: int) -> list[tuple[int, str]]:
        """Heads that are kept, of logs larger than ``after`` (None: all), rising, each behind the log's size.

        What stands in one is not looked into. One that is not kept by a size is passed over, and logged.
        """
        heads: list[tuple[int, str]] = []
        key = "" if after is None else head_key(after)
        while len(heads) < limit:
            papers = await self._store.browse(Papers(Kind.LOG_HEAD, key, limit=limit))
            heads += self._sized(papers)
            if len(papers) < limit:
                break
            key = papers[-1].key
        return heads[:limit]

    async def newest_heads(self, before: int | None, limit: int) -> list[tuple[int, str]]:
        """As ``heads``, of logs smaller than ``before`` (None: all), the newest first."""
        heads: list[tuple[int, str]] = []
        key = "" if before is None else head_key(before)
        while len(heads) < limit:
            asked = Papers(Kind.LOG_HEAD, before=key, limit=limit, newest_first=True)
            papers = await self._store.browse(asked)
            heads += self._sized(papers)
            if len(papers) < limit:
                break
            key = papers[-1].key
        return heads[:limit]

    def _sized(self, papers: Iterable[Paper]) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        for paper in papers:
            size = head_size(paper.key)
            if size is None:
                self._tell_damage(f"paper {paper.kind}/{paper.key} is not of a size")
            else:
                found.append((size, paper.content.decode(errors="replace")))
        return found

    async def count_heads(self, most: int) -> int:
        """How many heads are kept: of more than ``most``, that many."""
        return await self._store.browse(CountPapers(Kind.LOG_HEAD, "", "~", most))

    async def newest_kept(self) -> str | None:
        """The newest head that was kept, which a trusted key has signed.

        None where none was kept yet, and where what is there in its place is not that head, which is logged.
        """
        try:
            state = await self.state()
            if state.kept_size < 0:
                return None
            return await self._signed_head(state)
        except LogEmpty:
            return None
        except LogDamaged as error:
            self._tell_damage(error.detail)
            return None

    async def _signed_head(self, state: LogState) -> str:
        key = head_key(state.kept_size)
        paper = await self._store.browse(PaperOf(Kind.LOG_HEAD, key))
        if paper is None:
            raise LogDamaged(f"the head of {state.kept_size} receipts, which was kept, is gone")
        note = paper.content.decode(errors="replace")
        try:
            size = of_note(note, state.origin, self._keys.trusted).size
        except NotSigned as error:
            raise LogDamaged(
                f"paper {paper.kind}/{key} is no head that was signed: {error}"
            ) from error
        if size != state.kept_size:
            raise LogDamaged(f"paper {paper.kind}/{key} is the head of {size} receipts")
        return note

    def _tell_damage(self, what: str) -> None:
        if self._is_to_be_told(_DAMAGED):
            _log.error(_DAMAGED, error=what)

    def _is_to_be_told(self, why: str) -> bool:
        """Whether that is to be logged: what is wrong is found at every look."""
        now = self._clock.monotonic()
        told_at = self._told_at.get(why)
        if told_at is not None and now - told_at < TOLD_SECONDS:
            return False
        self._told_at[why] = now
        return True


def decoded(decode: Callable[[bytes], T], paper: Paper) -> T:
    """What the paper says. ``LogDamaged``."""
    try:
        return decode(paper.content)
    except (msgspec.DecodeError, ValueError) as error:
        raise LogDamaged(f"paper {paper.kind}/{paper.key} is not what was written") from error
