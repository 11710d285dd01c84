"""A tiny correct server with a hand-turned clock, and clients that record: it makes histories."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any, Literal

import msgspec

from restante.merkle import Tile, grown, leaf_hash, root
from restante.testing.history import (
    Action,
    Configure,
    DeadLetters,
    FiguresRead,
    HeadRead,
    History,
    Lease,
    LogRead,
    Mark,
    NotificationRead,
    Operation,
    Place,
    Publish,
    ReceiptPage,
    Receive,
    Run,
    Settle,
    digest,
)
from restante.wire.receipts import GENESIS, canonical, receipt_digest

MS = 1_000_000
SECOND = 1_000 * MS
STATES = (
    *("ready", "scheduled", "held", "leased", "dead"),
    *("acked", "superseded", "expired", "discarded"),
)


@dataclasses.dataclass
class Delivery:
    notification: str
    body: bytes
    state: str = "ready"
    attempt: int = 0
    fence: int = 0
    until: int = 0
    due: int = 0
    forgiving: bool = False
    ordering_key: str | None = None


class World:
    """One queue, ``acme``. Every call takes two milliseconds and happens in the middle of them."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1_000 * SECOND
        self.operations: list[Operation] = []
        self.receipts: list[dict[str, Any]] = []
        self.runs: list[Run] = []
        self.deliveries: dict[int, Delivery] = {}
        self.keys: dict[tuple[str, str], tuple[str, int]] = {}
        self.settings = {"lease_seconds": 30, "max_attempts": 3, "backoff_cap_seconds": 0}
        self.settings.update(settings)
        self._numbers = itertools.count(1)
        self._record(Configure(queue="acme", owner="acme", settings=self.settings))

    def pass_time(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)

    def publish(
        self,
        body: bytes = b"<hello/>",
        *,
        outcome: str = "ok",
        happens: bool = True,
        batch: str | None = None,
        **options: Any,
    ) -> Publish:
        call = Publish(
            who="shop",
            role="publisher",
            queue="acme",
            body_sha256=digest(body),
            content_type="application/xml",
            batch=batch,
            **options,
        )
        if happens and outcome != "refused":
            notification, seq = self._admit(call, body)
            if outcome == "ok":
                call.notification, call.deliveries = notification, [Place("acme", seq)]
        return self._record(call, outcome, None if outcome == "ok" else "store_unavailable")

    def _admit(self, call: Publish, body: bytes) -> tuple[str, int]:
        if call.key is not None and (call.who, call.key) in self.keys:
            call.replayed = True
            return self.keys[call.who, call.key]
        seq = len(self.deliveries) + 1
        notification = f"n{seq}"
        self.deliveries[seq] = Delivery(
            notification,
            body,
            due=self.now + MS + round(call.deliver_after_seconds * SECOND),
            ordering_key=call.ordering_key,
        )
        if call.key is not None:
            self.keys[call.who, call.key] = (notification, seq)
        self.enter(seq, "published")
        return notification, seq

    def enter(self, seq: int, outcome: str, attempt: int | None = None) -> str:
        """Write a receipt; returns its id."""
        delivery = self.deliveries[seq]
        receipt = {
            "number": len(self.receipts) + 1,
            "queue": "acme",
            "notification": delivery.notification,
            "seq": seq,
            "outcome": outcome,
            "state": delivery.state,
            "attempt": delivery.attempt if attempt is None else attempt,
            "fence": delivery.fence,
            "body_sha256": digest(delivery.body),
        }
        self.receipts.append(receipt)
        return f"acme~{receipt['number']}"

    def _run_out(self) -> None:
        for seq, delivery in self.deliveries.items():
            if delivery.state == "leased" and delivery.until <= self.now:
                last = delivery.attempt >= self.settings["max_attempts"]
                delivery.state = "dead" if last else "ready"
                delivery.forgiving = not last
                self.enter(seq, "lease_expired")

    def _leasable(self, seq: int) -> bool:
        delivery = self.deliveries[seq]
        if delivery.state != "ready" or delivery.due > self.now:
            return False
        return delivery.ordering_key is None or not any(
            earlier < seq
            and other.ordering_key == delivery.ordering_key
            and other.state in ("ready", "leased")
            for earlier, other in self.deliveries.items()
        )

    def receive(self, max: int = 1, *, outcome: str = "ok", happens: bool = True) -> list[Lease]:
        self._run_out()
        call = Receive(who="acme", role="client", queue="acme", max=max)
        for seq in sorted(self.deliveries):
            if happens and len(call.leases) < max and self._leasable(seq):
                call.leases.append(self.lease(seq))
        leases = call.leases
        if outcome != "ok":
            call.leases = []
        self._record(call, outcome)
        return leases

    def lease(self, seq: int) -> Lease:
        """Lease one delivery, whatever its state."""
        delivery = self.deliveries[seq]
        delivery.state, delivery.forgiving = "leased", False
        delivery.attempt += 1
        delivery.fence += 1
        delivery.until = self.now + MS + round(self.settings["lease_seconds"] * SECOND)
        return Lease(
            notification=delivery.notification,
            queue="acme",
            seq=seq,
            lease=f"{seq}.{delivery.fence}.{next(self._numbers)}",
            attempt=delivery.attempt,
            body_sha256=digest(delivery.body),
            content_type="application/xml",
            lease_seconds=self.settings["lease_seconds"],
            ordering_key=delivery.ordering_key,
        )

    def hand_out(self, *leases: Lease, who: str = "acme", queue: str = "acme") -> Receive:
        """Record a receive with leases made up by the test."""
        call = Receive(who=who, role="client", queue=queue, leases=list(leases))
        return self._record(call)

    def settle(
        self,
        lease: Lease,
        action: Action = "ack",
        *,
        outcome: str = "ok",
        happens: bool = True,
        who: str = "acme",
        **options: Any,
    ) -> Settle:
        self._run_out()
        call = Settle(who=who, role="client", lease=lease.lease, action=action, **options)
        delivery = self.deliveries[lease.seq]
        current = f"{lease.seq}.{delivery.fence}." == lease.lease[: lease.lease.rindex(".") + 1]
        running = delivery.state == "leased" or (delivery.forgiving and action == "ack")
        if happens and outcome != "refused":
            if current and running:
                self._end(lease.seq, call)
            else:
                outcome = "refused" if outcome == "ok" else outcome
        code = {"refused": "lease_lost", "unknown": "outcome_unknown"}.get(outcome)
        return self._record(call, outcome, code)

    def _end(self, seq: int, call: Settle) -> None:
        delivery = self.deliveries[seq]
        last = delivery.attempt >= self.settings["max_attempts"]
        delivery.forgiving = False
        if call.action == "extend":
            seconds = call.lease_seconds or self.settings["lease_seconds"]
            delivery.until = self.now + MS + round(seconds * SECOND)
            return
        state, outcome = {
            "ack": ("acked", "acked"),
            "nack": ("dead" if last else "ready", "nacked"),
            "reject": ("dead", "rejected"),
            "release": ("ready", "released"),
        }[call.action]
        delivery.state = call.state = state
        if call.action == "nack":
            delivery.due = self.now + MS + round((call.retry_after_seconds or 0) * SECOND)
        receipt = self.enter(seq, outcome)
        delivery.attempt -= call.action == "release"
        call.receipt = receipt

    def dead_letters(self, action: Literal["redrive", "discard"]) -> None:
        dead = [seq for seq, delivery in self.deliveries.items() if delivery.state == "dead"]
        for seq in dead:
            delivery = self.deliveries[seq]
            delivery.state = "ready" if action == "redrive" else "discarded"
            delivery.attempt = 0 if action == "redrive" else delivery.attempt
            self.enter(seq, "redriven" if action == "redrive" else "discarded")
        self._record(DeadLetters(queue="acme", action=action, done=len(dead)))

    def figures(self) -> dict[str, int]:
        counts: dict[str, Any] = dict.fromkeys(STATES, 0)
        for delivery in self.deliveries.values():
            counts[delivery.state] += 1
        return counts | {"published": len(self.deliveries)}

    def read_figures(self, **wrong: int) -> None:
        self._record(FiguresRead(queue="acme", figures=self.figures() | wrong))

    def read_notification(self, seq: int, *, state: str | None = None) -> NotificationRead:
        delivery = self.deliveries[seq]
        states = [("acme", seq, state or delivery.state)]
        return self._record(NotificationRead(notification=delivery.notification, states=states))

    def read_receipts(self, *, page: int = 1_000, who: str = "admin") -> None:
        """Read the whole ledger, in pages."""
        served, previous = [], GENESIS
        for receipt in self.receipts:
            previous = receipt_digest(previous, receipt)
            head = {"id": f"acme~{receipt['number']}", "digest": previous.hex()}
            served.append(msgspec.Raw(json.dumps(head | receipt).encode()))
        reading = f"reading-{len(self.operations)}"
        for after in range(0, len(served) + 1, page):
            self._record(
                ReceiptPage(
                    who=who,
                    role="admin" if who == "admin" else "client",
                    queue="acme",
                    reading=reading,
                    after=after,
                    receipts=served[after : after + page],
                    last=after + page > len(served),
                )
            )

    def seal(self) -> None:
        """Take into the log whatever is not in it."""
        size = sum(run.count for run in self.runs)
        if size < len(self.receipts):
            self.runs.append(Run("acme", size + 1, len(self.receipts) - size, size))

    def read_head(self) -> HeadRead:
        return self._record(HeadRead(**self._head(self.runs)))

    def read_log(self, *wrong: Run) -> LogRead:
        """Seal what there is, and read where it is, or is said to be."""
        self.seal()
        runs = list(wrong or self.runs)
        return self._record(LogRead(runs=runs, **self._head(runs)))

    def _head(self, runs: list[Run]) -> dict[str, Any]:
        at = {
            run.place + within: leaf_hash(canonical(self.receipts[run.first - 1 + within]))
            for run in runs
            if run.queue == "acme"
            for within in range(run.count)
        }
        size = max(at, default=-1) + 1
        leaves = [at.get(place, GENESIS) for place in range(size)]
        tiles: dict[Tile, bytes] = grown(0, leaves, lambda _: b"")
        return {"size": size, "root": root(size, tiles.__getitem__).hex()}

    def mark(self, what: Literal["healed", "drained", "disconnected"]) -> None:
        self._record(Mark(what=what, queue="acme"))

    def history(self) -> History:
        return History(self.operations)

    def finish(self) -> History:
        """Read everything, then hand over the history."""
        for seq in self.deliveries:
            self.read_notification(seq)
        self.read_figures()
        self.read_receipts()
        self.read_log()
        return self.history()

    def _record(self, operation: Any, outcome: str = "ok", code: str | None = None) -> Any:
        operation.op = f"w-{len(self.operations)}"
        operation.start = self.now
        self.now += 2 * MS
        operation.end = self.now
        operation.outcome, operation.code = outcome, code
        self.operations.append(operation)
        return operation
