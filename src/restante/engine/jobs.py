"""Bulk work on dead letters: asked for once, done in small steps by whichever node has the claim, and never twice.

A job is a paper. Each step is written into it before it is done: which dead letters are in hand, and until when this
node has the claim. Writing takes the place of the version that was read, so a node that has lost its claim, or whose
job was paused or cancelled, finds that out before it does anything more. Whoever goes on after a crash does the step
in hand again: what of it was done is dead no more, and is passed over by the store. By whom it was done, the crashed
step or somebody else, the ledger tells; the job only says how many they are. For the same reason two jobs over the
same dead letters do each of them once. What dies after the job was asked for is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from restante.changes import Change, DropPaper, PutPaper
from restante.engine.acts import What
from restante.engine.ids import new_id
from restante.engine.job import (
    Counted,
    Job,
    JobPage,
    JobState,
    backoff,
    decode,
    failed_again,
    pause_after,
    step_over,
)
from restante.errors import (
    ClientNotFound,
    JobEnded,
    JobNotFound,
    OutcomeUnknown,
    PaperChanged,
    ShuttingDown,
    StoreError,
    TooManyJobs,
)
from restante.logs import get_logger
from restante.model import REASON_CHARACTERS, Actor, Selection, check_bounds
from restante.papers import Kind, Paper
from restante.queries import CountDead, DeadSeqs, FiguresOfQueues, PaperOf, Papers, Queues
from restante.wire.job_messages import Task

if TYPE_CHECKING:
    from restante.engine.broker import Broker

_log = get_logger(__name__)

STEP: Final = 100
"""Dead letters of a job are done so many to a transaction, and others go on in between."""
RATE_MAXIMUM: Final = 100_000
QUEUES: Final = 500
"""A job is over so many queues at most."""
OPEN_JOBS: Final = 100
"""So many may be under way or paused at once."""
COUNTED: Final = 100_000
"""A count looks at so many dead letters at most, and says when there are more."""
CLAIM_SECONDS: Final = 10.0
JOB_RETENTION_SECONDS: Final = 90 * 86_400
PATIENCE_SECONDS: Final = 60.0
"""So long whoever waits for a job's end waits for a store that is away."""
_LOOK_SECONDS: Final = 2.0
_RELEASE_SECONDS: Final = 2.0
_STEP_SECONDS: Final = 0.5
"""With a rate, a step is what may be done in that time."""
_PAGES: Final = 50
_OPEN: Final = "open/"
_PAST: Final = "past/"
_encode = msgspec.json.Encoder().encode


class _Kept(NamedTuple):
    job: Job
    version: int


class Jobs:
    """The jobs of a store, and those of them that this node works on. That an actor may ask, callers check first."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._clock = broker.clock
        self._store = broker.store
        self._running: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._alarm: asyncio.Future[None] | None = None

    # -- asking ---------------------------------------------------------------------------------

    async def ask(
        self,
        task: Task,
        queues: Sequence[str],
        selection: Selection,
        actor: Actor,
        *,
        reason: str = "",
        rate_per_second: float | None = None,
    ) -> Job:
        """Start a job over the dead letters that are there now. ``QueueNotFound``, ``TooManyJobs``, ``OutOfBounds``.

        At most ``rate_per_second`` (1 to ``RATE_MAXIMUM``) are done a second; None: as fast as leaves others theirs.
        """
        check_bounds("length of reason", len(reason), 0, REASON_CHARACTERS)
        if rate_per_second is not None:
            check_bounds("rate_per_second", rate_per_second, 1, RATE_MAXIMUM)
        counted = await self.count(queues, selection)
        if len(await self._open()) >= OPEN_JOBS:
            raise TooManyJobs(f"{OPEN_JOBS} jobs are under way or paused already")
        now = self._clock.wall_ms()
        # Only what is dead by now: what is redriven may die again while this goes on.
        until = now + 1 if selection.until_ms is None else min(selection.until_ms, now + 1)
        job = Job(
            id=new_id(now),
            task=task,
            queues=tuple(queues),
            selection=msgspec.structs.replace(selection, until_ms=until),
            reason=reason,
            rate_per_second=rate_per_second,
            asked_by=actor,
            asked_at_ms=now,
            total=counted.matched,
            at_least=counted.at_least,
        )
        job = self._claimed(job)
        await self._put(_Kept(job, 0), job, self._act(actor, What.JOB_ASKED, job))
        self.hurry()
        return job

    async def count(self, queues: Sequence[str], selection: Selection) -> Counted:
        """How many dead letters are selected, among the first ``COUNTED`` of these queues. ``QueueNotFound``."""
        check_bounds("number of queues", len(queues), 1, QUEUES)
        for name in queues:
            await self._broker.directory.queue(name)
        standing = await self._store.browse(FiguresOfQueues(tuple(queues), limit=QUEUES))
        matched, room = 0, COUNTED
        for one in standing:
            if one.figures.dead and room > 0:
                matched += await self._store.browse(CountDead(one.queue.name, selection, room))
            room -= one.figures.dead
        return Counted(matched, room < 0)

    async def queues_of(self, client: str) -> tuple[str, ...]:
        """All queues of a client, ``QUEUES`` at most (``OutOfBounds``). ``ClientNotFound`` where it has none."""
        found = await self._store.browse(Queues(limit=QUEUES + 1, owner=client))
        if not found:
            raise ClientNotFound(f"there is no client {client[:128]} with queues here")
        check_bounds(f"number of queues of client {client}", len(found), 1, QUEUES)
        return tuple(queue.name for queue in found)

    async def pause(self, id: str, actor: Actor) -> Job:
        """Do no more of it until it is resumed; the step under way is finished. ``JobNotFound``, ``JobEnded``."""
        return await self._change(id, actor, What.JOB_PAUSED, JobState.PAUSED)

    async def resume(self, id: str, actor: Actor) -> Job:
        """Go on with a paused job. ``JobNotFound``, ``JobEnded``."""
        job = await self._change(id, actor, What.JOB_RESUMED, JobState.RUNNING)
        self.hurry()
        return job

    async def cancel(self, id: str, actor: Actor) -> Job:
        """Do no more of it, for good; what is done stays done. ``JobNotFound``, ``JobEnded``."""
        return await self._change(id, actor, What.JOB_CANCELLED, JobState.CANCELLED)

    # -- looking --------------------------------------------------------------------------------

    async def job(self, id: str) -> Job:
        """The job as it stands, or ``JobNotFound``."""
        # An id of some other shape is no key of a paper.
        if id.isascii() and id.isprintable():
            kept = await self._find(id, also_past=True)
            if kept is not None:
                return kept.job
        raise JobNotFound(f"there is no job {id[:100]} here")

    async def page(self, after: str = "", limit: int = 100) -> JobPage:
        """Those under way or paused, all on the first page, then up to ``limit`` that ended; the newest first."""
        first = [] if after else [kept.job for kept in reversed(await self._open())]
        before = f"{_PAST}{after}" if after else f"{_PAST}~"
        papers = await self._store.browse(
            Papers(Kind.JOB, after=_PAST, before=before, limit=limit, newest_first=True)
        )
        past = [decode(paper.content) for paper in papers]
        return JobPage([*first, *past], past[-1].id if len(past) == limit else None)

    async def ended(self, id: str) -> Job:
        """Return the job when it has ended, on whatever node.

        A store that is away is waited for, ``PATIENCE_SECONDS`` long. Then, or where it is being closed, nobody here
        sees the end of what goes on: ``OutcomeUnknown``.
        """
        seen = self._clock.monotonic()
        while True:
            news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting = self._waiting.setdefault(id, [])
            waiting.append(news)
            cancel = self._clock.call_later(_LOOK_SECONDS, functools.partial(_resolve, news))
            try:
                job = await self._look(id)
                if job is not None and job.state.ended:
                    return job
                now = self._clock.monotonic()
                if job is not None:
                    seen = now
                elif now - seen >= PATIENCE_SECONDS:
                    raise OutcomeUnknown(_goes_on(id))
                await news
            finally:
                cancel()
                waiting.remove(news)
                if not waiting:
                    self._waiting.pop(id, None)

    async def _look(self, id: str) -> Job | None:
        """The job as it stands; None where the store does not say. ``OutcomeUnknown`` where it is being closed."""
        try:
            return await self.job(id)
        except ShuttingDown as error:
            raise OutcomeUnknown(_goes_on(id)) from error
        except StoreError:
            return None

    # -- working --------------------------------------------------------------------------------

    async def live(self) -> None:
        """Until cancelled: work on the jobs that nobody else works on."""
        try:
            while True:
                alarm = self._alarm = asyncio.get_running_loop().create_future()
                again = await self._take_up()
                cancel = self._clock.call_later(_LOOK_SECONDS, self.hurry) if again else _nothing
                try:
                    await alarm
                finally:
                    cancel()
        finally:
            running = dict(self._running)
            for work in running.values():
                work.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)
            with contextlib.suppress(StoreError, ShuttingDown, TimeoutError):
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await self._release(running)

    def hurry(self) -> None:
        """There may be something to take up."""
        if self._alarm is not None:
            _resolve(self._alarm)

    async def step(
        self, task: Task, queue: str, selection: Selection, actor: Actor, reason: str
    ) -> int:
        """Do up to ``STEP`` of the selected dead letters; how many were still dead."""
        if task is Task.REDRIVE:
            count, ready = await self._store.redrive(queue, selection, actor, STEP)
        else:
            count, ready = await self._store.discard(queue, selection, actor, STEP, reason)
        self._broker.wake(ready)
        return count

    async def _take_up(self) -> bool:
        """Begin what is free to be worked on; whether to look again by and by."""
        try:
            for kept in await self._open():
                id = kept.job.id
                if id not in self._running and self._is_free(kept.job):
                    work = asyncio.create_task(self._work(id))
                    self._running[id] = work
                    work.add_done_callback(functools.partial(self._left, id))
        except ShuttingDown:
            return False
        except StoreError as error:
            _log.warning("jobs.store_error", error=str(error))
            return True
        except Exception:  # noqa: BLE001 (logged; the next look may succeed)
            _log.exception("jobs.failed")
            return True
        # Alone with its store, a node is told of every job by who asks for it.
        return self._store.nodes is not None

    def _is_free(self, job: Job) -> bool:
        if job.state is not JobState.RUNNING:
            return False
        mine = self._store.nodes is None or job.node in ("", self._broker.membership.id)
        return mine or job.claimed_until_ms <= self._clock.wall_ms()

    async def _release(self, ids: Iterable[str]) -> None:
        """Let another node go on at once, and not when this one's claims have run out."""
        if self._store.nodes is None:
            return
        for id in ids:
            kept = await self._find(id)
            if kept is not None and kept.job.node == self._broker.membership.id:
                with contextlib.suppress(PaperChanged):
                    await self._put(kept, msgspec.structs.replace(kept.job, claimed_until_ms=0))

    def _left(self, id: str, _: asyncio.Task[None]) -> None:
        self._running.pop(id, None)
        # It may have been paused and resumed meanwhile.
        self.hurry()

    async def _work(self, id: str) -> None:
        while True:
            pause: float | None = _LOOK_SECONDS
            try:
                pause = await self._try(id)
            except PaperChanged:
                continue  # Paused, cancelled, or taken over; or paused and resumed, and still this node's.
            except ShuttingDown:
                return
            except StoreError as error:
                _log.warning("job.store_error", job=id, error=str(error))
            except Exception:  # noqa: BLE001 (logged; not even the failure could be written down)
                _log.exception("job.failed", job=id)
            if pause is None:
                return
            await self._clock.wait(pause)

    async def _try(self, id: str) -> float | None:
        """Go on with the job; after how many seconds to try again, None: there is no need to.

        A store that is away is waited for as long as it takes: ``StoreError`` is no failure of the job.
        """
        try:
            await self._go_on(id)
        except (PaperChanged, StoreError, ShuttingDown):
            raise
        except Exception as error:  # noqa: BLE001 (logged, and told in the job)
            _log.exception("job.failed", job=id)
            kept = await self._find(id)
            if kept is not None and self._is_free(kept.job):
                now, cause = self._clock.wall_ms(), type(error).__name__
                kept = await self._put(kept, failed_again(self._claimed(kept.job), cause, now))
                return None if kept.job.state.ended else backoff(kept.job)
        return None

    async def _go_on(self, id: str) -> None:
        """Work on the job until it has ended. ``PaperChanged`` when somebody else has changed it."""
        kept = await self._find(id)
        if kept is None or not self._is_free(kept.job):
            return
        kept = await self._put(kept, self._claimed(kept.job))
        # A step that was in hand before this: what of it is dead no more may have been done by it.
        again = True
        while not kept.job.state.ended:
            if kept.job.hand:
                begun = self._clock.monotonic()
                count = await asyncio.shield(self._do(kept.job))
                took = self._clock.monotonic() - begun
                pause = pause_after(kept.job, took)
                # Written before the pause: who stops the job in it finds no step in hand.
                kept = await self._count(kept, count, again=again)
                await self._clock.wait(pause)
            again = False
            kept = await self._put(kept, self._claimed(await self._next(kept.job)))
        _log.info("job.ended", job=id, state=kept.job.state.value, done=kept.job.done)

    async def _count(self, kept: _Kept, count: int, *, again: bool) -> _Kept:
        """Write down what became of the step. Also in a job that was stopped meanwhile; then ``PaperChanged``."""
        mine = kept.job
        try:
            return await self._put(kept, self._claimed(step_over(mine, count, again=again)))
        except PaperChanged:
            while (stopped := await self._find(mine.id, also_past=True)) is not None:
                job = stopped.job
                if (job.node, job.at, job.hand) != (mine.node, mine.at, mine.hand):
                    break  # Another node has it, and does the step again.
                with contextlib.suppress(PaperChanged):
                    await self._put(stopped, step_over(job, count, again=again))
                    break
            raise

    async def _do(self, job: Job) -> int:
        selection = msgspec.structs.replace(job.selection, seqs=job.hand)
        queue = job.queues[job.at]
        return await self.step(job.task, queue, selection, job.asked_by, job.reason)

    async def _next(self, job: Job) -> Job:
        """The job with its next step in hand, or ended; neither, where only the search has come some way."""
        rate = job.rate_per_second
        size = STEP if rate is None else max(1, min(STEP, int(rate * _STEP_SECONDS)))
        at, after = job.at, job.after
        for _ in range(_PAGES):
            if at == len(job.queues):
                now = self._clock.wall_ms()
                return msgspec.structs.replace(job, at=at, state=JobState.DONE, ended_at_ms=now)
            page = await self._store.browse(DeadSeqs(job.queues[at], job.selection, after, size))
            if page.seqs:
                hand = tuple(page.seqs)
                return msgspec.structs.replace(job, at=at, after=hand[-1], hand=hand)
            at, after = (at + 1, 0) if page.next is None else (at, page.next)
        return msgspec.structs.replace(job, at=at, after=after)

    # -- the papers -----------------------------------------------------------------------------

    async def _open(self) -> list[_Kept]:
        papers = await self._store.browse(
            # Beyond the limit of those that were asked for at the same moment on many nodes.
            Papers(Kind.JOB, after=_OPEN, before=f"{_OPEN}~", limit=10 * OPEN_JOBS)
        )
        return [_Kept(decode(paper.content), paper.version) for paper in papers]

    async def _find(self, id: str, *, also_past: bool = False) -> _Kept | None:
        for place in (_OPEN, _PAST)[: 2 if also_past else 1]:
            paper = await self._store.browse(PaperOf(Kind.JOB, f"{place}{id}"))
            if paper is not None:
                return _Kept(decode(paper.content), paper.version)
        return None

    async def _change(self, id: str, actor: Actor, what: What, state: JobState) -> Job:
        while True:
            job = await self.job(id)
            if job.state.ended:
                raise JobEnded(f"job {id} is {job.state.value} already")
            kept = await self._find(id)
            if kept is None:
                continue
            if kept.job.state is state:
                return kept.job
            wanted = msgspec.structs.replace(kept.job, state=state)
            if state.ended:
                wanted = msgspec.structs.replace(wanted, ended_at_ms=self._clock.wall_ms())
            try:
                return (await self._put(kept, wanted, self._act(actor, what, wanted))).job
            except PaperChanged:
                continue  # by the node that works on it

    def _claimed(self, job: Job) -> Job:
        until = self._clock.wall_ms() + int(CLAIM_SECONDS * 1_000)
        node = self._broker.membership.id
        return msgspec.structs.replace(job, node=node, claimed_until_ms=until)

    async def _put(self, kept: _Kept, job: Job, *acts: PutPaper) -> _Kept:
        """Write the job down in the place of what was read, acts with it; ``PaperChanged`` where that is no more."""
        content, version = _encode(job), kept.version + 1
        key = f"{_PAST if kept.job.state.ended else _OPEN}{job.id}"
        expires = None
        if job.state.ended:
            expires = self._clock.wall_ms() + JOB_RETENTION_SECONDS * 1_000
        paper = Paper(
            kind=Kind.JOB, key=key, content=content, version=version, expires_at_ms=expires
        )
        changes: list[Change] = [PutPaper(paper), *acts]
        if job.state.ended and not kept.job.state.ended:
            past = msgspec.structs.replace(paper, key=f"{_PAST}{job.id}", version=0)
            changes += [DropPaper(Kind.JOB, key), PutPaper(past)]
        await asyncio.shield(self._store.configure(changes))
        if job.state.ended:
            for news in self._waiting.get(job.id, ()):
                _resolve(news)
        return _Kept(job, version)

    def _act(self, actor: Actor, what: What, job: Job) -> PutPaper:
        told = {
            name: value
            for name, value in msgspec.to_builtins(job.selection).items()
            if value is not None
        }
        if job.rate_per_second is not None:
            told["rate_per_second"] = job.rate_per_second
        if job.reason:
            told["why"] = job.reason
        return self._broker.acts.paper(
            actor,
            what,
            queue=job.queues[0] if len(job.queues) == 1 else "",
            subject=job.id,
            details={
                "task": job.task.value,
                "queues": ", ".join(job.queues),
                "total": job.total,
                "done": job.done,
                **told,
            },
        )


def _goes_on(id: str) -> str:
    return f"job {id} was asked for and goes on; how it stands the store does not say now"


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _nothing() -> None:
    """There is no timer to cancel."""
