"""From the bearer's key to who that is."""

from __future__ import annotations

import hmac

import msgspec

from restante import auth
from restante.engine.broker import Broker
from restante.errors import Unauthenticated
from restante.http.head import Head
from restante.http.socket import Socket
from restante.model import Actor, Role
from restante.wire import cookies

ENVIRONMENT: str = "environment"
"""The id, in receipts, of the administrator's key that the environment gives."""


class Authenticator:
    """Knows the keys of the store and, if there is one, the administrator's key of the environment."""

    def __init__(self, broker: Broker, admin_key: str | None = None) -> None:
        self._directory = broker.directory
        self._clock = broker.clock
        self._secret = broker.store.token_secret
        self._admin_hash = None if admin_key is None else auth.hash_of(admin_key)

    async def authenticate(self, head: Head, transport: str, *, by_cookie: bool = False) -> Actor:
        """Who sent it, over what, from where; ``Unauthenticated`` without a valid key.

        The key stands in the ``Authorization`` header (RFC 6750), or for a WebSocket among its subprotocols.
        ``by_cookie``: where there is neither, a cookie made from a key will do.
        """
        client = head.scope.get("client")
        remote = f"{client[0]}:{client[1]}" if client else ""
        text = _presented(head)
        if text is None:
            key_id = self._of_cookie(head) if by_cookie else None
            if key_id is None:
                raise Unauthenticated("send Authorization: Bearer <key>")
            return await self._actor(key_id, None, transport, remote)
        return await self.by_key(text, transport, remote)

    async def by_key(self, text: str, transport: str, remote: str) -> Actor:
        """Who has that key."""
        if self._admin_hash is not None and hmac.compare_digest(
            auth.hash_of(text), self._admin_hash
        ):
            return Actor("admin", Role.ADMIN, ENVIRONMENT, transport, remote)
        key_id, secret_hash = auth.parse(text)
        return await self._actor(key_id, secret_hash, transport, remote)

    async def confirm(self, actor: Actor, remote: str) -> Actor:
        """The actor of ``by_key``, when its key still holds; ``remote`` is where it turned out to be."""
        if actor.key_id == ENVIRONMENT:
            return msgspec.structs.replace(actor, remote_address=remote)
        return await self._actor(actor.key_id, None, actor.transport, remote)

    async def _actor(
        self, key_id: str, secret_hash: bytes | None, transport: str, remote: str
    ) -> Actor:
        key = await self._directory.key(key_id)
        if secret_hash is not None and not auth.matches(
            None if key is None else key.secret_hash, secret_hash
        ):
            raise Unauthenticated("the key is not known")
        if key is None or not key.active(self._clock.wall_ms()):
            raise Unauthenticated("the key has expired or was revoked")
        return Actor(key.name, key.role, key.id, transport, remote)

    def _of_cookie(self, head: Head) -> str | None:
        header = head.header(b"cookie")
        value = None if header is None else cookies.of_header(header)
        if value is None:
            return None
        return cookies.unseal(self._secret, value, self._clock.wall_ms() // 1_000)


def _presented(head: Head) -> str | None:
    header = head.header(b"authorization")
    if header is None:
        return head.key if isinstance(head, Socket) else None
    scheme, _, text = header.partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text:
        raise Unauthenticated("send Authorization: Bearer <key>")
    return text
