"""Putting the program together: a store, the engine on it, the interfaces on that, and a process that serves them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import importlib.util
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import structlog

from restante import __version__
from restante.clock import SystemClock
from restante.config import Address, Config
from restante.engine.administration import Administration
from restante.engine.broker import Broker
from restante.errors import ConfigurationError, PortInUse, StoreRefused
from restante.http.answers import Answer
from restante.http.api import Api, Routes
from restante.http.authentication import Authenticator
from restante.http.request import Request
from restante.http.server import Server, bind
from restante.model import Role
from restante.ports import Store
from restante.queries import Keys
from restante.stores.sqlite import SqliteStore
from restante.transports import events, longpoll, websocket
from restante.web import administer, docs, look, publish, settle

if TYPE_CHECKING:
    from restante.transports import grpc as grpc_transport

_log = structlog.get_logger(__name__)

ADMIN_KEY_FILE: Final = "admin.key"
EXIT_STORAGE_FAILED: Final = 7
LEAVE_SECONDS: Final = 5.0
"""How long a stop waits for those who are connected to settle what they hold and leave."""


class Started(NamedTuple):
    """Where a process serves. ``key_file`` has the first administrator's key if this start wrote one."""

    url: str
    admin_url: str
    grpc: dict[str, Address]
    """Listeners of gRPC, by the names under which they are told of: ``grpc`` and ``grpc-admin``."""
    key_file: Path | None


class Listening(Protocol):
    """A listener that has been bound."""

    up: asyncio.Event

    async def run(self) -> None:
        """Serve until told to stop, and then until what is under way is answered."""

    def stop(self, *, at_once: bool) -> None: ...


OnReady = Callable[[Started], None]


def build_api(broker: Broker, admin_key: str | None = None) -> Api:
    """The public interface over a broker. Connect and gRPC-Web are there where the extra ``grpc`` is installed."""
    routes = Routes()
    authenticator = Authenticator(broker, admin_key)
    for part in (publish, longpoll, events, websocket, settle, look, administer):
        part.add_routes(routes, broker)
    if _installed("google.protobuf"):
        from restante.transports import connect

        connect.add_routes(routes, broker, authenticator)
    docs.add_routes(routes)
    return Api(routes, authenticator)


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

    ``on_ready`` is told once where. Raises ``StartupError``. The code is 0 after a stop that was asked for, 7 when the
    storage failed.
    """
    _raise_file_limit()
    clock = SystemClock()
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
            ) as broker,
        ):
            servers: list[Listening] = [
                Server(build_api(broker, config.admin_key), public, config.shutdown_seconds),
                Server(build_admin_api(broker), private, config.shutdown_seconds),
            ]
            grpc: dict[str, Address] = {}
            for name, address, listener in _grpc_listeners(broker, config):
                servers.append(listener)
                grpc[name] = address
            key_file = await _first_admin_key(broker, config)
            return await _run(
                servers,
                broker,
                config.shutdown_seconds,
                lambda: on_ready(Started(_url(public), _url(private), grpc, key_file)),
            )


async def _run(
    servers: list[Listening], broker: Broker, shutdown_seconds: float, ready: Callable[[], None]
) -> int:
    stopping = asyncio.Event()
    with _signals(stopping.set):
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
    beside = path.with_suffix(".new")
    try:
        # What an earlier start left when it was killed here: the store knows no key of it.
        beside.unlink(missing_ok=True)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w") as file:
            administration = Administration(broker)
            key, text = administration.mint(Role.ADMIN, "admin", None, "first key")
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        # The file first: killed in between, the next start finds no administrator and begins again.
        beside.replace(path)
        folder = os.open(config.data, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StoreRefused(f"cannot write {path}: {error.strerror}") from error
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


def _grpc_listeners(broker: Broker, config: Config) -> Iterator[tuple[str, Address, Listening]]:
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
        public = grpc.public_listener(broker, authenticator, config.shutdown_seconds)
        yield "grpc", _bind_grpc(public, config.grpc_listen), public
    if config.grpc_admin_listen is not None:
        private = grpc.admin_listener(broker)
        yield "grpc-admin", _bind_grpc(private, config.grpc_admin_listen), private


def _bind_grpc(listener: grpc_transport.Listener, address: Address) -> Address:
    try:
        return Address(address.host, listener.bind(str(address)))
    except RuntimeError as error:
        # It does not say why; an attempt of ours does.
        _bind(address).close()
        raise ConfigurationError(f"cannot listen on {address} for gRPC: {error}") from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{Address(host, port)}"


@contextlib.contextmanager
def _signals(callback: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, callback)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
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
async def open_broker(url: str, **settings: Any) -> AsyncIterator[Broker]:
    """A broker over the store that ``url`` names: ``sqlite:///folder`` or ``memory://``."""
    clock = SystemClock()
    async with open_store(url, clock) as store, Broker(store, clock, **settings) as broker:
        yield broker


def open_store(url: str, clock: SystemClock) -> contextlib.AbstractAsyncContextManager[Store]:
    """The store that ``url`` names, to be entered; ``ConfigurationError`` for a URL of no known kind."""
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite" and separator and rest.startswith("/") and len(rest) > 1:
        # As SQLAlchemy has it: three slashes a relative path, four an absolute one.
        return SqliteStore(Path(rest[1:]), clock)
    if url == "memory://":
        from restante.stores.memory import MemoryStore

        return MemoryStore(clock)
    raise ConfigurationError(f"no store is called {url!r}: say sqlite:///FOLDER or memory://")
