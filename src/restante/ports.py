"""The seams: what the engine needs of the outside. Adapters implement these and nothing else.

Durations cross the seam, timestamps of deadlines do not: a store has its own clock. Every store method is one atomic
transaction, and its future is resolved only after that transaction is durable. A method is started by the call, not
by the await: two calls in a row take effect in that order. Cancelling the future does not undo anything, but loses
the answer: shield it where the answer matters.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from restante.alerting import Message
from restante.changes import Change
from restante.errors import RestanteError
from restante.metering import Meter
from restante.model import (
    Actor,
    Appended,
    Draft,
    Leased,
    LeaseRef,
    LeaseRequest,
    Selection,
    Settled,
    Settlement,
)
from restante.moving import Key, Part, Progress, Row
from restante.nodes import Beat, NodeReport
from restante.queries import Answer, Query
from restante.written import Moved, Written


class Clock(Protocol):
    """The one source of time."""

    def monotonic(self) -> float:
        """Seconds that only ever rise; unmoved by changes of the wall clock."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC by the wall clock, for people and receipts."""

    async def wait(self, seconds: float) -> None:
        """Return after ``seconds``."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once after ``seconds``; returns what cancels that."""


class Store(Protocol):
    """Where it all lives durably: eleven verbs."""

    @property
    def token_secret(self) -> bytes:
        """32 bytes, made with the store: the key under which lease tokens are sealed."""

    @property
    def idempotency_retention_seconds(self) -> int:
        """So long on its timeline, and as long as a receipt tells of it, it keeps the key of a publication."""

    @property
    def failed(self) -> asyncio.Future[None]:
        """Resolves when the store can no longer be trusted to store: the process must end."""

    @property
    def available(self) -> bool:
        """Whether the store could be reached when it was last asked: without it this node is not ready."""

    @property
    def meter(self) -> Meter:
        """What has been committed through this store since somebody last asked."""

    @property
    def nodes(self) -> Nodes | None:
        """How nodes that share this store know of one another; None where one process owns it."""

    @property
    def outbox(self) -> Outbox | None:
        """Where publishers write in their own transactions; None for a store that has no such place."""

    def configure(self, changes: Sequence[Change]) -> asyncio.Future[None]:
        """Apply all changes of clients, queues, keys, subscriptions, webhooks and papers, or none."""

    def append(self, drafts: Sequence[Draft]) -> asyncio.Future[list[Appended | RestanteError]]:
        """Store each draft: its body once, a delivery and a receipt for each queue, its idempotency row.

        Per draft: ``QueueNotFound``, ``IdempotencyKeyReused``, ``StoreFull``, or the earlier result of its key.
        """

    def lease(self, request: LeaseRequest) -> asyncio.Future[Leased]:
        """Lease up to ``max`` ready deliveries in the order of their ``seq``, within ``max_in_flight``."""

    def extend(self, ref: LeaseRef, lease_seconds: float) -> asyncio.Future[Settled]:
        """Let the lease run for ``lease_seconds`` from now. ``LeaseLost`` when it is not current."""

    def settle(
        self, settlements: Sequence[Settlement]
    ) -> asyncio.Future[list[Settled | RestanteError]]:
        """End leases, each fenced, each with its receipt. A repeat answers as the first did; else ``LeaseLost``."""

    def overdue(self, limit: int) -> asyncio.Future[dict[str, int]]:
        """End up to ``limit`` leases that ran out and deliveries past their expiry; who became ready, by queue."""

    def next_due(self) -> asyncio.Future[float | None]:
        """Seconds until ``overdue`` has something to do (0 when it has), None when nothing is pending."""

    def redrive(
        self, queue: str, selection: Selection, actor: Actor, limit: int
    ) -> asyncio.Future[tuple[int, dict[str, int]]]:
        """Give up to ``limit`` selected dead letters new attempts: how many, and who became ready."""

    def discard(
        self, queue: str, selection: Selection, actor: Actor, limit: int, reason: str
    ) -> asyncio.Future[tuple[int, dict[str, int]]]:
        """Discard up to ``limit`` selected dead letters: how many, and who became ready.

        Their bodies are gone with them, but for those that another queue has yet to hand out.
        """

    def browse(self, query: Query[Answer]) -> asyncio.Future[Answer]:
        """Answer one of the questions in ``queries.py`` from what is committed.

        ``LeasedTo`` alone keeps its place among the calls that change something.
        """

    def prune(self, limit: int) -> asyncio.Future[int]:
        """Delete up to about ``limit`` bodies, receipts and papers past their time; 0 when nothing is left to do."""

    async def close(self) -> None:
        """Finish what was begun, then release the store."""


class Nodes(Protocol):
    """What nodes that share a store tell one another through it: three verbs."""

    def beat(self, report: NodeReport) -> asyncio.Future[Beat]:
        """Say that this node lives, and hear what is new since its last beat.

        Renews the webhooks it has claimed, takes free ones up to a fair share, and gives back what is above it.
        """

    def agree(self, key_ids: Sequence[bytes]) -> asyncio.Future[bool]:
        """Whether this node has the key with which the others seal secrets. From now on the first is the one."""

    def leave(self, node: str) -> asyncio.Future[None]:
        """Give up the node's place and its claims: others need not wait until they run out."""


class Outbox(Protocol):
    """Notifications that publishers wrote into the store's own database, each in a transaction of theirs: two verbs."""

    def move(
        self, limit: int, drafts_of: Callable[[Sequence[Written]], Sequence[Draft | RestanteError]]
    ) -> asyncio.Future[Moved]:
        """Append up to ``limit`` that wait and take them out of the outbox, in one transaction, in their order.

        ``drafts_of`` says of each row, in their order, what to append; the rows that it says nothing of stay for
        another time. A row that it gives an error for, or by whose draft ``append`` would be refused, stays as well,
        with the reason, and waits no longer. It must not wait, and may be asked again about the same rows.

        Of nodes that share the store one moves at a time, or the order would not hold: while another does, this
        moves nothing and says that there is no more. A ``StoreError`` moves nothing and refuses nothing.
        """

    def listening(self, on_written: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """As long as it is entered, call back on the event loop after somebody wrote: a hint that may be missed.

        Called once after each new connection as well. Entering never fails for a database that is away.
        """


OnWake = Callable[[Collection[str] | None], None]
"""Told of queues that have work; None: of any queue, for something may have been missed."""


class Waker(Protocol):
    """Tells nodes that queues have work: a hint, never the only copy of anything.

    ``wake``, ``attend`` and ``leave`` neither wait nor raise: what cannot be told costs others their poll interval.
    """

    def listening(self, on_wake: OnWake) -> AbstractAsyncContextManager[None]:
        """Connect, and call back on the event loop as long as it is entered; with None after each new connection.

        Entering never fails for a server that is away: connecting goes on behind it. ``ConfigurationError`` for what
        no waiting will mend, such as a wrong password.
        """

    def wake(self, queues: Collection[str]) -> None:
        """These queues have work that this node has nobody for. Its own ``on_wake`` may be told as well."""

    def attend(self, queue: str) -> None:
        """Somebody on this node waits on the queue: be told of it from now on, until ``leave``."""

    def leave(self, queue: str) -> None:
        """Nobody on this node waits on the queue any longer."""


class AlertSender(Protocol):
    """A way to people, or to what wakes them."""

    async def send(self, message: Message) -> str | None:
        """Tell of alerts: None once that is done, else why it could not be, for a log.

        A message may come again, with its id, where it is not known whether it was sent.
        """


class CopySource(Protocol):
    """A store that nobody serves, giving out its rows (``moving.py``)."""

    async def now_ms(self) -> int:
        """Where its timeline stands."""

    async def token_secret(self) -> bytes:
        """``Store.token_secret``, so that tokens in clients' hands open in the copy."""

    async def counts(self) -> dict[Part, int]:
        """How many rows each part has."""

    def rows(self, part: Part, after: Key = ()) -> AsyncIterator[list[Row]]:
        """The rows of a part with a key above ``after``, in order, in batches."""


class CopyTarget(CopySource, Protocol):
    """A store that takes rows in, and refuses to be served until ``finish``."""

    async def progress(self) -> Progress | None:
        """How far a copy has come; None where none was begun. ``StoreRefused`` where it holds a store of its own."""

    async def finished(self) -> Progress | None:
        """Of the copy that was finished here, if one was."""

    async def begin(self, progress: Progress, token_secret: bytes) -> None:
        """Mark it as half a copy."""

    async def put(self, rows: Sequence[Row], before: Progress, now: Progress) -> None:
        """Keep rows of one part and the new progress, in one transaction.

        ``StoreInUse`` unless the progress was ``before``: another copy is under way.
        """

    async def finish(self, progress: Progress) -> None:
        """Take the mark away: from now on it is a store like any other."""
