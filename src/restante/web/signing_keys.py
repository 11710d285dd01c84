"""Clients' signing keys: registered by an administrator, read and revoked by the client too.

A client does not register its own: whoever stole its bearer key could sign in its name then.
"""

from __future__ import annotations

from typing import Final

import msgspec

from restante import auth
from restante.engine.broker import Broker
from restante.errors import ClientNotFound
from restante.http.answers import Answer, envelope
from restante.http.api import Routes
from restante.http.request import Request
from restante.model import Role
from restante.wire.signing_messages import NewSigningKey, SigningKeyList, to_out

_KEY: Final = msgspec.json.Decoder(NewSigningKey)


def add_routes(routes: Routes, broker: Broker) -> None:
    """Attach the calls."""
    web = SigningKeyCalls(broker)
    routes.add("POST", "/v1/clients/{name}/signing-keys", web.add)
    routes.add("GET", "/v1/clients/{name}/signing-keys", web.list)
    routes.add("DELETE", "/v1/clients/{name}/signing-keys/{id}", web.revoke)


class SigningKeyCalls:
    """A client sees its own, an administrator all."""

    def __init__(self, broker: Broker) -> None:
        self._keys = broker.signing_keys

    async def add(self, request: Request) -> Answer:
        auth.require(request.actor, Role.ADMIN)
        client = request.parameters["name"]
        asked = await request.read(_KEY)
        key = await self._keys.add(client, asked.pem, asked.label, request.actor)
        return envelope(request, to_out(client, key), "signing-key", 201)

    async def list(self, request: Request) -> Answer:
        client = _client(request)
        found = await self._keys.of(client)
        out = SigningKeyList(signing_keys=[to_out(client, key) for key in found])
        return envelope(request, out, "signing-keys")

    async def revoke(self, request: Request) -> Answer:
        client = _client(request)
        key = await self._keys.revoke(client, request.parameters["id"], request.actor)
        return envelope(request, to_out(client, key), "signing-key")


def _client(request: Request) -> str:
    """The client of the path, where it is the caller itself or the caller an administrator."""
    actor, name = request.actor, request.parameters["name"]
    if actor.role is not Role.ADMIN and (actor.role is not Role.CLIENT or actor.name != name):
        raise ClientNotFound(f"there is no client {name[:128]} here")
    return name
