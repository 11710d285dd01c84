"""Administering: clients, queues, keys, subscriptions."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from restante import auth
from restante.engine.administration import Administration
from restante.engine.broker import Broker
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.once import Once
from restante.http.request import Request
from restante.model import Key, Queue, Role, Settings, check_name
from restante.queries import Keys, QueueByName
from restante.wire import times
from restante.wire.messages import (
    Asked,
    ClientMade,
    KeyMade,
    KeyOut,
    KeyPage,
    NewClient,
    NewKey,
    NewSubscription,
    QueueOut,
    SubscriptionList,
    SubscriptionOut,
)

PAGE: Final = 100
PAGE_MAXIMUM: Final = 1_000

QueueRequest = msgspec.defstruct(
    "QueueRequest",
    [
        ("owner", str | None, None),
        *(
            (field.name, field.type | msgspec.UnsetType, msgspec.UNSET)
            for field in msgspec.structs.fields(Settings)
        ),
    ],
    bases=(Asked,),
    kw_only=True,
    forbid_unknown_fields=True,
)
"""Every setting of ``Settings``, each optional: what is left out keeps its value."""

_QUEUE: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(QueueRequest)
_CLIENT: Final = msgspec.json.Decoder(NewClient)
_KEY: Final = msgspec.json.Decoder(NewKey)
_SUBSCRIPTION: Final = msgspec.json.Decoder(NewSubscription)


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls of an administrator."""
    web = Administer(broker)
    routes.add("PUT", "/v1/queues/{queue}", web.put_queue)
    routes.add("POST", "/v1/clients", web.add_client, once=Once.SECRET)
    routes.add("POST", "/v1/keys", web.add_key, once=Once.SECRET)
    routes.add("GET", "/v1/keys", web.keys)
    routes.add("DELETE", "/v1/keys/{id}", web.revoke_key)
    routes.add("POST", "/v1/subscriptions", web.subscribe)
    routes.add("GET", "/v1/subscriptions", web.subscriptions)
    routes.add("DELETE", "/v1/subscriptions/{id}", web.unsubscribe)


class Administer:
    """Every call takes an administrator's key."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def _administration(self, request: Request) -> Administration:
        auth.require(request.actor, Role.ADMIN)
        return Administration(self._broker, request.actor)

    async def put_queue(self, request: Request) -> Answer:
        administration = self._administration(request)
        name = check_name("queue name", request.parameters["queue"])
        asked = await request.read(_QUEUE, QueueRequest())
        given = {
            field: value
            for field in Settings.__struct_fields__
            if (value := getattr(asked, field)) is not msgspec.UNSET
        }
        current = await self._broker.store.browse(QueueByName(name))
        base = Settings() if current is None else current.settings
        queue = await administration.put_queue(
            name, asked.owner, msgspec.structs.replace(base, **given)
        )
        return envelope(request, _queue(queue), "queue")

    async def add_client(self, request: Request) -> Answer:
        administration = self._administration(request)
        asked = await request.read(_CLIENT)
        key, text = await administration.add_client(asked.name)
        made = ClientMade(name=asked.name, queue=asked.name, key_id=key.id, key=text)
        return envelope(request, made, "client", 201)

    async def add_key(self, request: Request) -> Answer:
        administration = self._administration(request)
        asked = await request.read(_KEY)
        if asked.certificate_san is not msgspec.UNSET:
            certificate = await administration.add_certificate(
                asked.role,
                asked.name,
                asked.certificate_san,
                asked.expires_after_seconds,
                asked.label,
            )
            return envelope(request, _key(certificate), "key", 201)
        key, text = await administration.add_key(
            asked.role, asked.name, asked.expires_after_seconds, asked.label
        )
        out = _key(key)
        made = KeyMade(key=text, **{name: getattr(out, name) for name in out.__struct_fields__})
        return envelope(request, made, "key", 201)

    async def keys(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        limit = request.integer("limit", PAGE, 1, PAGE_MAXIMUM)
        found = await self._broker.store.browse(Keys(request.query.get("after", ""), limit))
        page = KeyPage(
            keys=[_key(key) for key in found], next=found[-1].id if len(found) == limit else None
        )
        return envelope(request, page, "keys")

    async def revoke_key(self, request: Request) -> Answer:
        administration = self._administration(request)
        await administration.revoke_key(request.parameters["id"])
        return Answer(204)

    async def subscribe(self, request: Request) -> Answer:
        administration = self._administration(request)
        asked = await request.read(_SUBSCRIPTION)
        conditions = {
            name: [values] if isinstance(values, str) else values
            for name, values in asked.filter.items()
        }
        made = await administration.subscribe(asked.pattern, asked.queue, conditions)
        out = SubscriptionOut(
            id=made.id, pattern=made.pattern, queue=made.queue, filter=made.filter
        )
        return envelope(request, out, "subscription", 201)

    async def subscriptions(self, request: Request) -> Answer:
        administration = self._administration(request)
        found = await administration.subscriptions()
        listed = SubscriptionList(
            subscriptions=[
                SubscriptionOut(id=s.id, pattern=s.pattern, queue=s.queue, filter=s.filter)
                for s in found
            ]
        )
        return envelope(request, listed, "subscriptions")

    async def unsubscribe(self, request: Request) -> Answer:
        administration = self._administration(request)
        await administration.unsubscribe(request.parameters["id"])
        return Answer(204)


def _queue(queue: Queue) -> QueueOut:
    return QueueOut(name=queue.name, owner=queue.owner, settings=queue.settings)


def _key(key: Key) -> KeyOut:
    return KeyOut(
        id=key.id,
        role=key.role,
        name=key.name,
        label=key.label,
        certificate_san=key.certificate_san or None,
        created_at=times.to_text(key.created_at_ms),
        expires_at=None if key.expires_at_ms is None else times.to_text(key.expires_at_ms),
        revoked_at=None if key.revoked_at_ms is None else times.to_text(key.revoked_at_ms),
    )
