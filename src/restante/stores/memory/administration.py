"""What administrators change and what time lets go of: clients, queues, keys, subscriptions, retention."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import msgspec

from restante import auth
from restante import changes as change
from restante.errors import (
    AlreadyExists,
    ClientNotFound,
    KeyNotFound,
    PaperChanged,
    QueueNotFound,
    RestanteError,
    SubscriptionNotFound,
    WebhookChanged,
    WebhookNotFound,
)
from restante.lifecycle import ENDED
from restante.model import Key, Outcome, Role, Subscription
from restante.stores.memory.tables import Notification, Table, Tables

_ENDS = frozenset(Outcome(state.label) for state in ENDED)


class Administration:
    """The operations, over the tables."""

    def __init__(
        self,
        tables: Tables,
        unpark: Callable[[Table], None],
        open_key: Callable[[Table, str], None],
        idempotency_retention_seconds: int,
    ) -> None:
        self._tables = tables
        self._unpark = unpark
        self._open_key = open_key
        self._idempotency_retention_seconds = idempotency_retention_seconds

    # -- configure ------------------------------------------------------------------------------

    def configure(self, changes: Sequence[change.Change]) -> None:
        """All of them, or none: what was there is kept until the last has been accepted."""
        tables = self._tables
        clients, keys = dict(tables.clients), dict(tables.keys)
        queues, subscriptions = dict(tables.queues), dict(tables.subscriptions)
        webhooks, papers = dict(tables.webhooks), dict(tables.papers)
        settings = {name: table.queue for name, table in queues.items()}
        opened: list[Callable[[], None]] = []
        try:
            for item in changes:
                self._change(item, opened)
        except RestanteError:
            tables.clients, tables.keys = clients, keys
            tables.queues, tables.subscriptions = queues, subscriptions
            tables.webhooks, tables.papers = webhooks, papers
            for name, queue in settings.items():
                queues[name].queue = queue
            raise
        for let_go in opened:
            let_go()

    def _change(self, item: change.Change, opened: list[Callable[[], None]]) -> None:  # noqa: PLR0912 (a table of cases)
        tables = self._tables
        match item:
            case change.AddClient(client):
                if client.name in tables.clients:
                    raise AlreadyExists(f"there is a client {client.name} already")
                tables.clients[client.name] = client
            case change.PutQueue():
                self._put_queue(item, opened)
            case change.AddKey(key):
                self._add_key(key)
            case change.RevokeKey(key_id, at_ms):
                if key_id not in tables.keys:
                    raise KeyNotFound(f"there is no key {key_id}")
                if tables.keys[key_id].revoked_at_ms is None:
                    revoked = msgspec.structs.replace(tables.keys[key_id], revoked_at_ms=at_ms)
                    tables.keys[key_id] = revoked
            case change.AddSubscription(subscription):
                self._add_subscription(subscription)
            case change.DropSubscription(id):
                if id not in tables.subscriptions:
                    raise SubscriptionNotFound(f"there is no subscription {id}")
                del tables.subscriptions[id]
            case change.PutWebhook(webhook):
                tables.queue(webhook.queue)
                current = tables.webhooks.get(webhook.queue)
                if webhook.version != (1 if current is None else current.version + 1):
                    raise WebhookChanged("the webhook was changed by another meanwhile")
                tables.webhooks[webhook.queue] = webhook
            case change.DropWebhook(queue):
                if queue not in tables.webhooks:
                    raise WebhookNotFound(f"queue {queue} has no webhook")
                del tables.webhooks[queue]
            case change.OpenOrderingKey(queue, ordering_key):
                opened.append(functools.partial(self._open_key, tables.queue(queue), ordering_key))
            case change.PutPaper(paper):
                place = (paper.kind, paper.key)
                there = tables.papers.get(place)
                version = 1 if there is None else there.version + 1
                if paper.version not in (0, version):
                    raise PaperChanged("it was changed by another meanwhile")
                tables.papers[place] = msgspec.structs.replace(paper, version=version)
            case change.DropPaper(kind, key):
                tables.papers.pop((kind, key), None)
            case change.AddSeals(seals):
                for seal in seals:
                    opened.append(functools.partial(tables.queue(seal.queue).seals.append, seal))

    def _put_queue(self, item: change.PutQueue, opened: list[Callable[[], None]]) -> None:
        queue, tables = item.queue, self._tables
        if queue.owner not in tables.clients:
            raise ClientNotFound(f"there is no client {queue.owner} to own the queue")
        table = tables.queues.get(queue.name)
        if table is None:
            tables.queues[queue.name] = Table(len(tables.queues) + 1, queue)
            return
        if item.must_be_new:
            raise AlreadyExists(f"there is a queue {queue.name} already")
        table.queue = queue
        if queue.settings.after_dead == "continue":
            opened.append(functools.partial(self._unpark, table))

    def _add_key(self, key: Key) -> None:
        tables = self._tables
        if key.role is Role.CLIENT and key.name not in tables.clients:
            raise ClientNotFound(f"there is no client {key.name}")
        now = key.created_at_ms
        active = sum(
            other.role is key.role
            and other.name == key.name
            and bool(other.certificate_san) is bool(key.certificate_san)
            and other.active(now)
            for other in tables.keys.values()
        )
        same = tables.keys.get(key.id)
        gives_way = same is not None and bool(key.certificate_san) and not same.active(now)
        auth.check_new_key(key, active=active, taken=same is not None and not gives_way)
        tables.keys[key.id] = key

    def _add_subscription(self, added: Subscription) -> None:
        tables = self._tables
        if added.queue not in tables.queues:
            raise QueueNotFound(f"there is no queue {added.queue} here")
        for other in tables.subscriptions.values():
            alike = (other.pattern, other.queue, other.filter) == (
                added.pattern,
                added.queue,
                added.filter,
            )
            if alike or other.id == added.id:
                raise AlreadyExists("there is such a subscription already")
        tables.subscriptions[added.id] = added

    # -- retention ------------------------------------------------------------------------------

    def prune(self, limit: int) -> int:
        """Let go of what is past its time, in about ``limit`` steps; fewer when nothing is left."""
        tables = self._tables
        oldest = tables.timeline.now_ms() - self._idempotency_retention_seconds * 1_000
        kept_since = [(at, key) for key, (_, _, at) in tables.idempotency.items() if at < oldest]
        for _, key in sorted(kept_since)[:limit]:
            del tables.idempotency[key]
        done = min(len(kept_since), limit)
        for table in tables.queues.values():
            done += self._prune_bodies(table, limit - done)
            done += self._prune_receipts(table, limit - done)
        return done + self._prune_papers(limit - done)

    def _prune_papers(self, limit: int) -> int:
        papers, now = self._tables.papers, self._tables.timeline.wall_ms()
        past = [
            place
            for place, paper in papers.items()
            if paper.expires_at_ms is not None and paper.expires_at_ms <= now
        ][: max(0, limit)]
        for place in past:
            del papers[place]
        return len(past)

    def _prune_bodies(self, table: Table, limit: int) -> int:
        """Drop bodies whose deliveries have all ended longer ago than their queues keep bodies."""
        before = self._kept_bodies_since(table)
        done = 0
        for number, entry in table.entries.items():
            if done >= limit or entry.at_wall_ms > before:
                break
            if number <= table.bodies_pruned_to:
                continue
            table.bodies_pruned_to = number
            done += 1
            if entry.outcome in _ENDS and self._no_longer_needed(entry.notification):
                entry.notification.body = None
        return done

    def _no_longer_needed(self, notification: Notification) -> bool:
        for name, seq in notification.places:
            table = self._tables.queue(name)
            if seq in table.rows:
                return False
            ends = (entry for entry in table.history.get(seq, ()) if entry.outcome in _ENDS)
            if any(end.at_wall_ms > self._kept_bodies_since(table) for end in ends):
                return False
        return True

    def _kept_bodies_since(self, table: Table) -> int:
        keeps = table.queue.settings.body_retention_seconds
        return self._tables.timeline.wall_ms() - keeps * 1_000

    def _prune_receipts(self, table: Table, limit: int) -> int:
        """Drop the oldest receipts past their time, from the ledger's beginning, up to the first still needed."""
        keeps = table.queue.settings.receipt_retention_seconds
        before = self._tables.timeline.wall_ms() - keeps * 1_000
        done = 0
        for number, entry in list(table.entries.items()):
            # The newest receipt stays, so that the ledger's end can always be seen; so does all that tells of a
            # delivery which has not ended.
            needed = number == table.receipts or entry.seq in table.rows
            if done >= limit or entry.at_wall_ms > before or needed:
                break
            done += 1
            del table.entries[number]
            table.history[entry.seq].remove(entry)
            if not table.history[entry.seq]:
                del table.history[entry.seq]
                self._forget(entry.notification, table.queue.name, entry.seq)
        return done

    def _forget(self, notification: Notification, queue: str, seq: int) -> None:
        """A notification of which no receipt is left is gone, its idempotency key with it."""
        if any(seq in self._tables.queue(name).history for name, seq in notification.places):
            return
        del self._tables.notifications[notification.id]
        del self._tables.by_number[notification.n]
        for key, (_, kept, _) in list(self._tables.idempotency.items()):
            if kept is notification:
                del self._tables.idempotency[key]
