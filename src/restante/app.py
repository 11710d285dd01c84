"""Putting the program together: a store, the engine on it, the interfaces on that, and the listeners of these."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import math
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from restante import __version__
from restante.addresses import parse_networks
from restante.clock import SystemClock
from restante.config import Address, Config
from restante.engine import journal
from restante.engine.administration import Administration
from restante.engine.broker import Broker
from restante.engine.requests import RETENTION_SECONDS
from restante.engine.tracing import Tracer
from restante.errors import ConfigurationError, PortInUse
from restante.http.answers import Answer
from restante.http.api import Api, Routes
from restante.http.authentication import Authenticator
from restante.http.proxies import TrustedProxies
from restante.http.request import Request
from restante.http.server import Server, bind
from restante.http.tls import ServerContext, TlsFiles
from restante.idempotency import Policy
from restante.keyfiles import (
    LEDGER_KEY_FILE,
    SECRETS_KEY_FILE,
    load_keyring,
    load_log_keys,
    write_private,
)
from restante.logs import get_logger
from restante.model import SYSTEM, Role
from restante.nodes import NodeName
from restante.openid import OpenId
from restante.ports import Store
from restante.process import LEAVE_SECONDS, Listening, raise_file_limit, run
from restante.queries import Keys, Webhooks
from restante.telling import alerting_of, known_heads, sending_heads, telling
from restante.transports import events, longpoll, websocket
from restante.urls import folder_of, folder_url, open_store, open_waker
from restante.web import (
    acts,
    administer,
    alerts,
    dead_letters,
    docs,
    groups,
    jobs,
    ledger,
    look,
    metrics,
    nodes,
    notifications,
    operation_socket,
    operations,
    publish,
    requests,
    settle,
    signing_keys,
    watch,
    webhooks,
)
from restante.wire.checkpoints import NO_KEYS

if TYPE_CHECKING:
    from restante.engine.operators import Operators
    from restante.transports import grpc as grpc_transport

_log = get_logger(__name__)

ADMIN_KEY_FILE: Final = "admin.key"
_AGENT: Final = f"Restante/{__version__}"


class Started(NamedTuple):
    """Where a process serves. ``key_file`` has the first administrator's key if this start wrote one.

    ``has_page`` says that the operators' page is at ``admin_url``.
    """

    url: str
    admin_url: str
    grpc: dict[str, Address]
    """Listeners of gRPC, by the names under which they are told of: ``grpc`` and ``grpc-admin``."""
    key_file: Path | None
    has_page: bool


OnReady = Callable[[Started], None]


def build_api(
    broker: Broker,
    admin_key: str | None = None,
    trusted: TrustedProxies | None = None,
    operators: Operators | None = None,
) -> Api:
    """The public interface over a broker.

    Connect and gRPC-Web are there where the extra ``grpc`` is installed, operators' accounts where ``dashboard`` is.
    Both interfaces of a process are given the same ``operators``, which hash a few passwords at a time.
    """
    routes = Routes()
    authenticator = Authenticator(broker, admin_key)
    for part in (
        *(publish, longpoll, events, websocket, settle, webhooks),
        *(
            look,
            ledger,
            watch,
            alerts,
            notifications,
            nodes,
            administer,
            signing_keys,
            dead_letters,
            jobs,
            groups,
            operations,
            operation_socket,
            acts,
            requests,
        ),
    ):
        part.add_routes(routes, broker)
    if _installed("google.protobuf"):
        from restante.transports import connect

        connect.add_routes(routes, broker, authenticator)
    operators = operators or operators_of(broker)
    if operators is not None:
        from restante.desk import printed
        from restante.portal import composition as portal
        from restante.web import links
        from restante.web import operators as accounts

        accounts.add_routes(routes, operators)
        links.add_routes(routes, broker, portal.ENTER)
        printed.add_call(routes, broker, __version__)
        portal.add_routes(routes, broker, authenticator, __version__)
    docs.add_routes(routes)
    return Api(routes, authenticator, trusted, broker.retiring, broker.requests)


def build_admin_api(
    broker: Broker,
    admin_key: str | None = None,
    trusted: TrustedProxies | None = None,
    operators: Operators | None = None,
    openid: OpenId | None = None,
) -> Api:
    """The admin listener's interface: whether the process lives, whether it takes requests, and its figures.

    The operators' page is there where the extra ``dashboard`` is installed.
    """

    async def healthy(_: Request) -> Answer:
        alive = not broker.store.failed.done()
        return Answer(200 if alive else 503, b'{"healthy":%s}' % (b"true" if alive else b"false"))

    async def ready(_: Request) -> Answer:
        up = broker.ready
        return Answer(200 if up else 503, b'{"ready":%s}' % (b"true" if up else b"false"))

    routes = Routes()
    routes.add("GET", "/healthz", healthy, None)
    routes.add("GET", "/readyz", ready, None)
    metrics.add_routes(routes, broker, __version__)
    operators = operators or operators_of(broker)
    if operators is not None:
        from restante.desk import composition
        from restante.desk.openid.provider import Provider, fetch
        from restante.portal.composition import ENTER

        authenticator = Authenticator(broker, admin_key)
        provider = None if openid is None else Provider(openid, broker.clock, fetch)
        composition.add_routes(
            routes, broker, operators, authenticator, __version__, provider, ENTER
        )
    return Api(routes, None, trusted, broker.retiring)


def openid_of(config: Config) -> OpenId | None:
    """What the configuration says of OpenID Connect; None: nothing."""
    if config.openid_issuer is None or config.openid_client_id is None:
        return None
    return OpenId(
        issuer=config.openid_issuer,
        client_id=config.openid_client_id,
        client_secret=config.openid_client_secret,
        page_url=config.openid_page_url or "",
        role_claim=config.openid_role_claim,
        viewer=config.openid_viewer,
        operator=config.openid_operator,
        admin=config.openid_admin,
    )


def operators_of(broker: Broker) -> Operators | None:
    """The operators' accounts; None where what hashes their passwords is not installed."""
    if not has_page():
        return None
    from restante.engine.operators import Operators
    from restante.engine.passwords import Passwords

    return Operators(broker, Passwords())


def has_page() -> bool:
    """Whether the operators' page can be served: the extra ``dashboard`` is installed."""
    return _installed("jinja2") and _installed("argon2")


async def serve(config: Config, on_ready: OnReady) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code.

    ``on_ready`` is told once where. Raises ``StartupError``. The code is 0 after a stop that was asked for, 7 when the
    storage failed.
    """
    raise_file_limit()
    clock = SystemClock()
    store_url = config.store or folder_url(config.data)
    files = tls_files(config)
    tls = None if files is None else ServerContext(files)
    with (
        contextlib.closing(_bind(config.listen)) as public,
        contextlib.closing(_bind(config.admin_listen)) as private,
    ):
        url = _url(public, "http" if tls is None else "https")
        node = NodeName(config.node_name or socket.gethostname(), url, __version__)
        async with (
            open_store(
                store_url,
                clock,
                idempotency_retention_seconds=config.idempotency_retention_seconds,
                reserve_bytes=config.reserve_bytes,
            ) as store,
            _tracing(config, node) as tracer,
            Broker(
                store,
                clock,
                poll_interval_seconds=config.poll_interval_seconds,
                retention_interval_seconds=config.retention_interval_seconds,
                act_retention_seconds=config.act_retention_seconds,
                request_retention_seconds=config.idempotency_retention_seconds,
                unknown_requests=Policy(config.unknown_requests),
                requests_per_principal=config.idempotency_keys_per_principal,
                connections_per_principal=config.connections_per_principal,
                keyring=load_keyring(config.secrets_key_file or config.data / SECRETS_KEY_FILE),
                webhook_allow=parse_networks(config.webhook_allow),
                waker=open_waker(config.waker, store_url, clock),
                client_requests_per_second=config.client_requests_per_second,
                node=node,
                tracer=tracer,
                alerting=alerting_of(config),
                log_keys=load_log_keys(config.ledger_key_file or config.data / LEDGER_KEY_FILE),
                ledger_head_seconds=config.ledger_head_seconds,
                ledger_heads=known_heads(config),
            ) as broker,
            _calling(broker, config.shutdown_seconds),
            telling(broker, config, _AGENT),
            sending_heads(broker, config, _AGENT),
        ):
            # Not where a broker is embedded: what is logged there is its owner's to say.
            broker.store.meter.journal = journal.write
            trusted = TrustedProxies(config.trusted_proxies) if config.trusted_proxies else None
            operators = operators_of(broker)
            api = build_api(broker, config.admin_key, trusted, operators)
            listeners: list[Listening] = [
                Server(api, public, config.shutdown_seconds, tls),
                Server(
                    build_admin_api(
                        broker, config.admin_key, trusted, operators, openid_of(config)
                    ),
                    private,
                    config.shutdown_seconds,
                ),
            ]
            grpc: dict[str, Address] = {}
            for name, address, listener in _grpc_listeners(broker, config, trusted, tls):
                listeners.append(listener)
                grpc[name] = address
            key_file = await _first_admin_key(broker, config)
            return await run(
                listeners,
                broker,
                config.shutdown_seconds,
                drain_seconds=config.drain_seconds,
                on_ready=lambda: on_ready(Started(url, _url(private), grpc, key_file, has_page())),
                on_hangup=None if tls is None else lambda: _renew(tls),
            )


def tls_files(config: Config) -> TlsFiles | None:
    """The files that the public listeners speak TLS with; None: they do not."""
    if config.tls_certificate is None or config.tls_key is None:
        return None
    return TlsFiles(
        certificate=config.tls_certificate,
        key=config.tls_key,
        client_authority=config.tls_client_authority,
        client_required=config.tls_client_required,
    )


def _renew(tls: ServerContext) -> None:
    """Speak TLS with what the files hold now; with what they held before, where that cannot be."""
    try:
        valid_until = tls.renew()
    except ConfigurationError as error:
        _log.error("tls.not_renewed", reason=error.detail)
    else:
        _log.info("tls.renewed", valid_until=valid_until.isoformat())


@contextlib.asynccontextmanager
async def _tracing(config: Config, node: NodeName) -> AsyncIterator[Tracer | None]:
    """What makes traces, where it is asked for. ``ConfigurationError`` where the extra for it is not installed."""
    if config.tracing_endpoint is None:
        yield None
        return
    try:
        from restante.tracers import otel
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"tracing_endpoint needs packages that are not installed ({error.name}):"
            " pip install 'restante[tracing]'"
        ) from error
    async with otel.exporting(
        config.tracing_endpoint,
        config.tracing_sample_ratio,
        version=node.version,
        node=node.name,
    ) as tracer:
        yield tracer


@contextlib.asynccontextmanager
async def _calling(broker: Broker, shutdown_seconds: float = LEAVE_SECONDS) -> AsyncIterator[None]:
    """Call webhooks, where the extra for it is installed. ``ConfigurationError`` where it is not, and there are any."""
    if await broker.store.browse(Webhooks(limit=1)) and not await broker.webhooks.agree():
        raise ConfigurationError(
            "other nodes seal webhooks' secrets with a key that this node has not: give them all the same"
            " secrets_key_file"
        )
    await broker.webhooks.seal_anew()
    try:
        from restante.transports.webhook.dispatcher import Dispatcher
    except ModuleNotFoundError as error:
        if error.name != "aiohttp":
            raise
        if found := await broker.store.browse(Webhooks(limit=1)):
            raise ConfigurationError(
                f"queue {found[0].queue} has a webhook, and aiohttp is not installed:"
                " pip install 'restante[webhooks]'"
            ) from error
        yield
        return
    async with Dispatcher(broker, agent=_AGENT, shutdown_seconds=shutdown_seconds):
        yield


async def _first_admin_key(broker: Broker, config: Config) -> Path | None:
    """Where nobody could administer, make a key and write it where only the owner may read it."""
    if config.admin_key is not None or await _has_admin(broker.store):
        return None
    path = config.data / ADMIN_KEY_FILE
    administration = Administration(broker, SYSTEM)
    key, text = administration.mint(Role.ADMIN, "admin", None, "first key")
    # The file first: killed in between, the next start finds no administrator and begins again.
    write_private(path, f"{text}\n")
    await administration.keep(key)
    return path


async def _has_admin(store: Store) -> bool:
    after = ""
    while page := await store.browse(Keys(after, 1_000)):
        if any(key.role is Role.ADMIN for key in page):
            return True
        after = page[-1].id
    return False


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False  # not even the package that it would be in


def _bind(address: Address) -> socket.socket:
    try:
        return bind(address.host, address.port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"{address} is in use by another process") from error
        raise ConfigurationError(f"cannot listen on {address}: {error.strerror}") from error


def _grpc_listeners(
    broker: Broker,
    config: Config,
    trusted: TrustedProxies | None,
    tls: ServerContext | None,
) -> Iterator[tuple[str, Address, Listening]]:
    if config.grpc_listen is None and config.grpc_admin_listen is None:
        return
    try:
        from restante.transports import grpc
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"gRPC needs packages that are not installed ({error.name}):"
            " pip install 'restante[grpc]'"
        ) from error

    if config.grpc_listen is not None:
        authenticator = Authenticator(broker, config.admin_key)
        public = grpc.public_listener(broker, authenticator, config.shutdown_seconds, trusted)
        yield "grpc", _bind_grpc(public, config.grpc_listen, tls), public
    if config.grpc_admin_listen is not None:
        private = grpc.admin_listener(broker)
        yield "grpc-admin", _bind_grpc(private, config.grpc_admin_listen), private


def _bind_grpc(
    listener: grpc_transport.Listener, address: Address, tls: ServerContext | None = None
) -> Address:
    try:
        return Address(address.host, listener.bind(str(address), tls))
    except RuntimeError as error:
        # It does not say why; an attempt of ours does.
        _bind(address).close()
        raise ConfigurationError(f"cannot listen on {address} for gRPC: {error}") from error


def _url(listener: socket.socket, scheme: str = "http") -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{Address(host, port)}"


@contextlib.asynccontextmanager
async def open_broker(
    url: str,
    *,
    waker: str | None = None,
    webhook_allow: Iterable[str] = (),
    secrets_key_file: Path | None = None,
    ledger_key_file: Path | None = None,
    request_retention_seconds: float = RETENTION_SECONDS,
    **settings: Any,
) -> AsyncIterator[Broker]:
    """A broker over the store that ``url`` names: ``sqlite:///folder``, ``postgresql://...`` or ``memory://``.

    ``waker`` is the URL of what other nodes are woken through, where that is not the PostgreSQL that they share.
    ``webhook_allow`` are the CIDRs of networks that webhooks may go to although they are not the Internet's.
    ``secrets_key_file`` has the keys that seal their secrets; None: one in the store's folder, or, where it has none,
    a key that lives no longer than the broker. ``ledger_key_file`` has the keys that sign the log of receipts; None:
    one in the store's folder, or, where it has none, this broker seals nothing into the log. Requests with keys are
    remembered for ``request_retention_seconds``; the keys of publications as long, and for seven days at least.
    """
    clock = SystemClock()
    folder = folder_of(url)
    # A store may be others' too: what they have published is forgotten no sooner.
    kept_seconds = math.ceil(max(request_retention_seconds, RETENTION_SECONDS))
    async with open_store(url, clock, idempotency_retention_seconds=kept_seconds) as store:
        if secrets_key_file is None and folder is not None:
            secrets_key_file = folder / SECRETS_KEY_FILE
        if ledger_key_file is None and folder is not None:
            ledger_key_file = folder / LEDGER_KEY_FILE
        keyring = None if secrets_key_file is None else load_keyring(secrets_key_file)
        allowed = parse_networks(webhook_allow)
        async with (
            Broker(
                store,
                clock,
                keyring=keyring,
                webhook_allow=allowed,
                waker=open_waker(waker, url, clock),
                log_keys=NO_KEYS if ledger_key_file is None else load_log_keys(ledger_key_file),
                request_retention_seconds=request_retention_seconds,
                **settings,
            ) as broker,
            _calling(broker),
        ):
            yield broker
