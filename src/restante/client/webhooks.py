"""Webhooks: what their owners and administrators do."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from restante.client.http import Wire
from restante.wire.webhook_messages import PingedOut, SecretMade, WebhookOut


class WebhookOperations:
    """A queue has one webhook at most."""

    _wire: Wire

    async def put_webhook(
        self,
        queue: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        settings: Mapping[str, object] = {},
    ) -> WebhookOut:
        """Make or change a webhook; its ``secret`` is there when it was made, and shown this once.

        ``settings`` are ``timeout_seconds``, ``concurrency``, ``rate_per_second`` and ``payload``. What is left out
        keeps its value.
        """
        ask: dict[str, object] = {"url": url, **settings}
        if headers is not None:
            ask["headers"] = dict(headers)
        # A repeat would not be shown the secret that the lost answer held.
        return await self._wire.call(WebhookOut, "PUT", _path(queue), ask=ask, repeatable=False)

    async def webhook(self, queue: str) -> WebhookOut:
        """A queue's webhook, and how it fares."""
        return await self._wire.call(WebhookOut, "GET", _path(queue))

    async def remove_webhook(self, queue: str) -> None:
        """Call it no more; what waits in the queue stays."""
        await self._wire.send("DELETE", _path(queue), repeatable=False)

    async def enable_webhook(self, queue: str) -> WebhookOut:
        """Call it again, and send what has waited."""
        return await self._wire.call(WebhookOut, "POST", _path(queue, "enable"), repeatable=True)

    async def disable_webhook(self, queue: str, reason: str = "") -> WebhookOut:
        """Call it no more until it is enabled."""
        ask = {"reason": reason} if reason else {}
        return await self._wire.call(
            WebhookOut, "POST", _path(queue, "disable"), ask=ask, repeatable=True
        )

    async def ping_webhook(self, queue: str) -> PingedOut:
        """Have it called now, with a test."""
        return await self._wire.call(PingedOut, "POST", _path(queue, "ping"), repeatable=True)

    async def rotate_webhook_secret(
        self, queue: str, *, idempotency_key: str | None = None
    ) -> SecretMade:
        """Sign with a new secret, shown this once; the old one signs too for a day."""
        return await self._wire.call(
            SecretMade,
            "POST",
            _path(queue, "secrets"),
            repeatable=False,
            idempotency_key=idempotency_key,
        )

    async def end_webhook_secret(self, queue: str, id: str) -> None:
        """Sign with this secret no more."""
        path = f"{_path(queue, 'secrets')}/{quote(id, safe='')}"
        await self._wire.send("DELETE", path, repeatable=False)


def _path(queue: str, what: str = "") -> str:
    return f"/v1/queues/{quote(queue, safe='')}/webhook{f'/{what}' if what else ''}"
