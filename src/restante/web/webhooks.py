"""Webhooks: set, looked at, tried, and their secrets rotated, by the queue's owner or an administrator."""

from __future__ import annotations

from typing import Final

import msgspec

from restante import auth
from restante.engine.broker import Broker
from restante.engine.webhooks import NO_HISTORY, History
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.once import Once
from restante.http.request import Request
from restante.webhooks import Webhook
from restante.wire import times
from restante.wire.messages import Nothing
from restante.wire.webhook_messages import (
    DisableWebhook,
    PingedOut,
    SecretMade,
    SecretOut,
    WebhookOut,
    WebhookRequest,
)

_PUT: Final = msgspec.json.Decoder(WebhookRequest)
_DISABLE: Final = msgspec.json.Decoder(DisableWebhook)
_NOTHING: Final = msgspec.json.Decoder(Nothing)
_SETTINGS: Final = ("timeout_seconds", "concurrency", "rate_per_second", "payload")
_PATH: Final = "/v1/queues/{queue}/webhook"


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls by which a webhook is set."""
    web = WebhookCalls(broker)
    routes.add("PUT", _PATH, web.put)
    routes.add("GET", _PATH, web.get)
    routes.add("DELETE", _PATH, web.drop)
    routes.add("POST", f"{_PATH}/enable", web.enable)
    routes.add("POST", f"{_PATH}/disable", web.disable)
    routes.add("POST", f"{_PATH}/ping", web.ping)
    routes.add("POST", f"{_PATH}/secrets", web.rotate, once=Once.SECRET)
    routes.add("DELETE", f"{_PATH}/secrets/{{id}}", web.drop_secret)


class WebhookCalls:
    """The eight calls. What is another's answers as if it were not there."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def put(self, request: Request) -> Answer:
        queue = await self._own_queue(request)
        asked = await request.read(_PUT)
        settings = {
            name: value
            for name in _SETTINGS
            if (value := getattr(asked, name)) is not msgspec.UNSET
        }
        headers = None if isinstance(asked.headers, msgspec.UnsetType) else asked.headers
        webhook, secret = await self._broker.webhooks.put(
            queue, asked.url, headers, settings, request.actor
        )
        if secret is None:
            return await self._answer(request, webhook)
        # Its secret is shown this once, whatever could be looked up: of one that is new nothing can.
        return await self._answer(request, webhook, 201, secret, history=NO_HISTORY)

    async def get(self, request: Request) -> Answer:
        queue = await self._own_queue(request)
        return await self._answer(request, await self._broker.webhooks.get(queue))

    async def drop(self, request: Request) -> Answer:
        await self._broker.webhooks.drop(await self._own_queue(request), request.actor)
        return Answer(204)

    async def enable(self, request: Request) -> Answer:
        queue = await self._own_queue(request)
        await request.read(_NOTHING, Nothing())
        # Before it is done: what cannot be looked up afterwards would be answered as not done.
        history = await self._history(queue)
        enabled = await self._broker.webhooks.enable(queue, request.actor)
        return await self._answer(request, enabled, history=history)

    async def disable(self, request: Request) -> Answer:
        queue = await self._own_queue(request)
        asked = await request.read(_DISABLE, DisableWebhook())
        reason = asked.reason or f"disabled by {request.actor.name}"
        history = await self._history(queue)
        disabled = await self._broker.webhooks.disable(queue, reason, request.actor)
        return await self._answer(request, disabled, history=history)

    async def _history(self, queue: str) -> History:
        webhooks = self._broker.webhooks
        return await webhooks.history(await webhooks.get(queue))

    async def ping(self, request: Request) -> Answer:
        queue = await self._own_queue(request)
        await request.read(_NOTHING, Nothing())
        pinged = await self._broker.webhooks.ping(queue, request.actor)
        out = PingedOut(
            ok=pinged.ok,
            status=pinged.status,
            reason=pinged.reason,
            duration_ms=round(pinged.seconds * 1_000),
        )
        return envelope(request, out, "pinged")

    async def rotate(self, request: Request) -> Answer:
        queue = await self._own_queue(request)
        await request.read(_NOTHING, Nothing())
        secret, text = await self._broker.webhooks.rotate(queue, request.actor)
        made = SecretMade(id=secret.id, secret=text, created_at=times.to_text(secret.created_at_ms))
        return envelope(request, made, "secret", 201)

    async def drop_secret(self, request: Request) -> Answer:
        queue = await self._own_queue(request)
        await self._broker.webhooks.drop_secret(queue, request.parameters["id"], request.actor)
        return Answer(204)

    async def _own_queue(self, request: Request) -> str:
        queue = await self._broker.directory.queue(request.parameters["queue"])
        auth.require_collect(request.actor, queue)
        return queue.name

    async def _answer(
        self,
        request: Request,
        webhook: Webhook,
        status: int = 200,
        secret: str | None = None,
        history: History | None = None,
    ) -> Answer:
        now = self._broker.clock.wall_ms()
        standing = await self._broker.webhooks.standing(webhook, history)
        out = WebhookOut(
            queue=webhook.queue,
            url=webhook.url,
            header_names=list(webhook.header_names),
            timeout_seconds=webhook.timeout_seconds,
            concurrency=webhook.concurrency,
            rate_per_second=webhook.rate_per_second,
            payload=webhook.payload,
            secrets=[
                SecretOut(
                    id=one.id,
                    created_at=times.to_text(one.created_at_ms),
                    ends_at=None if one.ends_at_ms is None else times.to_text(one.ends_at_ms),
                )
                for one in webhook.secrets
                if one.active(now)
            ],
            created_at=times.to_text(webhook.created_at_ms),
            state="enabled" if webhook.enabled else "disabled",
            since=times.to_text(webhook.since_ms),
            reason=webhook.reason,
            secret=secret,
            **msgspec.structs.asdict(standing),
        )
        return envelope(request, out, "webhook", status)
