"""Every waker that comes with Restante, at real servers."""

import ssl

import pytest
from redis.crc import key_slot
from tests.certificates import Authority

from restante.clock import SystemClock
from restante.errors import ConfigurationError
from restante.testing.conformance.wakers import Ear, shipped_wakers, waker_scenarios
from restante.testing.servers.nats import NatsServer
from restante.testing.servers.pgbouncer import Pgbouncer
from restante.testing.servers.postgresql import PostgresqlServer
from restante.testing.servers.redis import RedisCluster, RedisServer
from restante.urls import open_waker
from restante.wakers.redis import channel_of

pytestmark = pytest.mark.timeout(120)
SECRET = "open-sesame"


class Postgresql(PostgresqlServer):
    def __enter__(self):
        super().__enter__()
        self.address = self.create_database()
        return self


SERVERS = {"nats": NatsServer, "postgresql": Postgresql, "redis": RedisServer}


def test_every_shipped_waker_is_run():
    assert set(shipped_wakers()) == set(SERVERS)


def make(url):
    return open_waker(url, "memory://", SystemClock())


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(request):
    with SERVERS[request.param]() as running:
        yield running


def url_of(server):
    return server.address if isinstance(server, Postgresql) else server.url


@pytest.mark.parametrize("scenario", waker_scenarios(), ids=str)
async def test_waker(scenario, server):
    await scenario.run(server, lambda: make(url_of(server)))


# -- Redis ----------------------------------------------------------------------------------------


async def meet(url):
    """Two nodes at that URL, of which one hears the other."""
    async with Ear(make(url)) as here, Ear(make(url)) as there:
        here.waker.attend("q")
        await here.hears("q", there.waker)


async def refused(url):
    """What entering says."""
    with pytest.raises(ConfigurationError) as caught:
        async with Ear(make(url)):
            pass
    assert SECRET not in str(caught.value)
    return str(caught.value)


async def test_redis_with_a_password():
    with RedisServer(password=SECRET) as server:
        await meet(server.url)
        assert "password" in await refused(f"redis://127.0.0.1:{server.port}")
        assert "password" in await refused(f"redis://:{SECRET}x@127.0.0.1:{server.port}")


async def test_redis_with_a_user_who_may_too_little():
    with RedisServer() as server:
        server.run("ACL", "SETUSER", "ann", "on", f">{SECRET}", "+@connection", "+spublish")
        assert "&restante:*" in await refused(f"redis://ann:{SECRET}@127.0.0.1:{server.port}")
        rights = ["&restante:*", "+spublish", "+ssubscribe", "+sunsubscribe", "+ping"]
        server.run(
            *("ACL", "SETUSER", "bob", "on", f">{SECRET}", "resetchannels", "-@all", *rights)
        )
        await meet(f"redis://bob:{SECRET}@127.0.0.1:{server.port}")


async def test_redis_with_tls(tmp_path):
    authority = Authority(tmp_path)
    issued = authority.for_server("127.0.0.1")
    stranger = Authority(tmp_path, "stranger")
    tls = (issued.certificate, issued.key, authority.file)
    with RedisServer(tls=tls, password=SECRET) as server, RedisServer() as plain:
        await meet(server.url)
        address = f"127.0.0.1:{server.port}"
        assert "rediss://" in await refused(f"redis://:{SECRET}@{address}")
        wrong = f"rediss://:{SECRET}@{address}?ssl_ca_certs={stranger.file}"
        assert "ssl_ca_certs" in await refused(wrong)
        assert "TLS" in await refused(f"rediss://:{SECRET}@127.0.0.1:{plain.port}")


async def test_a_cluster_of_redis_that_reshards_and_loses_a_server():
    names = [f"queue.{number}" for number in range(30)]
    with RedisCluster() as cluster:
        async with Ear(make(cluster.url)) as here, Ear(make(cluster.servers[1].url)) as there:
            for name in names:
                here.waker.attend(name)
            for name in names:
                await here.hears(name, there.waker)
            for name in names[:5]:
                cluster.move(key_slot(channel_of(name)))
            for name in names:
                await here.hears(name, there.waker)
            cluster.servers[0].kill()
            cluster.servers[0].start()
            for name in names:
                await here.hears(name, there.waker)


# -- NATS -----------------------------------------------------------------------------------------


async def test_nats_with_a_token():
    with NatsServer(token=SECRET) as server:
        await meet(server.url)
        assert "token" in await refused(f"nats://127.0.0.1:{server.port}")
        assert "token" in await refused(f"nats://{SECRET}x@127.0.0.1:{server.port}")


async def test_nats_with_tls(tmp_path, monkeypatch):
    authority = Authority(tmp_path)
    issued = authority.for_server("127.0.0.1")
    with NatsServer(tls=(issued.certificate, issued.key)) as server:
        assert "SSL_CERT_FILE" in await refused(server.url)
        assert "SSL_CERT_FILE" in await refused(f"nats://127.0.0.1:{server.port}")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        assert ssl.create_default_context().cert_store_stats()["x509_ca"] == 1
        await meet(server.url)


async def test_a_nats_without_tls_is_told_no_secret_where_tls_was_asked_for():
    with NatsServer(token=SECRET, options=("-DV",)) as server:
        assert "nats://" in await refused(f"tls://{SECRET}@127.0.0.1:{server.port}")
        assert "CONNECT" not in server.log.read_text()
        await meet(server.url)
        assert "CONNECT" in server.log.read_text()


async def test_nats_with_a_user_who_may_too_little(tmp_path):
    config = tmp_path / "nats.conf"
    rights = "permissions: {publish: 'restante.*', subscribe: 'other.*'}"
    user = f"{{user: ann, password: '{SECRET}', {rights}}}"
    # On a busy machine a client may take longer to say who it is than the server waits by default.
    config.write_text(f"authorization {{timeout: 30, users: [{user}]}}\n")
    with NatsServer(options=("--config", str(config))) as server:
        assert "restante.*" in await refused(f"nats://ann:{SECRET}@127.0.0.1:{server.port}")


# -- PostgreSQL -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["transaction", "statement", "session"])
async def test_a_pooler_before_postgresql_is_refused(mode):
    with Postgresql() as server, Pgbouncer(server.port, mode=mode) as pooler:
        database = server.address.rpartition("/")[2]
        assert "PgBouncer" in await refused(pooler.url(database))
        await meet(server.address)


async def test_postgresql_that_refuses_and_hints_that_lie():
    with Postgresql() as server:
        assert "--waker" in await refused(server.url("nowhere"))
        async with Ear(make(server.address)) as here, Ear(make(server.address)) as there:
            here.waker.attend("q")
            server.query("SELECT pg_notify('restante_wake', '\x01,,no such queue,\U0001f4a9')")
            server.query("NOTIFY restante_wake")
            await here.hears("q", there.waker)
            assert set(here.heard) == {"q"}


@pytest.mark.parametrize("url", ["redis://h:x", "redis://h?nonsense=1", "nats://", "tls://h:x"])
async def test_a_url_that_cannot_be_read(url):
    assert "URL" in await refused(url)
