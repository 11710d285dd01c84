"""Webhooks: kept as they are, each change made of the version before it, and no other."""

from __future__ import annotations

from typing import Any, Final

from restante.changes import DropWebhook, PutQueue, PutWebhook
from restante.errors import QueueNotFound, WebhookChanged, WebhookNotFound
from restante.model import Queue, Settings
from restante.queries import QueueByName, WebhookOf, Webhooks
from restante.testing.conformance.stage import Stage, refused
from restante.webhooks import Webhook, WebhookSecret

SECRETS: Final = (
    WebhookSecret(id="s1", sealed=b"\x00\xff" * 30, created_at_ms=5, ends_at_ms=99),
    WebhookSecret(id="s2", sealed=bytes(range(256)), created_at_ms=7),
)


async def a_webhook_is_kept_as_it_is(stage: Stage) -> None:
    webhook = _webhook(
        header_names=("authorization", "x-tenant"),
        sealed_headers=b"\x01\x00\xfe",
        timeout_seconds=2.5,
        concurrency=7,
        rate_per_second=0.5,
        payload="json",
        secrets=SECRETS,
        enabled=False,
        reason='HTTP 410: "gone"',
        since_ms=123,
        created_at_ms=45,
        after_receipt=6,
    )
    assert await stage.store.browse(WebhookOf("acme")) is None
    await stage.configure(PutWebhook(webhook))
    assert await stage.store.browse(WebhookOf("acme")) == webhook
    assert await stage.store.browse(WebhookOf("nowhere")) is None


async def a_webhook_needs_its_queue(stage: Stage) -> None:
    await refused(QueueNotFound, stage.configure(PutWebhook(_webhook("nowhere"))))
    assert await stage.store.browse(WebhookOf("nowhere")) is None


async def a_change_is_made_of_the_version_before(stage: Stage) -> None:
    await refused(WebhookChanged, stage.configure(PutWebhook(_webhook(version=2))))
    await stage.configure(PutWebhook(_webhook()))
    await stage.configure(PutWebhook(_webhook(version=2, concurrency=9)))
    for version in (1, 2, 4):
        await refused(WebhookChanged, stage.configure(PutWebhook(_webhook(version=version))))
    assert await stage.store.browse(WebhookOf("acme")) == _webhook(version=2, concurrency=9)


async def a_webhook_is_dropped_and_can_be_made_anew(stage: Stage) -> None:
    await refused(WebhookNotFound, stage.configure(DropWebhook("acme")))
    await stage.configure(PutWebhook(_webhook()))
    await stage.configure(PutWebhook(_webhook(version=2)))
    await stage.configure(DropWebhook("acme"))
    assert await stage.store.browse(WebhookOf("acme")) is None
    await refused(WebhookNotFound, stage.configure(DropWebhook("acme")))
    await stage.configure(PutWebhook(_webhook()))
    assert await stage.store.browse(WebhookOf("acme")) == _webhook()


async def webhooks_come_in_pages_by_queue(stage: Stage) -> None:
    for name in ("d", "b", "c"):
        await stage.put_queue(name)
        await stage.configure(PutWebhook(_webhook(name)))
    page = await stage.store.browse(Webhooks(limit=2))
    assert [webhook.queue for webhook in page] == ["b", "c"]
    page = await stage.store.browse(Webhooks(after="c", limit=2))
    assert [webhook.queue for webhook in page] == ["d"]


async def a_webhook_and_its_queue_change_together_or_not_at_all(stage: Stage) -> None:
    """The change of a queue's owner disables its webhook in the same transaction."""
    await stage.configure(PutWebhook(_webhook()))
    await refused(
        WebhookChanged,
        stage.configure(
            PutQueue(Queue("acme", "acme", Settings(max_attempts=2))),
            PutWebhook(_webhook(version=3)),
        ),
    )
    acme = await stage.store.browse(QueueByName("acme"))
    assert acme == Queue("acme", "acme")
    await refused(
        WebhookNotFound,
        stage.configure(PutWebhook(_webhook(version=2)), DropWebhook("nowhere")),
    )
    await refused(WebhookNotFound, stage.configure(DropWebhook("acme"), DropWebhook("acme")))
    assert await stage.store.browse(WebhookOf("acme")) == _webhook()


def _webhook(queue: str = "acme", **fields: Any) -> Webhook:
    return Webhook(queue=queue, url="https://hooks.example/in?a=1", **fields)
