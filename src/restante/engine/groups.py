"""All or compensate: notifications published together, and undone together when one of them cannot be had.

A group is a paper, written with all its bodies before anything is published. What follows is published under
idempotency keys made of the group's id, and each decision is written down, in the place of the version that was read,
before it is acted on. So any node may go on with any group at any time, after a crash too: a step done twice is done
once. Every node watches every open group as any waiter does, by an entry in memory.

Members expire when the group's time is up. One that was leased then may still ack: the group is watched until every
member is over, and what acks late is compensated as well.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import structlog

from restante import auth
from restante.changes import Change, DropPaper, PutPaper
from restante.engine.group import (
    MEMBERS,
    TIMEOUT_SECONDS_MAXIMUM,
    Group,
    GroupState,
    Member,
    Seen,
    step,
)
from restante.engine.ids import new_id
from restante.engine.session import Hangup
from restante.errors import (
    GroupNotFound,
    IdempotencyKeyReused,
    Malformed,
    PaperChanged,
    RestanteError,
    ShuttingDown,
    StoreError,
    TooManyGroups,
)
from restante.model import (
    WAIT_SECONDS_MAXIMUM,
    Actor,
    Publication,
    Role,
    State,
    check_bounds,
)
from restante.papers import CONTENT_BYTES, Kind, Paper
from restante.queries import NotificationById, PaperOf, Papers
from restante.wire.receipts import decode_entry

if TYPE_CHECKING:
    from restante.engine.broker import Broker
    from restante.engine.waiting import Waiter

_log = structlog.get_logger(__name__)

OPEN_GROUPS: Final = 1_000
"""So many may be open at once."""
BODY_BYTES: Final = CONTENT_BYTES
GROUP_RETENTION_SECONDS: Final = 30 * 86_400
_LOOK_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 2.0
_LATE_SECONDS: Final = 60.0
"""A group that waits for nothing but late ends looks again so often, in case that it missed one."""
_OPEN: Final = "open/"
_PAST: Final = "past/"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Group).decode


class Payload(NamedTuple):
    body: bytes
    content_type: str


class Wanted(NamedTuple):
    """What is to go to one queue, and what is to undo it."""

    queue: str
    payload: Payload
    compensation: Payload | None
    required: bool


class GroupPage(NamedTuple):
    """``next`` is the id to go on after; None at the end. A page may be short, even empty, before the end."""

    groups: list[Group]
    next: str | None


class _Asked(msgspec.Struct, frozen=True):
    """Which group an idempotency key has made, and of what."""

    id: str
    fingerprint: str


_decode_asked = msgspec.json.Decoder(_Asked).decode


class _Kept(NamedTuple):
    group: Group
    version: int


class Groups:
    """The groups of a store, which this node watches with all others."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._clock = broker.clock
        self._store = broker.store
        self._running: dict[str, asyncio.Task[None]] = {}
        self._alarm: asyncio.Future[None] | None = None

    # -- asking ---------------------------------------------------------------------------------

    async def ask(
        self,
        wanted: Sequence[Wanted],
        timeout_seconds: float,
        actor: Actor,
        idempotency_key: str = "",
    ) -> Group:
        """Publish a group of 1 to ``MEMBERS``, one at least required. Its bodies are of ``BODY_BYTES`` at most each.

        Raises what publishing each of them would, ``IdempotencyKeyReused``, and ``TooManyGroups``.
        """
        auth.require(actor, Role.PUBLISHER, Role.ADMIN)
        check_bounds("number of members", len(wanted), 1, MEMBERS)
        check_bounds("timeout_seconds", timeout_seconds, 1, TIMEOUT_SECONDS_MAXIMUM)
        if not any(one.required for one in wanted):
            raise Malformed("one member of a group is required, at least")
        digest = hashlib.sha256(repr((timeout_seconds, wanted)).encode()).hexdigest()
        now = self._clock.wall_ms()
        group = Group(
            id=new_id(now),
            asked_by=actor,
            asked_at_ms=now,
            timeout_seconds=timeout_seconds,
            members=tuple(
                Member(
                    queue=one.queue,
                    required=one.required,
                    content_type=one.payload.content_type,
                    compensation_type=one.compensation and one.compensation.content_type,
                )
                for one in wanted
            ),
        )
        changes = [PutPaper(self._paper(group, f"{_OPEN}{group.id}", 1))]
        for index, one in enumerate(wanted):
            for key, payload in zip(_body_keys(group.id, index), one[1:3], strict=True):
                if payload is None:
                    continue
                check_bounds("length of body", len(payload.body), 0, BODY_BYTES)
                publication = Publication(
                    queue=one.queue, body=payload.body, content_type=payload.content_type
                )
                await self._broker.checked(publication, actor)
                changes.append(
                    PutPaper(Paper(kind=Kind.GROUP_BODY, key=key, content=payload.body, version=1))
                )
        name = ""
        if idempotency_key:
            name = hashlib.sha256(f"{actor.name}\n{idempotency_key}".encode()).hexdigest()
            earlier = await self._asked(name, digest)
            if earlier is not None:
                return earlier
            changes.append(
                PutPaper(
                    Paper(
                        kind=Kind.GROUP_KEY,
                        key=name,
                        content=_encode(_Asked(group.id, digest)),
                        version=1,
                        expires_at_ms=now + GROUP_RETENTION_SECONDS * 1_000,
                    )
                )
            )
        if len(self._running) >= OPEN_GROUPS:
            raise TooManyGroups(f"{OPEN_GROUPS} groups are open already")
        try:
            await asyncio.shield(self._store.configure(changes))
        except PaperChanged:
            # Asked for twice at the same moment.
            earlier = await self._asked(name, digest)
            if earlier is None:
                raise
            return earlier
        self._begin(group.id)
        return group

    async def _asked(self, name: str, digest: str) -> Group | None:
        paper = await self._store.browse(PaperOf(Kind.GROUP_KEY, name))
        if paper is None:
            return None
        asked = _decode_asked(paper.content)
        if asked.fingerprint != digest:
            raise IdempotencyKeyReused("the key was used for another group")
        return await self._any(asked.id)

    # -- looking --------------------------------------------------------------------------------

    async def outcome(
        self, id: str, actor: Actor, wait_seconds: float = 0.0, hangup: Hangup | None = None
    ) -> Group:
        """The group as soon as it is no longer pending, or when ``wait_seconds`` (0 to 60) are over.

        ``GroupNotFound``, also for another publisher's. ``TooManyWaiters``.
        """
        check_bounds("wait", wait_seconds, 0, WAIT_SECONDS_MAXIMUM)
        broker = self._broker
        until = self._clock.monotonic() + wait_seconds
        unwatch: Callable[[], None] | None = None
        with broker.waiting.enter(actor.key_id) as waiter:
            try:
                while True:
                    waiter.look((id,))
                    group = await self.group(id, actor)
                    left = until - self._clock.monotonic()
                    if (
                        group.state is not GroupState.PENDING
                        or left <= 0
                        or broker.draining
                        or broker.directory.has_ended(actor.key_id)
                        or (hangup is not None and hangup.gone())
                    ):
                        return group
                    if hangup is not None and unwatch is None:
                        unwatch = hangup.watch(waiter.time_out)
                    if not await waiter.wait(left):
                        return await self.group(id, actor)
            finally:
                if unwatch is not None:
                    unwatch()

    async def group(self, id: str, actor: Actor) -> Group:
        """The group as it stands. ``GroupNotFound``, also for another publisher's."""
        auth.require(actor, Role.PUBLISHER, Role.ADMIN)
        # An id of some other shape is no key of a paper.
        if len(id) <= 128 and id.isascii() and id.isprintable():
            found = await self._any(id)
            if found is not None and _may_see(actor, found):
                return found
        raise GroupNotFound(f"there is no group {id[:100]} here")

    async def page(self, actor: Actor, after: str = "", limit: int = 100) -> GroupPage:
        """Those that are open, all on the first page, then those that ended among ``limit``; the newest first."""
        auth.require(actor, Role.PUBLISHER, Role.ADMIN)
        first = [] if after else [kept.group for kept in reversed(await self._open())]
        before = f"{_PAST}{after}" if after else f"{_PAST}~"
        papers = await self._store.browse(
            Papers(Kind.GROUP, after=_PAST, before=before, limit=limit, newest_first=True)
        )
        past = [_decode(paper.content) for paper in papers]
        groups = [group for group in (*first, *past) if _may_see(actor, group)]
        return GroupPage(groups, past[-1].id if len(past) == limit else None)

    # -- working --------------------------------------------------------------------------------

    async def live(self) -> None:
        """Until cancelled: see every open group to its end, whoever has asked for it."""
        try:
            while True:
                alarm = self._alarm = asyncio.get_running_loop().create_future()
                again = await self._take_up()
                cancel = (
                    self._clock.call_later(_LOOK_SECONDS, functools.partial(_resolve, alarm))
                    if again
                    else None
                )
                try:
                    await alarm
                finally:
                    if cancel is not None:
                        cancel()
        finally:
            running = list(self._running.values())
            for work in running:
                work.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _take_up(self) -> bool:
        """Begin what was left by an earlier run, or asked for on another node; whether to look again."""
        try:
            for kept in await self._open():
                self._begin(kept.group.id)
        except ShuttingDown:
            return False
        except StoreError as error:
            _log.warning("groups.store_error", error=str(error))
            return True
        return self._store.nodes is not None

    def _begin(self, id: str) -> None:
        if id not in self._running and not self._broker.draining:
            work = self._running[id] = asyncio.create_task(self._work(id))
            work.add_done_callback(lambda _: self._running.pop(id, None))

    async def _work(self, id: str) -> None:
        while True:
            try:
                with self._broker.waiting.enter() as waiter:
                    await self._carry(id, waiter)
                return
            except PaperChanged:
                continue  # by another node, which saw the same
            except ShuttingDown:
                return
            except StoreError as error:
                _log.warning("group.store_error", group=id, error=str(error))
            except Exception:  # noqa: BLE001 (logged; the next try may succeed)
                _log.exception("group.failed", group=id)
            await self._clock.wait(_AGAIN_SECONDS)

    async def _carry(self, id: str, waiter: Waiter) -> None:
        """See the group to its end. ``PaperChanged`` where somebody else has gone on with it meanwhile."""
        while (kept := await self._find(id)) is not None:
            if not kept.group.published:
                kept = await self._put(kept, await self._published(kept.group))
            group = kept.group
            waiter.look(tuple(m.notification for m in group.members if m.notification))
            seen = [await self._seen(member) for member in group.members]
            after = step(group, seen, self._clock.wall_ms())
            if after != group:
                kept = await self._put(kept, after)
            if after.state.ended:
                break
            if after.state is GroupState.COMPENSATING and any(
                member.to_compensate for member in after.members
            ):
                await self._put(kept, await self._compensated(after))
                continue
            waiter.found(1, 1, len(after.members))
            left = (after.until_ms - self._clock.wall_ms()) / 1_000
            await waiter.wait(left if after.state is GroupState.PENDING else _LATE_SECONDS)
        self._broker.waiting.tell(id)

    async def _published(self, group: Group) -> Group:
        """Publish all members in one transaction: those of an earlier try are there already, under the same keys."""
        publications = [
            await self._publication(
                group,
                index,
                member.content_type,
                compensates="",
                # Not delivered any more once the group has failed for want of time.
                expires_after_seconds=group.timeout_seconds,
            )
            for index, member in enumerate(group.members)
        ]
        results = await self._broker.publish_batch(publications, group.asked_by)
        members = []
        for member, result in zip(group.members, results, strict=True):
            if isinstance(result, StoreError):
                raise result
            if isinstance(result, RestanteError):
                refused = f"refused: {result.detail}"
                members.append(
                    msgspec.structs.replace(member, state=State.DISCARDED, reason=refused)
                )
            else:
                members.append(msgspec.structs.replace(member, notification=result.id))
        return msgspec.structs.replace(group, members=tuple(members), published=True)

    async def _compensated(self, group: Group) -> Group:
        """Publish the compensations that are due."""
        members = list(group.members)
        for index, member in enumerate(members):
            if member.to_compensate and member.compensation_type is not None:
                publication = await self._publication(
                    group, index, member.compensation_type, compensates=member.notification
                )
                (result,) = await self._broker.publish_batch([publication], group.asked_by)
                if isinstance(result, RestanteError):
                    raise result
                members[index] = msgspec.structs.replace(member, compensation=result.id)
        return msgspec.structs.replace(group, members=tuple(members))

    async def _publication(
        self,
        group: Group,
        index: int,
        content_type: str,
        *,
        compensates: str,
        expires_after_seconds: float | None = None,
    ) -> Publication:
        key = _body_keys(group.id, index)[1 if compensates else 0]
        paper = await self._store.browse(PaperOf(Kind.GROUP_BODY, key))
        if paper is None:
            raise PaperChanged("the group has ended")
        attributes = {"group": group.id}
        if compensates:
            attributes["compensates"] = compensates
        return Publication(
            queue=group.members[index].queue,
            body=paper.content,
            content_type=content_type,
            attributes=attributes,
            idempotency_key=f"group/{key}",
            expires_after_seconds=expires_after_seconds,
        )

    async def _seen(self, member: Member) -> Seen | None:
        if not member.notification or member.state is State.ACKED:
            return None
        record = await self._store.browse(NotificationById(member.notification))
        if record is None or not record.deliveries:
            return None
        (delivery,) = record.deliveries
        reason = "" if delivery.last is None else decode_entry(delivery.last.entry).reason
        return Seen(delivery.state, reason)

    # -- the papers -----------------------------------------------------------------------------

    async def _open(self) -> list[_Kept]:
        papers = await self._store.browse(
            # Beyond the limit of those that were asked for at the same moment on many nodes.
            Papers(Kind.GROUP, after=_OPEN, before=f"{_OPEN}~", limit=10 * OPEN_GROUPS)
        )
        return [_Kept(_decode(paper.content), paper.version) for paper in papers]

    async def _find(self, id: str) -> _Kept | None:
        paper = await self._store.browse(PaperOf(Kind.GROUP, f"{_OPEN}{id}"))
        return None if paper is None else _Kept(_decode(paper.content), paper.version)

    async def _any(self, id: str) -> Group | None:
        kept = await self._find(id)
        if kept is not None:
            return kept.group
        paper = await self._store.browse(PaperOf(Kind.GROUP, f"{_PAST}{id}"))
        return None if paper is None else _decode(paper.content)

    async def _put(self, kept: _Kept, group: Group) -> _Kept:
        """Write the group down in the place of what was read; ``PaperChanged`` where that is no more."""
        key, version = f"{_OPEN}{group.id}", kept.version + 1
        changes: list[Change] = [PutPaper(self._paper(group, key, version))]
        if group.state.ended:
            changes += [
                DropPaper(Kind.GROUP, key),
                PutPaper(self._paper(group, f"{_PAST}{group.id}", 0)),
            ]
            for index in range(len(group.members)):
                changes += [DropPaper(Kind.GROUP_BODY, one) for one in _body_keys(group.id, index)]
        await asyncio.shield(self._store.configure(changes))
        if group.state is not kept.group.state:
            _log.info("group.stands", group=group.id, state=group.state.value, reason=group.reason)
            self._broker.waiting.tell(group.id)
        return _Kept(group, version)

    def _paper(self, group: Group, key: str, version: int) -> Paper:
        expires = None
        if group.state.ended:
            expires = self._clock.wall_ms() + GROUP_RETENTION_SECONDS * 1_000
        content = _encode(group)
        return Paper(
            kind=Kind.GROUP, key=key, content=content, version=version, expires_at_ms=expires
        )


def _body_keys(id: str, index: int) -> tuple[str, str]:
    """Where a member's body is kept, and its compensation's."""
    return f"{id}/{index}", f"{id}/{index}/compensation"


def _may_see(actor: Actor, group: Group) -> bool:
    return actor.role is Role.ADMIN or actor.name == group.asked_by.name


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
