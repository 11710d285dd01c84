"""All or compensate: notifications published together, and undone together when one of them cannot be had.

A group is a paper, written with all its bodies before anything is published. What follows is published under ids and
idempotency keys made of the group's id, so that it can be found again however long ago that was, and each decision is
written down, in the place of the version that was read, before it is acted on. So any node may go on with any group at
any time, after a crash too: a step done twice is done once. Every node watches every open group, by an entry in memory.

Members expire when the group's time is up. One that was leased then may still ack: the group is watched until every
member is over, and what acks late is compensated as well. So is a dead one that is redriven before it expires, which
is why a group is watched until no such one can ack any more: it is closed then.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from restante import auth
from restante.admission import check_text
from restante.changes import Change
from restante.engine.group import (
    MEMBERS,
    TIMEOUT_SECONDS_MAXIMUM,
    Group,
    GroupState,
    Member,
    Seen,
    step,
)
from restante.engine.group_papers import (
    Earlier,
    GroupPage,
    GroupPapers,
    Kept,
    body_keys,
    new_body,
    notification_id,
)
from restante.engine.group_quota import GroupQuota
from restante.engine.group_request import Wanted, fingerprint_of
from restante.engine.ids import new_id
from restante.engine.session import Hangup
from restante.errors import (
    GroupNotFound,
    Malformed,
    PaperChanged,
    RestanteError,
    ShuttingDown,
    StoreError,
)
from restante.logs import get_logger
from restante.model import (
    Actor,
    Draft,
    Publication,
    Role,
    State,
    check_bounds,
)
from restante.papers import CONTENT_BYTES
from restante.queries import NotificationById, Now
from restante.wire.receipts import decode_entry

if TYPE_CHECKING:
    from restante.engine.broker import Broker
    from restante.engine.waiting import Waiter

_log = get_logger(__name__)

BODY_BYTES: Final = CONTENT_BYTES
_LOOK_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 2.0
_LATE_SECONDS: Final = 60.0
"""A group that waits for nothing but late ends looks again so often, in case that it missed one."""


class Asked(NamedTuple):
    """A group, and whether an earlier request with the same key asked for it."""

    group: Group
    replayed: bool


class Groups:
    """The groups of a store, which this node watches with all others."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._clock = broker.clock
        self._store = broker.store
        self._papers = GroupPapers(broker.store, broker.clock)
        self._quota = GroupQuota()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stood: dict[str, GroupState] = {}
        """How those that run stood when this node last read or wrote them."""
        self._alarm: asyncio.Future[None] | None = None

    # -- asking ---------------------------------------------------------------------------------

    async def ask(
        self,
        wanted: Sequence[Wanted],
        timeout_seconds: float,
        actor: Actor,
        idempotency_key: str = "",
    ) -> Asked:
        """Publish a group of 1 to ``MEMBERS``, one at least required. Its bodies are of ``BODY_BYTES`` at most each.

        Raises what publishing each of them would, ``IdempotencyKeyReused``, and ``TooManyGroups``.
        """
        auth.require(actor, Role.PUBLISHER, Role.ADMIN)
        check_bounds("number of members", len(wanted), 1, MEMBERS)
        check_bounds("timeout_seconds", timeout_seconds, 1, TIMEOUT_SECONDS_MAXIMUM)
        if not any(one.required for one in wanted):
            raise Malformed("one member of a group is required, at least")
        lengths = [len(payload.body) for one in wanted for payload in one.payloads()]
        check_bounds("length of body", max(lengths), 0, BODY_BYTES)
        name = fingerprint = ""
        earlier = Earlier(None, 0)
        if idempotency_key:
            check_text("idempotency key", idempotency_key)
            name = _name_of(actor.principal, idempotency_key)
            fingerprint = fingerprint_of(wanted, timeout_seconds)
            earlier = await self._papers.asked(name, fingerprint)
            if earlier.group is not None:
                return Asked(earlier.group, True)
        timeline_ms = await self._store.browse(Now())
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
            body_bytes=sum(lengths),
            ahead_ms=timeline_ms - now,
        )
        changes = self._papers.new(group)
        for index, one in enumerate(wanted):
            for key, payload in zip(body_keys(group.id, index), one.payloads(), strict=False):
                publication = Publication(
                    queue=one.queue, body=payload.body, content_type=payload.content_type
                )
                await self._broker.checked(publication, actor)
                changes.append(new_body(key, payload.body))
        if name:
            changes.append(self._papers.new_key(name, fingerprint, group, earlier))
        try:
            await asyncio.shield(self._write(group, changes))
        except PaperChanged:
            # Asked for twice at the same moment.
            if name:
                earlier = await self._papers.asked(name, fingerprint)
            if earlier.group is None:
                raise
            return Asked(earlier.group, True)
        return Asked(group, False)

    def _write(self, group: Group, changes: list[Change]) -> asyncio.Future[None]:
        """Begun when this returns, its share taken; once it is there it is begun, whether or not the caller stays."""
        self._quota.take(group)
        try:
            writing = self._store.configure(changes)
        except BaseException:
            self._quota.give_back(group.id)
            raise
        writing.add_done_callback(functools.partial(self._written, group))
        return writing

    def _written(self, group: Group, writing: asyncio.Future[None]) -> None:
        if writing.cancelled() or writing.exception() is not None:
            self._quota.give_back(group.id)
        else:
            self._begin(group)

    # -- looking --------------------------------------------------------------------------------

    async def outcome(
        self,
        waiter: Waiter | None,
        id: str,
        actor: Actor,
        wait_seconds: float = 0.0,
        hangup: Hangup | None = None,
        known: Group | None = None,
    ) -> Group:
        """The group as soon as it is no longer pending, waited for as ``Waiting.until`` does.

        ``known`` is how it stood when it was asked for. ``GroupNotFound``, also for another publisher's.
        """

        async def look() -> tuple[Group, bool]:
            group = await self.group(id, actor)
            over = group.state is not GroupState.PENDING
            if waiter is not None and not over:
                # Only who watches it can tell of it: another node may have been asked for it just now.
                self._begin(group)
            return group, over

        return await self._broker.waiting.until(
            look, waiter, id, actor, wait_seconds, hangup, known=known
        )

    async def group(self, id: str, actor: Actor) -> Group:
        """The group as it stands. ``GroupNotFound``, also for another publisher's."""
        auth.require(actor, Role.PUBLISHER, Role.ADMIN)
        # An id of some other shape is no key of a paper.
        if len(id) <= 128 and id.isascii() and id.isprintable():
            found = await self._papers.any(id)
            if found is not None and _may_see(actor, found):
                return found
        raise GroupNotFound(f"there is no group {id[:100]} here")

    async def made_with(self, principal: str, idempotency_key: str) -> Group | None:
        """What a principal's idempotency key has made, for as long as it is kept."""
        return await self._papers.made_with(_name_of(principal, idempotency_key))

    async def page(self, actor: Actor, after: str = "", limit: int = 100) -> GroupPage:
        """The actor's own, for an administrator all: those that are not closed, then the closed; the newest first.

        ``Forbidden`` for clients, ``Malformed`` for a cursor that is none.
        """
        auth.require(actor, Role.PUBLISHER, Role.ADMIN)
        return await self._papers.page(
            "" if actor.role is Role.ADMIN else actor.principal, after, limit
        )

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
            for kept in await self._papers.open():
                self._begin(kept.group)
        except ShuttingDown:
            return False
        except StoreError as error:
            _log.warning("groups.store_error", error=str(error))
            return True
        except Exception:  # noqa: BLE001 (logged; the next look may succeed)
            _log.exception("groups.failed")
            return True
        return self._store.nodes is not None

    def _begin(self, group: Group) -> None:
        id = group.id
        if id not in self._running and not self._broker.draining:
            self._quota.note(group)
            work = self._running[id] = asyncio.create_task(self._work(id))
            work.add_done_callback(lambda _: self._over(id))

    def _over(self, id: str) -> None:
        del self._running[id]
        self._stood.pop(id, None)
        self._quota.give_back(id)

    async def _work(self, id: str) -> None:
        while True:
            try:
                with self._broker.waiting.watch() as waiter:
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
        """See to the group until it is closed. ``PaperChanged`` where somebody else has gone on with it meanwhile."""
        while (kept := await self._papers.find(id)) is not None:
            # It may have been another node that has gone on with it: nobody here has heard of that.
            self._tell(kept.group)
            if not kept.group.published:
                kept = await self._put(kept, await self._published(kept.group))
            group = kept.group
            waiter.look(tuple(m.notification for m in group.members if m.notification))
            seen = [await self._seen(member) for member in group.members]
            timeline_ms = await self._store.browse(Now())
            after = step(group, seen, timeline_ms, self._clock.wall_ms())
            if after != group:
                kept = await self._put(kept, after)
            if after.closed:
                break
            if after.state is not GroupState.PENDING and any(
                member.to_compensate for member in after.members
            ):
                await self._compensate(kept)
                continue
            waiter.found(1, 1, len(after.members))
            left = (after.due_ms - timeline_ms) / 1_000
            await waiter.wait(left if after.state is GroupState.PENDING else _LATE_SECONDS)
        self._broker.waiting.tell(id)

    async def _put(self, kept: Kept, group: Group) -> Kept:
        put = await self._papers.put(kept, group)
        if group.state is not kept.group.state:
            _log.info("group.stands", group=group.id, state=group.state.value, reason=group.reason)
        self._tell(group)
        return put

    def _tell(self, group: Group) -> None:
        """Tell who waits here, where it stands otherwise than when this node last knew."""
        before = self._stood.get(group.id, GroupState.PENDING)
        self._stood[group.id] = group.state
        if group.state is not before:
            self._broker.waiting.tell(group.id)

    async def _published(self, group: Group) -> Group:
        """Publish all members in one transaction, those of an earlier try excepted; none once the time is up."""
        drafts: list[Draft] = []
        places: list[int] = []
        members = list(group.members)
        left = (group.due_ms - await self._store.browse(Now())) / 1_000
        for index, member in enumerate(members):
            key = body_keys(group.id, index)[0]
            if found := await self._earlier(group, key):
                members[index] = msgspec.structs.replace(member, notification=found)
            elif left <= 0:
                members[index] = msgspec.structs.replace(
                    member, state=State.EXPIRED, reason="the time was up before it was published"
                )
            else:
                try:
                    # Not delivered any more once the group has failed for want of time.
                    draft = await self._draft(group, index, expires_after_seconds=left)
                except (PaperChanged, StoreError):
                    raise
                except RestanteError as error:
                    members[index] = _refused(member, error)
                else:
                    drafts.append(draft)
                    places.append(index)
        results = await self._broker.append_all(drafts) if drafts else []
        for index, result in zip(places, results, strict=True):
            if isinstance(result, StoreError):
                raise result
            if isinstance(result, RestanteError):
                members[index] = _refused(members[index], result)
            else:
                members[index] = msgspec.structs.replace(members[index], notification=result.id)
        return msgspec.structs.replace(group, members=tuple(members), published=True)

    async def _compensate(self, kept: Kept) -> None:
        """Publish the compensations that are due, and write down what came of each before the next."""
        for index, member in enumerate(kept.group.members):
            if not member.to_compensate:
                continue
            after = await self._compensated(kept.group, index)
            members = list(kept.group.members)
            members[index] = after
            kept = await self._put(
                kept, msgspec.structs.replace(kept.group, members=tuple(members))
            )

    async def _compensated(self, group: Group, index: int) -> Member:
        member = group.members[index]
        key = body_keys(group.id, index)[1]
        id = await self._earlier(group, key)
        if not id:
            try:
                draft = await self._draft(group, index, compensates=member.notification)
                id = (await self._broker.append(draft)).id
            except (PaperChanged, StoreError):
                raise
            except RestanteError as error:
                # For good: the next try would be refused as well.
                _log.warning("group.uncompensated", group=group.id, error=error.detail)
                reason = f"compensation refused: {error.code}"
                return msgspec.structs.replace(member, uncompensated=True, reason=reason)
        return msgspec.structs.replace(member, compensation=id)

    async def _earlier(self, group: Group, key: str) -> str:
        """The id under which an earlier try published the body of that key; empty where none has.

        Idempotency keys are forgotten some time, and what was published under them is not.
        """
        id = notification_id(group, key)
        return "" if await self._store.browse(NotificationById(id)) is None else id

    async def _draft(
        self,
        group: Group,
        index: int,
        *,
        compensates: str = "",
        expires_after_seconds: float | None = None,
    ) -> Draft:
        """A member, or its compensation."""
        member = group.members[index]
        key = body_keys(group.id, index)[1 if compensates else 0]
        attributes = {"group": group.id}
        content_type = member.content_type
        if compensates:
            attributes["compensates"] = compensates
            content_type = member.compensation_type or content_type
        publication = Publication(
            queue=member.queue,
            body=await self._papers.body(key),
            content_type=content_type,
            attributes=attributes,
            # Of two nodes that publish it at the same moment one does.
            idempotency_key=f"group/{key}",
            expires_after_seconds=expires_after_seconds,
        )
        draft = await self._broker.checked(publication, group.asked_by)
        return msgspec.structs.replace(draft, id=notification_id(group, key))

    async def _seen(self, member: Member) -> Seen | None:
        if not member.notification or member.state is State.ACKED:
            return None
        record = await self._store.browse(NotificationById(member.notification))
        if record is None or not record.deliveries:
            return None
        (delivery,) = record.deliveries
        reason = "" if delivery.last is None else decode_entry(delivery.last.entry).reason
        return Seen(delivery.state, reason)


def _refused(member: Member, error: RestanteError) -> Member:
    return msgspec.structs.replace(member, state=State.DISCARDED, reason=f"refused: {error.detail}")


def _may_see(actor: Actor, group: Group) -> bool:
    return actor.role is Role.ADMIN or actor.principal == group.asked_by.principal


def _name_of(principal: str, idempotency_key: str) -> str:
    """What stands for a principal's key in the store."""
    return hashlib.sha256(f"{principal}\n{idempotency_key}".encode()).hexdigest()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
