"""Alerts: raised and cleared once on however many nodes, kept, and written down for those who are to be told.

An open alert is a paper of its queue and rule, put in the place of one version only: of nodes that see the same thing
one succeeds. With it, in one transaction, go the history and a notice for each destination (see ``notices.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from restante.alerting import (
    HISTORY_SECONDS,
    Alert,
    Alerting,
    Clear,
    Limits,
    Message,
    Notice,
    Raise,
    Rule,
    Verdict,
    in_words,
    in_words_cleared,
    judge,
    limits_of,
    words_now,
)
from restante.changes import Change, PutPaper
from restante.engine.ids import new_id
from restante.errors import PaperChanged, ShuttingDown, StoreError
from restante.logs import get_logger
from restante.papers import Kind, Paper
from restante.ports import Clock, Store
from restante.queries import PaperOf, Papers
from restante.watching import RECENT_SECONDS, QueueView

_log = get_logger(__name__)

LOOK_SECONDS: Final = 1.0
"""Between two looks, at least."""
QUEUES: Final = 2_000
"""So many are judged at a look; where there are more, a look goes on where the last one left off."""
RELOAD_SECONDS: Final = 10.0
"""How late a node hears of what others raised and cleared, where it does not run into it."""
_BATCH: Final = 100
_AT_ONCE: Final = 200
"""Queues judged without letting others go on: about a millisecond's worth."""
_PAGE: Final = 1_000
_TRIES: Final = 5
_CLOSED_SECONDS: Final = 86_400
"""How long a cleared alert's paper stays, so that its version goes on rising: who took it for open is refused."""
_NOTICE_SECONDS: Final = 7 * 86_400
"""Notices to a destination that no node has any more are gone after this time."""
_SCANNED: Final = 2_000
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Alert).decode


class Watched(Protocol):
    """What the monitor sees. ``is_complete`` once it has seen all queues and their webhooks."""

    @property
    def is_complete(self) -> bool: ...

    def views(self) -> Collection[QueueView]:
        """All queues."""

    def view(self, queue: str) -> QueueView | None:
        """One queue."""


class Opened(NamedTuple):
    """An open alert and its queue as it stands now; None where that has not been seen yet."""

    alert: Alert
    view: QueueView | None
    words: str

    @property
    def owner(self) -> str:
        return self.alert.owner if self.view is None else self.view.queue.owner


class HistoryPage(NamedTuple):
    """Newest first. ``next`` is the id to go on after; a page may be short, even empty, before the end."""

    alerts: list[Alert]
    next: str | None


class _Kept(NamedTuple):
    version: int
    alert: Alert

    @property
    def is_open(self) -> bool:
        return self.alert.cleared_at_ms is None


class _Found(NamedTuple):
    view: QueueView
    verdict: Verdict


class Alerts:
    """``look`` is called after each look of the monitor; ``listen`` is for who sends what it raises and clears."""

    def __init__(
        self, store: Store, clock: Clock, watched: Watched, alerting: Alerting | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._watched = watched
        self._alerting = alerting or Alerting()
        self._kept: dict[str, dict[Rule, _Kept]] = {}
        self._loaded_at: float | None = None
        self._began = clock.monotonic()
        self._looked_at = self._began - LOOK_SECONDS
        self._next = 0
        self._first_seen: dict[str, float] = {}
        self._listeners: list[Callable[[], None]] = []

    @property
    def limits(self) -> Limits:
        """The server's own, for queues that leave one open."""
        return self._alerting.limits

    @property
    def destinations(self) -> tuple[str, ...]:
        return self._alerting.destinations

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back whenever there is something to be told of."""
        self._listeners.append(callback)

    # -- judging --------------------------------------------------------------------------------

    async def look(self) -> None:
        """Judge queues as they were last seen; not more often than ``LOOK_SECONDS``."""
        now = self._clock.monotonic()
        if now - self._looked_at < LOOK_SECONDS or not self._watched.is_complete:
            return
        self._looked_at = now
        try:
            await self._load()
            await self._heed(await self._judged(now))
        except ShuttingDown:
            return
        except StoreError as error:
            # What was written, if anything was, is read anew.
            self._loaded_at = None
            _log.warning("alerts.store_error", error=str(error))

    async def _judged(self, now: float) -> list[_Found]:
        views = list(self._watched.views())
        begin = self._next if self._next < len(views) else 0
        self._next = begin + QUEUES
        now_ms, found = self._clock.wall_ms(), []
        for count, view in enumerate(views[begin : self._next], 1):
            if not count % _AT_ONCE:
                await asyncio.sleep(0)
            name = view.queue.name
            limits = limits_of(view.queue.settings, self._alerting.limits)
            watched_seconds = 0.0
            if limits.silence_seconds and view.silent_seconds(now_ms) is None:
                watched_seconds = now - self._first_seen.setdefault(name, now)
            else:
                self._first_seen.pop(name, None)
            kept = self._kept.get(name)
            opened = [rule for rule, one in kept.items() if one.is_open] if kept else ()
            found += [
                _Found(view, verdict)
                for verdict in judge(view, limits, now_ms, opened, watched_seconds)
                if not self._is_too_soon(verdict, now)
            ]
        return found

    def _is_too_soon(self, verdict: Verdict, now: float) -> bool:
        """Nothing has failed because nothing was counted yet: a node that was just started has seen no attempts."""
        return (
            isinstance(verdict, Clear)
            and verdict.rule is Rule.ERROR_RATE
            and verdict.value is None
            and bool(verdict.limit)
            and now - self._began < RECENT_SECONDS
        )

    async def _heed(self, found: list[_Found]) -> None:
        tries = _TRIES
        try:
            while found and tries:
                try:
                    # A page may have had what other nodes did read meanwhile.
                    if batch := [one for one in found[:_BATCH] if self._applies(one)]:
                        await self._write(batch)
                    found = found[_BATCH:]
                except PaperChanged:
                    # Another node was faster with one of them: what it has not done is left.
                    tries -= 1
                    self._loaded_at = None
                    await self._load()
                    found = [one for one in found if self._applies(one)]
        finally:
            for callback in self._listeners:
                callback()

    def _applies(self, found: _Found) -> bool:
        kept = self._kept.get(found.view.queue.name, {}).get(found.verdict.rule)
        return (kept is not None and kept.is_open) is isinstance(found.verdict, Clear)

    async def _write(self, batch: Sequence[_Found]) -> None:
        changes: list[Change] = []
        written: list[_Kept] = []
        for view, verdict in batch:
            before = self._kept.get(view.queue.name, {}).get(verdict.rule)
            version = 1 if before is None else before.version + 1
            event: Literal["raised", "cleared"]
            if isinstance(verdict, Raise):
                event, alert = "raised", self._raised(view, verdict)
            elif before is not None:
                event, alert = "cleared", self._cleared(view, verdict, before.alert)
            else:
                continue
            written.append(_Kept(version, alert))
            changes += self._changes(event, written[-1])
        await asyncio.shield(self._store.configure(changes))
        for one in written:
            self._keep(one)
            alert = one.alert
            if one.is_open:
                _log.warning("alert.raised", queue=alert.queue, rule=alert.rule, words=alert.words)
            else:
                words = alert.cleared_words
                _log.info("alert.cleared", queue=alert.queue, rule=alert.rule, words=words)

    def _raised(self, view: QueueView, verdict: Raise) -> Alert:
        now_ms = self._clock.wall_ms()
        return Alert(
            id=new_id(now_ms),
            queue=view.queue.name,
            owner=view.queue.owner,
            rule=verdict.rule,
            value=verdict.value,
            limit=verdict.limit,
            words=in_words(verdict, view, now_ms),
            raised_at_ms=now_ms,
        )

    def _cleared(self, view: QueueView, verdict: Clear, alert: Alert) -> Alert:
        now_ms = self._clock.wall_ms()
        words = in_words_cleared(verdict, alert, view, now_ms)
        return msgspec.structs.replace(alert, cleared_at_ms=now_ms, cleared_words=words)

    def _changes(self, event: Literal["raised", "cleared"], kept: _Kept) -> list[Change]:
        now_ms = self._clock.wall_ms()
        notice = _encode(Notice(event=event, at_ms=now_ms, alert=kept.alert))
        return [
            *_alert_papers(kept, now_ms),
            *(
                PutPaper(
                    Paper(
                        kind=Kind.ALERT_NOTICE,
                        key=f"{destination}/{new_id(now_ms)}",
                        content=notice,
                        expires_at_ms=now_ms + _NOTICE_SECONDS * 1_000,
                    )
                )
                for destination in self.destinations
            ),
        ]

    # -- what is known --------------------------------------------------------------------------

    async def opened(self) -> list[Opened]:
        """What needs somebody now, by queue and rule; those that this node has yet to hear of are missing."""
        await self._load()
        now_ms = self._clock.wall_ms()
        found = []
        for queue in sorted(self._kept):
            view = self._watched.view(queue)
            for rule in sorted(self._kept[queue]):
                kept = self._kept[queue][rule]
                if kept.is_open:
                    alert = kept.alert
                    words = alert.words if view is None else words_now(alert, view, now_ms)
                    found.append(Opened(alert, view, words))
        return found

    def open_in(self, queue: str) -> list[Alert]:
        """The open alerts of a queue, by rule, as far as this node has heard of them."""
        kept = self._kept.get(queue, {})
        return [kept[rule].alert for rule in sorted(kept) if kept[rule].is_open]

    def number_open(self) -> int:
        """How many are open, as far as this node has heard."""
        return sum(one.is_open for kept in self._kept.values() for one in kept.values())

    async def history(
        self, *, queue: str | None = None, owner: str | None = None, after: str = "", limit: int
    ) -> HistoryPage:
        """What was raised in one queue or all, for one owner or all, the newest first, older than ``after``."""
        found: list[Alert] = []
        papers = await self._store.browse(
            Papers(Kind.ALERT_HISTORY, before=after, limit=_SCANNED, newest_first=True)
        )
        for paper in papers:
            alert = _decode(paper.content)
            if queue in (None, alert.queue) and owner in (None, alert.owner):
                found.append(alert)
                if len(found) == limit:
                    return HistoryPage(found, alert.id)
        return HistoryPage(found, papers[-1].key if len(papers) == _SCANNED else None)

    async def unsent(self, message: Message, destination: str) -> None:
        """Nobody could be told at that destination of what the message shows: its alerts say so from now on."""
        for notice in message.notices:
            for _ in range(_TRIES):
                try:
                    await self._mark_unsent(notice.alert, destination)
                    break
                except PaperChanged:
                    continue

    async def _mark_unsent(self, alert: Alert, destination: str) -> None:
        paper = await self._store.browse(PaperOf(Kind.ALERT, _key(alert)))
        if paper is not None and (now := _decode(paper.content)).id == alert.id:
            marked = msgspec.structs.replace(now, unsent=_with(now.unsent, destination))
            kept = _Kept(paper.version + 1, marked)
            changes = _alert_papers(kept, self._clock.wall_ms())
            await asyncio.shield(self._store.configure(changes))
            self._keep(kept)
            return
        paper = await self._store.browse(PaperOf(Kind.ALERT_HISTORY, alert.id))
        if paper is not None:
            told = _decode(paper.content)
            marked = msgspec.structs.replace(told, unsent=_with(told.unsent, destination))
            changed = msgspec.structs.replace(
                paper, content=_encode(marked), version=paper.version + 1
            )
            await asyncio.shield(self._store.configure([PutPaper(changed)]))

    async def _load(self) -> None:
        """Read what all nodes have raised and cleared, where this one may not know."""
        now = self._clock.monotonic()
        if self._loaded_at is not None and (
            self._store.nodes is None or now - self._loaded_at < RELOAD_SECONDS
        ):
            return
        kept: dict[str, dict[Rule, _Kept]] = {}
        after = ""
        while page := await self._store.browse(Papers(Kind.ALERT, after, limit=_PAGE)):
            for paper in page:
                alert = _decode(paper.content)
                kept.setdefault(alert.queue, {})[alert.rule] = _Kept(paper.version, alert)
            after = page[-1].key
        self._kept, self._loaded_at = kept, now

    def _keep(self, kept: _Kept) -> None:
        self._kept.setdefault(kept.alert.queue, {})[kept.alert.rule] = kept


def _alert_papers(kept: _Kept, now_ms: int) -> list[Change]:
    """The alert where it stands, and in the history, which is kept for its time from now on."""
    content = _encode(kept.alert)
    return [
        PutPaper(
            Paper(
                kind=Kind.ALERT,
                key=_key(kept.alert),
                content=content,
                version=kept.version,
                expires_at_ms=None if kept.is_open else now_ms + _CLOSED_SECONDS * 1_000,
            )
        ),
        PutPaper(
            Paper(
                kind=Kind.ALERT_HISTORY,
                key=kept.alert.id,
                content=content,
                expires_at_ms=now_ms + HISTORY_SECONDS * 1_000,
            )
        ),
    ]


def _key(alert: Alert) -> str:
    return f"{alert.queue}/{alert.rule.value}"


def _with(destinations: tuple[str, ...], destination: str) -> tuple[str, ...]:
    return tuple(sorted({*destinations, destination}))
