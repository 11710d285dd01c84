"""Acts: what operators did, and clients to their own webhooks, kept as papers for those who have to answer for it.

An act stands in the store if and only if its change does, where the two can be one transaction: ``paper`` goes into
the same ``configure``. What passes no ``configure`` is recorded before it is done (``record``): a record of something
that then failed can be held against the ledger, which tells of each delivery, but what was done without a record is
seen by nobody.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from restante.changes import PutPaper
from restante.engine.ids import random_bits
from restante.ids import CHANCE_BITS, uuid7
from restante.model import Actor
from restante.papers import Kind, Paper
from restante.ports import Clock, Store
from restante.queries import Papers

ACT_RETENTION_SECONDS: Final = 365 * 86_400
DETAILS: Final = 40
DETAIL_CHARACTERS: Final = 300
SCANNED: Final = 10_000
"""A page looks at so many acts at most."""
_LOOK: Final = 500
_encode = msgspec.json.Encoder().encode


class What(enum.StrEnum):
    """What was done."""

    CLIENT_ADDED = "client.added"
    CLIENT_LINK_MADE = "client.link_made"
    CLIENT_SIGNED_IN = "client.signed_in"
    QUEUE_ADDED = "queue.added"
    QUEUE_CHANGED = "queue.changed"
    KEY_MINTED = "key.minted"
    KEY_REVOKED = "key.revoked"
    SIGNING_KEY_ADDED = "signing_key.added"
    SIGNING_KEY_REVOKED = "signing_key.revoked"
    SUBSCRIPTION_ADDED = "subscription.added"
    SUBSCRIPTION_DROPPED = "subscription.dropped"
    WEBHOOK_ADDED = "webhook.added"
    WEBHOOK_CHANGED = "webhook.changed"
    WEBHOOK_DROPPED = "webhook.dropped"
    WEBHOOK_ENABLED = "webhook.enabled"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_PINGED = "webhook.pinged"
    WEBHOOK_SECRET_ADDED = "webhook.secret_added"  # noqa: S105  # what was done, no secret
    WEBHOOK_SECRET_DROPPED = "webhook.secret_dropped"  # noqa: S105
    DEAD_REDRIVEN = "dead.redriven"
    DEAD_DISCARDED = "dead.discarded"
    DEAD_REPLACED = "dead.replaced"
    ORDERING_KEY_OPENED = "ordering_key.opened"
    BODY_VIEWED = "body.viewed"
    RESULT_VIEWED = "result.viewed"
    TEST_PUBLISHED = "test.published"
    JOB_ASKED = "job.asked"
    JOB_PAUSED = "job.paused"
    JOB_RESUMED = "job.resumed"
    JOB_CANCELLED = "job.cancelled"
    OPERATOR_ADDED = "operator.added"
    OPERATOR_CHANGED = "operator.changed"
    OPERATOR_SIGNED_IN = "operator.signed_in"


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """``subject`` is what it was done to, beside the queue: the id of a key, a notification, a job.

    Neither it nor the ``details`` ever hold a secret or a body. A setting that was changed reads ``old -> new``.
    """

    id: str
    at_ms: int
    who: Actor
    what: What
    queue: str = ""
    subject: str = ""
    details: dict[str, str] = {}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which acts are asked for: those that match every condition given.

    ``what`` is a whole name, or what stands before its dot (``webhook``).
    """

    who: str | None = None
    what: str | None = None
    queue: str | None = None
    subject: str | None = None

    def matches(self, act: Act) -> bool:
        """Whether the act is one of them."""
        return (
            self.who in (None, act.who.name)
            and self.what in (None, act.what.value, act.what.value.partition(".")[0])
            and self.queue in (None, act.queue)
            and self.subject in (None, act.subject)
        )


class ActPage(msgspec.Struct, frozen=True):
    """``next`` is the id to go on after; None at the end. A page may be short, even empty, before the end."""

    acts: list[Act]
    next: str | None


class Acts:
    """The record of one store. Acts of this node have rising ids, also within a millisecond (RFC 9562, 6.2)."""

    def __init__(self, store: Store, clock: Clock, retention_seconds: int) -> None:
        self._store = store
        self._clock = clock
        self._retention_ms = retention_seconds * 1_000
        self._last = (0, 0)

    def paper(
        self,
        who: Actor,
        what: What,
        *,
        queue: str = "",
        subject: str = "",
        details: Mapping[str, object] | None = None,
    ) -> PutPaper:
        """What writes the act down, for the ``configure`` that makes the change itself. Details are cut to measure."""
        now = self._clock.wall_ms()
        act = Act(
            id=self._next_id(now),
            at_ms=now,
            who=who,
            what=what,
            queue=queue,
            subject=subject[:DETAIL_CHARACTERS],
            details={
                name: _cut(str(value)) for name, value in list((details or {}).items())[:DETAILS]
            },
        )
        return PutPaper(
            Paper(
                kind=Kind.ACT,
                key=act.id,
                content=_encode(act),
                version=1,
                expires_at_ms=now + self._retention_ms,
            )
        )

    async def record(
        self,
        who: Actor,
        what: What,
        *,
        queue: str = "",
        subject: str = "",
        details: Mapping[str, object] | None = None,
    ) -> None:
        """Write the act down by itself: before it is done, as what it is about passes no ``configure``."""
        paper = self.paper(who, what, queue=queue, subject=subject, details=details)
        await self._store.configure([paper])

    async def page(self, wanted: Wanted, after: str = "", limit: int = 100) -> ActPage:
        """Acts, the newest first, from those older than ``after`` (empty: from the newest)."""
        found: list[Act] = []
        seen = after
        for _ in range(SCANNED // _LOOK):
            papers = await self._store.browse(
                Papers(Kind.ACT, before=seen, limit=_LOOK, newest_first=True)
            )
            for paper in papers:
                act = decode(paper.content)
                seen = paper.key
                if wanted.matches(act):
                    found.append(act)
                    if len(found) == limit:
                        return ActPage(found, seen)
            if len(papers) < _LOOK:
                return ActPage(found, None)
        return ActPage(found, seen)

    def _next_id(self, now_ms: int) -> str:
        at, chance = self._last
        if now_ms > at:
            # Without the topmost bit, so that there is room to count on from it.
            at, chance = now_ms, random_bits(CHANCE_BITS - 1)
        else:
            chance += 1
        self._last = (at, chance)
        return uuid7(at, chance)


decode = msgspec.json.Decoder(Act).decode


def difference(before: object, after: object) -> dict[str, str]:
    """What differs between two structs of one type, each field as ``old -> new``."""
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
    return {
        name: f"{_shown(old[name])} -> {_shown(new[name])}"
        for name in new
        if new[name] != old[name]
    }


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= DETAIL_CHARACTERS else f"{text[: DETAIL_CHARACTERS - 1]}…"
