"""Requests with an idempotency key: each is run once, on whatever node, and a repeat is given the first one's answer.

A request is a paper. It is written down before it is run, in the place of the version that was read, so that of two
at once one runs. What came of it is written down before it is answered. A request whose process is gone, or that
failed in the middle, is one of which nobody knows what came: it is never run again without the operator's word. One
whose parts each have a key of their own is, for that does what is missing, and nothing twice.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from restante.changes import Change, DropPaper, PutPaper
from restante.errors import (
    PaperChanged,
    RequestInProgress,
    RequestNotFound,
    RequestUnknown,
    StoreError,
    TooManyKeptRequests,
    TooManyOpenRequests,
)
from restante.idempotency import (
    Asked,
    Fate,
    Policy,
    Record,
    Reply,
    State,
    Verdict,
    begun,
    check_key,
    decode_record,
    encode_record,
    judge,
    not_kept,
    reused,
)
from restante.logs import get_logger
from restante.model import check_bounds
from restante.nodes import CLAIM_SECONDS
from restante.papers import Kind, Paper
from restante.queries import CountPapers, Now, PaperOf, PaperVersions
from restante.wire import times
from restante.wire.sealing import KEY_BYTES, NONCE_BYTES, Keyring, SealBroken

if TYPE_CHECKING:
    from restante.engine.broker import Broker

_log = get_logger(__name__)

RETENTION_SECONDS: Final = 7 * 86_400
OPEN_REQUESTS: Final = 1_000
"""So many of one principal's may be under way on a node at once."""
KEPT_REQUESTS: Final = 100_000
"""So many of one principal's are remembered, within what several nodes put down between two counts."""
COUNT_SECONDS: Final = 60.0
"""How long a count of what is remembered of a principal is gone by."""
WAIT_SECONDS_MAXIMUM: Final = 60.0
LOOK_SECONDS: Final = 1.0
"""How often it is looked what became of requests that other nodes run, however many wait and for whatever."""
_UNKNOWN_REQUESTS: Final = 10_000
"""Of so many it is known that they were told of before."""
_CLOSE_SECONDS: Final = 10.0


class Ran(NamedTuple):
    """How a request ended. An answer that is not ``whole`` is not kept."""

    reply: Reply
    fate: Fate
    whole: bool = True


class Given(NamedTuple):
    """What to answer with; ``replayed`` says that an earlier request with the same key was answered so."""

    reply: Reply
    replayed: bool


Run = Callable[[], Awaitable[Ran]]


class _Running(NamedTuple):
    asked: Asked
    since_ms: int
    work: asyncio.Task[Given | None]


class _Count:
    """How many of a principal's are remembered: as counted, and what this node has put down since."""

    __slots__ = ("number", "until")

    def __init__(self) -> None:
        self.number = 0
        self.until = 0.0


class _Kept(NamedTuple):
    record: Record | None
    version: int


class Requests:
    """Those of a store. ``keyring`` seals answers that show a secret; without one they last as long as this."""

    def __init__(
        self,
        broker: Broker,
        *,
        policy: Policy = Policy.REFUSE,
        retention_seconds: float = RETENTION_SECONDS,
        kept_requests: int = KEPT_REQUESTS,
        keyring: Keyring | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._broker = broker
        self._clock = broker.clock
        self._policy = policy
        self._retention_ms = round(retention_seconds * 1_000)
        self._parts_ms = min(self._retention_ms, broker.store.idempotency_retention_seconds * 1_000)
        self._kept_requests = kept_requests
        self._keyring = keyring or Keyring([random_bytes(KEY_BYTES)])
        self._random_bytes = random_bytes
        self._running: dict[str, _Running] = {}
        self._open: Counter[str] = Counter()
        self._counts: dict[str, _Count] = {}
        self._unknown: dict[str, int] = {}
        self.unknown = 0
        """How many this node has found of which nobody knows what came, each once."""
        self._looked_for: set[str] = set()
        self._next_look: asyncio.Task[dict[str, int]] | None = None
        self._looks: set[asyncio.Task[dict[str, int]]] = set()

    async def close(self) -> None:
        """Let what is under way end, within a few seconds. What does not is left as one that was crashed in."""
        for look in self._looks:
            look.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)
        works = [one.work for one in self._running.values()]
        if works:
            _, pending = await asyncio.wait(works, timeout=_CLOSE_SECONDS)
            for work in pending:
                work.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def once(self, asked: Asked, run: Run, *, wait_seconds: float = 0.0) -> Given:
        """Run the request, or answer as an earlier one with its key was answered.

        ``InvalidHeader`` for what is no key; ``IdempotencyKeyReused``; ``RequestInProgress`` where the first is still
        under way after ``wait_seconds`` (0 to 60); ``RequestUnknown``, ``AnswerNotKept``, ``TooManyOpenRequests``,
        ``TooManyKeptRequests``.
        What was begun goes on to its end, whether or not its caller waits for it. What ``run`` raises is raised, and
        what came of the request is then unknown.
        """
        check_key(asked.key)
        check_bounds("wait_seconds", wait_seconds, 0, WAIT_SECONDS_MAXIMUM)
        until = self._clock.monotonic() + wait_seconds
        kept: _Kept | None = None
        while True:
            here = self._running.get(asked.place)
            if here is not None:
                await self._attend(here, asked, until)
                kept = None
                continue
            if kept is None:
                kept = await self._find(asked.place)
                continue  # Somebody here may have begun it while this looked.
            match judge(
                kept.record,
                asked.fingerprint,
                running=self._is_running(asked.place, kept.record),
                policy=self._policy,
            ):
                case Verdict.RUN:
                    given = await asyncio.shield(self._begin(asked, kept, run))
                    if given is None:
                        kept = None
                        continue
                    if kept.record is not None and kept.record.state is not State.FREE:
                        self._found_unknown(asked, kept.record)
                    return given
                case Verdict.REPLAY:
                    return Given(self._reply(asked.place, kept.record), True)
                case Verdict.REFUSE:
                    # What ran it may have written down what came of it, and ended, since this looked.
                    again = await self._find(asked.place)
                    if again == kept:
                        self._found_unknown(asked, kept.record)
                        raise _unknown(kept.record)
                    kept = again
                case Verdict.WAIT:
                    if self._clock.monotonic() >= until:
                        raise _in_progress(kept.record)
                    kept = await self._look(asked.place, kept)

    async def find(self, who: str, key: str, *, private: bool = False) -> Record:
        """What became of a principal's request. ``RequestNotFound``: none arrived, or it did nothing.

        ``private`` as of ``Asked``.
        """
        asked = Asked(
            who=who, key=check_key(key), method="", path="", fingerprint=b"", private=private
        )
        kept = await self._find(asked.place)
        while self._is_left(asked.place, kept.record):
            # What ran it may have written down what came of it, and ended, since this looked.
            again = await self._find(asked.place)
            if again == kept:
                break
            kept = again
        record = kept.record
        if record is None or record.state is State.FREE:
            raise RequestNotFound("no request with this key is known")
        if self._is_left(asked.place, record):
            record = record.left
        if record.state is State.UNKNOWN:
            self._found_unknown(asked, record)
        return record

    # -- looking --------------------------------------------------------------------------------

    async def _find(self, place: str) -> _Kept:
        paper = await self._broker.store.browse(PaperOf(Kind.REQUEST, place))
        if paper is None:
            return _Kept(None, 0)
        if (paper.expires_at_ms or 0) <= self._clock.wall_ms():
            return _Kept(None, paper.version)
        record = msgspec.structs.replace(
            decode_record(paper.content), expires_at_ms=paper.expires_at_ms
        )
        if record.rests_on_parts and await self._parts_since(record) is None:
            return _Kept(None, paper.version)
        return _Kept(record, paper.version)

    async def _parts_since(self, record: Record | None) -> int | None:
        """Since when, on the store's timeline, its parts may have keys; of none, now. None: these may be gone.

        The wall clock, by which its paper goes, may have been set back: to do what is missing would be to do all.
        """
        now = await self._broker.store.browse(Now())
        if record is None:
            return now
        return record.parts_since_ms if now < record.parts_since_ms + self._parts_ms else None

    def _found_unknown(self, asked: Asked, record: Record | None) -> None:
        """Have the operator learn of it, the first time that it is found."""
        if record is None or record.in_parts or self._unknown.get(asked.place) == record.since_ms:
            return
        if len(self._unknown) >= _UNKNOWN_REQUESTS:
            del self._unknown[next(iter(self._unknown))]
        self._unknown[asked.place] = record.since_ms
        self.unknown += 1
        who = {} if asked.private else {"principal": asked.who}
        since = times.to_text(record.since_ms)
        _log.warning("request.unknown", **who, path=record.path, since=since)

    async def _look(self, place: str, kept: _Kept) -> _Kept:
        """As ``_find``, a moment later: one look for all who wait, for whatever, and another at what has changed."""
        self._looked_for.add(place)
        look = self._next_look
        if look is None:
            look = self._next_look = asyncio.create_task(self._versions_later())
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)
        versions = await asyncio.shield(look)
        return kept if versions.get(place, 0) == kept.version else await self._find(place)

    async def _versions_later(self) -> dict[str, int]:
        await self._clock.wait(LOOK_SECONDS)
        places = tuple(self._looked_for)
        self._looked_for.clear()
        self._next_look = None  # Whoever comes while this looks is for the next.
        return await self._broker.store.browse(PaperVersions(Kind.REQUEST, places))

    def _is_left(self, place: str, record: Record | None) -> bool:
        """Whether it was begun, and nobody is at it."""
        if record is None or record.state is not State.IN_PROGRESS:
            return False
        return not self._is_running(place, record)

    def _is_running(self, place: str, record: Record | None) -> bool:
        """Whether somebody is at it, as far as this node can know: in doubt it is."""
        if record is None or record.state is not State.IN_PROGRESS:
            return False
        if record.run == self._broker.membership.id:
            return place in self._running
        if self._broker.store.nodes is None:
            return False
        # A node that has just started may not have been heard of yet.
        young = self._clock.wall_ms() - record.since_ms < CLAIM_SECONDS * 1_000
        return young or self._broker.membership.lives(record.run)

    async def _attend(self, here: _Running, asked: Asked, until: float) -> None:
        """Wait until what runs here has ended. ``IdempotencyKeyReused``, ``RequestInProgress``."""
        if here.asked.fingerprint != asked.fingerprint:
            raise reused()
        left = until - self._clock.monotonic()
        if left > 0:
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            resolve = functools.partial(_resolve, ended)
            cancel = self._clock.call_later(left, resolve)
            here.work.add_done_callback(resolve)
            try:
                await ended
            finally:
                cancel()
                here.work.remove_done_callback(resolve)
        if not here.work.done():
            raise RequestInProgress(_under_way(here.since_ms))
        # It forgets itself one turn after its end.
        await asyncio.sleep(0)

    def _reply(self, place: str, record: Record | None) -> Reply:
        if record is None or record.reply is None:
            raise not_kept(0 if record is None else record.status)
        if not record.sealed:
            return record.reply
        try:
            body = self._keyring.open(record.reply.body, (Kind.REQUEST, place))
        except SealBroken as error:
            raise not_kept(record.status) from error
        return msgspec.structs.replace(record.reply, body=body)

    # -- running --------------------------------------------------------------------------------

    def _begin(self, asked: Asked, kept: _Kept, run: Run) -> asyncio.Task[Given | None]:
        if self._open[asked.who] >= OPEN_REQUESTS:
            raise TooManyOpenRequests(f"{OPEN_REQUESTS} requests with keys are under way already")
        now = self._clock.wall_ms()
        expires = None
        if asked.in_parts:
            expires = now + self._parts_ms if kept.record is None else kept.record.expires_at_ms
        record = begun(asked, self._broker.membership.id, now, expires)
        work = asyncio.create_task(self._run(asked, record, kept, run))
        self._running[asked.place] = _Running(asked, record.since_ms, work)
        self._open[asked.who] += 1
        work.add_done_callback(functools.partial(self._ended, asked))
        return work

    def _ended(self, asked: Asked, work: asyncio.Task[Given | None]) -> None:
        del self._running[asked.place]
        self._open[asked.who] -= 1
        if not self._open[asked.who]:
            del self._open[asked.who]
        # Whoever asked may be gone, and then nobody looks at how it ended.
        error = None if work.cancelled() else work.exception()
        if error is not None and not isinstance(error, TooManyKeptRequests):
            _log.warning("request.failed", path=asked.path, error=type(error).__name__)

    async def _run(self, asked: Asked, record: Record, kept: _Kept, run: Run) -> Given | None:
        """What came of it; None where it is to be looked at again: somebody else has begun it, or it is forgotten."""
        if asked.in_parts:
            since = await self._parts_since(kept.record)
            if since is None:
                return None  # It has become too old since this looked.
            record = msgspec.structs.replace(record, parts_since_ms=since)
        version = kept.version + 1
        count = await self._count(asked)
        if version == 1 and count.number >= self._kept_requests:
            raise TooManyKeptRequests(
                f"{self._kept_requests} requests with keys are remembered already: each is forgotten in its time"
            )
        try:
            await self._put(asked.place, record, version)
        except PaperChanged:
            return None
        count.number += version == 1
        try:
            ran = await run()
        except Exception:
            await self._end(asked.place, record.left, version)
            self._found_unknown(asked, record)
            raise
        fate = ran.fate
        if asked.in_parts and kept.record is not None and fate is Fate.FREE:
            fate = Fate.INCOMPLETE  # Of what was done before, it says nothing.
        if fate is Fate.KEEP:
            reply = ran.reply.to_keep if ran.whole and ran.reply.may_be_kept else None
            if reply is not None and asked.secret:
                reply = msgspec.structs.replace(reply, body=self._seal(asked.place, reply.body))
            expires = record.expires_at_ms if reply is None else None
            record = msgspec.structs.replace(
                record,
                status=ran.reply.status,
                reply=reply,
                sealed=asked.secret,
                expires_at_ms=expires,
            )
        ended = record.left
        if fate in (Fate.KEEP, Fate.FREE):
            state = State.DONE if fate is Fate.KEEP else State.FREE
            ended = msgspec.structs.replace(record, state=state)
        await self._end(asked.place, ended, version)
        if fate is Fate.UNKNOWN:
            self._found_unknown(asked, record)
        if fate is Fate.FREE:
            count.number -= 1
        return Given(ran.reply, False)

    async def _count(self, asked: Asked) -> _Count:
        """How many of the principal's are remembered. Those who ask while it is counted go by the count before."""
        now = self._clock.monotonic()
        count = self._counts.get(asked.who)
        if count is not None and now < count.until:
            return count
        for who in [who for who, other in self._counts.items() if other.until <= now]:
            if who != asked.who:
                del self._counts[who]
        count = self._counts.setdefault(asked.who, _Count())
        count.until = now + COUNT_SECONDS
        begin = f"{asked.place.partition('/')[0]}/"
        try:
            count.number = await self._broker.store.browse(
                CountPapers(Kind.REQUEST, begin, f"{begin}~", self._kept_requests)
            )
        except StoreError:
            count.until = now
            raise
        return count

    def _seal(self, place: str, body: bytes) -> bytes:
        return self._keyring.seal(body, (Kind.REQUEST, place), self._random_bytes(NONCE_BYTES))

    async def _end(self, place: str, record: Record, version: int) -> None:
        """Write down what came of it. Where that cannot be, its repeat is told that nobody knows."""
        record = msgspec.structs.replace(record, ended_at_ms=self._clock.wall_ms())
        try:
            await self._put(place, record, version + 1)
        except (StoreError, PaperChanged) as error:
            _log.warning("request.not_kept", path=record.path, error=str(error))

    async def _put(self, place: str, record: Record, version: int) -> None:
        paper = Paper(
            kind=Kind.REQUEST,
            key=place,
            content=encode_record(record),
            version=version,
            expires_at_ms=record.expires_at_ms or self._clock.wall_ms() + self._retention_ms,
        )
        changes: list[Change] = [PutPaper(paper)]
        if record.state is State.FREE:
            # Put first: whoever has taken the key over meanwhile keeps it.
            changes.append(DropPaper(Kind.REQUEST, place))
        await self._broker.configure(*changes)


def _under_way(since_ms: int) -> str:
    return f"the same request is in progress since {times.to_text(since_ms)}"


def _in_progress(record: Record | None) -> RequestInProgress:
    return RequestInProgress(_under_way(0 if record is None else record.since_ms))


def _unknown(record: Record | None) -> RequestUnknown:
    since = times.to_text(0 if record is None else record.since_ms)
    return RequestUnknown(
        f"the same request was begun at {since}, and nobody knows what came of it: look before you send"
        " it again with another key"
    )


def _resolve(future: asyncio.Future[None], *_: object) -> None:
    if not future.done():
        future.set_result(None)
