"""Operations: kept as papers, moved on by their makers, and their ends told to queues, each exactly once.

What is to be seen to and when stands in papers of its own (``OPERATION_DUE``), written together with the operation:
while it is open, the moment by which it has to end; once it has ended, that its queue is to be told; after that, when
it is to be forgotten. Whichever node comes first does it. The queue is told under an idempotency key of the operation
and of when it was made, and what says that it is to be told goes only after that: a crash in between has it told again,
and the store knows it for the same. All these moments are on the store's timeline: no wall clock that is set wrong ends
an operation, or has it forgotten.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from restante import auth
from restante.admission import check_text
from restante.changes import Change, DropPaper, PutPaper
from restante.engine.ids import new_id
from restante.engine.operation_watches import Kept, Watch, Watches, kept_of
from restante.engine.session import Hangup
from restante.errors import (
    BodyTooLarge,
    ClientNotFound,
    IdempotencyKeyReused,
    OperationChanged,
    OperationNotFound,
    PaperChanged,
    RestanteError,
    ShuttingDown,
    StoreError,
    TooManyOperations,
)
from restante.logs import get_logger
from restante.model import (
    WAIT_SECONDS_MAXIMUM,
    Actor,
    Publication,
    Role,
    check_bounds,
    check_name,
)
from restante.operation import Asked, Move, Operation, moved, timed_out
from restante.papers import Kind, Paper
from restante.queries import ClientByName, Now, PaperOf, Papers
from restante.wire.operation_messages import told

if TYPE_CHECKING:
    from restante.engine.broker import Broker

_log = get_logger(__name__)

OPEN_OPERATIONS: Final = 10_000
"""So many of one principal may be open at once; what other nodes make meanwhile is counted some seconds later."""
_COUNT_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 2.0
_AT_ONCE: Final = 100
"""So many are seen to at a time."""
_PUT_OFF_MS: Final = 60_000
_TELL_AGAIN_MS: Final = 5_000
_TOLD: Final = b"told"
"""Stands in what is due of an operation whose end nobody has to be told of any more: only to be forgotten."""
_DAMAGED: Final = (msgspec.DecodeError, ValueError)
"""What is raised for a paper that holds no operation."""
_encode = msgspec.json.Encoder().encode


class Made(NamedTuple):
    """An operation, and whether an earlier request with the same key made it."""

    kept: Kept
    replayed: bool


class OpenPage(NamedTuple):
    """``next`` is the cursor to go on with; None at the end. One that has ended or is damaged leaves its page short."""

    kept: list[Kept]
    next: str | None


class Operations:
    """The operations of a store, and who waits for them on this node."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._clock = broker.clock
        self._store = broker.store
        self._counted: dict[str, tuple[int, float]] = {}
        self._damaged: set[str] = set()
        """The ids of those that could not be read when this node last wanted to."""
        self._alarm: asyncio.Future[None] | None = None
        self.watches = Watches(broker.store, broker.clock)

    # -- making and moving on -------------------------------------------------------------------

    async def make(self, asked: Asked, actor: Actor, idempotency_key: str = "") -> Made:
        """A new operation, queued; for the same key and wish of the same principal the one that was made for it.

        Raises ``Forbidden`` for clients, ``ClientNotFound``, ``QueueNotFound``, ``TooManyOperations``,
        ``IdempotencyKeyReused``, and as ``Asked.check`` does.
        """
        await self._check(asked, actor)
        id, digest = new_id(self._clock.wall_ms()), b""
        if idempotency_key:
            check_text("idempotency key", idempotency_key)
            id = _id_of(actor.principal, idempotency_key)
            digest = hashlib.sha256(_encode(asked)).digest()
            if (kept := await self._find(id)) is not None:
                return _replayed(kept, digest)
        owner = actor.principal
        await self._check_room(owner)
        timeline_ms = await self._store.browse(Now())
        now = self._clock.wall_ms()
        operation = Operation(
            id=id,
            asked=asked,
            asked_by=actor,
            asked_sha256=digest,
            made_at_ms=now,
            ends_by_ms=now + int(asked.timeout_seconds * 1_000),
            ahead_ms=timeline_ms - now,
            changed_at_ms=now,
        )
        try:
            await self._configure(
                _paper(operation, 1), _open(operation), _due(operation.due_ms, id)
            )
        except PaperChanged:
            # The same was asked for twice at once.
            if (kept := await self._find(id)) is None:
                raise
            return _replayed(kept, digest)
        self._count(owner, 1)
        self.hurry()
        return Made(Kept(operation, 1), False)

    async def move(self, id: str, move: Move, actor: Actor, version: int | None = None) -> Kept:
        """Move it on; where ``version`` is given, from that one only, else ``OperationChanged``.

        Raises ``OperationNotFound``, ``Forbidden`` for who may only look at it, ``OperationEnded``, and as
        ``Move.check`` does. A move that changes nothing is no change.
        """
        while True:
            kept = await self.find(id, actor)
            auth.require(actor, Role.PUBLISHER, Role.ADMIN)
            move.check()
            if version is not None and version != kept.version:
                raise OperationChanged(f"operation {id} is at version {kept.version} by now")
            operation = moved(kept.operation, move, self._clock.wall_ms())
            if operation is kept.operation:
                return kept
            try:
                return await self._put(kept, operation)
            except PaperChanged:
                continue  # by somebody else meanwhile; with a version given, that tells

    async def _check(self, asked: Asked, actor: Actor) -> None:
        auth.require(actor, Role.PUBLISHER, Role.ADMIN)
        asked.check()
        if asked.runner:
            check_name("runner", asked.runner)
        if asked.client:
            name = check_name("client", asked.client)
            if await self._store.browse(ClientByName(name)) is None:
                raise ClientNotFound(f"there is no client {name} here")
        if asked.queue:
            queue = await self._broker.directory.queue(check_name("queue name", asked.queue))
            auth.require_publish(actor, queue)

    async def _check_room(self, owner: str) -> None:
        now = self._clock.monotonic()
        count, at = self._counted.get(owner, (0, -_COUNT_SECONDS))
        if now - at >= _COUNT_SECONDS:
            asked = Papers(
                Kind.OPERATION_OPEN,
                after=f"{owner}/",
                before=f"{owner}0",  # the character behind the slash
                limit=OPEN_OPERATIONS + len(self._damaged),
            )
            papers = await self._store.browse(asked)
            # Nobody can end one that is damaged.
            count = sum(paper.key.rpartition("/")[2] not in self._damaged for paper in papers)
            self._counted[owner] = (count, now)
        if count >= OPEN_OPERATIONS:
            raise TooManyOperations(f"{OPEN_OPERATIONS} operations are open already: end some")

    def _count(self, owner: str, more: int) -> None:
        if owner in self._counted:
            count, at = self._counted[owner]
            self._counted[owner] = (count + more, at)

    # -- looking --------------------------------------------------------------------------------

    async def find(self, id: str, actor: Actor) -> Kept:
        """The operation as it stands. ``OperationNotFound``, also for who may not know of it."""
        # An id of some other shape is no key of a paper.
        if id.isascii() and id.isprintable():
            kept = await self._find(id)
            if kept is not None and _may_see(actor, kept.operation):
                return kept
        raise OperationNotFound(f"there is no operation {id[:100]} here")

    async def made_with(self, principal: str, idempotency_key: str) -> Operation | None:
        """What a principal's idempotency key has made, for as long as it is kept."""
        kept = await self._find(_id_of(principal, idempotency_key))
        return None if kept is None else kept.operation

    async def page(
        self, actor: Actor, runner: str = "", after: str = "", limit: int = 100
    ) -> OpenPage:
        """The actor's own that are open and have that runner, up to ``limit``, by id. ``Forbidden`` for clients."""
        auth.require(actor, Role.PUBLISHER, Role.ADMIN)
        if runner:
            check_name("runner", runner)
        return await self._page(f"{actor.principal}/{runner}/", after, limit)

    async def open(self, after: str = "", limit: int = 100) -> OpenPage:
        """Everybody's that are open, up to ``limit``, by maker, runner and id: from a cursor on."""
        return await self._page("", after, limit)

    async def _page(self, place: str, after: str, limit: int) -> OpenPage:
        papers = await self._store.browse(
            Papers(Kind.OPERATION_OPEN, f"{place}{after}", f"{place}~", limit)
        )
        ids = [paper.key.rpartition("/")[2] for paper in papers]
        found = await asyncio.gather(*map(self._listed, ids))
        kept = [one for one in found if one is not None]
        return OpenPage(kept, papers[-1].key.removeprefix(place) if len(papers) == limit else None)

    async def watch(self, watch: Watch, id: str, actor: Actor) -> Kept:
        """Have the watch told of it from now on; how it stands, for ``seen``. As ``find``, and ``OutOfBounds``."""
        new = id not in watch
        watch.arm(id)
        try:
            kept = await self.find(id, actor)
        except BaseException:
            if new:
                watch.drop(id)
            raise
        return kept

    async def wait(
        self,
        id: str,
        actor: Actor,
        *,
        after: int | None,
        seconds: float,
        hangup: Hangup | None = None,
    ) -> Kept:
        """How it stands once it has a version above ``after`` (None: once it has ended), or when time is up.

        ``seconds`` are 0 to 60. Who hangs up waits no longer, nor does anybody once the service goes out of operation.
        """
        check_bounds("wait", seconds, 0, WAIT_SECONDS_MAXIMUM)
        broker, clock = self._broker, self._clock
        until = clock.monotonic() + seconds
        unwatch = None
        with self.watches.watch(actor.key_id) as watch:
            try:
                kept = await self.watch(watch, id, actor)
                watch.seen(kept)
                while not kept.operation.state.ended and (after is None or kept.version <= after):
                    left = until - clock.monotonic()
                    if left <= 0 or broker.draining or broker.directory.has_ended(actor.key_id):
                        break
                    if hangup is not None and unwatch is None:
                        unwatch = hangup.watch(watch.end)
                    news = await watch.next(left)
                    kept = kept if news is None else news
                    if watch.ended:
                        break
                return kept
            finally:
                if unwatch is not None:
                    unwatch()

    # -- seeing to what is due ------------------------------------------------------------------

    async def live(self) -> None:
        """Until cancelled: end what has run out of time, and tell queues of what has ended."""
        while True:
            alarm = self._alarm = asyncio.get_running_loop().create_future()
            seconds = await self._see_to()
            if seconds == 0:
                continue
            cancel = None if seconds is None else self._clock.call_later(seconds, self.hurry)
            try:
                await alarm
            finally:
                if cancel is not None:
                    cancel()

    def hurry(self) -> None:
        """There may be something to see to."""
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    async def _see_to(self) -> float | None:
        """See to what is due; in how many seconds to look again, None: not before somebody says so."""
        try:
            papers = await self._store.browse(Papers(Kind.OPERATION_DUE, limit=_AT_ONCE))
            now = await self._store.browse(Now()) if papers else 0
            times = _times(papers)
            due = [paper for at_ms, paper in times if at_ms <= now]
            seen_to = [self._see_to_one(paper, now) for paper in due]
            # Each to its end: nothing is left behind that the next look would do beside it.
            for outcome in await asyncio.gather(*seen_to, return_exceptions=True):
                if outcome is not None:
                    raise outcome
        except ShuttingDown:
            return None
        except StoreError as error:
            _log.warning("operations.store_error", error=str(error))
            return _LOOK_SECONDS
        except Exception:  # noqa: BLE001 (logged; the next look may succeed)
            _log.exception("operations.failed")
            return _LOOK_SECONDS
        if due:
            return 0.0
        # What other nodes make, nobody tells of.
        looks = [_LOOK_SECONDS] if self._store.nodes is not None else []
        looks += [(at_ms - now) / 1_000 for at_ms, _ in times[:1]]
        return min(looks, default=None)

    async def _see_to_one(self, paper: Paper, now_ms: int) -> None:
        id = paper.key.partition("/")[2]
        seen_to = DropPaper(Kind.OPERATION_DUE, paper.key)
        try:
            kept = await self._find(id)
            ended = kept is not None and kept.operation.state.ended
            if kept is None or (paper.content == _TOLD and not ended):
                await self._configure(seen_to)  # Forgotten by another node, and maybe made anew.
            elif not ended:
                wall_ms = self._clock.wall_ms()
                await self._put(kept, moved(kept.operation, timed_out(kept.operation), wall_ms))
            elif paper.content == _TOLD:
                await self._configure(DropPaper(Kind.OPERATION, id), seen_to)
            else:
                await self._configure(seen_to, await self._end(kept, now_ms))
        except PaperChanged:
            return  # It has been moved on this very moment.
        except StoreError:
            raise
        except Exception:  # noqa: BLE001 (logged, and tried again by and by)
            _log.exception("operation.failed", operation=id)
            await self._configure(seen_to, _due(now_ms + _PUT_OFF_MS, id, paper.content))

    async def _end(self, kept: Kept, now_ms: int) -> PutPaper:
        """Tell its queue; what has it seen to again after that: to be forgotten, or told once the store takes it."""
        operation = kept.operation
        try:
            if operation.asked.queue:
                await self._tell(kept)
        except ShuttingDown:
            raise
        except StoreError as error:
            # Those that are to be told come first: were they left there, nothing else would be seen to.
            _log.warning("operation.store_error", operation=operation.id, error=str(error))
            return _due(now_ms + _TELL_AGAIN_MS, operation.id)
        return _due(now_ms + int(operation.asked.keep_seconds * 1_000), operation.id, _TOLD)

    async def _tell(self, kept: Kept) -> None:
        """Have its end in the queue, once for all; given up where that is refused, as it would be the next time."""
        operation = kept.operation
        publication = Publication(
            body=told(operation, kept.version),
            queue=operation.asked.queue,
            content_type="application/json",
            attributes={"operation": operation.id, "state": operation.state.value},
            # Made anew once its key was forgotten, it has the id again, and the queue may know what it was told then.
            idempotency_key=f"restante-operation-{operation.id}-{operation.made_ms}",
        )
        try:
            try:
                await self._broker.publish(publication, operation.asked_by)
            except BodyTooLarge:
                # The queue takes no more than so much; the result is still to be had where the operation is.
                shorter = told(operation, kept.version, with_result=False)
                await self._broker.publish(
                    msgspec.structs.replace(publication, body=shorter), operation.asked_by
                )
        except IdempotencyKeyReused:
            # Told before, when the queue took bodies of another size.
            _log.debug("operation.told_before", operation=operation.id)
        except StoreError:
            raise
        except RestanteError as error:
            _log.error(
                "operation.not_told",
                operation=operation.id,
                queue=operation.asked.queue,
                code=error.code,
                error=error.detail,
            )

    # -- the papers -----------------------------------------------------------------------------

    async def _find(self, id: str) -> Kept | None:
        paper = await self._store.browse(PaperOf(Kind.OPERATION, id))
        if paper is None:
            return None
        try:
            kept = kept_of(paper)
        except _DAMAGED:
            self._damaged.add(id)
            raise
        self._damaged.discard(id)
        return kept

    async def _listed(self, id: str) -> Kept | None:
        """None for one that is damaged, too: it is logged, and a list has all the others."""
        try:
            return await self._find(id)
        except _DAMAGED as error:
            _log.error("operation.damaged", operation=id, error=str(error))
            return None

    async def _put(self, kept: Kept, operation: Operation) -> Kept:
        """Write it down in the place of what was read; ``PaperChanged`` where that is no more."""
        changes: list[Change] = [_paper(operation, kept.version + 1)]
        if operation.state.ended:
            changes.append(DropPaper(Kind.OPERATION_OPEN, _open(operation).paper.key))
            changes.append(DropPaper(Kind.OPERATION_DUE, _due_key(operation.due_ms, operation.id)))
            changes.append(_due(0, operation.id))
        await self._configure(*changes)
        now = Kept(operation, kept.version + 1)
        self.watches.tell(now)
        if operation.state.ended:
            self._count(operation.asked_by.principal, -1)
            self.hurry()
        return now

    async def _configure(self, *changes: Change) -> None:
        await asyncio.shield(self._store.configure(changes))


def _may_see(actor: Actor, operation: Operation) -> bool:
    if actor.role is Role.ADMIN:
        return True
    if actor.role is Role.CLIENT:
        return actor.name == operation.asked.client
    return actor.principal == operation.asked_by.principal


def _id_of(principal: str, idempotency_key: str) -> str:
    """As hard to guess as the key is."""
    name = f"operation\n{principal}\n{idempotency_key}".encode()
    return str(uuid.UUID(bytes=hashlib.sha256(name).digest()[:16], version=5))


def _replayed(kept: Kept, asked_sha256: bytes) -> Made:
    if kept.operation.asked_sha256 != asked_sha256:
        raise IdempotencyKeyReused("this idempotency key was used for another operation")
    return Made(kept, True)


def _paper(operation: Operation, version: int) -> PutPaper:
    content = _encode(operation)
    return PutPaper(Paper(kind=Kind.OPERATION, key=operation.id, content=content, version=version))


def _open(operation: Operation) -> PutPaper:
    key = f"{operation.asked_by.principal}/{operation.asked.runner}/{operation.id}"
    return PutPaper(Paper(kind=Kind.OPERATION_OPEN, key=key, content=b""))


def _due(at_ms: int, id: str, content: bytes = b"") -> PutPaper:
    """What has the operation seen to at that time on the store's timeline."""
    return PutPaper(Paper(kind=Kind.OPERATION_DUE, key=_due_key(at_ms, id), content=content))


def _due_key(at_ms: int, id: str) -> str:
    return f"{at_ms:013d}/{id}"


def _times(papers: list[Paper]) -> list[tuple[int, Paper]]:
    """What is due, and when, in order; what does not say when is logged and left out."""
    found = []
    for paper in papers:
        try:
            found.append((int(paper.key.partition("/")[0]), paper))
        except ValueError:
            _log.error("operation.damaged", due=paper.key)
    return found
