"""Who makes a call, and from where: by the key in its metadata, else by a certificate, as over HTTP."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import grpc

from restante.errors import Unauthenticated
from restante.http.authentication import Authenticator, agent_of
from restante.http.proxies import TrustedProxies, certificate_of
from restante.model import AGENT_CHARACTERS, Actor

TRANSPORT: Final = "grpc"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]


class Callers:
    """Knows callers by what they show. From ``trusted`` proxies the client's address and certificate are believed."""

    def __init__(self, authenticator: Authenticator, trusted: TrustedProxies | None) -> None:
        self._authenticator = authenticator
        self._trusted = trusted

    async def by_key(self, metadata: Metadata) -> Actor | None:
        """Who has the key that the metadata shows; None where it shows none. Raises ``Unauthenticated``."""
        key = presented(metadata)
        if key is None:
            return None
        return await self._authenticator.by_key(key, TRANSPORT, "", _agent(metadata))

    async def confirmed(self, actor: Actor | None, context: Context) -> Actor:
        """Who calls, now that the call has begun: the actor of ``by_key`` while its key still holds, or for None who
        the certificate stands for. Raises ``Unauthenticated``.
        """
        host, remote = _peer(context.peer())
        proxied = self._trusted is not None and self._trusted.trusts(host)
        told: dict[str, list[str]] = {}
        if self._trusted is not None and proxied:
            for name, value in context.invocation_metadata() or ():
                if isinstance(value, str):
                    told.setdefault(name, []).append(value)
            client = self._trusted.client_of(host, told.get("x-forwarded-for", ()))
            if client != host:
                # The port is not told.
                remote = f"[{client}]" if ":" in client else client
        if actor is not None:
            return await self._authenticator.confirm(actor, remote)
        certificate = certificate_of(told.get("client-cert", ())) if proxied else _shown(context)
        if certificate is None:
            raise Unauthenticated("send authorization: Bearer <key> in the metadata")
        agent = _agent(context.invocation_metadata() or ())
        return await self._authenticator.by_certificate(certificate, TRANSPORT, remote, agent)


def presented(metadata: Metadata) -> str | None:
    """The key that stands there (RFC 6750); None where nothing does."""
    for name, value in metadata:
        if name == "authorization":
            scheme, _, key = str(value).partition(" ")
            if scheme.lower() == "bearer" and key.strip():
                return key.strip()
            raise Unauthenticated("send authorization: Bearer <key> in the metadata")
    return None


def _agent(metadata: Metadata) -> str:
    """What the client's program says it is."""
    for name, value in metadata:
        if name == "user-agent" and isinstance(value, str):
            return agent_of(value[:AGENT_CHARACTERS])
    return ""


def _peer(text: str) -> tuple[str, str]:
    """Host, and ``host:port``, of ``ipv4:host:port``; of ``ipv6:%5Bhost%5D:port``, whose host has brackets there."""
    remote = urllib.parse.unquote(text).partition(":")[2]
    return remote.rpartition(":")[0].strip("[]"), remote


def _shown(context: Context) -> str | None:
    """The certificate of the connection's own TLS, in PEM."""
    found = (context.auth_context() or {}).get("x509_pem_cert", ())
    return next((pem.decode("ascii", "replace") for pem in found), None)
