"""A listener: grpc.aio's server with limits of ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import reflection

from restante.engine.broker import Broker
from restante.http.authentication import Authenticator
from restante.http.proxies import TrustedProxies
from restante.http.tls import ServerContext
from restante.rpc.messages import MESSAGE_BYTES
from restante.rpc.service import NAME, Service
from restante.transports.grpc import health
from restante.transports.grpc.calls import Gate

CALLS: Final = 20_000
"""At a time, on all connections; more are refused with RESOURCE_EXHAUSTED."""
CALLS_OF_CONNECTION: Final = 1_000
_OPTIONS: Final[Sequence[tuple[str, Any]]] = (
    # Otherwise a second server on the same port would take half of the connections, and say nothing.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", CALLS_OF_CONNECTION),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 32 * 1024),
    # What is compressed may unfold to anything: of all algorithms only the one that does nothing (bit 0).
    ("grpc.compression_enabled_algorithms_bitset", 1),
    # Who connects and says nothing is let go after this.
    ("grpc.server_handshake_timeout_ms", 15_000),
    # A peer that is gone without a word is noticed within 35 seconds.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.max_connection_idle_ms", 300_000),
    # Clients may ping too, every ten seconds and without calls; who does it more often is disconnected.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 3),
)


class _Certificates:
    """What handshakes are made with: what the files of ``tls`` held when they were last renewed."""

    def __init__(self, tls: ServerContext) -> None:
        self._tls = tls
        self._used = tls.pem

    def credentials(self) -> grpc.ServerCredentials:
        # It knows no certificates that a client may show and need not.
        renewed: Any = self._renewed  # may answer None, which its type does not say
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(), renewed, self._tls.files.client_required
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked at each handshake, on a thread of gRPC's; None: as before."""
        if self._used is self._tls.pem:
            return None
        self._used = self._tls.pem
        return self._configuration()

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        pem = self._used
        return grpc.ssl_server_certificate_configuration(
            [(pem.key, pem.certificate)], root_certificates=pem.client_authority
        )


class Listener:
    """``bind``, then ``run`` until ``stop``."""

    def __init__(
        self, server: grpc.aio.Server, shutdown_seconds: float, close: Callable[[], None]
    ) -> None:
        self._server = server
        self._shutdown_seconds = shutdown_seconds
        self._close = close
        self._stop: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.up = asyncio.Event()

    def bind(self, address: str, tls: ServerContext | None = None) -> int:
        """The port on which it listens at ``host:port``, port 0 for any free one. ``RuntimeError`` when it cannot."""
        if tls is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, _Certificates(tls).credentials())

    async def run(self) -> None:
        """Serve until told to stop, and then until calls under way are done, as far as there is time for them."""
        await self._server.start()
        self.up.set()
        at_once = await self._stop
        self._close()
        await self._server.stop(None if at_once else self._shutdown_seconds)

    def stop(self, *, at_once: bool) -> None:
        if not self._stop.done():
            self._stop.set_result(at_once)


def public_listener(
    broker: Broker,
    authenticator: Authenticator,
    shutdown_seconds: float,
    trusted: TrustedProxies | None = None,
) -> Listener:
    """The service and its health."""
    _hush()
    service = Service(broker)
    server = grpc.aio.server(
        handlers=[health.Health(broker).handler()],
        interceptors=[Gate(service, authenticator, trusted)],
        options=_OPTIONS,
        maximum_concurrent_rpcs=CALLS,
    )
    return Listener(server, shutdown_seconds, service.close)


def admin_listener(broker: Broker) -> Listener:
    """Health and reflection, for those who operate the service."""
    server = grpc.aio.server(
        handlers=[health.Health(broker).handler()],
        options=_OPTIONS,
        maximum_concurrent_rpcs=CALLS_OF_CONNECTION,
    )
    names = [NAME, health.SERVICE, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server)  # type: ignore[no-untyped-call]  # has no types
    return Listener(server, 0, lambda: None)


def _hush() -> None:
    """A client that leaves while its answer is on the way is an everyday event; gRPC logs it with a traceback."""
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], grpc.aio.InternalError)
