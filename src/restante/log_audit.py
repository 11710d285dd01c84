"""Checking a whole log of receipts from its export, believing nobody but the keys that one holds.

Every entry is hashed anew, every queue's chain and the whole tree are computed anew, and compared with the signed head,
with the heads that somebody kept elsewhere, and with the hashes that the store keeps. What does not agree is said with
its place: what was edited, deleted, inserted, cut off, or told in two ways. Pure.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import msgspec

from restante.errors import Malformed
from restante.log_tree import LEAVES, AuditedTree, OnProgress
from restante.receipt_log import Seal
from restante.wire import log_lines, times
from restante.wire.checkpoints import NotSigned, NotTrusted, TreeHead, VerifierKey, of_note
from restante.wire.log_lines import (
    Line,
    LogLine,
    PrunedLine,
    QueueLine,
    ReceiptLine,
    SealLine,
)
from restante.wire.receipts import GENESIS, chain

TOLD: Final = 100
"""So many findings are told; all are counted."""
LATE_MS: Final = 60_000
"""A receipt that is older than this is in the log, or was kept out of it."""


class HeldHead(NamedTuple):
    """A signed head that was kept elsewhere, and where, for people."""

    note: str
    place: str


class Finding(msgspec.Struct, frozen=True):
    """``what`` is ``edit``, ``deletion``, ``insertion``, ``truncation``, ``fork``, ``damage``, or ``key`` where only
    somebody with another key can say whether it holds; all else is for people.
    """

    what: str
    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.where}: {self.why}"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """``pruned`` receipts are not kept any more, and have their hashes in the log; ``unsealed`` ones are new.

    ``unjudged`` heads that the store kept are signed by keys that were not given. ``unproved`` of the pruned receipts
    are gone by the word of the database alone, since nobody said how long receipts had to be kept.

    ``signed_by`` is None where the log was checked against its own keys alone, which proves nothing to anybody.
    """

    head: TreeHead | None
    receipts: int
    pruned: int
    unproved: int
    unsealed: int
    heads: int
    unjudged: int
    findings: list[Finding]
    count: int
    signed_by: str | None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.count == 0


class _EntryHead(msgspec.Struct, frozen=True, gc=False):
    queue: str
    number: int
    at: str


_decode_entry: Final = msgspec.json.Decoder(_EntryHead).decode


class _Queue:
    """The queue whose lines are coming."""

    def __init__(self, line: QueueLine) -> None:
        self.name = line.name
        self.pruned: int | None = None
        self.read_ms = 0
        """When the last of its lines was read."""
        self.newest_ms = 0
        """The time of its newest receipt that is not in the log."""
        self.retention_ms = line.receipt_retention_seconds * 1_000
        self.seals: list[Seal] = []
        self.at = 0
        """The seal that the next receipt may be in."""
        self.first = 0
        self.last = 0
        self.digest: bytes | None = None

    @property
    def gone(self) -> int:
        """The number up to which its receipts are not there, and retention is said to have let go of them."""
        return min(self.pruned or 0, max(self.first - 1, 0))

    def place_of(self, number: int) -> int | None:
        while self.at < len(self.seals):
            seal = self.seals[self.at]
            if number < seal.first + seal.count:
                return seal.place_of(number)
            self.at += 1
        return None


class LogAuditor:
    """Is told line after line, then asked for its verdict.

    ``trusted`` are keys that one holds; without any the log's own are taken. ``heads`` were kept
    elsewhere. ``retention_seconds`` is how long receipts had to be kept; None: as long as their queues say. ``now_ms``,
    by one's own clock, is when the export had been taken at the latest.
    """

    def __init__(
        self,
        trusted: Collection[VerifierKey] = (),
        heads: Sequence[HeldHead] = (),
        retention_seconds: int | None = None,
        now_ms: int | None = None,
    ) -> None:
        self._retention_seconds = retention_seconds
        self._now_ms = now_ms
        self._trusted = list(trusted)
        self._given = bool(trusted)
        self._elsewhere = list(heads)
        self._findings: list[Finding] = []
        self._count = 0
        self._log: LogLine | None = None
        self._head: TreeHead | None = None
        self._tree = AuditedTree(self._find)
        self._kept: list[HeldHead] = []
        self._queue: _Queue | None = None
        self._name = ""
        self._pruned_queues: list[_Queue] = []
        self._receipts = self._pruned = self._unsealed = self._sealed = 0
        self._ended = False
        self._lines = 0
        self._at_ms = 0
        self._judged = self._unjudged = 0

    @property
    def size(self) -> int | None:
        """Of how many receipts the log is; None before its head was read, and where that does not hold."""
        return None if self._head is None else self._head.size

    @property
    def passed(self) -> int:
        """How many of them were looked at, or are not kept any more."""
        return self._receipts + self._pruned - self._unsealed

    def look(self, text: bytes) -> None:
        """Take in the next line."""
        self._lines += 1
        try:
            self._look(log_lines.decode(text))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Malformed) as error:
            after = f", behind {self._queue.name}~{self._queue.last}" if self._queue else ""
            why = str(error) if isinstance(error, Malformed) else "it is no line of an export"
            self._find("damage", f"line {self._lines}{after}", why)

    def _look(self, line: Line) -> None:
        if self._lines == 1 and line.log is None:
            self._find("truncation", "the export", "its beginning is not there")
        if self._ended:
            raise Malformed("it comes behind the end")
        if line.receipt is not None:
            self._receipt(line.receipt)
        elif line.seal is not None:
            self._seal(line.seal)
        elif line.tile is not None:
            self._close()
            self._tree.keep(line.tile)
        elif line.queue is not None:
            self._begin(line.queue)
        elif line.head is not None:
            self._close()
            self._kept.append(HeldHead(line.head.checkpoint, f"line {self._lines} of the export"))
        elif line.log is not None:
            self._start(line.log)
        elif line.end is not None:
            self._close()
            self._ended = True
        elif line.pruned is not None:
            self._end_of_queue(line.pruned)
            self._close()
        elif line.damage is not None:
            self._find("damage", line.damage.where, "it is not what Restante writes")
        else:
            raise Malformed("it is of no kind that there is")

    def verdict(self, on_progress: OnProgress = lambda leaves: None) -> Verdict:
        """What was found, when all lines were looked at."""
        self._close()
        if not self._lines:
            self._find("truncation", "the export", "nothing is there")
        elif not self._ended:
            self._find("truncation", "the export", "its end is not there")
        elif self._log is not None and self._head is not None:
            self._judge(self._log, self._head, on_progress)
        elif self._log is not None and not self._log.checkpoint:
            self._judge_headless(self._log)
        return Verdict(
            head=self._head,
            receipts=self._receipts,
            pruned=self._pruned,
            unproved=self._pruned if self._retention_seconds is None else 0,
            unsealed=self._unsealed,
            heads=self._judged,
            unjudged=self._unjudged,
            findings=self._findings,
            count=self._count,
            signed_by=", ".join(key.name for key in self._trusted) if self._given else None,
        )

    def _find(self, what: str, where: str, why: str) -> None:
        self._count += 1
        if len(self._findings) < TOLD:
            self._findings.append(Finding(what, where, why))

    # -- line by line ---------------------------------------------------------------------------

    def _start(self, line: LogLine) -> None:
        if self._lines > 1:
            raise Malformed("an export begins with it, once")
        self._log = line
        self._at_ms = self._time_of(line.at, "the beginning of the export")
        if not self._given:
            try:
                self._trusted = [VerifierKey.parse(text) for text in line.keys]
            except ValueError:
                self._find("edit", "the log's keys", "one of them is no key")
        if not line.checkpoint:
            return
        try:
            self._head = of_note(line.checkpoint, line.origin, self._trusted)
        except NotTrusted as error:
            why = f"{error}: without that key the log cannot be judged"
            self._find("key" if self._given else "edit", "the head of the log", why)
            return
        except NotSigned as error:
            self._find("edit", "the head of the log", str(error))
            return
        if self._head.size != line.size:
            self._find(
                "edit",
                "the head of the log",
                f"it is of {self._head.size} receipts, and the log says that it has {line.size}",
            )
        # What is signed was there: an export that says it is older hides nothing by that.
        self._at_ms = max(self._at_ms, self._head.at_ms)
        size = self._head.size
        if size > LEAVES:
            self._find("damage", "the head of the log", f"it is of more than {LEAVES:,} receipts")
            self._head = None
            return
        self._tree.begin(size)

    def _begin(self, line: QueueLine) -> None:
        self._close()
        if line.name <= self._name:
            self._find("insertion", f"queue {line.name}", f"it comes behind {self._name}")
        self._name = line.name
        self._queue = _Queue(line)

    def _end_of_queue(self, line: PrunedLine) -> None:
        queue = self._of_queue()
        queue.pruned = line.to
        where = f"the end of queue {queue.name}"
        queue.read_ms = max(self._time_of(line.at, where), self._at_ms)
        if queue.newest_ms > queue.read_ms + LATE_MS:
            where = f"a receipt of {queue.name} that is not in the log"
            self._find("insertion", where, "it is of a time that had not come")

    def _time_of(self, text: str, where: str) -> int:
        at_ms = times.to_ms(text)
        if self._now_ms is not None and at_ms > self._now_ms + LATE_MS:
            self._find("edit", where, "it is said to be of a time that has not come")
            return self._now_ms
        return at_ms

    def _seal(self, line: SealLine) -> None:
        queue = self._of_queue(begun=False)
        seal = Seal(queue.name, line.first, line.count, line.place)
        after = queue.seals[-1] if queue.seals else None
        if seal.count < 1 or seal.place < 0 or seal.first < 1:
            raise Malformed("a seal is over receipts of a queue")
        if after is not None and seal.first < after.first + after.count:
            where = f"receipts from {queue.name}~{seal.first} on"
            self._find("insertion", where, "they are said to be in the log twice")
        if after is not None and seal.place < after.place + after.count:
            where = f"receipts from {queue.name}~{seal.first} on"
            self._find("edit", where, "they are said to be in the log before those before them")
        queue.seals.append(seal)
        self._sealed += seal.count
        self._tree.claim(seal)

    def _receipt(self, line: ReceiptLine) -> None:
        queue = self._of_queue()
        entry = bytes(line.entry)
        try:
            head, digest = _decode_entry(entry), bytes.fromhex(line.digest)
        except (msgspec.DecodeError, msgspec.ValidationError, ValueError):
            where = f"the receipt after {queue.name}~{queue.last}"
            self._find("edit", where, "it is no receipt any more")
            return
        if digest.hex() != line.digest:
            self._find("edit", f"receipt {queue.name}~{head.number}", "its digest is none")
        number = head.number
        self._receipts += 1
        where = f"receipt {queue.name}~{number}"
        if head.queue != queue.name:
            self._find("insertion", where, f"its entry is of queue {head.queue}")
        if not queue.last:
            queue.first = number
            queue.digest = GENESIS if number == 1 else None
        elif number > queue.last + 1:
            gone = _receipts(queue.name, queue.last + 1, number - 1)
            self._find("deletion", gone, "not there")
            queue.digest = None
        elif number <= queue.last:
            self._find("insertion", where, f"it comes behind {queue.name}~{queue.last}")
        if queue.digest is not None and chain(queue.digest, entry) != digest:
            self._find("edit", where, "its digest is not that of its entry and those before it")
        queue.last, queue.digest = number, digest
        self._put(queue, head, entry, where)

    def _put(self, queue: _Queue, head: _EntryHead, entry: bytes, where: str) -> None:
        place = queue.place_of(head.number)
        if place is None:
            self._is_unsealed(queue, head)
            if queue.at < len(queue.seals):
                self._find("edit", where, "nothing says where in the log it is")
            elif _is_before(head.at, self._at_ms - LATE_MS):
                self._find("insertion", where, "it is not new, and not in the log")
        elif self._head is not None and not self._tree.put(place, entry):
            # Sealed since the head was read; or the head was taken back.
            self._is_unsealed(queue, head)
            if _is_before(head.at, self._at_ms - LATE_MS):
                self._find(
                    "truncation", where, "it is not new, and the head of the log is without it"
                )

    def _is_unsealed(self, queue: _Queue, head: _EntryHead) -> None:
        self._unsealed += 1
        with contextlib.suppress(Malformed):
            queue.newest_ms = max(queue.newest_ms, times.to_ms(head.at))

    def _of_queue(self, *, begun: bool = True) -> _Queue:
        queue = self._queue
        if queue is None:
            raise Malformed("that line belongs to a queue, and there is none before it")
        if queue.pruned is not None or (queue.last and not begun):
            raise Malformed("that line is out of order")
        return queue

    def _close(self) -> None:
        """The lines of a queue are over."""
        queue, self._queue = self._queue, None
        if queue is None:
            return
        if queue.pruned is None:
            self._find("truncation", f"queue {queue.name}", "its end is not there")
        elif queue.first > queue.pruned + 1:
            gone = _receipts(queue.name, queue.pruned + 1, queue.first - 1)
            self._find("deletion", gone, "not there, though not let go of by retention")
        self._pruned += queue.gone
        if not queue.seals:
            return
        last = queue.seals[-1].first + queue.seals[-1].count - 1
        if queue.last < last:
            gone = _receipts(queue.name, queue.last + 1, last)
            self._find("truncation", gone, "in the log, and not there")
        if queue.gone:
            self._pruned_queues.append(queue)

    # -- the whole ------------------------------------------------------------------------------

    def _judge(self, log: LogLine, head: TreeHead, on_progress: OnProgress) -> None:
        self._tree.judge(head, on_progress)
        times_of = self._check_heads(log, head)
        self._judged = len(self._kept) + len(self._elsewhere) - self._unjudged
        if not self._kept:
            self._find("deletion", "the heads that the store kept", "there are none")
        for queue in self._pruned_queues:
            self._check_pruned(queue, sorted(times_of))

    def _judge_headless(self, log: LogLine) -> None:
        """A log in which nothing is, or whose head is gone."""
        if self._sealed or self._kept:
            why = f"it has no head, and {self._sealed:,} receipts and {len(self._kept):,} heads that were in it"
            self._find("truncation", "the log", why)
        for one in self._elsewhere:
            self._check_head(one, log, None, kept=False)
        self._judged = len(self._elsewhere) - self._unjudged

    def _check_pruned(self, queue: _Queue, heads: list[tuple[int, int]]) -> None:
        """What is not kept is older than the queue keeps receipts. A head without it says that it came later."""
        kept_ms = queue.retention_ms
        if self._retention_seconds is not None:
            kept_ms = self._retention_seconds * 1_000
        since_ms = queue.read_ms - kept_ms + LATE_MS
        for seal in queue.seals:
            if seal.first > queue.gone:
                break
            before = bisect_right(heads, (seal.place, 1 << 62)) - 1
            if before >= 0 and heads[before][1] > since_ms:
                gone = _receipts(queue.name, seal.first, queue.gone)
                why = "gone before the time, unless that was made longer since"
                self._find("deletion", gone, why)
                break

    def _check_heads(self, log: LogLine, head: TreeHead) -> list[tuple[int, int]]:
        """Check them all; the sizes and times of those that are signed."""
        return [
            (found.size, found.at_ms)
            for kept, heads in ((True, self._kept), (False, self._elsewhere))
            for one in heads
            if (found := self._check_head(one, log, head, kept=kept)) is not None
        ]

    def _check_head(
        self, one: HeldHead, log: LogLine, head: TreeHead | None, *, kept: bool
    ) -> TreeHead | None:
        whose = "a head that the store kept" if kept else "a head that was kept elsewhere"
        whose = f"{whose} ({one.place})"
        try:
            origin = log.origin or one.note.partition("\n")[0]
            other = of_note(one.note, origin, self._trusted)
        except NotTrusted as error:
            # By a key of another time: for whoever holds that one.
            self._unjudged += 1
            if not kept:
                self._find("key", whose, f"{error}: it says nothing without that key")
            return None
        except NotSigned as error:
            self._find("edit" if kept else "fork", whose, str(error))
            return None
        where = f"{whose}, of {other.size} receipts at {times.to_text(other.at_ms)}"
        if head is None:
            self._find("truncation", where, "the log has none now")
        elif other.size > head.size:
            # The store may have kept one since the export was begun.
            if not kept or other.at_ms < self._at_ms - LATE_MS:
                self._find("truncation", where, f"the log has {head.size} now")
        elif other.size == head.size and other.root != head.root:
            self._find("fork", where, "the log of that size has another root now")
        elif self._tree.root_of(other.size) not in {None, other.root}:
            self._find("fork", where, "the log began otherwise then")
        return other


def _receipts(queue: str, first: int, last: int) -> str:
    if first == last:
        return f"receipt {queue}~{first}"
    return f"receipts {queue}~{first} to {queue}~{last}"


def _is_before(text: str, at_ms: int) -> bool:
    try:
        return times.to_ms(text) < at_ms
    except Malformed:
        return True
