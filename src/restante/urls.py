"""Which store, and which waker, a URL names."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from restante.errors import ConfigurationError
from restante.ports import Clock, CopySource, CopyTarget, Store, Waker
from restante.redaction import shown
from restante.stores.sqlite import SqliteStore

IDEMPOTENCY_RETENTION_SECONDS: Final = 7 * 86_400
RESERVE_BYTES: Final = 64 * 1024 * 1024
_FOLDERS: Final = (
    "sqlite:///FOLDER (four slashes where it is absolute: sqlite:////var/lib/restante)"
)
_EXTRAS: Final = {
    "postgresql": "postgres",
    "redis": "redis",
    "rediss": "redis",
    "nats": "nats",
    "tls": "nats",
}
"""Which extra brings what a waker's scheme needs."""


def open_store(
    url: str,
    clock: Clock,
    *,
    idempotency_retention_seconds: int = IDEMPOTENCY_RETENTION_SECONDS,
    reserve_bytes: int = RESERVE_BYTES,
) -> contextlib.AbstractAsyncContextManager[Store]:
    """The store that ``url`` names, to be entered: ``sqlite:///FOLDER``, ``postgresql://...`` or ``memory://``.

    Raises ``ConfigurationError`` for a URL of no known kind. ``reserve_bytes`` are for SQLite's disk.
    """
    folder = folder_of(url)
    if folder is not None:
        return SqliteStore(
            folder,
            clock,
            idempotency_retention_seconds=idempotency_retention_seconds,
            reserve_bytes=reserve_bytes,
        )
    if url.startswith("postgresql://"):
        try:
            from restante.stores.postgresql import PostgresqlStore
        except ModuleNotFoundError as error:
            raise _missing("postgres", error) from error
        return PostgresqlStore(url, idempotency_retention_seconds=idempotency_retention_seconds)
    if url == "memory://":
        from restante.stores.memory import MemoryStore

        return MemoryStore(clock, idempotency_retention_seconds=idempotency_retention_seconds)
    raise ConfigurationError(
        f"{_named(url)} names no store: say {_FOLDERS}, postgresql://... or memory://"
    )


def open_waker(url: str | None, store_url: str, clock: Clock) -> Waker | None:
    """The waker that ``url`` names, not yet listening: ``redis://``, ``rediss://``, ``nats://``, ``tls://`` (NATS) or
    ``postgresql://``.

    Where ``url`` is None, nodes that share a PostgreSQL wake one another through it; any other node is alone, and has
    none. Raises ``ConfigurationError`` for a URL of no known kind and for a package that is not installed.
    """
    if url is None:
        if not store_url.startswith("postgresql://"):
            return None
        url = store_url
    scheme = url.partition("://")[0]
    extra = _EXTRAS.get(scheme)
    try:
        if extra == "postgres":
            from restante.wakers.postgresql import PostgresqlWaker

            return PostgresqlWaker(url, clock)
        if extra == "redis":
            from restante.wakers.redis import RedisWaker

            return RedisWaker(url, clock)
        if extra == "nats":
            from restante.wakers.nats import NatsWaker

            return NatsWaker(url, clock)
    except ModuleNotFoundError as error:
        raise _missing(str(extra), error) from error
    raise ConfigurationError(
        f"no waker speaks {scheme!r}: say redis://, rediss://, nats://, tls:// or postgresql://"
    )


def folder_of(url: str) -> Path | None:
    """The folder of a store in one. As SQLAlchemy has it: three slashes a relative path, four an absolute one."""
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite" and separator and rest.startswith("/") and len(rest) > 1:
        return Path(rest[1:])
    return None


def folder_url(folder: Path) -> str:
    """The URL of the store in that folder."""
    return f"sqlite:///{folder}"


def open_copy_source(url: str, clock: Clock) -> contextlib.AbstractAsyncContextManager[CopySource]:
    """The store that ``url`` names, to be copied: ``sqlite:///FOLDER`` or ``postgresql://...``.

    Raises ``ConfigurationError`` for a URL of no durable store.
    """
    folder = folder_of(url)
    if folder is not None:
        from restante.stores.sqlite import moving as sqlite

        return sqlite.copy_source(folder, clock)
    if url.startswith("postgresql://"):
        try:
            from restante.stores.postgresql import moving as postgresql
        except ModuleNotFoundError as error:
            raise _missing("postgres", error) from error
        return postgresql.copy_source(url)
    raise _not_durable(url)


def open_copy_target(url: str, clock: Clock) -> contextlib.AbstractAsyncContextManager[CopyTarget]:
    """The store that ``url`` names, to be copied into. Raises ``ConfigurationError`` as above."""
    folder = folder_of(url)
    if folder is not None:
        from restante.stores.sqlite import moving as sqlite

        return sqlite.copy_target(folder, clock)
    if url.startswith("postgresql://"):
        try:
            from restante.stores.postgresql import moving as postgresql
        except ModuleNotFoundError as error:
            raise _missing("postgres", error) from error
        return postgresql.copy_target(url)
    raise _not_durable(url)


def _missing(extra: str, error: ModuleNotFoundError) -> ConfigurationError:
    return ConfigurationError(
        f"this needs a package that is not installed ({error.name}): pip install 'restante[{extra}]'"
    )


def _not_durable(url: str) -> ConfigurationError:
    return ConfigurationError(
        f"{_named(url)} names no store that can be copied: say {_FOLDERS} or postgresql://..."
    )


def _named(url: str) -> str:
    # Without a scheme it may be anything, a password too: then none of it is shown.
    return shown(url) if "://" in url else "what was given is no URL and"
