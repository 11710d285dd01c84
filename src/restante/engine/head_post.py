"""Sending heads of the log to one place: the newest only, until it was taken, and never in the way of sealing.

What was taken last is kept in the store: so a head that a crash left unsent is sent by the next start, or by another
node. Whoever sends claims the destination; a claim that its node does not live to end runs out. A head is known to
have been sent only once that is written down, so one may be sent twice: its second copy says nothing else.

Whoever can write into the database sends nothing by it, and keeps nothing back: what is sent was signed, and is the
newest that was kept; and what was taken holds back that head alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from restante.changes import DropPaper, PutPaper
from restante.engine.log_reader import LogReader
from restante.engine.sending import (
    CLAIM_SECONDS,
    LOOK_SECONDS,
    ahead_ms,
    deliver,
    retry_seconds,
)
from restante.logs import get_logger
from restante.papers import Kind, Paper
from restante.ports import Clock, Store
from restante.queries import PaperOf

_log = get_logger(__name__)

SEND_SECONDS: Final = 30.0
RETRY_SECONDS_MAXIMUM: Final = 300
VERSIONS: Final = 2**62
"""Of a paper, at most: one with a later was never put by counting."""
Tell = Callable[[str], Awaitable[None]]
"""Sends a signed head off this machine. Whatever it raises: it was not taken."""
Holds = Callable[[str], Awaitable[bool]]
"""Whether a destination has a head. Whatever it raises: it has not."""


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """Where a destination stands: the head that it took last, and which node sends to it until when.

    ``tries`` have failed since, and ``not_before_ms`` is the time of the next (wall clock).
    """

    sent: str = ""
    node: str = ""
    until_ms: int = 0
    tries: int = 0
    not_before_ms: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Sending).decode


class HeadPost:
    """One endless job, ``deliver``, for one destination, whose name (ASCII) is the same on all nodes and at each start.

    In the log of the server it is called as it is ``shown``, without secrets. ``node`` names this process among all. A
    destination that can be asked what it ``holds`` is asked at every look, whatever is written down: each node may have
    its own there, or somebody may have taken away what it had.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        log: LogReader,
        node: str,
        destination: str,
        shown: str,
        tell: Tell,
        holds: Holds | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._node = node
        self._destination = destination
        self._shown = shown
        self._tell = tell
        self._holds = holds
        self._told = asyncio.Event()

    def hurry(self) -> None:
        """Look at once: a head was kept."""
        self._told.set()

    async def deliver(self) -> None:
        """Until cancelled: send the newest head where it was not taken yet, then wait until there may be another."""
        await deliver("heads", self._destination, self._clock, self._told, self._send_due)

    async def _send_due(self) -> float:
        """Send what may be sent now; seconds until there may be more."""
        taken: str | None = None
        while True:
            version, sending = await self._where()
            head = await self._log.newest_kept()
            # What was taken in this look is not asked for: a place that shows nothing would be sent it without an end.
            if head is None or head == taken or (self._holds is None and head == sending.sent):
                return LOOK_SECONDS
            now_ms = self._clock.wall_ms()
            if sending.node != self._node:
                if self._store.nodes is None:
                    # A store that one process owns has no other nodes: this is of one that has ended.
                    sending = Sending(sent=sending.sent)
                elif (claimed_ms := ahead_ms(sending.until_ms, now_ms, CLAIM_SECONDS)) > 0:
                    return min(LOOK_SECONDS, claimed_ms / 1_000)
            pause_ms = ahead_ms(sending.not_before_ms, now_ms, RETRY_SECONDS_MAXIMUM)
            if pause_ms > 0:
                return min(LOOK_SECONDS, pause_ms / 1_000)
            if await self._has(head):
                return LOOK_SECONDS
            claim = msgspec.structs.replace(
                sending,
                node=self._node,
                until_ms=now_ms + CLAIM_SECONDS * 1_000,
                tries=sending.tries + 1,
            )
            await self._put(version + 1, claim)
            why = await self._send(head)
            taken = head if why is None else None
            await self._put(version + 2, self._after(claim, head, why))

    async def _where(self) -> tuple[int, Sending]:
        """Where the destination stands, and the version of the paper that says so."""
        paper = await self._store.browse(PaperOf(Kind.LOG_SENDING, self._destination))
        if paper is None:
            return 0, Sending()
        with contextlib.suppress(msgspec.DecodeError, ValueError):
            if 0 < paper.version < VERSIONS:
                return paper.version, _decode(paper.content)
        # A head that is sent once more does no harm; one that is never sent does.
        _log.warning("log.sending_damaged", to=self._destination)
        drop = DropPaper(Kind.LOG_SENDING, self._destination)
        await asyncio.shield(self._store.configure([drop]))
        return 0, Sending()

    async def _has(self, head: str) -> bool:
        if self._holds is None:
            return False
        try:
            async with asyncio.timeout(SEND_SECONDS):
                return await self._holds(head)
        except Exception:  # noqa: BLE001 (then it cannot take it either, and says why)
            return False

    async def _put(self, version: int, sending: Sending) -> None:
        paper = Paper(
            kind=Kind.LOG_SENDING,
            key=self._destination,
            content=_encode(sending),
            version=version,
        )
        await asyncio.shield(self._store.configure([PutPaper(paper)]))

    async def _send(self, head: str) -> str | None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._tell(head)
        except Exception as error:  # noqa: BLE001 (whatever it is: logged, and tried again)
            return str(error) or type(error).__name__
        return None

    def _after(self, claim: Sending, head: str, why: str | None) -> Sending:
        """Where the destination stands after a try: free again, for whoever is next."""
        if why is None:
            return Sending(sent=head, node=self._node)
        seconds = retry_seconds(claim.tries, RETRY_SECONDS_MAXIMUM)
        _log.warning("log.head_not_sent", to=self._shown, error=why, again_in_seconds=seconds)
        not_before_ms = self._clock.wall_ms() + seconds * 1_000
        return msgspec.structs.replace(claim, until_ms=0, not_before_ms=not_before_ms)
