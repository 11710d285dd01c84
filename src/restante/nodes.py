"""Nodes that share a store: what each says of itself, and what it hears in return.

Webhooks are shared out in slots: a queue's name says in which slot its webhook is, a node claims slots, and it calls
the webhooks that are in them. So a claim costs the same however many webhooks there are.
"""

from __future__ import annotations

import enum
import zlib
from typing import Final

import msgspec

from restante.changes import (
    AddClient,
    AddKey,
    AddSeals,
    AddSubscription,
    Change,
    DropPaper,
    DropSubscription,
    DropWebhook,
    OpenOrderingKey,
    PutPaper,
    PutQueue,
    PutWebhook,
    RevokeKey,
)

BEAT_SECONDS: Final = 1.0
"""How often a node says that it lives, and so how soon it hears of what another has changed."""
CLAIM_SECONDS: Final = 10.0
"""A node that has said nothing for this long is taken for dead, and its webhooks are called by others."""
SLOTS: Final = 256


class Subject(enum.StrEnum):
    """What an administrator changed on another node."""

    QUEUE = "queue"
    KEY = "key"
    SUBSCRIPTIONS = "subscriptions"
    WEBHOOK = "webhook"


class Changed(msgspec.Struct, frozen=True):
    """``name`` is the queue's, also for a webhook, or the key's id; empty for subscriptions."""

    subject: Subject
    name: str = ""


class NodeName(msgspec.Struct, frozen=True):
    """What a node is called, where it serves, and which program that is, for people to see."""

    name: str = ""
    url: str = ""
    version: str = ""


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself. ``seen`` is the change up to which it knows all: 0 at first.

    ``holding`` are the slots that it goes on with: what else it had claimed is free from now on.
    """

    id: str
    name: str
    version: str
    url: str = ""
    started_at_ms: int
    draining: bool = False
    connections: int = 0
    webhooks: int = 0
    """How many webhooks it calls."""
    seen: int = 0
    calls_webhooks: bool = False
    holding: frozenset[int] = frozenset()


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the others know it."""

    id: str
    name: str
    version: str
    url: str
    started_at_ms: int
    draining: bool
    connections: int
    webhooks: int
    """How many webhooks it calls."""
    silent_seconds: float
    """Since it last said that it lives."""


class Beat(msgspec.Struct, frozen=True):
    """What a node hears. ``changes`` is None where too much happened to tell: it must forget all that it remembers."""

    seen: int
    changes: list[Changed] | None
    nodes: list[Node]
    claims: frozenset[int]
    """The slots that are this node's, for ``CLAIM_SECONDS`` from when it asked."""


def slot_of(queue: str) -> int:
    """The slot, 0 to 255, in which the queue's webhook is: the same on every node, for ever."""
    return zlib.crc32(queue.encode()) % SLOTS


def fair_share(callers: int) -> int:
    """How many slots are a node's, where so many call webhooks, itself among them."""
    return -(-SLOTS // max(1, callers))


def changed_by(change: Change) -> Changed | None:
    """What nodes must hear of a change, if anything."""
    match change:
        case AddClient(client):
            # It owns nothing yet: nobody remembers anything of it.
            return Changed(Subject.QUEUE, client.name)
        case PutQueue(queue):
            return Changed(Subject.QUEUE, queue.name)
        case OpenOrderingKey(name):
            # What was held up has become ready: its consumers are to be woken.
            return Changed(Subject.QUEUE, name)
        case AddKey(key):
            return Changed(Subject.KEY, key.id)
        case RevokeKey(key_id):
            return Changed(Subject.KEY, key_id)
        case AddSubscription() | DropSubscription():
            return Changed(Subject.SUBSCRIPTIONS)
        case PutWebhook(webhook):
            return Changed(Subject.WEBHOOK, webhook.queue)
        case DropWebhook(queue_name):
            return Changed(Subject.WEBHOOK, queue_name)
        case PutPaper() | DropPaper() | AddSeals():
            # Whoever needs one asks for it each time.
            return None
