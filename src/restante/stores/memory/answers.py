"""The answers to ``queries.py`` from memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from restante import queries as query
from restante.model import Delivery, Figures, Outcome, Queue, Selection, State
from restante.papers import Paper
from restante.receipt_log import Lag, Run, Seal, UnsealedPage
from restante.stores.memory.deliveries import delivery, selected
from restante.stores.memory.tables import Notification, Row, Table, Tables

V = TypeVar("V")


class Answers:
    """One method a question; ``answer`` finds it."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def answer(self, asked: query.Query[Any]) -> Any:  # noqa: PLR0912 (a table of cases)
        tables = self._tables
        match asked:
            case query.QueueByName(name):
                table = tables.queues.get(name)
                return None if table is None else table.queue
            case query.Queues():
                return self._queues(asked)
            case query.FiguresOf(name):
                return self._figures(name)
            case query.FiguresOfQueues():
                return self._figures_of_queues(asked)
            case query.ClientByName(name):
                return tables.clients.get(name)
            case query.Clients(after, limit):
                return _page(tables.clients, after, limit)
            case query.KeyById(id):
                return tables.keys.get(id)
            case query.Keys(after, limit):
                return _page(tables.keys, after, limit)
            case query.KeysOf(role, name, limit):
                keys = [key for key in tables.keys.values() if (key.role, key.name) == (role, name)]
                keys.sort(key=lambda key: (-key.created_at_ms, key.id))
                return keys[:limit]
            case query.Subscriptions():
                return [tables.subscriptions[id] for id in sorted(tables.subscriptions)]
            case query.WebhookOf(name):
                return tables.webhooks.get(name)
            case query.Webhooks(after, limit):
                return _page(tables.webhooks, after, limit)
            case query.NotificationById():
                return self._notification(asked)
            case query.PublishedWith(publisher, key):
                keyed = tables.idempotency.get((publisher, key))
                return None if keyed is None else keyed[1].id
            case query.BodyOf():
                found = self._owned(asked.id, asked.owner)
                return None if found is None else query.Body(found.content_type, found.body)
            case query.ReceiptCounts(ids):
                return self._receipt_counts(ids)
            case query.ReceiptsOf():
                return self._receipts_of(asked)
            case query.OpenDeliveries():
                return self._open_deliveries(asked)
            case query.DeadReasons():
                return self._dead_reasons(asked)
            case query.DeadLetters():
                return self._dead(asked)
            case query.Now():
                return tables.timeline.now_ms()
            case query.LeasedTo():
                return self._leased_to(asked)
            case query.CountDead(name, selection, scanned):
                table = tables.queues.get(name)
                return 0 if table is None else _count_dead(table, selection, scanned)
            case query.DeadSeqs():
                return self._dead_seqs(asked)
            case query.ReceiptByNumber(name, number):
                table = tables.queues.get(name)
                entry = None if table is None else table.entries.get(number)
                return None if entry is None else entry.stored
            case query.Receipts():
                return self._receipts(asked)
            case query.PaperOf(kind, key):
                return tables.papers.get((kind, key))
            case query.PaperVersions(kind, keys):
                there = [key for key in keys if (kind, key) in tables.papers]
                return {key: tables.papers[kind, key].version for key in there}
            case query.CountPapers(kind, after, before, limit):
                count = sum(it is kind and after < key < before for it, key in tables.papers)
                return min(count, limit)
            case query.Papers():
                return self._papers(asked)
            case query.Unsealed(limit):
                return self._unsealed(limit)
            case query.LogLag(limit):
                return self._lag(limit)
            case query.LedgerSpan(name):
                table = tables.queues.get(name)
                if table is None:
                    return query.Span()
                return query.Span(min(table.entries, default=1) - 1, table.receipts)
            case query.Seals():
                return self._seals(asked)
            case _:
                raise AssertionError(f"no answer to {type(asked).__name__}")

    def _unsealed(self, limit: int) -> UnsealedPage:
        runs: list[Run] = []
        for name, table in self._tables.queues.items():
            upto = table.seals[-1].first + table.seals[-1].count - 1 if table.seals else 0
            for number in range(upto + 1, min(table.receipts, upto + limit) + 1):
                if (entry := table.entries.get(number)) is None:
                    continue  # past its time before it was sealed
                if (
                    not runs
                    or runs[-1].queue != name
                    or runs[-1].first + len(runs[-1].entries) != number
                ):
                    runs.append(Run(name, number, []))
                runs[-1].entries.append(entry.stored.entry)
                limit -= 1
        return UnsealedPage(runs, 0)

    def _lag(self, limit: int) -> Lag:
        runs = self._unsealed(limit).runs
        if not runs:
            return Lag()
        oldest = min(self._tables.queues[run.queue].entries[run.first].at_wall_ms for run in runs)
        return Lag(sum(len(run.entries) for run in runs), oldest)

    def _seals(self, asked: query.Seals) -> list[Seal]:
        table = self._tables.queues.get(asked.queue)
        seals = [] if table is None else table.seals
        return [seal for seal in seals if seal.first + seal.count > asked.start][: asked.limit]

    def _queues(self, asked: query.Queues) -> list[Queue]:
        mine = {
            name: table.queue
            for name, table in self._tables.queues.items()
            if asked.owner is None or table.queue.owner == asked.owner
        }
        return _page(mine, asked.after, asked.limit)

    def _leased_to(self, asked: query.LeasedTo) -> list[Delivery]:
        table = self._tables.queues.get(asked.queue)
        if table is None:
            return []
        timeline = self._tables.timeline
        ahead = timeline.wall_ms() - timeline.now_ms()
        found: list[Delivery] = []
        room = asked.max_bytes
        for seq, row in table.rows.items():
            if row.standing.state is not State.LEASED or seq <= asked.after:
                continue
            if row.holder is None or row.holder.consumer != asked.consumer:
                continue
            body = row.notification.body or b""
            room -= len(body)
            if found and room < 0:
                break
            found.append(delivery(table, row, body, (row.due_ms or 0) + ahead))
        return found

    def _figures(self, name: str) -> Figures | None:
        table = self._tables.queues.get(name)
        if table is None:
            return None
        counts = {state.label: count for state, count in table.counts.items()}
        return Figures(published=table.seq, oldest_age_seconds=self._oldest_age(table), **counts)

    def _figures_of_queues(self, asked: query.FiguresOfQueues) -> list[query.QueueFigures]:
        queues = self._tables.queues
        names = queues if asked.names is None else set(asked.names) & queues.keys()
        found = []
        for name in sorted(name for name in names if name > asked.after)[: asked.limit]:
            figures = self._figures(name)
            if figures is not None:
                found.append(query.QueueFigures(queues[name].queue, figures))
        return found

    def _oldest_age(self, table: Table) -> float | None:
        first: dict[State, Row] = {}
        for row in table.rows.values():
            if row.standing.state is not State.DEAD:
                first.setdefault(row.standing.state, row)
        if not first:
            return None
        oldest = min(row.notification.published_at_ms for row in first.values())
        return max(0, self._tables.timeline.wall_ms() - oldest) / 1_000

    def _notification(self, asked: query.NotificationById) -> query.NotificationRecord | None:
        found = self._tables.notifications.get(asked.id)
        if found is None:
            return None
        deliveries = []
        for name, seq in sorted(found.places):
            table = self._tables.queue(name)
            mine = asked.owner is None or table.queue.owner == asked.owner
            if not mine or not table.is_told_from_start(seq):
                continue
            told = (e for e in table.history[seq] if e.outcome is not Outcome.LATE_ACK)
            *_, last = told
            row = table.rows.get(seq)
            state = last.state if row is None else row.standing.state
            attempt = 0 if row is None else row.standing.attempt
            deliveries.append(query.DeliveryRecord(name, seq, state, attempt, last.stored))
        return query.NotificationRecord(
            id=found.id,
            topic=found.topic,
            content_type=found.content_type,
            body_bytes=found.body_bytes,
            body_sha256=found.body_sha256,
            published_at_ms=found.published_at_ms,
            publisher=found.publisher,
            attributes=dict(found.attributes),
            deliveries=deliveries,
        )

    def _owned(self, id: str, owner: str | None) -> Notification | None:
        """The notification, if the ledger tells that it went to one of the owner's queues."""
        found = self._tables.notifications.get(id)
        if found is None or owner is None:
            return found
        for name, seq in found.places:
            table = self._tables.queue(name)
            if table.queue.owner == owner and table.is_told_from_start(seq):
                return found
        return None

    def _receipts_of(self, asked: query.ReceiptsOf) -> list[query.StoredReceipt]:
        notification = self._tables.notifications.get(asked.id)
        found: list[query.StoredReceipt] = []
        for name, seq in sorted(notification.places) if notification is not None else ():
            table = self._tables.queue(name)
            if asked.owner in (None, table.queue.owner):
                found += [entry.stored for entry in table.history.get(seq, ())]
        return found[: asked.limit]

    def _receipt_counts(self, ids: tuple[str, ...]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for id in ids:
            found = self._tables.notifications.get(id)
            places = () if found is None else found.places
            count = sum(len(self._tables.queue(name).history.get(seq, ())) for name, seq in places)
            if count:
                counts[id] = count
        return counts

    def _open_deliveries(self, asked: query.OpenDeliveries) -> list[query.OpenDelivery]:
        table = self._tables.queues.get(asked.queue)
        if table is None:
            return []
        rows = (
            row
            for row in table.rows.values()
            if row.standing.state is asked.state and row.seq > asked.after
        )
        return [self._open_delivery(row) for row in itertools.islice(rows, asked.limit)]

    def _open_delivery(self, row: Row) -> query.OpenDelivery:
        notification, standing = row.notification, row.standing
        leased = standing.state is State.LEASED
        waits = leased or standing.state is State.SCHEDULED
        return query.OpenDelivery(
            id=notification.id,
            seq=row.seq,
            state=standing.state,
            attempt=standing.attempt,
            topic=notification.topic,
            content_type=notification.content_type,
            body_bytes=notification.body_bytes,
            published_at_ms=notification.published_at_ms,
            ordering_key=row.ordering_key,
            collapse_key=row.collapse_key,
            due_in_seconds=self._until(row.due_ms) if waits else None,
            expires_in_seconds=self._until(row.expires_ms),
            leased_at_ms=row.leased_at_wall_ms,
            holder=row.holder,
        )

    def _until(self, at_ms: int | None) -> float | None:
        return None if at_ms is None else max(0, at_ms - self._tables.timeline.now_ms()) / 1_000

    def _dead_reasons(self, asked: query.DeadReasons) -> list[query.ReasonCount]:
        table = self._tables.queues.get(asked.queue)
        rows = [] if table is None else selected(table, Selection())[: asked.scanned]
        times: dict[str, list[int]] = {}
        for row in rows:
            times.setdefault(row.reason, []).append(row.dead_at_wall_ms)
        found = [query.ReasonCount(why, len(at), max(at)) for why, at in times.items()]
        return sorted(found, key=lambda one: (-one.count, one.reason))[: asked.limit]

    def _dead_seqs(self, asked: query.DeadSeqs) -> query.SeqPage:
        table = self._tables.queues.get(asked.queue)
        if table is None:
            return query.SeqPage([], None)
        looked = selected(table, Selection(), asked.after, asked.scanned)
        seqs = [row.seq for row in selected(table, asked.selection, asked.after, asked.scanned)]
        if len(seqs) >= asked.limit:
            return query.SeqPage(seqs[: asked.limit], seqs[asked.limit - 1])
        return query.SeqPage(seqs, looked[-1].seq if len(looked) == asked.scanned else None)

    def _papers(self, asked: query.Papers) -> list[Paper]:
        keys = sorted(
            key
            for kind, key in self._tables.papers
            if kind is asked.kind and key > asked.after and (not asked.before or key < asked.before)
        )
        if asked.newest_first:
            keys.reverse()
        return [self._tables.papers[asked.kind, key] for key in keys[: asked.limit]]

    def _dead(self, asked: query.DeadLetters) -> list[query.DeadLetter]:
        table = self._tables.queues.get(asked.queue)
        rows = [] if table is None else selected(table, asked.selection)
        later = (row for row in rows if row.seq > asked.after)
        return [
            query.DeadLetter(
                id=row.notification.id,
                seq=row.seq,
                attempt=row.standing.attempt,
                topic=row.notification.topic,
                content_type=row.notification.content_type,
                published_at_ms=row.notification.published_at_ms,
                dead_at_ms=row.dead_at_wall_ms,
                reason=row.reason,
                ordering_key=row.ordering_key,
                parked=row.standing.parked and bool(row.ordering_key),
                history=[] if table is None else [e.stored for e in table.history[row.seq]],
            )
            for row in itertools.islice(later, asked.limit)
        ]

    def _receipts(self, asked: query.Receipts) -> query.ReceiptPage:
        table = self._tables.queues.get(asked.queue)
        numbers: Iterable[int] = [] if table is None else list(table.entries)
        if asked.newest_first:
            numbers = reversed(list(numbers))
        found: list[query.StoredReceipt] = []
        for number in numbers:
            if asked.after is not None and (
                number >= asked.after if asked.newest_first else number <= asked.after
            ):
                continue
            entry = None if table is None else table.entries[number]
            if (
                entry is not None
                and asked.outcome in (None, entry.outcome.value)
                and (asked.since_ms is None or entry.at_wall_ms >= asked.since_ms)
                and (asked.until_ms is None or entry.at_wall_ms < asked.until_ms)
            ):
                found.append(entry.stored)
                if len(found) >= asked.limit:
                    return query.ReceiptPage(found, number)
        return query.ReceiptPage(found, None)


def _count_dead(table: Table, selection: Selection, scanned: int) -> int:
    # Named ones are found by their numbers, however many are before them.
    return len(selected(table, selection, 0, scanned if selection.seqs is None else None))


def _page(values: Mapping[str, V], after: str, limit: int) -> list[V]:
    names = sorted(name for name in values if name > after)
    return [values[name] for name in names[:limit]]
