"""Nodes that share a store: what each says of itself, and what it hears in return."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

BEAT_SECONDS: Final = 1.0
"""How often a node says that it lives, and so how soon it hears of what another has changed."""
CLAIM_SECONDS: Final = 10.0
"""A node that has said nothing for this long is taken for dead, and its webhooks are called by others."""


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


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself. ``seen`` is the change up to which it knows all: 0 at first."""

    id: str
    name: str
    version: str
    url: str = ""
    started_at_ms: int
    draining: bool = False
    connections: int = 0
    seen: int = 0
    calls_webhooks: bool = False


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
    """How many webhooks are its to call."""
    silent_seconds: float
    """Since it last said that it lives."""


class Beat(msgspec.Struct, frozen=True):
    """What a node hears. ``changes`` is None where too much happened to tell: it must forget all that it remembers."""

    seen: int
    changes: list[Changed] | None
    nodes: list[Node]
    claims: frozenset[str]
    """The queues whose webhooks are this node's to call, for ``CLAIM_SECONDS`` from when it asked."""
