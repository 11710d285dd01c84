"""What the writer keeps in memory beside the file: each queue's tally and the end of its ledger.

One process owns the file, so memory may run ahead of it inside a transaction. ``flush`` writes every changed tally
once per transaction; ``forget`` drops them all after a rollback.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import apsw
import msgspec

from restante.errors import QueueNotFound
from restante.metering import Meter
from restante.model import Actor, Outcome, Settings, Signature, State
from restante.stores.sqlite.ledger import SHELF
from restante.timeline import Timeline
from restante.wire.receipts import GENESIS, Subject, chain, entry_of

CACHED_QUEUES: Final = 200_000
RESERVE_BYTES: Final = 64 * 1024 * 1024
"""Publishing stops when less than this (or a tenth of a small disk) is free, so that acks still find room."""
PAGE_BYTES: Final = 4_096
"""SQLite's default, which every file here has."""
_LOOK_AT_DISK_MS: Final = 100
_PERSIST_TIMELINE_MS: Final = 5_000
_STATES: Final = len(State)

_decode_settings = msgspec.json.Decoder(Settings).decode


class QueueBook:
    """A queue as the writer knows it. ``counts`` is indexed by ``State``."""

    __slots__ = (
        "chain",
        "counts",
        "dirty",
        "id",
        "last",
        "name",
        "owner",
        "receipts",
        "seq",
        "settings",
    )

    def __init__(
        self,
        id: int,
        name: str,
        owner: str,
        settings: Settings,
        tally: tuple[int, int, int, bytes, list[int]] | None,
    ) -> None:
        self.id = id
        self.name = name
        self.owner = owner
        self.settings = settings
        self.seq, self.receipts, self.last, self.chain, self.counts = tally or (
            0,
            0,
            0,
            GENESIS,
            [0] * _STATES,
        )
        self.dirty = False


class Books:
    """All tallies touched since the start, and the ledger's pen."""

    def __init__(
        self, connection: apsw.Connection, timeline: Timeline, path: Path | None, reserve_bytes: int
    ) -> None:
        self.connection = connection
        self.timeline = timeline
        self._path = path
        self._reserve_bytes = reserve_bytes
        self._by_name: dict[str, QueueBook] = {}
        self._dirty: list[QueueBook] = []
        self._looked_at_ms = -_LOOK_AT_DISK_MS
        self._has_room = True
        self._persisted_ms = 0
        self.meter = Meter()

    def queue(self, name: str) -> QueueBook:
        """The queue of that name, or ``QueueNotFound``."""
        book = self._by_name.get(name)
        if book is None:
            book = self._load(name)
        return book

    def reload(self, name: str) -> None:
        """The queue's settings were changed within this transaction."""
        book = self._by_name.pop(name, None)
        if book is not None:
            fresh = self._load(name)
            fresh.seq, fresh.receipts, fresh.last = book.seq, book.receipts, book.last
            fresh.chain, fresh.counts = book.chain, book.counts
            if book.dirty:
                fresh.dirty = True
                self._dirty[self._dirty.index(book)] = fresh

    def touch(self, book: QueueBook) -> None:
        """The book was changed: it must be written with this transaction."""
        if not book.dirty:
            book.dirty = True
            self._dirty.append(book)

    def move(self, book: QueueBook, before: State | None, after: State) -> None:
        """Count one delivery out of one state and into another."""
        counts = book.counts
        if before is not None:
            counts[before] -= 1
        counts[after] += 1
        if not book.dirty:
            book.dirty = True
            self._dirty.append(book)

    def write(  # noqa: PLR0913 (a receipt has that many facets)
        self,
        book: QueueBook,
        subject: Subject,
        seq: int,
        outcome: Outcome,
        state: State,
        *,
        actor: Actor,
        at_ms: int,
        attempt: int = 0,
        fence: int = 0,
        leased_at_ms: int | None = None,
        reason: str = "",
        reply: bytes | None = None,
        reply_content_type: str = "",
        signature: Signature | None = None,
    ) -> int:
        """Add a receipt to the end of the queue's ledger; its number."""
        number = book.receipts + 1
        entry = entry_of(
            book.name,
            number,
            subject,
            seq,
            outcome,
            state,
            actor=actor,
            at_ms=at_ms,
            attempt=attempt,
            fence=fence,
            leased_at_ms=leased_at_ms,
            reason=reason,
            reply=reply,
            reply_content_type=reply_content_type,
            signature=signature,
        )
        digest = chain(book.chain, entry)
        self.connection.execute(
            "INSERT INTO receipts (queue, number, previous, notification, seq, outcome, fence, at, entry, digest)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                book.id,
                number,
                book.last,
                subject.n,
                seq,
                outcome.value,
                fence,
                at_ms,
                entry,
                digest,
            ),
        )
        book.receipts, book.chain = number, digest
        book.last = self.connection.last_insert_rowid()
        if number % SHELF == 0:
            self.connection.execute(
                "INSERT INTO shelves VALUES (?, ?, ?)", (book.id, number, book.last)
            )
        if not book.dirty:
            book.dirty = True
            self._dirty.append(book)
        age_ms = at_ms - subject.published_at_ms
        self.meter.receipt(
            (book.name, outcome, state, age_ms, reason, number, seq, subject.id, actor.name)
        )
        return number

    def has_room(self) -> bool:
        """Whether the disk has room for new notifications (looked at ten times a second)."""
        now = self.timeline.now_ms()
        if self._path is not None and now - self._looked_at_ms >= _LOOK_AT_DISK_MS:
            self._looked_at_ms = now
            disk = os.statvfs(self._path)
            reserve = min(self._reserve_bytes, disk.f_blocks * disk.f_frsize // 10)
            free = disk.f_bavail * disk.f_frsize - self._growth_bytes(self._path)
            if free < reserve:
                free += self.connection.pragma("freelist_count") * PAGE_BYTES
            self._has_room = free >= reserve
        return self._has_room

    def _growth_bytes(self, path: Path) -> int:
        """What the file has yet to grow by, when the log is moved into it: room that is spoken for already."""
        pages: int = self.connection.pragma("page_count")
        return max(0, pages * PAGE_BYTES - path.stat().st_size)

    @property
    def checkpoint_pages(self) -> int:
        """Small steps on a full disk, so that the acks to come reuse the log instead of lengthening it."""
        return 4_000 if self._has_room else 100

    def flush(self) -> None:
        """Write every changed tally, and now and then where the timeline stands."""
        if not self._dirty:
            return
        for book in self._dirty:
            book.dirty = False
        self.connection.executemany(
            "INSERT OR REPLACE INTO tallies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(b.id, b.seq, b.receipts, b.last, b.chain, *b.counts) for b in self._dirty],
        )
        self._dirty.clear()
        now = self.timeline.now_ms()
        if now - self._persisted_ms >= _PERSIST_TIMELINE_MS:
            self._persisted_ms = now
            self.connection.execute(
                "INSERT OR REPLACE INTO meta VALUES ('timeline', ?)", (str(now).encode(),)
            )

    def forget(self) -> None:
        """Drop what was read or changed: the file is as it was."""
        self._by_name.clear()
        self._dirty.clear()

    def committed(self) -> None:
        """What was written since the last commit is there to stay."""
        self.meter.committed()

    def undone(self) -> None:
        """What was written since the last commit is not there."""
        self.forget()
        self.meter.undone()

    def make_room(self) -> None:
        """Move the log into the file and start it over: an ack that failed may then fit."""
        self._has_room = False
        self._looked_at_ms = self.timeline.now_ms()
        try:
            self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        except (apsw.FullError, apsw.BusyError):
            return

    def _load(self, name: str) -> QueueBook:
        row = self.connection.execute(
            "SELECT q.id, q.name, q.owner, q.settings, t.seq, t.receipts, t.last, t.chain, t.scheduled, t.ready,"
            " t.held, t.leased, t.dead, t.acked, t.superseded, t.expired, t.discarded"
            " FROM queues q LEFT JOIN tallies t ON t.queue = q.id WHERE q.name = ?",
            (name,),
        ).fetchone()
        if row is None:
            raise QueueNotFound(f"there is no queue {name} here")
        tally = None if row[4] is None else (row[4], row[5], row[6], row[7], list(row[8:]))
        book = QueueBook(row[0], row[1], row[2], _decode_settings(row[3]), tally)
        if len(self._by_name) >= CACHED_QUEUES:
            for old in [b.name for b in list(self._by_name.values())[:1_000] if not b.dirty]:
                del self._by_name[old]
        self._by_name[name] = book
        return book
