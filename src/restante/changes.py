"""What administrators change, and what the engine keeps beside the mail: the argument of ``Store.configure``."""

from __future__ import annotations

import msgspec

from restante.model import Client, Key, Queue, Subscription
from restante.papers import Kind, Paper
from restante.receipt_log import Seal
from restante.webhooks import Webhook


class AddClient(msgspec.Struct, frozen=True):
    """``AlreadyExists`` when there is one of that name."""

    client: Client


class PutQueue(msgspec.Struct, frozen=True):
    """Create the queue, or replace its owner and settings. ``ClientNotFound`` when the owner is not there."""

    queue: Queue
    must_be_new: bool = False


class AddKey(msgspec.Struct, frozen=True):
    """``TooManyKeys`` when the principal has two active ones; ``ClientNotFound`` for a client that is not there.

    Keys and certificates are counted apart. A certificate takes the place of one of the same name that has ended;
    ``AlreadyExists`` where that is still active.
    """

    key: Key


class RevokeKey(msgspec.Struct, frozen=True):
    """``KeyNotFound`` when there is none. Revoking twice changes nothing."""

    key_id: str
    at_ms: int


class AddSubscription(msgspec.Struct, frozen=True):
    """``QueueNotFound`` for a queue that is not there; ``AlreadyExists`` for the same pattern, queue and filter."""

    subscription: Subscription


class DropSubscription(msgspec.Struct, frozen=True):
    """``SubscriptionNotFound`` when there is none."""

    id: str


class PutWebhook(msgspec.Struct, frozen=True):
    """Create the queue's webhook, as version 1, or put the next version in the place of the one there.

    ``QueueNotFound`` for a queue that is not there; ``WebhookChanged`` where another version is.
    """

    webhook: Webhook


class DropWebhook(msgspec.Struct, frozen=True):
    """``WebhookNotFound`` when the queue has none."""

    queue: str


class OpenOrderingKey(msgspec.Struct, frozen=True):
    """Let go what dead letters of the key hold up in the queue; they stay dead. Changes nothing where there is nothing.

    ``QueueNotFound`` for a queue that is not there.
    """

    queue: str
    ordering_key: str


class PutPaper(msgspec.Struct, frozen=True):
    """Put a paper in the place of the version before its own (1: it must be new), else ``PaperChanged``.

    With version 0 it takes the place of whatever is there.
    """

    paper: Paper


class DropPaper(msgspec.Struct, frozen=True):
    """Changes nothing where there is none."""

    kind: Kind
    key: str


class AddSeals(msgspec.Struct, frozen=True):
    """These receipts are in the log now, each run behind those of its queue that are. ``cursor``: of ``UnsealedPage``.

    Who seals puts the paper that says how far the log has come with it, which only one can.
    """

    seals: tuple[Seal, ...]
    cursor: int


Change = (
    AddClient
    | PutQueue
    | AddKey
    | RevokeKey
    | AddSubscription
    | DropSubscription
    | PutWebhook
    | DropWebhook
    | OpenOrderingKey
    | PutPaper
    | DropPaper
    | AddSeals
)
