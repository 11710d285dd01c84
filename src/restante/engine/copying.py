"""Moving a store: copying it batch by batch, and looking at the copy from end to end before it may be served."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

import msgspec

from restante.errors import StoreRefused
from restante.lifecycle import ENDED
from restante.model import State
from restante.moving import (
    ADMINISTERED,
    DeliveryRow,
    IdempotencyRow,
    Key,
    NotificationRow,
    Part,
    Progress,
    QueueRow,
    ReceiptRow,
    Row,
    shifted,
    without_nul,
)
from restante.ports import CopySource, CopyTarget
from restante.wire.receipts import GENESIS, chain

Watch = Callable[[str, int], None]
"""Told ``(what is being done, rows done since it was last told)``."""
_TOLD_FAULTS: Final = 20
_LIVING: Final = [state for state in State if state not in ENDED]
T = TypeVar("T")


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """``moved`` says how many rows of each part this run has copied, ``parts`` how many there are.

    ``faults`` are what is wrong in the copy because it is so in the source: broken chains, damaged bodies.
    ``before`` says that an earlier run had finished it, and nothing was done.
    """

    parts: dict[Part, int]
    moved: dict[Part, int]
    faults: list[str]
    before: bool = False


async def copy(source: CopySource, target: CopyTarget, watch: Watch) -> Copied:
    """Copy every row, going on where an earlier run stopped, verify the copy, and take its mark away.

    Raises ``StoreRefused`` where the target holds something else, or the source has changed since the copy was begun,
    or the copy is not what the source is. Until this returns, the target refuses to be served.
    """
    digest = await digest_of(source)
    progress = await target.progress()
    moved: Counter[Part] = Counter()
    if progress is None:
        finished = await target.finished()
        if finished is not None and finished.source == digest:
            # Killed after the last step of all, or run once too often. It may have been served since.
            return Copied(parts=finished.done, moved={}, faults=[], before=True)
        if finished is not None:
            raise StoreRefused("the target holds a store already: name an empty one")
        progress = Progress(source=digest, shift_ms=await target.now_ms() - await source.now_ms())
        await target.begin(progress, await source.token_secret())
    if progress.source != digest:
        raise StoreRefused(
            "the source has changed since the copy was begun: empty the target, and begin anew"
        )
    for part in list(Part)[list(Part).index(progress.part) :]:
        after = progress.after if part is progress.part else ()
        async for rows in source.rows(part, after):
            now = Progress(
                source=digest,
                shift_ms=progress.shift_ms,
                part=part,
                after=rows[-1].key,
                done=progress.done | {part: progress.done.get(part, 0) + len(rows)},
            )
            await target.put([shifted(row, progress.shift_ms) for row in rows], progress, now)
            progress = now
            moved[part] += len(rows)
            watch("copying", len(rows))
    faults = await verify(source, target, progress.shift_ms, watch)
    if await digest_of(source) != digest:
        raise StoreRefused(
            "the source was served while it was copied: stop every server, empty the target, and begin anew"
        )
    await target.finish(progress)
    return Copied(parts=progress.done, moved=dict(moved), faults=faults)


async def digest_of(source: CopySource) -> bytes:
    """By which a source is known again: its administration, its figures, and the ends of its ledgers."""
    digest = hashlib.sha256(await source.token_secret())
    encode = msgspec.msgpack.Encoder().encode
    for part in ADMINISTERED:
        async for rows in source.rows(part):
            for row in rows:
                digest.update(encode(row))
    return digest.digest()


async def verify(source: CopySource, target: CopySource, shift_ms: int, watch: Watch) -> list[str]:
    """Compare both stores row by row; then what is wrong in both, at most ``_TOLD_FAULTS`` of it.

    Every chain is computed anew from its entries, every body's SHA-256 from its bytes, and every queue's figures are
    counted. Raises ``StoreRefused`` for the first row that differs.
    """
    auditor = Auditor()
    for part in Part:
        wanted = _flat(source.rows(part))
        async for rows in target.rows(part):
            for row in rows:
                original = await anext(wanted, None)
                if original is None or comparable(shifted(original, shift_ms)) != comparable(row):
                    raise StoreRefused(_difference(part, original, row))
                auditor.look(row)
            watch("verifying", len(rows))
        left = await anext(wanted, None)
        if left is not None:
            raise StoreRefused(_difference(part, left, None))
    return auditor.end()


def comparable(row: Row) -> Row:
    """The row without what not every store can keep: NUL, and an idempotency key's places beyond its receipts."""
    if isinstance(row, IdempotencyRow):
        return row._replace(places=())
    return without_nul(row)


def _difference(part: Part, original: Row | None, copied: Row | None) -> str:
    place = _named(original.key if original is not None else copied.key if copied else ())
    match original, copied:
        case None, _:
            what = "is in the copy, and not in the source"
        case _, None:
            what = "is in the source, and not in the copy"
        case _:
            what = "is not the same in both"
    return f"the copy is not what the source is: {part.value} {place} {what}. Empty the target, and begin anew"


def _named(key: Key) -> str:
    return "~".join(str(part) for part in key)


async def _flat(batches: AsyncIterator[list[T]]) -> AsyncIterator[T]:
    async for batch in batches:
        for row in batch:
            yield row


class Auditor:
    """Looks at every row of a store, in the order of its parts, and says what does not add up."""

    def __init__(self) -> None:
        self._faults: list[str] = []
        self._count = 0
        self._queues: dict[int, QueueRow] = {}
        self._end: tuple[int, int, bytes] | None = None
        self._ended: set[int] = set()
        self._living: dict[int, Counter[int]] = {}

    def look(self, row: Row) -> None:
        match row:
            case QueueRow():
                self._queues[row.id] = row
                if sum(row.counts) != row.seq:
                    self._fault(f"queue {row.name}: {sum(row.counts)} in all states of {row.seq}")
            case NotificationRow():
                if row.body is not None and hashlib.sha256(row.body).digest() != row.body_sha256:
                    self._fault(f"notification {row.id}: its body is damaged")
            case ReceiptRow():
                self._receipt(row)
            case DeliveryRow():
                self._living.setdefault(row.queue, Counter())[row.state] += 1

    def end(self) -> list[str]:
        """What was found, when all rows were looked at."""
        self._close()
        for queue in self._queues.values():
            if queue.receipts > queue.pruned and queue.id not in self._ended:
                self._fault(f"queue {queue.name}: its ledger is not there")
            found = self._living.get(queue.id, Counter())
            for state in _LIVING:
                if found[state] != queue.counts[state]:
                    self._fault(
                        f"queue {queue.name}: {found[state]} {state.label}, and it counts {queue.counts[state]}"
                    )
        if self._count > _TOLD_FAULTS:
            self._faults.append(f"and {self._count - _TOLD_FAULTS} more")
        return self._faults

    def _receipt(self, row: ReceiptRow) -> None:
        queue = self._queues.get(row.queue)
        if queue is None:
            self._fault(f"receipt {_named(row.key)} is of no queue")
            return
        if self._end is None or self._end[0] != row.queue:
            self._close()
            # The digest before the first that is kept is gone with its receipt.
            before = GENESIS if queue.pruned == 0 else None
            expected = queue.pruned + 1
        else:
            before, expected = self._end[2], self._end[1] + 1
        if row.number != expected:
            self._fault(f"receipt {queue.name}~{expected} is missing")
        elif before is not None and chain(before, row.entry) != row.digest:
            self._fault(f"receipt {queue.name}~{row.number} breaks the chain")
        self._end = (row.queue, row.number, row.digest)

    def _close(self) -> None:
        """The last receipt of a queue was looked at: is it where the ledger ends?"""
        if self._end is None:
            return
        id, number, digest = self._end
        queue = self._queues[id]
        self._ended.add(id)
        if (number, digest) != (queue.receipts, queue.chain):
            self._fault(
                f"queue {queue.name}: its ledger ends at {number}, and it counts {queue.receipts}"
            )

    def _fault(self, text: str) -> None:
        self._count += 1
        if self._count <= _TOLD_FAULTS:
            self._faults.append(text)
