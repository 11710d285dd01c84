"""The outbox as a table in a database that is not the store's, by SQLAlchemy: its columns, its rows, their end."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateTable

from restante.errors import ConfigurationError, StoreUnavailable
from restante.redaction import shown
from restante.written import Written

REASON_CHARACTERS = 1_000
READ_BYTES = 4 * 1024 * 1024


def outbox_table(name: str) -> sa.Table:
    """The table of that name, or ``schema.name``, as ``publish_in`` writes it and ``restante relay`` reads it."""
    schema, _, plain = name.rpartition(".")
    empty = sa.text("''")
    return sa.Table(
        plain,
        sa.MetaData(),
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("publisher", sa.String(128), nullable=False),
        sa.Column("queue", sa.String(128), nullable=False, server_default=empty),
        sa.Column("topic", sa.String(128), nullable=False, server_default=empty),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("attributes", sa.Text, nullable=False, server_default=sa.text("('{}')")),
        sa.Column(
            "body",
            sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb"),
            nullable=False,
        ),
        sa.Column("ordering_key", sa.String(255), nullable=False, server_default=empty),
        sa.Column("collapse_key", sa.String(255), nullable=False, server_default=empty),
        sa.Column("deliver_after_seconds", sa.Double, nullable=False, server_default=sa.text("0")),
        sa.Column("expires_after_seconds", sa.Double),
        sa.Column("refused", sa.Text),
        sa.Column(
            "written_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.current_timestamp(),
        ),
        schema=schema or None,
        # Else SQLite gives a position to a later row again.
        sqlite_autoincrement=True,
    )


def ddl(url: str, name: str) -> str:
    """The statement that makes the table, as that database has it. ``ConfigurationError`` for a URL of no use."""
    return str(CreateTable(outbox_table(name)).compile(dialect=_engine(url).dialect)).strip()


class OutboxTable:
    """The rows that wait in a database. Every method is one short transaction, and waits for the database.

    Raises ``StoreUnavailable`` where the database does not do it, now at least.
    """

    def __init__(self, url: str, name: str) -> None:
        self._engine = _engine(url)
        self._table = outbox_table(name)
        self._name = name

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def create(self) -> bool:
        """Make the table; False where there is one."""
        with _mapped():
            if self._is_there():
                return False
            self._table.create(self._engine)
            return True

    def require(self) -> None:
        """Raise ``ConfigurationError`` where there is no such table."""
        with _mapped():
            if not self._is_there():
                raise ConfigurationError(
                    f"there is no table {self._name} in that database: make it with --create-table"
                )

    def _is_there(self) -> bool:
        return sa.inspect(self._engine).has_table(self._table.name, schema=self._table.schema)

    def waiting(self, limit: int) -> list[Written]:
        """The first rows that wait, in their order, up to where their bodies are ``READ_BYTES`` together."""
        table = self._table
        now = sa.cast(sa.func.current_timestamp(type_=sa.DateTime(timezone=True)), sa.String(64))
        query = (
            sa.select(*map(_plain, table.c), now.label("now"))
            .where(table.c.refused.is_(None))
            .order_by(table.c.position)
            .limit(limit)
        )
        found: list[Written] = []
        size = 0
        # Not all at once: together they may be larger than the machine's memory.
        options = {"stream_results": True, "max_row_buffer": 5}
        with (
            _mapped(),
            self._engine.begin() as connection,
            connection.execute(query, execution_options=options) as result,
        ):
            for row in result:
                found.append(_written(row))
                size += len(found[-1].body)
                if size >= READ_BYTES:
                    break
        return found

    def settle(self, published: Sequence[str], refused: Mapping[str, str]) -> None:
        """Delete the rows of those ids, and mark the others with why they were refused."""
        table = self._table
        with _mapped(), self._engine.begin() as connection:
            # By their ids: whatever row has come to the same position meanwhile is another.
            if published:
                connection.execute(sa.delete(table).where(table.c.id.in_(published)))
            for id, reason in refused.items():
                connection.execute(
                    sa.update(table)
                    .where(table.c.id == id)
                    .values(refused=reason[:REASON_CHARACTERS])
                )


class _mapped:  # noqa: N801  # reads as what it does
    """Maps SQLAlchemy's errors to the one tree."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sa.exc.DBAPIError):
            raise StoreUnavailable(f"the database says: {error.orig}") from error
        if isinstance(error, sa.exc.SQLAlchemyError):
            raise StoreUnavailable(f"the database cannot be used: {error}") from error


def _engine(url: str) -> sa.Engine:
    try:
        engine = sa.create_engine(url, pool_pre_ping=True)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ValueError) as error:
        # Not the error's own words: they may repeat the URL, and its password.
        raise ConfigurationError(
            f"--from is no URL of a database that SQLAlchemy knows, such as sqlite:///shop.db: {shown(url)}"
        ) from error
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the driver of that database is not installed: pip install {error.name}"
        ) from error
    if engine.dialect.is_async:
        raise ConfigurationError(
            f"the relay waits for its database: name a driver that is not asynchronous, not {engine.driver}"
        )
    return engine


def _plain(column: sa.Column[Any]) -> sa.Label[Any]:
    # As it is: in SQLite any column may hold anything, and one odd row must not hold up the others.
    plain: sa.ColumnElement[Any]
    match column.name:
        case "body":
            plain = sa.cast(column, sa.LargeBinary)
        case "written_at":
            plain = sa.cast(column, sa.String(64))
        case _:
            plain = sa.type_coerce(column, sa.types.NULLTYPE)
    return plain.label(column.name)


def _written(row: sa.Row[*tuple[Any, ...]]) -> Written:
    return Written(
        id=row.id,
        publisher=row.publisher,
        queue=row.queue,
        topic=row.topic,
        content_type=row.content_type,
        attributes=row.attributes,
        body=bytes(row.body),
        ordering_key=row.ordering_key,
        collapse_key=row.collapse_key,
        deliver_after_seconds=row.deliver_after_seconds,
        expires_after_seconds=row.expires_after_seconds,
        waited_seconds=_between(row.written_at, row.now),
    )


def _between(written_at: str, now: str) -> float:
    # Both by the database's clock, with a time zone or both without.
    try:
        waited = datetime.datetime.fromisoformat(now) - datetime.datetime.fromisoformat(written_at)
    except (TypeError, ValueError):
        return math.nan
    return max(waited.total_seconds(), 0.0)
