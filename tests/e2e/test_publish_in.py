"""``publish_in`` over each library's own connections, to a real PostgreSQL: with the transaction or not at all."""

import ast
import asyncio
import contextlib
import json
import re
import sqlite3
import types
from pathlib import Path

import asyncpg
import psycopg
import pytest
import sqlalchemy
from psycopg import rows
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio

import restante
from restante.changes import AddClient, PutQueue
from restante.errors import (
    BodyTooLarge,
    InvalidHeader,
    InvalidName,
    Malformed,
    OutOfBounds,
    QueueNotFound,
)
from restante.model import Client, Queue, Settings
from restante.outbox.table import ddl
from restante.stores.postgresql import PostgresqlStore
from restante.testing.servers.postgresql import PostgresqlServer

WRITER = "shop"
"""A role with no more rights than a publisher needs."""
RIGHTS = f"""
CREATE ROLE {WRITER} LOGIN; GRANT USAGE ON SCHEMA restante TO {WRITER};
GRANT SELECT (name, settings) ON restante.queues TO {WRITER}; GRANT INSERT ON restante.outbox TO {WRITER};
CREATE TABLE orders (id text PRIMARY KEY); GRANT ALL ON orders TO {WRITER};
"""


@pytest.fixture(scope="module")
def cluster():
    with PostgresqlServer() as server:
        server.create_database()
        asyncio.run(furnish(server.url()))
        server.query(RIGHTS)
        yield server


async def furnish(url):
    async with PostgresqlStore(url) as store:
        await store.configure(
            [
                AddClient(Client("acme")),
                PutQueue(Queue("acme", "acme")),
                PutQueue(Queue("small", "acme", Settings(max_body_bytes=10))),
            ]
        )


@pytest.fixture
def url(cluster):
    cluster.query("TRUNCATE orders, restante.outbox")
    return cluster.url(user=WRITER)


def rows_of(cluster, table="restante.outbox"):
    return [
        json.loads(line)
        for line in cluster.query(
            f"SELECT to_jsonb(o) || jsonb_build_object('body', encode(body, 'escape')) FROM {table} o"
            " ORDER BY position"
        )
    ]


async def the_id(answer):
    """What ``publish_in`` gives, over either kind of connection."""
    return answer if isinstance(answer, str) else await answer


@contextlib.asynccontextmanager
async def over_psycopg(url):
    with psycopg.connect(url, row_factory=rows.dict_row) as connection:
        yield connection, connection.execute, connection.commit, connection.rollback


@contextlib.asynccontextmanager
async def over_psycopg_async(url):
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection, connection.execute, connection.commit, connection.rollback


@contextlib.asynccontextmanager
async def over_asyncpg(url):
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as taken:
        transaction = taken.transaction()
        await transaction.start()
        yield taken, taken.execute, transaction.commit, transaction.rollback


@contextlib.asynccontextmanager
async def over_sqlalchemy(url):
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        yield connection, connection.exec_driver_sql, connection.commit, connection.rollback
    engine.dispose()


@contextlib.asynccontextmanager
async def over_session(url):
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with orm.Session(engine) as session:

        def execute(statement):
            session.execute(sqlalchemy.text(statement))

        yield session, execute, session.commit, session.rollback
    engine.dispose()


def over_sqlalchemy_async(driver):
    @contextlib.asynccontextmanager
    async def over(url):
        address = url.replace("postgresql:", f"postgresql+{driver}:")
        engine = sqlalchemy_asyncio.create_async_engine(address)
        async with engine.connect() as connection:
            yield connection, connection.exec_driver_sql, connection.commit, connection.rollback
        await engine.dispose()

    return over


@contextlib.asynccontextmanager
async def over_async_session(url):
    engine = sqlalchemy_asyncio.create_async_engine(
        url.replace("postgresql:", "postgresql+asyncpg:")
    )
    async with sqlalchemy_asyncio.AsyncSession(engine) as session:

        async def execute(statement):
            await session.execute(sqlalchemy.text(statement))

        yield session, execute, session.commit, session.rollback
    await engine.dispose()


WAYS = {
    "psycopg": over_psycopg,
    "psycopg, async": over_psycopg_async,
    "asyncpg": over_asyncpg,
    "sqlalchemy": over_sqlalchemy,
    "sqlalchemy session": over_session,
    "sqlalchemy, asyncpg": over_sqlalchemy_async("asyncpg"),
    "sqlalchemy, async psycopg": over_sqlalchemy_async("psycopg"),
    "sqlalchemy async session": over_async_session,
}


async def done(answer):
    if hasattr(answer, "__await__"):
        await answer


@pytest.mark.parametrize("way", WAYS)
async def test_it_is_there_with_the_commit(cluster, url, way):
    async with WAYS[way](url) as (connection, execute, commit, _):
        await done(execute("INSERT INTO orders VALUES ('o-1')"))
        first = await the_id(
            restante.publish_in(
                connection,
                queue="acme",
                body=b"<order/>",
                content_type="application/xml",
                attributes={"ce-type": "größe: 5%"},
                ordering_key="o-1",
                collapse_key="'; --",
                deliver_after_seconds=5,
                expires_after_seconds=60,
                publisher="shop",
            )
        )
        second = await the_id(restante.publish_in(connection, b"\x00\xff", topic="orders.new"))
        assert rows_of(cluster) == []
        await done(commit())
    one, other = rows_of(cluster)
    assert one | {"position": 0, "written_at": ""} == {
        "position": 0,
        "id": first,
        "publisher": "shop",
        "queue": "acme",
        "topic": "",
        "content_type": "application/xml",
        "attributes": '{"ce-type":"größe: 5%"}',
        "body": "<order/>",
        "ordering_key": "o-1",
        "collapse_key": "'; --",
        "deliver_after_seconds": 5,
        "expires_after_seconds": 60,
        "refused": None,
        "written_at": "",
    }
    assert (other["id"], other["topic"], other["body"]) == (second, "orders.new", "\\000\\377")
    assert (other["publisher"], other["expires_after_seconds"]) == ("outbox", None)
    assert cluster.query("SELECT id FROM orders") == ["o-1"]


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_is_there_after_a_rollback(cluster, url, way):
    async with WAYS[way](url) as (connection, execute, _, rollback):
        await done(execute("INSERT INTO orders VALUES ('o-1')"))
        await the_id(restante.publish_in(connection, b"<order/>", queue="acme"))
        await done(rollback())
    assert rows_of(cluster) == []
    assert cluster.query("SELECT id FROM orders") == []


@pytest.mark.parametrize("way", WAYS)
async def test_what_the_queue_cannot_take_is_refused_and_the_transaction_goes_on(cluster, url, way):
    async with WAYS[way](url) as (connection, execute, commit, _):
        await done(execute("INSERT INTO orders VALUES ('o-1')"))
        with pytest.raises(QueueNotFound, match="there is no queue none here"):
            await the_id(restante.publish_in(connection, b"", queue="none"))
        with pytest.raises(BodyTooLarge, match="queue small takes bodies of at most 10 bytes"):
            await the_id(restante.publish_in(connection, b"x" * 11, queue="small"))
        await the_id(restante.publish_in(connection, b"x" * 10, queue="small", notify=True))
        await done(commit())
    assert [row["queue"] for row in rows_of(cluster)] == ["small"]
    assert cluster.query("SELECT id FROM orders") == ["o-1"]


async def test_nodes_are_told_at_the_commit_where_that_is_asked_for(url):
    told = []
    listener = await asyncpg.connect(url)
    await listener.add_listener("restante_outbox", lambda *heard: told.append(heard))
    with psycopg.connect(url) as connection:
        restante.publish_in(connection, b"", queue="acme", notify=True)
        await listener.execute("SELECT 1")
        assert told == []
        connection.commit()
        await listener.execute("SELECT 1")
        assert len(told) == 1
        restante.publish_in(connection, b"", queue="acme")
        connection.commit()
        await listener.execute("SELECT 1")
        assert len(told) == 1
    await listener.close()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"queue": ""}, Malformed),
        ({"topic": "orders"}, Malformed),
        ({"queue": "a/b"}, InvalidName),
        ({"publisher": "a b"}, InvalidName),
        ({"content_type": "xml"}, InvalidHeader),
        ({"ordering_key": "k" * 256}, InvalidHeader),
        ({"collapse_key": "\ud800"}, InvalidHeader),
        ({"attributes": {"a": "\ud800"}}, InvalidHeader),
        ({"attributes": {"a": 1}}, Malformed),
        ({"attributes": {"A": ""}}, InvalidHeader),
        ({"deliver_after_seconds": -1}, OutOfBounds),
        ({"expires_after_seconds": 0}, OutOfBounds),
        ({"body": b"x" * (16_777_216 + 1)}, BodyTooLarge),
        ({"body": "text"}, TypeError),
        ({"table": "a; DROP TABLE b"}, ValueError),
    ],
)
def test_what_no_queue_could_take_is_refused_at_once(cluster, url, wrong, error):
    with psycopg.connect(url) as connection:
        with pytest.raises(error):
            restante.publish_in(connection, **({"queue": "acme", "body": b""} | wrong))
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def test_what_is_no_connection_is_refused(url):
    for other in (object(), url, None, sqlalchemy.create_engine("sqlite://")):
        with pytest.raises(TypeError, match="publish_in takes an open connection of"):
            restante.publish_in(other, b"", queue="acme")
    async with asyncpg.create_pool(url, min_size=0) as pool:
        with pytest.raises(TypeError, match="asyncpg"):
            await restante.publish_in(pool, b"", queue="acme")


@pytest.fixture(scope="module")
def django_database(cluster, tmp_path_factory):
    """Django's own transactions, over PostgreSQL as ``default`` and over SQLite as ``shop``."""
    import django  # type: ignore[import-untyped]
    from django import conf, db

    postgresql = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "restante",
        "USER": WRITER,
        "HOST": "127.0.0.1",
        "PORT": str(cluster.port),
    }
    shop = tmp_path_factory.mktemp("django") / "shop.db"
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(shop)}
    conf.settings.configure(DATABASES={"default": postgresql, "shop": sqlite}, USE_TZ=True)
    django.setup()  # it imports ``db.transaction``, too
    yield db
    db.connections.close_all()


def test_a_transaction_of_django(cluster, url, django_database):
    db = django_database
    with db.transaction.atomic():
        given = restante.publish_in(
            db.connection, b"\x00\xff 100%", queue="acme", attributes={"a": "5%"}, publisher="shop"
        )
        with pytest.raises(QueueNotFound):
            restante.publish_in(db.connection, b"", queue="none")
        assert rows_of(cluster) == []
    (row,) = rows_of(cluster)
    assert (row["id"], row["body"], row["attributes"]) == (given, "\\000\\377 100%", '{"a":"5%"}')
    with db.transaction.atomic():
        restante.publish_in(db.connection, b"", queue="acme")
        db.transaction.set_rollback(True)
    assert len(rows_of(cluster)) == 1


def test_a_transaction_of_django_in_another_database(django_database):
    shop = django_database.connections["shop"]
    with shop.cursor() as cursor:
        cursor.execute(ddl("sqlite://", "restante_outbox"))
    with django_database.transaction.atomic(using="shop"):
        given = restante.publish_in(shop, b"\xff", queue="acme", table="restante_outbox")
    with django_database.transaction.atomic(using="shop"):
        restante.publish_in(shop, b"", queue="acme", table="restante_outbox")
        django_database.transaction.set_rollback(True, using="shop")
    with shop.cursor() as cursor:
        cursor.execute("SELECT id, body FROM restante_outbox")
        assert cursor.fetchall() == [(given, b"\xff")]


@pytest.mark.parametrize("driver", ["sqlite", "postgresql+psycopg"])
def test_a_table_of_ones_own_by_sqlalchemy(cluster, tmp_path, driver):
    address = f"{driver}:///{tmp_path / 'shop.db'}"
    if driver != "sqlite":
        address = cluster.url().replace("postgresql:", f"{driver}:")
    engine = sqlalchemy.create_engine(address)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(ddl(address, "shop_outbox")))
        given = restante.publish_in(connection, b"\x00", queue="acme", table="shop_outbox")
        connection.commit()
        found = connection.execute(sqlalchemy.text("SELECT id FROM shop_outbox")).all()
    engine.dispose()
    assert [row[0] for row in found] == [given]


async def test_a_table_of_ones_own_by_asyncpg(cluster):
    connection = await asyncpg.connect(cluster.url())
    await connection.execute(ddl("postgresql://", "their_outbox"))
    given = await restante.publish_in(connection, b"\x00", queue="acme", table="their_outbox")
    assert await connection.fetchval("SELECT id FROM their_outbox") == given
    await connection.close()


def test_a_table_of_ones_own_in_sqlite(tmp_path):
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.executescript(ddl("sqlite://", "restante_outbox"))
    given = restante.publish_in(connection, b"\x00", queue="acme", table="restante_outbox")
    connection.rollback()
    assert connection.execute("SELECT count(*) FROM restante_outbox").fetchone() == (0,)
    given = restante.publish_in(connection, b"\x00", queue="acme", table="restante_outbox")
    connection.commit()
    found = connection.execute("SELECT id, queue, body, refused FROM restante_outbox").fetchall()
    assert found == [(given, "acme", b"\x00", None)]
    connection.close()


GUIDE = (Path(__file__).parents[2] / "docs" / "outbox.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def given(cluster, url, tmp_path, monkeypatch, django_database):
    """What the guide's examples take for granted."""
    cluster.query("ALTER TABLE orders ADD COLUMN IF NOT EXISTS state text")
    monkeypatch.chdir(tmp_path)
    with contextlib.closing(sqlite3.connect("shop.db")) as connection:
        connection.executescript(
            f"CREATE TABLE orders (id, state); {ddl('sqlite://', 'restante_outbox')}"
        )
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    yield {"url": url, "document": b"<order/>", "restante": restante, "engine": engine}
    engine.dispose()


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_of_the_guide(cluster, url, given, code):
    by_object = "order.s" in code
    order = types.SimpleNamespace(state="", save=lambda: None) if by_object else "o-1"

    async def with_awaits(compiled):
        async_engine = sqlalchemy_asyncio.create_async_engine(
            url.replace("postgresql:", "postgresql+asyncpg:")
        )
        async with asyncpg.create_pool(url, min_size=1) as pool:
            names = given | {"order": order, "pool": pool, "async_engine": async_engine}
            await eval(compiled, names)
        await async_engine.dispose()

    if "await" in code:
        asyncio.run(
            with_awaits(compile(code, "guide", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
        )
    else:
        exec(compile(code, "guide", "exec"), given | {"order": order})
    if "sqlite3" in code:
        with contextlib.closing(sqlite3.connect("shop.db")) as connection:
            written = connection.execute("SELECT queue, body FROM restante_outbox").fetchall()
        assert written == [("acme", b"<order/>")]
    else:
        assert {(row["queue"], row["body"]) for row in rows_of(cluster)} == {("acme", "<order/>")}
