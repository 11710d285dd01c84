"""Telling people: what is to be told of at one destination, made into messages and sent, by one node at a time.

Notices wait as papers. Whoever sends makes a message of all that wait, in the transaction that takes them away and
claims the destination; the message is the same, with its id, however often it has to be sent. A claim that its node
does not live to end runs out, and another node goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from restante.alerting import GIVE_UP_SECONDS, Message, Notice, bundle
from restante.changes import Change, DropPaper, PutPaper
from restante.engine.alerts import Alerts
from restante.engine.ids import new_id
from restante.engine.sending import (
    CLAIM_SECONDS,
    CLOCKS_APART_MS,
    LOOK_SECONDS,
    ahead_ms,
    deliver,
    retry_seconds,
)
from restante.logs import get_logger
from restante.papers import Kind, Paper
from restante.ports import AlertSender, Clock, Store
from restante.queries import PaperOf, Papers

_log = get_logger(__name__)

SEND_SECONDS: Final = 45
RETRY_SECONDS_MAXIMUM: Final = 900
MESSAGES: Final = 10
"""So many messages go to a destination within a minute, and one with more notices than that makes up a minute."""
QUIET_SECONDS: Final = 60
BUNDLED: Final = 5_000
"""So many notices are made into one message, at most."""


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """Where a destination stands: who sends to it until when, and what, if anything was begun.

    ``sent_ms`` are the times of the last messages, ``not_before_ms`` that of the next attempt or message.
    """

    node: str = ""
    until_ms: int = 0
    message: Message | None = None
    tries: int = 0
    not_before_ms: int = 0
    sent_ms: tuple[int, ...] = ()


_encode = msgspec.json.Encoder().encode
_decode_notice = msgspec.json.Decoder(Notice).decode
_decode_sending = msgspec.json.Decoder(Sending).decode


class NoticePost:
    """One endless job, ``deliver``, for one destination. ``node`` names this process among all."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        alerts: Alerts,
        destination: str,
        sender: AlertSender,
        node: str,
    ) -> None:
        self._store = store
        self._clock = clock
        self._alerts = alerts
        self._destination = destination
        self._sender = sender
        self._node = node
        self._told = asyncio.Event()
        alerts.listen(self._told.set)

    async def deliver(self) -> None:
        """Until cancelled: send what is due, then wait until something is, or may be."""
        await deliver("notices", self._destination, self._clock, self._told, self._send_due)

    async def _send_due(self) -> float:
        """Send what may be sent now; seconds until there may be more."""
        while True:
            paper = await self._store.browse(PaperOf(Kind.ALERT_SENDING, self._destination))
            version = 0 if paper is None else paper.version
            sending = Sending() if paper is None else _decode_sending(paper.content)
            now_ms = self._clock.wall_ms()
            # What is further off than it can have been put was put by a clock that has been set back since.
            claimed_ms = ahead_ms(sending.until_ms, now_ms, CLAIM_SECONDS)
            # A store that one process owns has no other nodes: the claim is of one that has ended.
            if claimed_ms > 0 and sending.node != self._node and self._store.nodes is not None:
                return min(LOOK_SECONDS, claimed_ms / 1_000)
            waiting: Sequence[Paper] = ()
            if sending.message is None:
                waiting = await self._waiting()
                if not waiting:
                    return LOOK_SECONDS
            pause_ms = ahead_ms(sending.not_before_ms, now_ms, RETRY_SECONDS_MAXIMUM)
            if pause_ms > 0:
                return min(LOOK_SECONDS, pause_ms / 1_000)
            message = sending.message or bundle(
                new_id(now_ms), now_ms, [_decode_notice(one.content) for one in waiting]
            )
            claim = msgspec.structs.replace(
                sending,
                node=self._node,
                until_ms=now_ms + CLAIM_SECONDS * 1_000,
                message=message,
                tries=sending.tries + 1,
            )
            taken = [DropPaper(Kind.ALERT_NOTICE, one.key) for one in waiting]
            await self._put(version + 1, claim, *taken)
            why = await self._send(message)
            await self._put(version + 2, await self._after(claim, message, why))

    async def _waiting(self) -> list[Paper]:
        # "0" is the character after "/".
        begin, end = f"{self._destination}/", f"{self._destination}0"
        return await self._store.browse(Papers(Kind.ALERT_NOTICE, begin, end, BUNDLED))

    async def _put(self, version: int, sending: Sending, *changes: Change) -> None:
        paper = Paper(
            kind=Kind.ALERT_SENDING,
            key=self._destination,
            content=_encode(sending),
            version=version,
        )
        await asyncio.shield(self._store.configure([PutPaper(paper), *changes]))

    async def _send(self, message: Message) -> str | None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                return await self._sender.send(message)
        except TimeoutError:
            return f"not done within {SEND_SECONDS} s"
        except Exception as error:  # noqa: BLE001 (logged; a defect of one way must not silence it)
            _log.exception("notices.sender_failed", to=self._destination)
            return type(error).__name__

    async def _after(self, claim: Sending, message: Message, why: str | None) -> Sending:
        """Where the destination stands after an attempt: free again, for whoever is next."""
        now_ms = self._clock.wall_ms()
        count = message.raised + message.cleared
        if why is None:
            _log.info("notices.sent", to=self._destination, message=message.id, alerts=count)
        elif now_ms - message.made_at_ms < GIVE_UP_SECONDS * 1_000:
            seconds = retry_seconds(claim.tries, RETRY_SECONDS_MAXIMUM)
            _log.warning(
                "notices.not_sent", to=self._destination, reason=why, again_in_seconds=seconds
            )
            return msgspec.structs.replace(
                claim, until_ms=0, not_before_ms=now_ms + seconds * 1_000
            )
        else:
            _log.warning("notices.given_up", to=self._destination, reason=why, alerts=count)
            await self._alerts.unsent(message, self._destination)
        return after_message(claim, count, now_ms)


def after_message(claim: Sending, notices: int, now_ms: int) -> Sending:
    """Where a destination stands after a message of so many notices: in a storm, quiet for a minute."""
    lately = [at for at in claim.sent_ms if -CLOCKS_APART_MS <= now_ms - at < QUIET_SECONDS * 1_000]
    sent_ms = (*lately, now_ms)
    quiet = notices > MESSAGES or len(sent_ms) >= MESSAGES
    return Sending(sent_ms=sent_ms, not_before_ms=now_ms + QUIET_SECONDS * 1_000 if quiet else 0)
