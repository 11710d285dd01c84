"""Behind a proxy: whose connection a request really is.

From an address that the operator trusts, the proxy's word is taken for the client's address (``X-Forwarded-For``), for
the scheme (``X-Forwarded-Proto``) and for the client's certificate (``Client-Cert``, RFC 9440). From any other these
headers mean nothing: anybody can send them. A proxy sends ``Client-Cert`` for a certificate that it has verified, and
never lets one through that a client has sent.
"""

from __future__ import annotations

import base64
import binascii
import functools
import ipaddress
import ssl
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Final

from restante.http.head import Scope
from restante.logs import get_logger

_log = get_logger(__name__)

ADDRESSES: Final = 4_096
"""So many are remembered to be trusted or not."""
HOPS: Final = 32
"""So far back ``X-Forwarded-For`` is read."""
_SECURE: Final = {"http": "https", "websocket": "wss"}
_PLAIN: Final = {"http": "http", "websocket": "ws"}
_PEM: Final = "-----BEGIN CERTIFICATE-----"


class TrustedProxies:
    """The proxies whose word is taken: addresses or networks in CIDR notation, such as ``10.0.0.0/8``."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self.trusts: Callable[[str], bool] = functools.lru_cache(maxsize=ADDRESSES)(
            self._is_trusted
        )

    def unwrap(self, scope: Scope) -> None:
        """Have an ASGI scope say of the client what its proxy says. Untouched where the peer is not trusted.

        The certificate goes where ASGI's TLS extension has it. One that the proxy itself has shown is its own, and
        nobody else's: it is taken away.
        """
        client = scope.get("client")
        if not client or not self.trusts(client[0]):
            return
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            if name in {b"x-forwarded-for", b"x-forwarded-proto", b"client-cert"}:
                headers.setdefault(name, []).append(value.decode("latin-1"))
        address = self.client_of(client[0], headers.get(b"x-forwarded-for", ()))
        if address != client[0]:
            # The port is not told.
            scope["client"] = (address, 0)
        if forwarded := headers.get(b"x-forwarded-proto"):
            scheme = forwarded[-1].rpartition(",")[2].strip().lower()
            schemes = {"https": _SECURE, "http": _PLAIN}.get(scheme)
            if schemes is not None:
                scope["scheme"] = schemes[scope["type"]]
        certificate = certificate_of(headers.get(b"client-cert", ()))
        extensions = dict(scope.get("extensions") or {})
        chain = [] if certificate is None else [certificate]
        extensions["tls"] = {**extensions.get("tls", {}), "client_cert_chain": chain}
        # The extensions as they were are the whole connection's, which may carry the requests of many clients.
        scope["extensions"] = extensions

    def client_of(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """The client's address behind a trusted ``peer``: the last in ``X-Forwarded-For`` that is no trusted proxy's.

        What stands before it was sent by the client, who may write there what it likes. Where the header ends, or
        holds what is no address, it is the last that was trusted.
        """
        for part in reversed(",".join(forwarded_for).split(",")[-HOPS:]):
            address = _address(part.strip())
            if address is None:
                return peer
            peer = address
            if not self.trusts(peer):
                return peer
        return peer

    def _is_trusted(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            # How a socket for both kinds shows the older one.
            found = found.ipv4_mapped
        return any(found in network for network in self._networks)


def certificate_of(values: Sequence[str]) -> str | None:
    """The certificate in PEM of a ``Client-Cert`` header, from all its lines; None when it holds none.

    It is a byte sequence of structured fields (RFC 8941, section 3.3.5), ``:base64 of the DER:``, or what nginx has for
    it, PEM escaped as in a URL. More than one line means that the proxy let the client's own through: none counts.
    """
    if not values:
        return None
    (value, *others) = (value.strip() for value in values)
    if others:
        _log.warning("proxy.client_cert_refused", reason="there is more than one")
        return None
    if value.startswith(":") and value.endswith(":") and len(value) > 2:
        try:
            return ssl.DER_cert_to_PEM_cert(base64.b64decode(value[1:-1], validate=True))
        except (ValueError, binascii.Error):
            pass
    elif (pem := urllib.parse.unquote(value)).startswith(_PEM):
        return pem
    _log.warning("proxy.client_cert_refused", reason="it is neither :base64: nor escaped PEM")
    return None


def _address(text: str) -> str | None:
    """An address without the port that some proxies write behind it; None when it is no address."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
