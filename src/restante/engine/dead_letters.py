"""What operators do with dead letters: new attempts, an end, another body, or a way past for those behind.

Redriving, discarding and replacing are recorded as acts before they are done (see ``acts.py``); the ledger tells of
each dead letter what became of it. What goes by a filter is a job (``jobs.py``), which outlives whoever asked for it.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

import msgspec

from restante.admission import admit, check_body
from restante.changes import OpenOrderingKey
from restante.engine.acts import What
from restante.engine.broker import Broker
from restante.engine.ids import new_id
from restante.engine.job import JobState
from restante.engine.jobs import STEP
from restante.errors import DeadLetterNotFound, JobEnded, OutcomeUnknown, RestanteError
from restante.model import (
    Actor,
    Appended,
    Draft,
    Idempotency,
    Selection,
    State,
)
from restante.queries import CountDead, NotificationById, OpenDeliveries, OpenDelivery
from restante.wire.job_messages import Task

REPLACES: Final = "restante-replaces"
"""The attribute of a notification that names the one in whose place it stands."""
_REPLACING: Final = "restante/replacing"
"""Whose idempotency keys those of replacements are: no principal has such a name."""


class DeadLetterDesk:
    """What ``actor`` does. That it may, callers check first."""

    def __init__(self, broker: Broker, actor: Actor) -> None:
        self._broker = broker
        self._actor = actor

    async def redrive(
        self, queue: str, selection: Selection, *, preview: bool = False
    ) -> tuple[int, int]:
        """Give selected dead letters new attempts: ``(how many matched, how many were redriven)``.

        ``JobEnded`` where what goes by a filter was cancelled or given up before its end; ``OutcomeUnknown`` where the
        store failed after something was done. So does ``discard``.
        """
        return await self._bulk(Task.REDRIVE, queue, selection, "", preview)

    async def discard(
        self, queue: str, selection: Selection, *, reason: str = "", preview: bool = False
    ) -> tuple[int, int]:
        """Discard selected dead letters: ``(how many matched, how many were discarded)``. Receipts stay."""
        return await self._bulk(Task.DISCARD, queue, selection, reason, preview)

    async def _bulk(
        self, task: Task, queue: str, selection: Selection, reason: str, preview: bool
    ) -> tuple[int, int]:
        broker = self._broker
        await broker.directory.queue(queue)
        if preview:
            return await broker.store.browse(CountDead(queue, selection)), 0
        if selection.seqs is None:
            job = await broker.jobs.ask(task, (queue,), selection, self._actor, reason=reason)
            ended = await broker.jobs.ended(job.id)
            if ended.state is not JobState.DONE:
                stands = f"at least {ended.done:,} of {ended.total:,} were done"
                raise JobEnded(f"job {ended.id} is {ended.state.value}: {stands}")
            return ended.total, ended.done
        matched = await broker.store.browse(CountDead(queue, selection))
        seqs = ", ".join(str(seq) for seq in selection.seqs)
        details = {"seqs": seqs, "matched": matched}
        if reason:
            details["reason"] = reason
        what = What.DEAD_REDRIVEN if task is Task.REDRIVE else What.DEAD_DISCARDED
        await broker.acts.record(self._actor, what, queue=queue, details=details)
        done = 0
        for first in range(0, len(selection.seqs), STEP):
            # Each once: what is redriven may die again while this goes on.
            some = msgspec.structs.replace(selection, seqs=selection.seqs[first : first + STEP])
            work = broker.jobs.step(task, queue, some, self._actor, reason)
            try:
                done += await asyncio.shield(work)
            except RestanteError as error:
                if not done:
                    raise
                raise OutcomeUnknown(
                    f"{done:,} of {matched:,} were done before this: {error.detail}"
                ) from error
        return matched, done

    async def replace(self, queue: str, seq: int, body: bytes, content_type: str) -> Appended:
        """Publish a body in the place of a dead letter's, as a notification of its own that refers to the old one.

        It keeps the topic, the ordering key and the attributes, and comes before all that the dead letter held up;
        the old one is discarded in the same transaction. Asked again, it answers as the first time.
        ``DeadLetterNotFound``; ``IdempotencyKeyReused`` where it was replaced by something else.
        """
        broker = self._broker
        found = await broker.directory.queue(queue)
        check_body(len(body), queue, found.settings)
        letter = await self._letter(queue, seq)
        old = None if letter is None else await broker.store.browse(NotificationById(letter.id))
        digest = hashlib.sha256(body).digest()
        fingerprint = hashlib.sha256(f"{content_type}\n".encode() + digest).digest()
        draft = Draft(
            id=new_id(broker.clock.wall_ms()),
            queues=(queue,),
            body=body,
            body_sha256=digest,
            content_type=content_type,
            actor=self._actor,
            topic="" if old is None else old.topic,
            attributes={} if old is None else old.attributes | {REPLACES: old.id},
            ordering_key="" if letter is None else letter.ordering_key,
            idempotency=Idempotency(_REPLACING, f"{queue}~{seq}", fingerprint),
            replaces=seq,
        )
        admit(draft)
        if old is not None:
            await broker.acts.record(
                self._actor,
                What.DEAD_REPLACED,
                queue=queue,
                subject=old.id,
                details={"seq": seq, "by": draft.id},
            )
        return await broker.append(draft)

    async def open_ordering_key(self, queue: str, seq: int) -> str:
        """Let go what a dead letter holds up; it stays dead. The ordering key. ``DeadLetterNotFound``."""
        broker = self._broker
        await broker.directory.queue(queue)
        letter = await self._letter(queue, seq)
        if letter is None:
            raise _not_there(queue, seq)
        change = OpenOrderingKey(queue, letter.ordering_key)
        act = broker.acts.paper(
            self._actor,
            What.ORDERING_KEY_OPENED,
            queue=queue,
            subject=letter.id,
            details={"seq": seq, "ordering_key": letter.ordering_key},
        )
        await broker.configure(change, act)
        return letter.ordering_key

    async def _letter(self, queue: str, seq: int) -> OpenDelivery | None:
        page = await self._broker.store.browse(OpenDeliveries(queue, State.DEAD, seq - 1, 1))
        return page[0] if page and page[0].seq == seq else None


def _not_there(queue: str, seq: int) -> RestanteError:
    return DeadLetterNotFound(f"queue {queue} has no dead letter {seq}")
