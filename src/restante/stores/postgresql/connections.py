"""Connections to the database: opening them, and telling what went wrong with one.

Behind PgBouncer in transaction mode nothing is kept in a session: no prepared statement, no advisory lock, no search
path, and every transaction begins with the settings it needs. Where no pooler is between they are the session's, set
once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncpg

from restante.errors import (
    ConfigurationError,
    InvalidInput,
    OutcomeUnknown,
    RestanteError,
    StoreFull,
    StoreUnavailable,
)
from restante.redaction import shown

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any]
else:
    Connection = asyncpg.Connection

CONNECT_SECONDS: Final = 5.0
STATEMENT_SECONDS: Final = 20.0
"""How long the answer to a statement is waited for before the connection is taken for dead."""
_IDLE_MS: Final = 8_000
"""How long a node that was stopped, or cut off, may hold up a queue with a transaction it had begun."""


class Manner(NamedTuple):
    """How transactions of one kind are begun, and under which settings."""

    begin: str
    settings: tuple[str, ...]


_TIMES: Final = (
    f"idle_in_transaction_session_timeout = {_IDLE_MS}",
    f"statement_timeout = {int(STATEMENT_SECONDS * 1_000)}",
    # The warning that a commit was not replicated must be heard, whatever the user's setting.
    "client_min_messages = warning",
)
WRITING: Final = Manner(
    "BEGIN",
    (
        # Statements here are few and always the same: each is planned once, and by its indexes, not by how small the
        # tables were when it was first seen.
        *("plan_cache_mode = force_generic_plan", "enable_seqscan = off"),
        *("enable_hashjoin = off", "enable_mergejoin = off", "jit = off"),
        f"lock_timeout = {_IDLE_MS + 2_000}",
        # A node that stands still while it is sent bodies keeps the server writing, which no other time-out ends.
        f"tcp_user_timeout = {_IDLE_MS}",
        *_TIMES,
    ),
)
READING: Final = Manner("BEGIN READ ONLY", ("jit = off", *_TIMES))

_LOST: Final = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InFailedSQLTransactionError,
    asyncpg.ProtocolViolationError,
)


_IN_THE_WAY: Final = (
    asyncpg.QueryCanceledError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)


class Lost(Exception):
    """The transaction did not take place, for a reason that lies with the connection: it may be tried again."""


class Hindered(Lost):
    """The transaction did not take place because another was in its way; the database is there."""


class CommitUnknown(Exception):
    """The COMMIT was sent, and whether it took place is not known."""


class Database:
    """Where the database is. ``pooled`` says whether a pooler is between."""

    def __init__(self, url: str) -> None:
        # None of a pooler's connections may be left with a statement prepared, so it counts as there until it does not.
        self.pooled = True
        scheme, separator, rest = url.partition("://")
        authority, slash, path = rest.partition("/")
        user, at, hosts = authority.rpartition("@")
        self._urls = [
            f"{scheme}{separator}{user}{at}{host}{slash}{path}" for host in hosts.split(",")
        ]
        # With one host a standby is told from a primary by ``server.py``, which has the better words for it.
        wants_primary = len(self._urls) > 1 and "target_session_attrs" not in url
        self._attributes: dict[str, Any] = (
            {"target_session_attrs": "read-write"} if wants_primary else {}
        )

    async def connect(self, *, statement_seconds: float = STATEMENT_SECONDS) -> Connection:
        """A new connection, to the first of the servers that will do. Raises what asyncpg raises, and ``OSError``."""
        refused: Exception | None = None
        for url in list(self._urls):
            try:
                connection = await self._connect(url, statement_seconds)
            except (OSError, asyncpg.PostgresError, asyncpg.InternalClientError) as error:
                # A server that is there and will not do says more than one that is not.
                if refused is None or isinstance(refused, OSError):
                    refused = error
            else:
                self._urls.remove(url)
                self._urls.insert(0, url)
                return connection
        if refused is None:
            raise AssertionError("a URL names a server at least")
        raise refused

    async def _connect(self, url: str, statement_seconds: float) -> Connection:
        # Each server has time of its own: one that has vanished from the network must not use up the others'.
        connection: Connection = await asyncio.wait_for(
            asyncpg.connect(
                url,
                timeout=CONNECT_SECONDS,
                command_timeout=statement_seconds,
                statement_cache_size=0 if self.pooled else 200,
                max_cached_statement_lifetime=0,
                max_cacheable_statement_size=0,
                server_settings={"application_name": "restante"},
                **self._attributes,
            ),
            CONNECT_SECONDS + 1,
        )
        return connection


class Slot:
    """The place of one connection, opened when it is needed and thrown away when it is no longer of use."""

    def __init__(self, database: Database, manner: Manner = WRITING) -> None:
        self._database = database
        self._manner = manner
        self._connection: Connection | None = None
        self._warned = False

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction; it is committed by ``commit`` and by nothing else. Raises ``Lost``."""
        try:
            connection = await self._open()
            await connection.execute(self._begin())
            yield connection
        except _IN_THE_WAY as error:
            await self._roll_back()
            raise Hindered(str(error)) from error
        except (*_LOST, TimeoutError) as error:
            self.drop()
            if isinstance(error, ValueError):
                raise  # a value that cannot be sent is no fault of the connection's
            raise Lost(str(error) or type(error).__name__) from error
        except BaseException:
            # What was begun is undone, whatever it was: by the server, when the connection ends, if not at once.
            await self._roll_back()
            raise
        if connection.is_in_transaction():
            await self._roll_back()

    async def commit(self, connection: Connection) -> None:
        """Commit durably. Raises ``CommitUnknown`` where that cannot be told.

        With synchronous replication a wait for the standby that is cancelled ends with a warning, and the commit
        stands on the primary alone: that is not what was asked for.
        """
        self._warned = False
        try:
            status = await connection.execute("COMMIT")
        except (*_LOST, TimeoutError, asyncpg.PostgresError) as error:
            self.drop()
            raise CommitUnknown(str(error) or type(error).__name__) from error
        except BaseException:
            self.drop()
            raise
        if self._warned:
            self.drop()
            raise CommitUnknown("the standby did not confirm the commit")
        if status != "COMMIT":
            raise Lost(f"the transaction was ended by the server ({status})")

    def drop(self) -> None:
        """Close the connection at once, whatever it is doing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _open(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            try:
                connection = await self._database.connect()
            except asyncpg.PostgresError as error:
                # A password that was changed, a database that is gone: no answer but that it cannot be reached.
                raise Lost(str(error)) from error
            connection.add_log_listener(self._heard)
            try:
                if not self._database.pooled:
                    await connection.execute(_statements("SET", self._manner))
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    def _begin(self) -> str:
        if not self._database.pooled:
            return self._manner.begin
        return f"{self._manner.begin}; {_statements('SET LOCAL', self._manner)}"

    async def _roll_back(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed():
            return
        try:
            await connection.execute("ROLLBACK")
        except (*_LOST, TimeoutError):
            # With the connection the transaction ends too, which is all that was wanted.
            self.drop()
        except BaseException:
            self.drop()
            raise

    def _heard(self, _: object, message: Any) -> None:
        if message.severity_en == "WARNING":
            self._warned = True


def _statements(verb: str, manner: Manner) -> str:
    return "; ".join(f"{verb} {setting}" for setting in manner.settings)


def refusal(error: BaseException) -> RestanteError | None:
    """What to tell of an error that the database itself reported, where it concerns the caller; else None."""
    match error:
        case asyncpg.DiskFullError():
            return StoreFull("the database's disk is full")
        case asyncpg.CharacterNotInRepertoireError():
            return InvalidInput("a text holds a zero character, which no text of the store has")
        case asyncpg.OutOfMemoryError() | asyncpg.ConfigurationLimitExceededError():
            return StoreUnavailable("the database is out of room; try again")
        case CommitUnknown():
            return OutcomeUnknown("the database went away during the commit")
        case Hindered():
            return StoreUnavailable("the database is busy with something else; try again")
        case Lost():
            return StoreUnavailable("the database cannot be reached; try again")
        case _:
            return None


def connection_error(url: str, error: BaseException) -> ConfigurationError:
    """Why the database at ``url`` cannot be used, in words that say what to do; never with the password."""
    place = shown(url)
    match error:
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return ConfigurationError(
                f"{place} does not let this user in ({error}): check the user, its password and pg_hba.conf"
            )
        case asyncpg.InvalidCatalogNameError():
            return ConfigurationError(f"{place}: {error}; make it with: createdb NAME")
        case asyncpg.TooManyConnectionsError():
            return ConfigurationError(f"{place} takes no more connections: raise max_connections")
        case asyncpg.InsufficientPrivilegeError():
            return ConfigurationError(
                f"{place}: this user lacks a right ({error}); let it CREATE in the database, once"
            )
        case TimeoutError():
            return ConfigurationError(f"{place} does not answer: check the address and firewalls")
        case asyncpg.exceptions.TargetServerAttributeNotMatched():
            return ConfigurationError(
                f"{place}: none of its servers takes writes; promote a standby, or name the primary"
            )
        case OSError():
            return ConfigurationError(f"cannot reach {place}: {error.strerror or error}")
        case ValueError():
            # Its text may quote the password.
            return ConfigurationError(
                f"{place} is no URL of a database: write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and"
                " characters like / ? # @ % of the password as their percent codes"
            )
        case _:
            return ConfigurationError(f"cannot use {place}: {error}")
