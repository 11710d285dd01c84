"""From what a request shows to who that is: a key, a cookie made from one, or a client's certificate."""

from __future__ import annotations

import functools
import hmac
from typing import Final

import msgspec

from restante import auth
from restante.engine.broker import Broker
from restante.errors import Unauthenticated
from restante.http import client_certificates
from restante.http.head import Head
from restante.http.socket import Socket
from restante.model import AGENT_CHARACTERS, Actor, Role
from restante.wire import cookies

ENVIRONMENT: str = "environment"
"""The id, in receipts, of the administrator's key that the environment gives."""
CERTIFICATES: Final = 2_000
"""So many are remembered as they were read."""
AGENTS: Final = 1_000
"""So many programs' words about themselves are remembered as they are shown."""


class Authenticator:
    """Knows the keys of the store and, if there is one, the administrator's key of the environment."""

    def __init__(self, broker: Broker, admin_key: str | None = None) -> None:
        self._directory = broker.directory
        self._clock = broker.clock
        self._secret = broker.store.token_secret
        self._rates = broker.rates
        self._admin_hash = None if admin_key is None else auth.hash_of(admin_key)
        self.environment_stamp = "" if self._admin_hash is None else self._admin_hash.hex()[:16]
        """Another for another administrator's key of the environment: what was begun with the one ends with it."""
        self._read = functools.lru_cache(maxsize=CERTIFICATES)(client_certificates.read)

    async def authenticate(self, head: Head, transport: str, *, by_cookie: bool = False) -> Actor:
        """Who sent it, over what, from where; ``Unauthenticated`` without a valid key.

        The key stands in the ``Authorization`` header (RFC 6750), or for a WebSocket among its subprotocols.
        ``by_cookie``: where there is neither, a cookie made from a key will do. Without any of these it is who the
        client's certificate stands for, as ASGI's TLS extension has it. ``TooManyRequests`` where it asks too often.
        """
        remote = remote_of(head)
        text, agent = _presented(head)
        if text is not None:
            return await self.by_key(text, transport, remote, agent)
        key_id = self._of_cookie(head) if by_cookie else None
        if key_id is not None:
            return self._admitted(await self._actor(key_id, None, transport, remote, agent))
        certificate = _shown(head)
        if certificate is not None:
            return await self.by_certificate(certificate, transport, remote, agent)
        raise Unauthenticated("send Authorization: Bearer <key>")

    async def by_key(self, text: str, transport: str, remote: str, agent: str = "") -> Actor:
        """Who has that key. Asked once for each request, which it counts: ``TooManyRequests``."""
        if self._admin_hash is not None and hmac.compare_digest(
            auth.hash_of(text), self._admin_hash
        ):
            return Actor("admin", Role.ADMIN, ENVIRONMENT, transport, remote, agent=agent)
        key_id, secret_hash = auth.parse(text)
        return self._admitted(await self._actor(key_id, secret_hash, transport, remote, agent))

    async def by_certificate(self, pem: str, transport: str, remote: str, agent: str = "") -> Actor:
        """Who that client's certificate stands for, as ``by_key``. It was verified by who ended the TLS connection.

        Of several names the first counts that somebody has. The end of the certificate's life is looked at here: a
        connection may outlast it.
        """
        shown = self._read(pem)
        now = self._clock.wall_ms()
        if now > shown.valid_until_ms:
            raise Unauthenticated("the certificate has expired")
        for san, key_id in shown.names:
            key = await self._directory.key(key_id)
            if key is not None and key.certificate_san == san and key.active(now):
                return self._admitted(
                    Actor(
                        key.name,
                        key.role,
                        key.id,
                        transport,
                        remote,
                        until_ms=shown.valid_until_ms,
                        agent=agent,
                    )
                )
        names = ", ".join(san for san, _ in shown.names)
        raise Unauthenticated(
            f"the certificate stands for nobody here ({names or 'no name counts'})"
        )

    async def confirm(self, actor: Actor, remote: str) -> Actor:
        """The same actor, when what let it in still holds; ``remote`` is where it turned out to be."""
        if actor.until_ms is not None and self._clock.wall_ms() > actor.until_ms:
            raise Unauthenticated("the certificate has expired")
        if actor.key_id != ENVIRONMENT:
            await self._actor(actor.key_id, None, actor.transport, remote)
        return msgspec.structs.replace(actor, remote_address=remote)

    def _admitted(self, actor: Actor) -> Actor:
        self._rates.admit(actor)
        return actor

    async def _actor(
        self,
        key_id: str,
        secret_hash: bytes | None,
        transport: str,
        remote: str,
        agent: str = "",
    ) -> Actor:
        key = await self._directory.key(key_id)
        if secret_hash is not None and not auth.matches(
            None if key is None else key.secret_hash, secret_hash
        ):
            raise Unauthenticated("the key is not known")
        if key is None or not key.active(self._clock.wall_ms()):
            raise Unauthenticated("the key has expired or was revoked")
        return Actor(key.name, key.role, key.id, transport, remote, agent=agent)

    def _of_cookie(self, head: Head) -> str | None:
        header = head.header(b"cookie")
        value = None if header is None else cookies.of_header(header)
        if value is None:
            return None
        return cookies.unseal(self._secret, value, self._clock.wall_ms() // 1_000)


@functools.lru_cache(maxsize=AGENTS)
def agent_of(text: str | None) -> str:
    """What a program says it is, in up to ``AGENT_CHARACTERS``; nothing where it cannot be shown."""
    return text if text is not None and text.isprintable() else ""


def remote_of(head: Head) -> str:
    """Where it came from, as receipts have it: an IPv6 address in brackets, a port where it is known."""
    client = head.scope.get("client")
    if not client:
        return ""
    host, port = client
    if ":" in host:
        host = f"[{host}]"
    return f"{host}:{port}" if port else host


def _shown(head: Head) -> str | None:
    """The client's certificate in PEM, if there is one.

    A browser shows its certificate with whatever a page of anyone's makes it send: that does not count.
    """
    chain = (head.scope.get("extensions") or {}).get("tls", {}).get("client_cert_chain")
    if not chain:
        return None
    site = head.header(b"sec-fetch-site")
    origin = head.header(b"origin")
    if site not in {None, "same-origin", "none"} or (
        origin is not None and origin.partition("://")[2] != head.header(b"host")
    ):
        raise Unauthenticated("a certificate does not count for another site's page")
    return str(chain[0])


def _presented(head: Head) -> tuple[str | None, str]:
    """The key that it shows, if any, and what the program says it is."""
    header = agent = None
    # Once over all of them, and not by name: this is done for each request.
    for name, value in head.headers:
        if name == b"authorization" and header is None:
            header = value.decode("latin-1")
        elif name == b"user-agent" and agent is None:
            agent = value[:AGENT_CHARACTERS].decode("latin-1")
    if header is None:
        return head.key if isinstance(head, Socket) else None, agent_of(agent)
    scheme, _, text = header.partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text:
        raise Unauthenticated("send Authorization: Bearer <key>")
    return text, agent_of(agent)
