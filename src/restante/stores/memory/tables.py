"""What the memory store keeps, and the ledger's pen."""

from __future__ import annotations

import msgspec

from restante.errors import QueueNotFound
from restante.lifecycle import Standing
from restante.metering import Meter
from restante.model import Actor, Client, Key, Outcome, Queue, Signature, State, Subscription
from restante.papers import Kind, Paper
from restante.ports import Clock
from restante.queries import StoredReceipt
from restante.receipt_log import Seal
from restante.timeline import Timeline
from restante.webhooks import Webhook
from restante.wire.receipts import GENESIS, Subject, chain, entry_of


class Notification(msgspec.Struct, eq=False, kw_only=True):
    """``body`` is None once its retention is over; ``places`` are its deliveries, by queue and ``seq``."""

    n: int
    id: str
    topic: str
    content_type: str
    attributes: dict[str, str]
    published_at_ms: int
    publisher: str
    body_sha256: bytes
    body_bytes: int
    body: bytes | None
    places: list[tuple[str, int]]

    @property
    def subject(self) -> Subject:
        """What receipts say of it."""
        return Subject(self.n, self.id, self.published_at_ms, self.body_sha256, self.body_bytes)


class Row(msgspec.Struct, eq=False, kw_only=True):
    """A delivery that has not ended. Times are the timeline's, but those that people read."""

    seq: int
    notification: Notification
    standing: Standing
    ordering_key: str
    collapse_key: str
    due_ms: int | None
    expires_ms: int | None
    overtaken: bool = False
    leased_at_wall_ms: int | None = None
    holder: Actor | None = None
    dead_at_wall_ms: int = 0
    reason: str = ""


class Entry(msgspec.Struct, eq=False, frozen=True):
    """A receipt with what is asked of it."""

    notification: Notification
    seq: int
    outcome: Outcome
    state: State
    fence: int
    at_wall_ms: int
    stored: StoredReceipt


class Table:
    """One queue. Rows and entries stand in the order of their numbers, since that is how they come."""

    def __init__(self, id: int, queue: Queue) -> None:
        self.id = id
        self.queue = queue
        self.rows: dict[int, Row] = {}
        self.counts = dict.fromkeys(State, 0)
        self.entries: dict[int, Entry] = {}
        self.history: dict[int, list[Entry]] = {}
        self.seq = 0
        self.receipts = 0
        self.chain = GENESIS
        self.seals: list[Seal] = []
        self.bodies_pruned_to = 0
        self._by_key: dict[tuple[str, str], dict[int, Row]] = {}

    def insert(self, row: Row) -> None:
        self.rows[row.seq] = row
        for key in _keys(row):
            self._by_key.setdefault(key, {})[row.seq] = row

    def delete(self, row: Row) -> None:
        del self.rows[row.seq]
        for key in _keys(row):
            del self._by_key[key][row.seq]
            if not self._by_key[key]:
                del self._by_key[key]

    def ordered(self, ordering_key: str) -> list[Row]:
        """Those of an ordering key that have not ended, by ``seq``."""
        return list(self._by_key.get(("ordering", ordering_key), {}).values())

    def collapsing(self, collapse_key: str) -> list[Row]:
        """Those of a collapse key that have not ended, by ``seq``."""
        return list(self._by_key.get(("collapse", collapse_key), {}).values())

    def is_told_from_start(self, seq: int) -> bool:
        """Whether the ledger still has the receipt of the delivery's publishing."""
        told = self.history.get(seq)
        return told is not None and told[0].outcome is Outcome.PUBLISHED

    def move(self, row: Row, state: State) -> None:
        """Count a delivery out of its state and into another."""
        self.counts[row.standing.state] -= 1
        self.counts[state] += 1
        row.standing.state = state


class Tables:
    """Everything there is."""

    def __init__(self, clock: Clock) -> None:
        self.timeline = Timeline(clock)
        self.clients: dict[str, Client] = {}
        self.queues: dict[str, Table] = {}
        self.keys: dict[str, Key] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.webhooks: dict[str, Webhook] = {}
        self.notifications: dict[str, Notification] = {}
        self.by_number: dict[int, Notification] = {}
        self.idempotency: dict[tuple[str, str], tuple[bytes, Notification, int]] = {}
        self.papers: dict[tuple[Kind, str], Paper] = {}
        self.last_number = 0
        self.meter = Meter()

    def queue(self, name: str) -> Table:
        """The queue of that name, or ``QueueNotFound``."""
        table = self.queues.get(name)
        if table is None:
            raise QueueNotFound(f"there is no queue {name} here")
        return table

    def write(  # noqa: PLR0913 (a receipt has that many facets)
        self,
        table: Table,
        row: Row,
        outcome: Outcome,
        state: State,
        *,
        actor: Actor,
        reason: str = "",
        reply: bytes | None = None,
        reply_content_type: str = "",
        signature: Signature | None = None,
    ) -> int:
        """Add a receipt on a delivery to the end of its queue's ledger; its number."""
        standing, notification = row.standing, row.notification
        leased = standing.state is State.LEASED or standing.forgiving
        leased_at = row.leased_at_wall_ms if leased else None
        at = self.timeline.wall_ms()
        table.receipts += 1
        entry = entry_of(
            table.queue.name,
            table.receipts,
            notification.subject,
            row.seq,
            outcome,
            state,
            actor=actor,
            at_ms=at,
            attempt=standing.attempt,
            fence=standing.fence,
            leased_at_ms=leased_at,
            reason=reason,
            reply=reply,
            reply_content_type=reply_content_type,
            signature=signature,
        )
        table.chain = chain(table.chain, entry)
        stored = StoredReceipt(table.queue.name, table.receipts, entry, table.chain)
        written = Entry(notification, row.seq, outcome, state, standing.fence, at, stored)
        table.entries[table.receipts] = written
        table.history.setdefault(row.seq, []).append(written)
        age_ms = at - notification.published_at_ms
        what = (table.queue.name, outcome, state, age_ms, reason)
        self.meter.receipt((*what, table.receipts, row.seq, notification.id, actor.name))
        return table.receipts


def _keys(row: Row) -> list[tuple[str, str]]:
    keys = [("ordering", row.ordering_key), ("collapse", row.collapse_key)]
    return [key for key in keys if key[1]]
