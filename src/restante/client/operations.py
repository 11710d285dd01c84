"""What operators and auditors ask: queues, dead letters, receipts, clients, keys, subscriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from restante.client.answers import DeadPage, NotificationStatus, Receipt, ReceiptPage, Way
from restante.client.groups import GroupOperations
from restante.client.http import Wire
from restante.client.jobs import JobOperations
from restante.client.long_operations import LongOperations
from restante.client.operators import OperatorOperations
from restante.client.proofs import ProofOperations
from restante.client.signing import SigningKeyOperations
from restante.client.watching import WatchOperations
from restante.client.webhooks import WebhookOperations
from restante.model import Role
from restante.wire.messages import (
    BulkDone,
    ClientMade,
    ClientOut,
    ClientPage,
    KeyMade,
    KeyOut,
    KeyPage,
    NodeList,
    NodeOut,
    QueueOut,
    QueuePage,
    QueueWithFigures,
    SubscriptionList,
    SubscriptionOut,
)
from restante.wire.request_messages import RequestOut


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


class Operations(
    WebhookOperations,
    WatchOperations,
    JobOperations,
    GroupOperations,
    LongOperations,
    OperatorOperations,
    ProofOperations,
    SigningKeyOperations,
):
    """Pages hold at most ``limit`` entries; ``after`` is the ``next`` of the page before. Times are RFC 3339."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def notification(
        self, id: str, *, wait_seconds: float = 0.0, require: int | str = "all"
    ) -> NotificationStatus:
        """Who has it, who signed, when, and with what reply.

        Waits up to ``wait_seconds`` (0 to 60) until as many have signed as ``require`` says (``all``, ``any`` or a
        number), or so many cannot any more. Goes on where a wait ended before, on any node.
        """
        return await self._wire.call(
            NotificationStatus,
            "GET",
            f"/v1/notifications/{segment(id)}",
            params={"wait": wait_seconds, "require": str(require)},
            wait_seconds=wait_seconds,
        )

    async def way(self, id: str) -> Way:
        """Everything that became of it, in every queue that the key may see."""
        return await self._wire.call(Way, "GET", f"/v1/notifications/{segment(id)}/receipts")

    # -- queues ---------------------------------------------------------------------------------

    async def queues(self, *, limit: int | None = None, after: str | None = None) -> QueuePage:
        """The queues the key may see, by name."""
        return await self._wire.call(
            QueuePage, "GET", "/v1/queues", params={"limit": limit, "after": after}
        )

    async def queue(self, name: str) -> QueueWithFigures:
        """A queue's settings and figures."""
        return await self._wire.call(QueueWithFigures, "GET", f"/v1/queues/{segment(name)}")

    async def put_queue(
        self, name: str, *, owner: str | None = None, settings: Mapping[str, object] = {}
    ) -> QueueOut:
        """Make or change a queue; settings left out keep their value (on creation: their default)."""
        ask: dict[str, object] = dict(settings)
        if owner is not None:
            ask["owner"] = owner
        return await self._wire.call(QueueOut, "PUT", f"/v1/queues/{segment(name)}", ask=ask)

    # -- dead letters ---------------------------------------------------------------------------

    async def dead(
        self,
        queue: str,
        *,
        limit: int | None = None,
        after: int | None = None,
        reason: str | None = None,
        topic: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> DeadPage:
        """Dead letters by ``seq``, each with its history."""
        return await self._wire.call(
            DeadPage,
            "GET",
            f"/v1/queues/{segment(queue)}/dead",
            params={
                "limit": limit,
                "after": after,
                "reason": reason,
                "topic": topic,
                "since": since,
                "until": until,
            },
        )

    async def redrive(
        self,
        queue: str,
        *,
        seqs: Sequence[int] | None = None,
        filter: Mapping[str, str] | None = None,
        preview: bool = False,
    ) -> BulkDone:
        """Give dead letters new attempts: some by ``seqs``, those that match ``filter``, or all. No time-out."""
        return await self._bulk("redrive", queue, _selection(seqs, filter), preview)

    async def discard(
        self,
        queue: str,
        *,
        seqs: Sequence[int] | None = None,
        filter: Mapping[str, str] | None = None,
        preview: bool = False,
        reason: str = "",
    ) -> BulkDone:
        """Discard dead letters, chosen as for ``redrive``. Their receipts stay. No time-out."""
        selection = _selection(seqs, filter)
        return await self._bulk(
            "discard", queue, selection | ({"reason": reason} if reason else {}), preview
        )

    async def _bulk(self, what: str, queue: str, ask: dict[str, object], preview: bool) -> BulkDone:
        # A repeat finds nothing left to do, but would say so as if it had done nothing.
        return await self._wire.call(
            BulkDone,
            "POST",
            f"/v1/queues/{segment(queue)}/dead/{what}",
            ask=ask | {"preview": preview},
            repeatable=preview,
            wait_seconds=86_400,
        )

    # -- receipts -------------------------------------------------------------------------------

    async def receipts(
        self,
        queue: str,
        *,
        limit: int | None = None,
        after: int | None = None,
        outcome: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> ReceiptPage:
        """A queue's ledger, by number, rising."""
        return await self._wire.call(
            ReceiptPage,
            "GET",
            f"/v1/queues/{segment(queue)}/receipts",
            params={
                "limit": limit,
                "after": after,
                "outcome": outcome,
                "since": since,
                "until": until,
            },
        )

    async def receipt(self, id: str) -> Receipt:
        """One receipt by its name, ``<queue>~<number>``."""
        return await self._wire.call(Receipt, "GET", f"/v1/receipts/{segment(id)}")

    # -- clients, keys, subscriptions -----------------------------------------------------------

    async def request(self, key: str, *, principal: str | None = None) -> RequestOut:
        """What came of a request with that idempotency key. ``RequestNotFound``: none arrived, or it did nothing.

        An administrator may name another's ``principal``, as ``publisher/shop``.
        """
        return await self._wire.call(
            RequestOut, "GET", f"/v1/requests/{segment(key)}", params={"principal": principal}
        )

    async def add_client(self, name: str, *, idempotency_key: str | None = None) -> ClientMade:
        """Make a client, its queue and its first key, which is shown this once.

        This and all that take an ``idempotency_key`` may be called again with it: nothing is done twice, and the answer
        is the first one's. ``IdempotencyKeyReused``, ``RequestInProgress``, ``RequestUnknown``, ``AnswerNotKept``.
        """
        return await self._wire.call(
            ClientMade,
            "POST",
            "/v1/clients",
            ask={"name": name},
            repeatable=False,
            idempotency_key=idempotency_key,
        )

    async def clients(self, *, limit: int | None = None, after: str | None = None) -> ClientPage:
        """The clients, by name."""
        return await self._wire.call(
            ClientPage, "GET", "/v1/clients", params={"limit": limit, "after": after}
        )

    async def client(self, name: str) -> ClientOut:
        """One client."""
        return await self._wire.call(ClientOut, "GET", f"/v1/clients/{segment(name)}")

    async def add_key(
        self,
        role: Role,
        name: str,
        *,
        expires_after_seconds: float | None = None,
        label: str = "",
        idempotency_key: str | None = None,
    ) -> KeyMade:
        """Make a key, shown this once. A principal has at most two active ones."""
        ask: dict[str, object] = {"role": role.value, "name": name, "label": label}
        if expires_after_seconds is not None:
            ask["expires_after_seconds"] = expires_after_seconds
        return await self._wire.call(
            KeyMade,
            "POST",
            "/v1/keys",
            ask=ask,
            repeatable=False,
            idempotency_key=idempotency_key,
        )

    async def add_certificate(
        self,
        role: Role,
        name: str,
        san: str,
        *,
        expires_after_seconds: float | None = None,
        label: str = "",
    ) -> KeyOut:
        """Let in who shows a client's certificate with that name: ``dns:``, ``uri:`` or ``email:`` in front of it."""
        ask: dict[str, object] = {
            "role": role.value,
            "name": name,
            "certificate_san": san,
            "label": label,
        }
        if expires_after_seconds is not None:
            ask["expires_after_seconds"] = expires_after_seconds
        return await self._wire.call(KeyOut, "POST", "/v1/keys", ask=ask, repeatable=False)

    async def keys(self, *, limit: int | None = None, after: str | None = None) -> KeyPage:
        """The keys, without their secrets."""
        return await self._wire.call(
            KeyPage, "GET", "/v1/keys", params={"limit": limit, "after": after}
        )

    async def revoke_key(self, id: str) -> None:
        """End a key at once."""
        await self._wire.send("DELETE", f"/v1/keys/{segment(id)}", repeatable=False)

    async def subscribe(
        self,
        pattern: str,
        queue: str,
        filter: Mapping[str, str | list[str]] = {},
        *,
        idempotency_key: str | None = None,
    ) -> SubscriptionOut:
        """Route topics that match to a queue: dot-separated words, ``*`` for one, ``#`` for any rest."""
        return await self._wire.call(
            SubscriptionOut,
            "POST",
            "/v1/subscriptions",
            ask={"pattern": pattern, "queue": queue, "filter": filter},
            repeatable=False,
            idempotency_key=idempotency_key,
        )

    async def subscriptions(self) -> list[SubscriptionOut]:
        """All of them."""
        answer = await self._wire.call(SubscriptionList, "GET", "/v1/subscriptions")
        return answer.subscriptions

    async def unsubscribe(self, id: str) -> None:
        """Remove a subscription; what was routed by it stays."""
        await self._wire.send("DELETE", f"/v1/subscriptions/{segment(id)}", repeatable=False)

    async def nodes(self) -> list[NodeOut]:
        """The nodes that share the store: all that were heard of within the hour."""
        return (await self._wire.call(NodeList, "GET", "/v1/nodes")).nodes


def _selection(seqs: Sequence[int] | None, filter: Mapping[str, str] | None) -> dict[str, object]:
    if seqs is not None:
        return {"seqs": list(seqs)}
    return {"filter": dict(filter)} if filter else {"all": True}
