"""Putting the program together: a store, the engine on it, the interfaces on that, and a process that serves them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from restante import __version__
from restante.addresses import parse_networks
from restante.clock import SystemClock
from restante.config import Address, Config
from restante.engine.administration import Administration
from restante.engine.broker import Broker
from restante.errors import ConfigurationError, PortInUse
from restante.http.answers import Answer
from restante.http.api import Api, Routes
from restante.http.authentication import Authenticator
from restante.http.proxies import TrustedProxies
from restante.http.request import Request
from restante.http.server import Server, bind
from restante.http.tls import ServerContext, TlsFiles
from restante.keyfiles import SECRETS_KEY_FILE, load_keyring, write_private
from restante.model import Role
from restante.ports import Store
from restante.queries import Keys, Webhooks
from restante.stores.sqlite import SqliteStore
from restante.transports import events, longpoll, websocket
from restante.web import administer, docs, look, publish, settle, webhooks

_log = structlog.get_logger(__name__)

ADMIN_KEY_FILE: Final = "admin.key"
EXIT_STORAGE_FAILED: Final = 7
LEAVE_SECONDS: Final = 5.0
"""How long a stop waits for those who are connected to settle what they hold and leave."""
OnReady = Callable[[str, str, Path | None], None]


def build_api(
    broker: Broker, admin_key: str | None = None, trusted_proxies: Sequence[str] = ()
) -> Api:
    """The public interface over a broker."""
    routes = Routes()
    for part in (publish, longpoll, events, websocket, settle, look, administer, webhooks):
        part.add_routes(routes, broker)
    docs.add_routes(routes)
    proxies = TrustedProxies(trusted_proxies) if trusted_proxies else None
    return Api(routes, Authenticator(broker, admin_key), proxies)


def build_admin_api(broker: Broker) -> Api:
    """The admin listener's interface: whether the process lives, and whether it takes requests."""

    async def healthy(_: Request) -> Answer:
        alive = not broker.store.failed.done()
        return Answer(200 if alive else 503, b'{"healthy":%s}' % (b"true" if alive else b"false"))

    async def ready(_: Request) -> Answer:
        up = not broker.store.failed.done() and not broker.draining
        return Answer(200 if up else 503, b'{"ready":%s}' % (b"true" if up else b"false"))

    routes = Routes()
    routes.add("GET", "/healthz", healthy, None)
    routes.add("GET", "/readyz", ready, None)
    return Api(routes, None)


async def serve(config: Config, on_ready: OnReady) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code.

    ``on_ready`` is told once the listeners' URLs, and the file of the first administrator's key if this start wrote
    one. Raises ``StartupError``. The code is 0 after a stop that was asked for, 7 when the storage failed.
    """
    _raise_file_limit()
    clock = SystemClock()
    files = tls_files(config)
    tls = None if files is None else ServerContext(files)
    with (
        contextlib.closing(_bind(config.listen)) as public,
        contextlib.closing(_bind(config.admin_listen)) as private,
    ):
        async with (
            SqliteStore(
                config.data,
                clock,
                idempotency_retention_seconds=config.idempotency_retention_seconds,
                reserve_bytes=config.reserve_bytes,
            ) as store,
            Broker(
                store,
                clock,
                poll_interval_seconds=config.poll_interval_seconds,
                retention_interval_seconds=config.retention_interval_seconds,
                connections_per_principal=config.connections_per_principal,
                keyring=load_keyring(config.secrets_key_file or config.data / SECRETS_KEY_FILE),
                webhook_allow=parse_networks(config.webhook_allow),
            ) as broker,
            _calling(broker, config.shutdown_seconds),
        ):
            key_file = await _first_admin_key(broker, config)
            api = build_api(broker, config.admin_key, config.trusted_proxies)
            servers = [
                Server(api, public, config.shutdown_seconds, tls),
                Server(build_admin_api(broker), private, config.shutdown_seconds),
            ]
            scheme = "http" if tls is None else "https"
            return await _run(
                servers,
                broker,
                config.shutdown_seconds,
                lambda: on_ready(_url(public, scheme), _url(private), key_file),
                None if tls is None else lambda: _renew(tls),
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
async def _calling(broker: Broker, shutdown_seconds: float = LEAVE_SECONDS) -> AsyncIterator[None]:
    """Call webhooks, where the extra for it is installed. ``ConfigurationError`` where it is not, and there are any."""
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
    agent = f"Restante/{__version__}"
    async with Dispatcher(broker, agent=agent, shutdown_seconds=shutdown_seconds):
        yield


async def _run(
    servers: list[Server],
    broker: Broker,
    shutdown_seconds: float,
    ready: Callable[[], None],
    renew: Callable[[], None] | None,
) -> int:
    stopping = asyncio.Event()
    handlers: dict[int, Callable[[], None]] = {
        signal.SIGTERM: stopping.set,
        signal.SIGINT: stopping.set,
    }
    if renew is not None:
        handlers[signal.SIGHUP] = renew
    with _signals(handlers):
        running = [asyncio.create_task(server.run()) for server in servers]
        await asyncio.gather(*(server.up.wait() for server in servers))
        _tune_garbage_collection()
        _log.info("serve.ready", version=__version__, pid=os.getpid())
        ready()
        stop = asyncio.create_task(stopping.wait())
        ends: list[asyncio.Future[Any]] = [stop, broker.store.failed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        failed = broker.store.failed.done()
        _log.info("serve.stopping", reason="storage failed" if failed else "signal")
        # Who waits is answered now, and who is connected is told to leave; what they hold they may still settle.
        # Then each server lets its last answers out.
        broker.drain()
        if not failed:
            await broker.attachments.gone(min(shutdown_seconds, LEAVE_SECONDS))
        for server in servers:
            server.stop(at_once=failed)
        await asyncio.gather(*running)
        stop.cancel()
    return EXIT_STORAGE_FAILED if failed else 0


async def _first_admin_key(broker: Broker, config: Config) -> Path | None:
    """Where nobody could administer, make a key and write it where only the owner may read it."""
    if config.admin_key is not None or await _has_admin(broker.store):
        return None
    path = config.data / ADMIN_KEY_FILE
    administration = Administration(broker)
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


def _bind(address: Address) -> socket.socket:
    try:
        return bind(address.host, address.port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"{address} is in use by another process") from error
        raise ConfigurationError(f"cannot listen on {address}: {error.strerror}") from error


def _url(listener: socket.socket, scheme: str = "http") -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{Address(host, port)}"


@contextlib.contextmanager
def _signals(handlers: Mapping[int, Callable[[], None]]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def _tune_garbage_collection() -> None:
    """What is there now stays; what comes is freed by reference counts, and hardly ever forms a cycle."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _raise_file_limit() -> None:
    """One connection is one descriptor: take as many as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.asynccontextmanager
async def open_broker(
    url: str, *, webhook_allow: Iterable[str] = (), **settings: Any
) -> AsyncIterator[Broker]:
    """A broker over the store that ``url`` names: ``sqlite:///folder`` or ``memory://``.

    ``webhook_allow`` are the CIDRs of networks that webhooks may go to although they are not the Internet's.
    """
    clock = SystemClock()
    folder = _folder(url)
    async with open_store(url, clock) as store:
        keyring = None if folder is None else load_keyring(folder / SECRETS_KEY_FILE)
        allowed = parse_networks(webhook_allow)
        async with (
            Broker(store, clock, keyring=keyring, webhook_allow=allowed, **settings) as broker,
            _calling(broker),
        ):
            yield broker


def _folder(url: str) -> Path | None:
    """The folder of a store in one. As SQLAlchemy has it: three slashes a relative path, four an absolute one."""
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite" and separator and rest.startswith("/") and len(rest) > 1:
        return Path(rest[1:])
    return None


def open_store(url: str, clock: SystemClock) -> contextlib.AbstractAsyncContextManager[Store]:
    """The store that ``url`` names, to be entered; ``ConfigurationError`` for a URL of no known kind."""
    folder = _folder(url)
    if folder is not None:
        return SqliteStore(folder, clock)
    if url == "memory://":
        from restante.stores.memory import MemoryStore

        return MemoryStore(clock)
    raise ConfigurationError(f"no store is called {url!r}: say sqlite:///FOLDER or memory://")
