"""A store does not begin on a database that it cannot trust, and says what to do."""

import asyncio
import importlib.metadata
import subprocess
import sys

import pytest
from tests.conformance.databases import connection, new_database, nodes

from restante.bench.processes import free_port
from restante.errors import ConfigurationError, StartupError, StoreRefused
from restante.stores.postgresql import PostgresqlStore
from restante.stores.postgresql.schema import MIGRATIONS
from restante.testing.servers.pgbouncer import Pgbouncer
from restante.testing.servers.postgresql import PostgresqlServer

SECRET = "s3cr3t"


async def refusal(url):
    """Why a store does not begin there."""
    with pytest.raises(StartupError) as caught:
        async with PostgresqlStore(url):
            pass
    assert SECRET not in str(caught.value)
    return caught.value


async def test_nobody_listens():
    error = await refusal(f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/x")
    assert isinstance(error, ConfigurationError)
    assert "cannot reach postgresql://...@127.0.0.1" in str(error)


async def test_no_such_host():
    error = await refusal(f"postgresql://u:{SECRET}@nowhere.invalid/x")
    assert isinstance(error, ConfigurationError)
    assert "nowhere.invalid" in str(error)


async def test_no_such_database(postgresql):
    error = await refusal(postgresql.url("nothere"))
    assert isinstance(error, ConfigurationError)
    assert "createdb" in str(error)


@pytest.mark.parametrize(
    "password",
    [f"x/{SECRET}", f"x?{SECRET}", f"x#{SECRET}", f"x@{SECRET}", f"x:{SECRET}", f"{SECRET}%zz"],
)
async def test_a_password_that_is_not_encoded(password):
    error = await refusal(f"postgresql://u:{password}@127.0.0.1:{free_port()}/x")
    assert isinstance(error, ConfigurationError)


async def test_a_password_in_the_query():
    error = await refusal(f"postgresql://127.0.0.1:{free_port()}/x?user=u&password=a@{SECRET}")
    assert isinstance(error, ConfigurationError)


async def test_a_wrong_password(postgresql):
    url = new_database(postgresql)
    postgresql.query(f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'")
    hba = postgresql.data / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{before}")
    try:
        postgresql.query("SELECT pg_reload_conf()")
        error = await refusal(url.replace("postgres@", "guarded:wrong@"))
        assert isinstance(error, ConfigurationError)
        assert "password" in str(error)
        assert "wrong" not in str(error)
        error = await refusal(url.replace("postgres@", f"guarded:{SECRET}@"))
        assert "CREATE" in str(error)
    finally:
        hba.write_text(before)
        postgresql.query("SELECT pg_reload_conf()")
    # Nothing half made.
    async with connection(url) as looking:
        assert await looking.fetchval("SELECT to_regnamespace('restante')") is None


async def test_another_version_of_the_schema(postgresql):
    url = new_database(postgresql)
    async with nodes(url):
        pass
    async with connection(url) as other:
        await other.execute("UPDATE restante.meta SET value = '999' WHERE name = 'version'")
    error = await refusal(url)
    assert isinstance(error, StoreRefused)
    assert "upgrade Restante" in str(error)


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE restante.queues (x int)",
        "CREATE TABLE restante.meta (x int)",
        "CREATE TABLE restante.meta (name text, value bytea); CREATE TABLE restante.tallies (x int)",
    ],
)
async def test_a_schema_of_the_same_name(postgresql, made):
    url = new_database(postgresql)
    async with connection(url) as other:
        await other.execute(f"CREATE SCHEMA restante; {made}")
    error = await refusal(url)
    assert isinstance(error, StoreRefused)
    assert "something else" in str(error)
    async with connection(url) as other:
        assert await other.fetchval("SELECT to_regclass('restante.deliveries')") is None


async def test_a_schema_made_beforehand(postgresql):
    url = new_database(postgresql)
    async with connection(url) as other:
        await other.execute("CREATE SCHEMA restante")
    async with nodes(url) as (node,):
        await node.publish()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("synchronous_commit", "off"), ("default_transaction_isolation", "serializable")],
)
async def test_settings_under_which_nothing_is_sure(postgresql, setting, value):
    url = new_database(postgresql)
    name = url.rpartition("/")[2]
    postgresql.query(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    error = await refusal(url)
    assert isinstance(error, StoreRefused)
    assert setting in str(error)


async def test_another_encoding(postgresql):
    url = new_database(postgresql)
    name = url.rpartition("/")[2]
    postgresql.query(
        f"CREATE DATABASE {name}_latin TEMPLATE template0 ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    error = await refusal(f"{url}_latin")
    assert isinstance(error, StoreRefused)
    assert "UTF8" in str(error)


async def test_a_standby_and_a_server_that_does_not_sync():
    with PostgresqlServer(options={"fsync": "off"}) as careless:
        url = careless.create_database()
        error = await refusal(url)
        assert isinstance(error, StoreRefused)
        assert "fsync" in str(error)
        with careless.standby() as standby:
            error = await refusal(standby.url())
            assert isinstance(error, StoreRefused)
            assert "standby" in str(error)
            error = await refusal(
                f"{standby.url().replace('/restante', '')},127.0.0.1:{free_port()}/restante"
            )
            assert isinstance(error, ConfigurationError)
            assert "takes writes" in str(error)


async def test_a_pooler_in_statement_mode(postgresql):
    name = new_database(postgresql).rpartition("/")[2]
    with Pgbouncer(postgresql.port, mode="statement") as pooler:
        error = await refusal(pooler.url(name))
    assert isinstance(error, StoreRefused)
    assert "pool_mode = transaction" in str(error)


async def test_a_migration_that_fails_leaves_nothing(postgresql, monkeypatch):
    broken = (f"{MIGRATIONS[0]}; SELECT 1 / 0",)
    url = new_database(postgresql)
    with monkeypatch.context() as patched:
        patched.setattr("restante.stores.postgresql.server.MIGRATIONS", broken)
        assert isinstance(await refusal(url), ConfigurationError)
    async with connection(url) as other:
        assert await other.fetchval("SELECT to_regnamespace('restante')") is None
    async with nodes(url) as (node,):
        await node.publish()


async def test_many_begin_on_an_empty_database_at_once(postgresql):
    url = new_database(postgresql)
    stores = [PostgresqlStore(url) for _ in range(5)]
    await asyncio.gather(*(store.__aenter__() for store in stores))
    assert len({store.token_secret for store in stores}) == 1
    await asyncio.gather(*(store.close() for store in stores))


def test_without_the_driver():
    """The store is asked for, and its driver is not installed: it says what to install."""
    assert importlib.metadata.version("asyncpg")
    code = (
        "import sys; sys.modules['asyncpg'] = None\n"
        "from restante.cli import main\n"
        "sys.argv = ['restante', 'serve', '--store', 'postgresql://u@127.0.0.1/x']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "restante[postgres]" in done.stderr
    assert "Traceback" not in done.stderr
