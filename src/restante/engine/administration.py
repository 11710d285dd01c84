"""What operators set up: clients, queues, keys, subscriptions."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from restante import auth, certificates
from restante.admission import check_attribute_name, check_text
from restante.changes import (
    AddClient,
    AddKey,
    AddSubscription,
    Change,
    DropSubscription,
    PutPaper,
    PutQueue,
    PutWebhook,
    RevokeKey,
)
from restante.engine.acts import What, difference
from restante.engine.broker import Broker
from restante.engine.links import ended_era
from restante.engine.webhooks import disabled_for
from restante.model import (
    Actor,
    Client,
    Key,
    Queue,
    Role,
    Settings,
    Subscription,
    check_bounds,
    check_name,
)
from restante.queries import KeyById, QueueByName, Subscriptions, WebhookOf
from restante.routing import check_pattern
from restante.wire import times

KEY_SECONDS_MAXIMUM: Final = 10 * 365 * 86_400


class Administration:
    """What ``actor`` does (``SYSTEM``: this program itself). That it may, callers check first.

    Each change is written down as an act, in the transaction that makes it.
    """

    def __init__(
        self,
        broker: Broker,
        actor: Actor,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._broker = broker
        self._actor = actor
        self._random_bytes = random_bytes

    async def add_client(self, name: str) -> tuple[Key, str]:
        """Make a client, its queue of the same name and its first key; the key's text is shown this once."""
        check_name("client name", name)
        now = self._broker.clock.wall_ms()
        key, text = self.mint(Role.CLIENT, name, None, "first key")
        await self._broker.configure(
            AddClient(Client(name, now)),
            PutQueue(Queue(name, name), must_be_new=True),
            AddKey(key),
            self._act(What.CLIENT_ADDED, queue=name, subject=name, key=key.id),
        )
        return key, text

    async def put_queue(self, name: str, owner: str | None, settings: Settings | None) -> Queue:
        """Create or change a queue. What is None keeps its value (on creation: its default, owner = name)."""
        check_name("queue name", name)
        if owner is not None:
            check_name("owner", owner)
        current = await self._broker.store.browse(QueueByName(name))
        base = current or Queue(name, name)
        queue = Queue(name, owner or base.owner, settings or base.settings)
        queue.settings.check()
        changes: list[Change] = [PutQueue(queue)]
        if base.owner != queue.owner:
            changes += await self._webhook_disabled(name)
        changed = difference(base.settings, queue.settings)
        if current is None:
            changes.append(self._act(What.QUEUE_ADDED, queue=name, owner=queue.owner, **changed))
        elif base != queue:
            if base.owner != queue.owner:
                changed["owner"] = f"{base.owner} -> {queue.owner}"
            changes.append(self._act(What.QUEUE_CHANGED, queue=name, **changed))
        await self._broker.configure(*changes)
        return queue

    async def add_key(
        self, role: Role, name: str, expires_after_seconds: float | None, label: str
    ) -> tuple[Key, str]:
        """Make a key for a principal, at most two active; the key's text is shown this once."""
        _check_key(name, expires_after_seconds, label)
        key, text = self.mint(role, name, expires_after_seconds, label)
        await self.keep(key)
        return key, text

    async def add_certificate(
        self, role: Role, name: str, san: str, expires_after_seconds: float | None, label: str
    ) -> Key:
        """Let in, as a principal, who shows a certificate with that name; at most two active.

        Raises ``InvalidName`` for a name that no certificate can stand for (see ``certificates.py``), and
        ``AlreadyExists`` while somebody has it.
        """
        _check_key(name, expires_after_seconds, label)
        san = certificates.canonical(san)
        now = self._broker.clock.wall_ms()
        key = Key(
            id=certificates.key_id(san),
            role=role,
            name=name,
            secret_hash=auth.hash_of(san),
            created_at_ms=now,
            expires_at_ms=_expiry(now, expires_after_seconds),
            label=label,
            certificate_san=san,
        )
        await self.keep(key)
        return key

    async def revoke_key(self, id: str) -> None:
        """End a key or a certificate at once.

        Who waits under it is answered with nothing, and who is connected is disconnected.
        """
        key = await self._broker.store.browse(KeyById(id))
        whose = {} if key is None else {"role": key.role.value, "name": key.name}
        now_ms = self._broker.clock.wall_ms()
        shut_out = []
        if key is not None and key.role is Role.CLIENT:
            shut_out.append(ended_era(key.name, now_ms))
        await self._broker.configure(
            RevokeKey(id, now_ms),
            self._act(What.KEY_REVOKED, subject=id, **whose),
            *shut_out,
        )
        self._broker.dismiss(id)

    async def subscribe(
        self, pattern: str, queue: str, conditions: dict[str, list[str]]
    ) -> Subscription:
        """Route topics that match the pattern to the queue."""
        check_pattern(pattern)
        check_name("queue name", queue)
        check_bounds("number of filter attributes", len(conditions), 0, 16)
        for attribute, values in conditions.items():
            check_attribute_name(attribute)
            check_bounds("number of filter values", len(values), 1, 100)
        id = f"sub-{self._random_bytes(8).hex()}"
        subscription = Subscription(id, pattern, queue, conditions)
        conditions_text = {
            f"filter.{name}": ", ".join(values) for name, values in conditions.items()
        }
        await self._broker.configure(
            AddSubscription(subscription),
            self._act(
                What.SUBSCRIPTION_ADDED,
                queue=queue,
                subject=id,
                pattern=pattern,
                **conditions_text,
            ),
        )
        return subscription

    async def unsubscribe(self, id: str) -> None:
        """Remove a subscription; what was routed by it stays."""
        gone = [one for one in await self.subscriptions() if one.id == id]
        queue, pattern = (gone[0].queue, gone[0].pattern) if gone else ("", "")
        await self._broker.configure(
            DropSubscription(id),
            self._act(What.SUBSCRIPTION_DROPPED, queue=queue, subject=id, pattern=pattern),
        )

    async def subscriptions(self) -> list[Subscription]:
        return await self._broker.store.browse(Subscriptions())

    async def keep(self, key: Key) -> None:
        """Store a minted key: from now on it opens."""
        told = {"role": key.role.value, "name": key.name, "label": key.label}
        if key.certificate_san:
            told["certificate_san"] = key.certificate_san
        if key.expires_at_ms is not None:
            told["expires_at"] = times.to_text(key.expires_at_ms)
        await self._broker.configure(
            AddKey(key), self._act(What.KEY_MINTED, subject=key.id, **told)
        )

    def mint(
        self, role: Role, name: str, expires_after_seconds: float | None, label: str
    ) -> tuple[Key, str]:
        """A new key and its text, not stored yet."""
        now = self._broker.clock.wall_ms()
        id, text, secret_hash = auth.mint(
            self._random_bytes(auth.ID_BYTES), self._random_bytes(auth.SECRET_BYTES)
        )
        key = Key(
            id=id,
            role=role,
            name=name,
            secret_hash=secret_hash,
            created_at_ms=now,
            expires_at_ms=_expiry(now, expires_after_seconds),
            label=label,
        )
        return key, text

    async def _webhook_disabled(self, queue: str) -> list[Change]:
        """The one owner's notifications are not sent to the other's address."""
        broker = self._broker
        webhook = await broker.store.browse(WebhookOf(queue))
        if webhook is None:
            return []
        reason, now = "the queue has a new owner", broker.clock.wall_ms()
        disabled = disabled_for(webhook, reason, now, by_service=True)
        changes: list[Change] = [
            PutWebhook(msgspec.structs.replace(disabled, version=webhook.version + 1))
        ]
        if webhook.enabled:
            changes.append(self._act(What.WEBHOOK_DISABLED, queue=queue, reason=reason))
        return changes

    def _act(
        self, what: What, *, queue: str = "", subject: str = "", **details: object
    ) -> PutPaper:
        return self._broker.acts.paper(
            self._actor, what, queue=queue, subject=subject, details=details
        )


def _check_key(name: str, expires_after_seconds: float | None, label: str) -> None:
    check_name("name", name)
    check_bounds("length of label", len(label), 0, 255)
    if label:
        check_text("label", label)
    if expires_after_seconds is not None:
        check_bounds("expires_after_seconds", expires_after_seconds, 1, KEY_SECONDS_MAXIMUM)


def _expiry(now_ms: int, after_seconds: float | None) -> int | None:
    return None if after_seconds is None else now_ms + int(after_seconds * 1_000)
