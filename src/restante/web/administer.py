"""Administering: clients, queues, keys, subscriptions, and what becomes of dead letters."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from restante import auth
from restante.engine.administration import Administration
from restante.engine.broker import Broker
from restante.errors import Malformed
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.request import Request
from restante.model import BATCH, Key, Queue, Role, Selection, Settings, check_bounds, check_name
from restante.queries import Keys, QueueByName
from restante.wire import times
from restante.wire.messages import (
    Asked,
    BulkDone,
    ClientMade,
    DeadRequest,
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
_DEAD: Final = msgspec.json.Decoder(DeadRequest)


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls of an administrator."""
    web = Administer(broker)
    routes.add("PUT", "/v1/queues/{queue}", web.put_queue)
    routes.add("POST", "/v1/queues/{queue}/dead/redrive", web.redrive)
    routes.add("POST", "/v1/queues/{queue}/dead/discard", web.discard)
    routes.add("POST", "/v1/clients", web.add_client)
    routes.add("POST", "/v1/keys", web.add_key)
    routes.add("GET", "/v1/keys", web.keys)
    routes.add("DELETE", "/v1/keys/{id}", web.revoke_key)
    routes.add("POST", "/v1/subscriptions", web.subscribe)
    routes.add("GET", "/v1/subscriptions", web.subscriptions)
    routes.add("DELETE", "/v1/subscriptions/{id}", web.unsubscribe)


class Administer:
    """Every call takes an administrator's key."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._administration = Administration(broker)

    async def put_queue(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        name = check_name("queue name", request.parameters["queue"])
        asked = await request.read(_QUEUE, QueueRequest())
        given = {
            field: value
            for field in Settings.__struct_fields__
            if (value := getattr(asked, field)) is not msgspec.UNSET
        }
        current = await self._broker.store.browse(QueueByName(name))
        base = Settings() if current is None else current.settings
        queue = await self._administration.put_queue(
            name, asked.owner, msgspec.structs.replace(base, **given)
        )
        return envelope(request, _queue(queue), "queue")

    async def redrive(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        asked = await request.read(_DEAD)
        matched, done = await self._administration.redrive(
            request.parameters["queue"], _selection(asked), request.actor, preview=asked.preview
        )
        return envelope(request, BulkDone(matched=matched, done=done), "redriven")

    async def discard(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        asked = await request.read(_DEAD)
        matched, done = await self._administration.discard(
            request.parameters["queue"],
            _selection(asked),
            request.actor,
            reason=asked.reason,
            preview=asked.preview,
        )
        return envelope(request, BulkDone(matched=matched, done=done), "discarded")

    async def add_client(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        asked = await request.read(_CLIENT)
        key, text = await self._administration.add_client(asked.name)
        made = ClientMade(name=asked.name, queue=asked.name, key_id=key.id, key=text)
        return envelope(request, made, "client", 201)

    async def add_key(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        asked = await request.read(_KEY)
        if asked.certificate_san is not msgspec.UNSET:
            certificate = await self._administration.add_certificate(
                asked.role,
                asked.name,
                asked.certificate_san,
                asked.expires_after_seconds,
                asked.label,
            )
            return envelope(request, _key(certificate), "key", 201)
        key, text = await self._administration.add_key(
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
        auth.require(request.actor, Role.ADMIN)
        await self._administration.revoke_key(request.parameters["id"])
        return Answer(204)

    async def subscribe(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        asked = await request.read(_SUBSCRIPTION)
        conditions = {
            name: [values] if isinstance(values, str) else values
            for name, values in asked.filter.items()
        }
        made = await self._administration.subscribe(asked.pattern, asked.queue, conditions)
        out = SubscriptionOut(
            id=made.id, pattern=made.pattern, queue=made.queue, filter=made.filter
        )
        return envelope(request, out, "subscription", 201)

    async def subscriptions(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        found = await self._administration.subscriptions()
        listed = SubscriptionList(
            subscriptions=[
                SubscriptionOut(id=s.id, pattern=s.pattern, queue=s.queue, filter=s.filter)
                for s in found
            ]
        )
        return envelope(request, listed, "subscriptions")

    async def unsubscribe(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        await self._administration.unsubscribe(request.parameters["id"])
        return Answer(204)


def _selection(asked: DeadRequest) -> Selection:
    """Exactly one of ``seqs``, ``filter`` and ``all``, so that nobody redrives everything by a slip."""
    if [asked.seqs is not None, asked.filter is not None, asked.all].count(True) != 1:
        raise Malformed("give exactly one of seqs, filter and all")
    check_bounds("length of reason", len(asked.reason), 0, 1_024)
    if asked.seqs is not None:
        check_bounds("number of seqs", len(asked.seqs), 1, BATCH)
        for seq in asked.seqs:
            check_bounds("seq", seq, 1, 2**62)
        return Selection(seqs=tuple(asked.seqs))
    if asked.filter is None:
        return Selection()
    chosen = asked.filter
    return Selection(
        reason=chosen.reason,
        topic=chosen.topic,
        since_ms=None if chosen.since is None else times.to_ms(chosen.since),
        until_ms=None if chosen.until is None else times.to_ms(chosen.until),
    )


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
