"""Whose connection it is, and how a statement is run over it: recognised by its class, importing none of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from restante.outbox.statements import Placeholder

Values = Mapping[str, Any]
MakeStatement = Callable[[Placeholder], str]

_SUPPORTED: Final = (
    "publish_in takes an open connection of psycopg, psycopg2, asyncpg or sqlite3, a Connection or Session of"
    " SQLAlchemy (its asynchronous ones, too), or a connection of Django"
)


class Way(NamedTuple):
    """How to run a statement over one library's connections. ``run`` gives the one value it answers with, if any.

    With ``waits`` that is a coroutine.
    """

    waits: bool
    run: Callable[[Any, MakeStatement, Values, bool], Any]


def way_of(connection: object) -> Way:
    """How to use this connection. ``TypeError`` for one of no known kind, or a pool or engine that makes them."""
    modules = [kind.__module__ for kind in type(connection).__mro__]
    roots = {module.partition(".")[0] for module in modules}
    if "asyncpg" in roots and hasattr(connection, "is_in_transaction"):
        return Way(True, _asyncpg)
    if "psycopg" in roots and hasattr(connection, "cursor"):
        waits = hasattr(connection, "__aenter__")
        return Way(waits, _psycopg_async if waits else _psycopg)
    if "psycopg2" in roots and hasattr(connection, "cursor"):
        return Way(False, _psycopg2)
    if "sqlalchemy" in roots and hasattr(connection, "execute"):
        waits = any(module.startswith("sqlalchemy.ext.asyncio") for module in modules)
        return Way(waits, _sqlalchemy_async if waits else _sqlalchemy)
    if "django" in roots and hasattr(connection, "cursor"):
        return Way(False, _django)
    if "sqlite3" in roots and hasattr(connection, "execute"):
        return Way(False, _sqlite3)
    raise TypeError(f"{_SUPPORTED}; not {type(connection).__module__}.{type(connection).__name__}")


def _percent(name: str) -> str:
    return f"%({name})s"


def _colon(name: str) -> str:
    return f":{name}"


# Rows of whatever shape the connection was told to make are not asked for: the first value is all there is.


def _psycopg(connection: Any, make: MakeStatement, values: Values, answers: bool) -> Any:
    with connection.cursor(row_factory=sys.modules["psycopg.rows"].tuple_row) as cursor:
        cursor.execute(make(_percent), values)
        return cursor.fetchone()[0] if answers else None


async def _psycopg_async(
    connection: Any, make: MakeStatement, values: Values, answers: bool
) -> Any:
    async with connection.cursor(row_factory=sys.modules["psycopg.rows"].tuple_row) as cursor:
        await cursor.execute(make(_percent), values)
        return (await cursor.fetchone())[0] if answers else None


def _psycopg2(connection: Any, make: MakeStatement, values: Values, answers: bool) -> Any:
    factory = sys.modules["psycopg2.extensions"].cursor
    with connection.cursor(cursor_factory=factory) as cursor:
        cursor.execute(make(_percent), values)
        return cursor.fetchone()[0] if answers else None


def _django(connection: Any, make: MakeStatement, values: Values, answers: bool) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(make(_percent), values)
        return cursor.fetchone()[0] if answers else None


async def _asyncpg(connection: Any, make: MakeStatement, values: Values, answers: bool) -> Any:
    arguments: list[Any] = []

    def place(name: str) -> str:
        arguments.append(values[name])
        return f"${len(arguments)}"

    statement = make(place)
    if answers:
        return await connection.fetchval(statement, *arguments)
    return await connection.execute(statement, *arguments)


def _sqlalchemy(connection: Any, make: MakeStatement, values: Values, answers: bool) -> Any:
    result = connection.execute(sys.modules["sqlalchemy"].text(make(_colon)), values)
    return result.scalar_one() if answers else None


async def _sqlalchemy_async(
    connection: Any, make: MakeStatement, values: Values, answers: bool
) -> Any:
    result = await connection.execute(sys.modules["sqlalchemy"].text(make(_colon)), values)
    return result.scalar_one() if answers else None


def _sqlite3(connection: Any, make: MakeStatement, values: Values, answers: bool) -> Any:
    connection.execute(make(_colon), values)
