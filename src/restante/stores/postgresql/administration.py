"""What administrators change: all of it or nothing, one after the other on whatever node, and told to the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import msgspec

from restante import auth
from restante import changes as change
from restante.errors import (
    AlreadyExists,
    ClientNotFound,
    KeyNotFound,
    QueueNotFound,
    SubscriptionNotFound,
    WebhookChanged,
    WebhookNotFound,
)
from restante.model import Key, Queue, Role, Subscription
from restante.nodes import changed_by
from restante.stores.postgresql import nodes, papers
from restante.stores.postgresql.books import Registry
from restante.stores.postgresql.unit import Unit
from restante.stores.postgresql.upkeep import unpark
from restante.webhooks import Webhook
from restante.wire.receipts import GENESIS

_encode = msgspec.json.Encoder().encode
_ACTIVE: Final = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > {})"


async def configure(unit: Unit, changes: Sequence[change.Change]) -> None:
    """As ``Store.configure``, of which ``papers.put`` does those that change nothing but papers."""
    unit.registry = Registry()
    # First, so that whatever follows is seen by one node at a time.
    if told := [changed for item in changes if (changed := changed_by(item)) is not None]:
        await nodes.record(unit.connection, told)
    # In the order in which everybody locks them, whatever the order of the changes.
    await unit.connection.execute(
        "SELECT 1 FROM restante.tallies WHERE queue IN (SELECT id FROM restante.queues WHERE name = ANY($1::text[]))"
        " ORDER BY queue FOR UPDATE",
        [
            item.queue if isinstance(item, change.OpenOrderingKey) else item.queue.name
            for item in changes
            if isinstance(item, change.OpenOrderingKey | change.PutQueue)
        ],
    )
    for item in changes:
        if not isinstance(item, papers.PaperChange):
            await _change(unit, item)
    # Locked last on every node.
    await papers.put(unit, [item for item in changes if isinstance(item, papers.PaperChange)])
    unit.written = True


async def _change(unit: Unit, item: change.Change) -> None:
    connection = unit.connection
    match item:
        case change.AddClient(client):
            if await _exists(unit, "clients", "name", client.name):
                raise AlreadyExists(f"there is a client {client.name} already")
            await connection.execute(
                "INSERT INTO restante.clients VALUES ($1, $2)", client.name, client.created_at_ms
            )
        case change.PutQueue(queue, must_be_new):
            await _put_queue(unit, queue, must_be_new=must_be_new)
        case change.AddKey(key):
            await _add_key(unit, key)
        case change.RevokeKey(key_id, at_ms):
            if not await _exists(unit, "keys", "id", key_id):
                raise KeyNotFound(f"there is no key {key_id}")
            await connection.execute(
                "UPDATE restante.keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
                key_id,
                at_ms,
            )
        case change.AddSubscription(added):
            await _add_subscription(unit, added)
        case change.DropSubscription(id):
            if not await _exists(unit, "subscriptions", "id", id):
                raise SubscriptionNotFound(f"there is no subscription {id}")
            await connection.execute("DELETE FROM restante.subscriptions WHERE id = $1", id)
        case change.PutWebhook(webhook):
            await _put_webhook(unit, webhook)
        case change.OpenOrderingKey(name, ordering_key):
            if not await _exists(unit, "queues", "name", name):
                raise QueueNotFound(f"there is no queue {name} here")
            await unit.lock([name])
            await unpark(unit, name, ordering_key)
        case change.DropWebhook(name):
            if not await _exists(unit, "webhooks", "queue", name):
                raise WebhookNotFound(f"queue {name} has no webhook")
            await connection.execute("DELETE FROM restante.webhooks WHERE queue = $1", name)


async def _put_queue(unit: Unit, queue: Queue, *, must_be_new: bool) -> None:
    if not await _exists(unit, "clients", "name", queue.owner):
        raise ClientNotFound(f"there is no client {queue.owner} to own the queue")
    connection, settings = unit.connection, _encode(queue.settings).decode()
    id: Any = await connection.fetchval(
        "SELECT id FROM restante.queues WHERE name = $1", queue.name
    )
    if id is None:
        id = await connection.fetchval(
            "INSERT INTO restante.queues (name, owner, settings) VALUES ($1, $2, $3) RETURNING id",
            queue.name,
            queue.owner,
            settings,
        )
        await connection.execute(
            "INSERT INTO restante.tallies (queue, chain) VALUES ($1, $2)", id, GENESIS
        )
        return
    if must_be_new:
        raise AlreadyExists(f"there is a queue {queue.name} already")
    await connection.execute(
        "UPDATE restante.queues SET owner = $2, settings = $3 WHERE id = $1",
        id,
        queue.owner,
        settings,
    )
    # Under the tally's lock, as everything that happens to the queue: by the version others see that it changed.
    await connection.execute(
        "UPDATE restante.tallies SET version = version + 1 WHERE queue = $1", id
    )
    if queue.settings.after_dead == "continue":
        await unit.lock([queue.name])
        await unpark(unit, queue.name)


async def _put_webhook(unit: Unit, webhook: Webhook) -> None:
    if not await _exists(unit, "queues", "name", webhook.queue):
        raise QueueNotFound(f"there is no queue {webhook.queue} here")
    version = await unit.connection.fetchval(
        "SELECT version FROM restante.webhooks WHERE queue = $1", webhook.queue
    )
    if webhook.version != (1 if version is None else version + 1):
        raise WebhookChanged("the webhook was changed by another meanwhile")
    await unit.connection.execute(
        "INSERT INTO restante.webhooks (queue, version, webhook) VALUES ($1, $2, $3) ON CONFLICT (queue)"
        " DO UPDATE SET version = excluded.version, webhook = excluded.webhook",
        webhook.queue,
        webhook.version,
        _encode(webhook),
    )


async def _add_key(unit: Unit, key: Key) -> None:
    connection = unit.connection
    if key.role is Role.CLIENT and not await _exists(unit, "clients", "name", key.name):
        raise ClientNotFound(f"there is no client {key.name}")
    active = await connection.fetchval(
        "SELECT count(*) FROM restante.keys WHERE role = $1 AND name = $2 AND (certificate_san <> '') = $3"  # noqa: S608 (fixed terms)
        f" AND {_ACTIVE.format('$4::bigint')}",
        key.role.value,
        key.name,
        bool(key.certificate_san),
        key.created_at_ms,
    )
    if key.certificate_san:
        await connection.execute(
            f"DELETE FROM restante.keys WHERE id = $1 AND NOT ({_ACTIVE.format('$2::bigint')})",  # noqa: S608 (fixed terms)
            key.id,
            key.created_at_ms,
        )
    auth.check_new_key(key, active=active, taken=await _exists(unit, "keys", "id", key.id))
    await connection.execute(
        "INSERT INTO restante.keys VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        key.id,
        key.role.value,
        key.name,
        key.secret_hash,
        key.created_at_ms,
        key.expires_at_ms,
        key.revoked_at_ms,
        key.label,
        key.certificate_san,
    )


async def _add_subscription(unit: Unit, added: Subscription) -> None:
    if not await _exists(unit, "queues", "name", added.queue):
        raise QueueNotFound(f"there is no queue {added.queue} here")
    conditions = msgspec.json.encode(added.filter, order="sorted").decode()
    try:
        await unit.connection.execute(
            "INSERT INTO restante.subscriptions VALUES ($1, $2, $3, $4)",
            added.id,
            added.pattern,
            added.queue,
            conditions,
        )
    except asyncpg.UniqueViolationError as error:
        raise AlreadyExists("there is such a subscription already") from error


async def _exists(unit: Unit, table: str, column: str, value: str) -> bool:
    found = await unit.connection.fetchval(
        f"SELECT 1 FROM restante.{table} WHERE {column} = $1",  # noqa: S608 (fixed terms)
        value,
    )
    return found is not None
