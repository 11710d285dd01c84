"""The ways to a server: behind each proxy, and over TLS without one."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import httpx
from tests.certificates import Authority, Issued
from tests.e2e.conftest import ADMIN_KEY, Service, bearer

from restante.testing.servers.proxies import PROXIES, Behind, Proxy, address_of
from restante.testing.transports import Target

PROXIED: Final = tuple(proxy.name for proxy in PROXIES)
WAYS: Final = (*PROXIED, "native")


class Ways:
    """A server behind each proxy, and one that speaks TLS itself; all with certificates of one authority."""

    def __init__(self, authority: Authority, plain: Service, secure: Service) -> None:
        self.authority = authority
        self.plain = plain
        self.secure = secure
        self.proxies: dict[str, Proxy] = {}

    def url(self, way: str) -> str:
        return self.secure.url if way == "native" else self.proxies[way].url

    def target(self, way: str) -> Target:
        return Target(
            url=self.url(way),
            # gRPC comes to a proxy's one port, which tells it from the rest.
            grpc=grpc_of(self.secure) if way == "native" else self.proxies[way].address,
            admin_key=ADMIN_KEY,
            ca_file=str(self.authority.file),
        )

    def context(self, shown: Issued | None = None) -> ssl.SSLContext:
        """What a client trusts, and the certificate that it shows."""
        context = ssl.create_default_context(cafile=self.authority.file)
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return context

    def caller(
        self, way: str, key: str | None = None, shown: Issued | None = None, *, address: str = ""
    ) -> httpx.Client:
        """Calls that way with a key or a certificate, from an address of this machine's."""
        transport = httpx.HTTPTransport(verify=self.context(shown), local_address=address or None)
        headers = {} if key is None else bearer(key)
        return httpx.Client(
            base_url=self.url(way), transport=transport, headers=headers, timeout=30
        )


def grpc_of(service: Service) -> str:
    """Where the service speaks gRPC; empty where it does not."""
    return str(getattr(service, "grpc", ""))


@contextmanager
def opened(folder: Path) -> Iterator[Ways]:
    """All of them, in that folder, running."""
    authority = Authority(folder)
    issued = authority.for_server("127.0.0.1")
    plain = Service(folder / "plain", "--trusted-proxies", "127.0.0.1")
    secure = Service(
        folder / "secure",
        *("--tls-certificate", str(issued.certificate), "--tls-key", str(issued.key)),
        *("--tls-client-authority", str(authority.file)),
        ca_file=authority.file,
    )
    with ExitStack() as stack:
        for service in (plain, secure):
            service.start()
            stack.callback(_end, service)
        ways = Ways(authority, plain, secure)
        behind = Behind(address_of(plain.url), address_of(plain.admin_url), grpc_of(plain))
        for kind in PROXIES:
            proxy = kind(folder / kind.name, [behind], issued, authority.file)
            stack.enter_context(proxy.running())
            ways.proxies[kind.name] = proxy
        yield ways


def _end(service: Service) -> None:
    assert service.end(signal.SIGTERM) == 0, service.log()
    assert "Traceback" not in service.log()


def secure_socket(address: str, authority: Authority) -> ssl.SSLSocket:
    """A connection over TLS in the test's own hands."""
    host, port = address.split(":")
    context = ssl.create_default_context(cafile=authority.file)
    connection = socket.create_connection((host, int(port)), 10)
    return context.wrap_socket(connection, server_hostname=host)
