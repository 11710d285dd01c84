"""The file as one end of a copy: giving out all its rows, or taking in another store's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from restante import moving
from restante.errors import StoreError, StoreFull, StoreInUse, StoreRefused, StoreUnavailable
from restante.moving import Key, Part, Progress, Row
from restante.ports import Clock
from restante.stores.sqlite import schema, seals
from restante.stores.sqlite.folder import FILE_NAME, lock
from restante.stores.sqlite.ledger import SHELF, Ledger
from restante.timeline import Timeline
from restante.wire.receipts import GENESIS

_HOLDS: Final = ("clients", "queues", "keys", "subscriptions", "papers", "notifications")
_SELECT: Final = {
    Part.CLIENTS: "SELECT name, created_at FROM clients WHERE name > ? ORDER BY name",
    Part.KEYS: (
        "SELECT id, role, name, secret_hash, created_at, expires_at, revoked_at, label, certificate_san"
        " FROM keys WHERE id > ? ORDER BY id"
    ),
    Part.SUBSCRIPTIONS: "SELECT id, pattern, queue, filter FROM subscriptions WHERE id > ? ORDER BY id",
    Part.WEBHOOKS: "SELECT queue, version, webhook FROM webhooks WHERE queue > ? ORDER BY queue",
    Part.PAPERS: (
        "SELECT kind, key, version, content, expires_at FROM papers WHERE (kind, key) > (?, ?) ORDER BY kind, key"
    ),
    Part.NOTIFICATIONS: (
        "SELECT n, id, topic, content_type, attributes, published_at, publisher, body_sha256, body_bytes, body"
        " FROM notifications WHERE n > ? ORDER BY n"
    ),
    Part.SEALS: (
        "SELECT queue, first, count, place FROM seals WHERE (queue, first) > (?, ?) ORDER BY queue, first"
    ),
}
_MAKE: Final[dict[Part, Callable[..., Row]]] = {
    Part.CLIENTS: moving.ClientRow,
    Part.KEYS: moving.KeyRow,
    Part.SUBSCRIPTIONS: moving.SubscriptionRow,
    Part.WEBHOOKS: moving.WebhookRow,
    Part.PAPERS: moving.PaperRow,
    Part.NOTIFICATIONS: moving.NotificationRow,
    Part.SEALS: moving.SealRow,
}
_INSERT: Final = {
    Part.CLIENTS: "INSERT INTO clients (name, created_at) VALUES (?, ?)",
    Part.KEYS: (
        "INSERT INTO keys (id, role, name, secret_hash, created_at, expires_at, revoked_at, label, certificate_san)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ),
    Part.SUBSCRIPTIONS: "INSERT INTO subscriptions (id, pattern, queue, filter) VALUES (?, ?, ?, ?)",
    Part.WEBHOOKS: "INSERT INTO webhooks (queue, version, webhook) VALUES (?, ?, ?)",
    Part.PAPERS: "INSERT INTO papers (kind, key, version, content, expires_at) VALUES (?, ?, ?, ?, ?)",
    Part.NOTIFICATIONS: (
        "INSERT INTO notifications (n, id, topic, content_type, attributes, published_at, publisher, body_sha256,"
        " body_bytes, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ),
    Part.SEALS: "INSERT INTO seals (queue, first, count, place) VALUES (?, ?, ?, ?)",
}


class SqliteEnd:
    """The store in a folder, opened by its owner, as source and as target of a copy."""

    def __init__(self, path: Path, connection: apsw.Connection, clock: Clock) -> None:
        self._path = path
        self._connection = connection
        self._execute: Callable[..., Any] = connection.execute
        self._ledger = Ledger(connection)
        self._timeline = Timeline(clock, int(self._meta("timeline") or b"0"))

    # -- giving out -----------------------------------------------------------------------------

    async def now_ms(self) -> int:
        return self._timeline.now_ms()

    async def token_secret(self) -> bytes:
        secret = self._meta("token_secret")
        if secret is None:
            raise StoreRefused(f"{self._path} was never served: there is nothing to copy")
        return secret

    async def counts(self) -> dict[Part, int]:
        return {
            part: self._execute(f"SELECT count(*) FROM {part.value}").fetchone()[0]  # noqa: S608 (fixed names)
            for part in Part
        }

    async def rows(self, part: Part, after: Key = ()) -> AsyncIterator[list[Row]]:
        with _told(self._path):
            for batch in moving.batches(self._rows(part, after)):
                yield batch

    def _rows(self, part: Part, after: Key) -> Iterator[Row]:
        match part:
            case Part.QUEUES:
                return self._queues(after)
            case Part.RECEIPTS:
                return self._receipts(after)
            case Part.DELIVERIES:
                return self._deliveries(after)
            case Part.IDEMPOTENCY:
                return self._idempotency(after)
            case Part.PAPERS:
                after = after or ("", "")
            case Part.NOTIFICATIONS:
                after = after or (0,)
            case Part.SEALS:
                after = after or (0, 0)
            case _:
                after = after or ("",)
        return (_MAKE[part](*row) for row in self._execute(_SELECT[part], after))

    def _queues(self, after: Key) -> Iterator[Row]:
        row: tuple[Any, ...]
        for row in self._execute(
            "SELECT q.id, q.name, q.owner, q.settings, t.seq, t.receipts, t.chain, p.receipts, t.scheduled, t.ready,"
            " t.held, t.leased, t.dead, t.acked, t.superseded, t.expired, t.discarded"
            " FROM queues q LEFT JOIN tallies t ON t.queue = q.id LEFT JOIN pruned p ON p.queue = q.id"
            " WHERE q.id > ? ORDER BY q.id",
            after or (0,),
        ):
            id, name, owner, settings, seq, receipts, chain, pruned, *counts = row
            yield moving.QueueRow(
                id=id,
                name=name,
                owner=owner,
                settings=settings,
                seq=seq or 0,
                receipts=receipts or 0,
                chain=chain or GENESIS,
                counts=tuple(count or 0 for count in counts),
                pruned=pruned or 0,
            )

    def _receipts(self, after: Key) -> Iterator[Row]:
        queue, last = after or (0, 0)
        ledgers = self._execute(
            "SELECT t.queue, coalesce(p.receipts, 0) FROM tallies t LEFT JOIN pruned p ON p.queue = t.queue"
            " WHERE t.queue >= ? AND t.receipts > 0 ORDER BY t.queue",
            (queue,),
        ).fetchall()
        for id, pruned in ledgers:
            start = max(pruned, int(last)) if id == queue else pruned
            for number, n, seq, outcome, fence, at_ms, entry, digest in self._ledger.rising(
                id, start
            ):
                yield moving.ReceiptRow(id, number, at_ms, n, seq, outcome, fence, entry, digest)

    def _deliveries(self, after: Key) -> Iterator[Row]:
        for row in self._execute(
            "SELECT d.queue, d.seq, d.notification, n.published_at, n.body_bytes, d.state, d.due, d.attempt, d.fence,"
            " d.forgiving, d.parked, d.overtaken, d.ordering_key, d.collapse_key, d.expires, d.leased_at, d.holder,"
            " d.dead_at, d.reason FROM deliveries d JOIN notifications n ON n.n = d.notification"
            " WHERE (d.queue, d.seq) > (?, ?) ORDER BY d.queue, d.seq",
            after or (0, 0),
        ):
            yield moving.DeliveryRow(*row[:9], *map(bool, row[9:12]), *row[12:])

    def _idempotency(self, after: Key) -> Iterator[Row]:
        for publisher, key, fingerprint, n, id, at in self._execute(
            "SELECT i.publisher, i.key, i.fingerprint, n.n, n.id, i.at"
            " FROM idempotency i JOIN notifications n ON n.n = i.notification"
            " WHERE (i.publisher, i.key) > (?, ?) ORDER BY i.publisher, i.key",
            after or ("", ""),
        ):
            places = self._execute(
                "SELECT q.name, r.seq FROM receipts r JOIN queues q ON q.id = r.queue"
                " WHERE r.notification = ? AND r.outcome = 'published' ORDER BY q.name",
                (n,),
            ).fetchall()
            yield moving.IdempotencyRow(publisher, key, fingerprint, n, id, at, tuple(places))

    # -- taking in ------------------------------------------------------------------------------

    async def progress(self) -> Progress | None:
        mark = self._meta(schema.COPYING)
        if mark is not None:
            return moving.decode_progress(mark)
        if self._meta(schema.COPIED) is None:
            self._check_empty()
        return None

    def _check_empty(self) -> None:
        for table in _HOLDS:
            if self._execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None:  # noqa: S608 (fixed names)
                raise StoreRefused(
                    f"{self._path} holds a store already ({table}): name another folder"
                )

    async def finished(self) -> Progress | None:
        mark = self._meta(schema.COPIED)
        return None if mark is None else moving.decode_progress(mark)

    async def begin(self, progress: Progress, token_secret: bytes) -> None:
        with _told(self._path), self._connection:
            self._check_empty()
            self._put_meta("token_secret", token_secret)
            self._put_meta(schema.COPYING, moving.encode_progress(progress))

    async def put(self, rows: Sequence[Row], before: Progress, now: Progress) -> None:
        with _told(self._path), self._connection:
            self._insert(now.part, rows)
            self._put_meta(schema.COPYING, moving.encode_progress(now))

    async def finish(self, progress: Progress) -> None:
        with _told(self._path):
            with self._connection:
                # A wall clock that goes back before the first start lets no deadline wait the longer.
                self._put_meta("timeline", str(self._timeline.now_ms()).encode())
                self._put_meta(seals.SEALED, str(seals.sealed_to(self._connection)).encode())
                self._put_meta(schema.COPIED, moving.encode_progress(progress))
                self._execute("DELETE FROM meta WHERE name = ?", (schema.COPYING,))
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _insert(self, part: Part, rows: Sequence[Row]) -> None:
        match part:
            case Part.QUEUES:
                self._insert_queues(rows)
            case Part.RECEIPTS:
                self._insert_receipts(rows)
            case Part.DELIVERIES:
                self._connection.executemany(
                    "INSERT INTO deliveries (queue, seq, notification, state, due, attempt, fence, forgiving, parked,"
                    " overtaken, ordering_key, collapse_key, expires, leased_at, holder, dead_at, reason)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [(*row[:3], *row[5:]) for row in rows],
                )
            case Part.IDEMPOTENCY:
                self._connection.executemany(
                    "INSERT INTO idempotency (publisher, key, fingerprint, notification, at) VALUES (?, ?, ?, ?, ?)",
                    [
                        (
                            row.publisher,
                            row.idempotency_key,
                            row.fingerprint,
                            row.notification,
                            row.used_at,
                        )
                        for row in rows
                        if isinstance(row, moving.IdempotencyRow)
                    ],
                )
            case _:
                self._connection.executemany(_INSERT[part], rows)

    def _insert_queues(self, rows: Sequence[Row]) -> None:
        queues = [row for row in rows if isinstance(row, moving.QueueRow)]
        self._connection.executemany(
            "INSERT INTO queues (id, name, owner, settings) VALUES (?, ?, ?, ?)",
            [row[:4] for row in queues],
        )
        self._connection.executemany(
            "INSERT INTO tallies VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(row.id, row.seq, row.receipts, row.chain, *row.counts) for row in queues],
        )
        # Which bodies were looked at is not told by every store: looking begins again with the first receipt kept.
        self._connection.executemany(
            "INSERT INTO pruned (queue, bodies, receipts) VALUES (?, ?, ?)",
            [(row.id, row.pruned, row.pruned) for row in queues if row.pruned],
        )

    def _insert_receipts(self, rows: Sequence[Row]) -> None:
        """Each is told the place of its queue's previous one, as ``ledger.py`` reads them."""
        found = self._execute("SELECT r, queue FROM receipts ORDER BY r DESC LIMIT 1").fetchone()
        place, queue = found or (0, 0)
        ends: dict[int, int] = {}
        lines: list[tuple[Any, ...]] = []
        shelves: list[tuple[int, int, int]] = []
        for row in rows:
            if not isinstance(row, moving.ReceiptRow):
                raise AssertionError(f"{type(row).__name__} is no receipt")
            previous = place if row.queue == queue else 0
            place, queue = place + 1, row.queue
            ends[queue] = place
            lines.append((place, previous, *row))
            if row.number % SHELF == 0:
                shelves.append((queue, row.number, place))
        self._connection.executemany(
            "INSERT INTO receipts (r, previous, queue, number, at, notification, seq, outcome, fence, entry, digest)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            lines,
        )
        self._connection.executemany("INSERT INTO shelves VALUES (?, ?, ?)", shelves)
        self._connection.executemany(
            "UPDATE tallies SET last = ? WHERE queue = ?",
            [(end, queue) for queue, end in ends.items()],
        )

    def _meta(self, name: str) -> bytes | None:
        row = self._execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def _put_meta(self, name: str, value: bytes) -> None:
        self._execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


@contextlib.asynccontextmanager
async def copy_source(folder: Path, clock: Clock) -> AsyncIterator[SqliteEnd]:
    """The store in ``folder``, to be copied. Its lock is held, so that nobody can serve it meanwhile.

    Raises ``StoreInUse`` while a process has it open, ``StoreRefused`` where there is none, or half a copy of one.
    """
    if not (folder / FILE_NAME).exists():
        raise StoreRefused(f"there is no store in {folder}")
    with _opened(folder, clock, half_copied=False) as end:
        yield end


@contextlib.asynccontextmanager
async def copy_target(folder: Path, clock: Clock) -> AsyncIterator[SqliteEnd]:
    """A store to be made in ``folder``, or to be gone on with. Raises ``StoreInUse`` and ``StoreRefused``."""
    with _opened(folder, clock, half_copied=True) as end:
        yield end


@contextlib.contextmanager
def _opened(folder: Path, clock: Clock, *, half_copied: bool) -> Iterator[SqliteEnd]:
    with lock(folder):
        path = folder / FILE_NAME
        connection = schema.open_file(path, half_copied=half_copied)
        try:
            yield SqliteEnd(path, connection, clock)
        finally:
            connection.close()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors in words of ours."""
    try:
        yield
    except apsw.FullError as error:
        raise StoreFull(f"the disk of {path} is full") from error
    except apsw.BusyError as error:
        raise StoreInUse(f"{path} is locked by another program") from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StoreRefused(f"{path} is damaged ({error})") from error
    except apsw.Error as error:
        raise _unavailable(path, error) from error


def _unavailable(path: Path, error: apsw.Error) -> StoreError:
    return StoreUnavailable(f"{path} cannot be used: {error}")
