"""From the bearer's key to who that is."""

from __future__ import annotations

import hmac

from restante import auth
from restante.engine.directory import Directory
from restante.errors import Unauthenticated
from restante.http.request import Request
from restante.model import Actor, Role
from restante.ports import Clock


class Authenticator:
    """Knows the keys of the store and, if there is one, the administrator's key of the environment."""

    def __init__(self, directory: Directory, clock: Clock, admin_key: str | None = None) -> None:
        self._directory = directory
        self._clock = clock
        self._admin_hash = None if admin_key is None else auth.hash_of(admin_key)

    async def authenticate(self, request: Request, transport: str) -> Actor:
        """Who sent the request, over what, from where; ``Unauthenticated`` without a valid key."""
        header = request.header(b"authorization")
        if header is None:
            raise Unauthenticated("send Authorization: Bearer <key>")
        scheme, _, text = header.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise Unauthenticated("send Authorization: Bearer <key>")
        client = request.scope.get("client")
        remote = f"{client[0]}:{client[1]}" if client else ""
        if self._admin_hash is not None and hmac.compare_digest(
            auth.hash_of(text), self._admin_hash
        ):
            return Actor("admin", Role.ADMIN, "environment", transport, remote)
        key_id, secret_hash = auth.parse(text)
        key = await self._directory.key(key_id)
        if not auth.matches(None if key is None else key.secret_hash, secret_hash):
            raise Unauthenticated("the key is not known")
        if key is None or not key.active(self._clock.wall_ms()):
            raise Unauthenticated("the key has expired or was revoked")
        return Actor(key.name, key.role, key.id, transport, remote)
