"""Taking in what publishers wrote into the outbox, each in a transaction of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from restante.admission import check_body
from restante.engine.directory import Directory
from restante.errors import QueueNotFound, RestanteError, ShuttingDown, StoreError
from restante.logs import get_logger
from restante.model import Draft
from restante.ports import Clock, Outbox
from restante.routing import Router
from restante.written import Moved, Written, check_written, draft_of

_log = get_logger(__name__)

MOVE_ROWS: Final = 500
LOOK_SECONDS: Final = 0.2
"""How long a row waits that nobody told of, at most: a look at an empty outbox costs little, a notification much."""


class Intake:
    """One endless job, ``take_in``. ``wake`` is told who became ready, ``arm`` of what falls due."""

    def __init__(
        self,
        outbox: Outbox,
        directory: Directory,
        clock: Clock,
        wake: Callable[[dict[str, int]], None],
        arm: Callable[[float], None],
    ) -> None:
        self._outbox = outbox
        self._directory = directory
        self._clock = clock
        self._wake = wake
        self._arm = arm
        self._written = asyncio.Event()
        # Told of once: it looks several times a second.
        self._failing = False

    async def take_in(self) -> None:
        """Until cancelled: move what waits, then wait to be told of more, at most ``LOOK_SECONDS``."""
        async with self._outbox.listening(self._written.set):
            while True:
                # Cleared before the look: what is written after it is heard.
                self._written.clear()
                try:
                    while await self._move():
                        pass
                except ShuttingDown:
                    return
                except StoreError as error:
                    if not self._failing:
                        self._failing = True
                        _log.warning("intake.store_error", error=str(error))
                except Exception:  # noqa: BLE001 (logged; one defect must not hold up all that is written after it)
                    _log.exception("intake.failed")
                else:
                    if self._failing:
                        self._failing = False
                        _log.info("intake.goes_on")
                await self._told()

    async def _move(self) -> bool:
        """Move some; whether another look may find something at once."""
        desk = _Desk(self._directory, await self._directory.router())
        while True:
            future = self._outbox.move(MOVE_ROWS, desk.drafts)
            future.add_done_callback(lambda done: self._moved(desk, done))
            # Whoever closes the broker does not undo it: what is being moved is moved, and its consumers are woken.
            moved = await asyncio.shield(future)
            if not desk.unknown:
                return moved.more
            await desk.learn()

    def _moved(self, desk: _Desk, done: asyncio.Future[Moved]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        moved = done.result()
        if moved.ready:
            self._wake(moved.ready)
        for due in desk.due:
            self._arm(due)
        for refused in moved.refused:
            written, error = refused.written, refused.error
            target = {"queue": written.queue} if written.queue else {"topic": written.topic}
            _log.warning("outbox.refused", id=written.id, **target, reason=error.detail)

    async def _told(self) -> None:
        cancel = self._clock.call_later(LOOK_SECONDS, self._written.set)
        try:
            await self._written.wait()
        finally:
            cancel()


class _Desk:
    """Decides what becomes of the rows, without waiting: queues that it would have to ask for are ``unknown``."""

    def __init__(self, directory: Directory, router: Router) -> None:
        self.unknown: set[str] = set()
        self.due: list[float] = []
        self._directory = directory
        self._router = router
        self._absent: set[str] = set()

    def drafts(self, rows: Sequence[Written]) -> list[Draft | RestanteError]:
        """A draft or an error for each row, up to the first whose queues are not all known."""
        self.unknown, self.due = set(), []
        drafts: list[Draft | RestanteError] = []
        for written in rows:
            try:
                draft: Draft | RestanteError = self._draft(written)
            except RestanteError as error:
                draft = error
            if not self.unknown:
                drafts.append(draft)
        return drafts

    def _draft(self, written: Written) -> Draft:
        publication = check_written(written)
        queues: tuple[str, ...] = (written.queue,)
        if publication.topic:
            queues = self._router.queues(publication.topic, publication.attributes)
        for name in queues:
            if name in self._absent:
                raise QueueNotFound(f"there is no queue {name} here")
            queue = self._directory.known_queue(name)
            if queue is None:
                self.unknown.add(name)
            else:
                check_body(len(publication.body), name, queue.settings)
        for due in (publication.deliver_after_seconds, publication.expires_after_seconds):
            if due:
                self.due.append(due)
        return draft_of(written, publication, queues)

    async def learn(self) -> None:
        """Ask for the queues that were not known."""
        for name in self.unknown:
            try:
                await self._directory.queue(name)
            except QueueNotFound:
                self._absent.add(name)
