"""The doctor's checks of what is elsewhere: clocks, a server, a database, a waker, a proxy."""

import asyncio
import contextlib
from typing import Any

import httpx
import msgspec
import pytest

from restante.cli.doctor import clock, outward, postgresql, proxy, server, waker
from restante.cli.doctor.clock import Instant
from restante.cli.doctor.findings import Case, Level
from restante.config import Config
from restante.stores.postgresql.schema import VERSION

BEFORE, AFTER = Instant(1_000.0, 10.0), Instant(1_001.0, 11.0)


@pytest.mark.parametrize(
    ("theirs", "level", "words"),
    [
        (1_000.5, Level.OK, "goes with"),
        (1_005.9, Level.OK, "goes with"),
        (1_007.0, Level.WARNING, "6.0 s behind"),
        (990.0, Level.WARNING, "10.0 s ahead of"),
    ],
)
def test_another_s_clock(theirs, level, words):
    found = clock.offset("clock", "theirs", theirs, BEFORE, AFTER)
    assert found.level is level
    assert words in found.what


@pytest.mark.parametrize(("wall", "level"), [(1_001.2, Level.OK), (1_003.0, Level.WARNING)])
def test_a_clock_that_jumps(wall, level):
    assert clock.steadiness(BEFORE, Instant(wall, 11.0)).level is level


def caller(answer):
    return httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://x")


@pytest.mark.parametrize(
    ("healthy", "ready", "level"),
    [(200, 200, Level.OK), (200, 503, Level.WARNING), (503, 503, Level.FAILURE)],
)
async def test_what_the_admin_listener_says(healthy, ready, level):
    codes = {"/healthz": healthy, "/readyz": ready}
    async with caller(lambda request: httpx.Response(codes[request.url.path])) as asking:
        assert (await server.health(asking, "http://x", "7")).level is level


FIGURES = "# TYPE restante_log_failing gauge\nrestante_log_failing {}\nrestante_log_unsealed_receipts 1200.0\n"


@pytest.mark.parametrize(
    ("text", "level", "words"),
    [
        (FIGURES.format("0.0"), Level.OK, "process 7 seals receipts"),
        (FIGURES.format("1.0"), Level.FAILURE, "cannot seal receipts: 1,200 are not in the log"),
    ],
)
async def test_whether_a_process_seals(text, level, words):
    async with caller(lambda _: httpx.Response(200, text=text)) as asking:
        (found,) = await server.sealing(asking, "http://x", "7")
    assert found.level is level
    assert words in found.what


async def test_a_process_that_does_not_say_whether_it_seals():
    async with caller(lambda _: httpx.Response(404, text="no")) as asking:
        assert await server.sealing(asking, "http://x", "7") == []

    def refuse(request):
        raise httpx.ConnectError("refused", request=request)

    async with caller(refuse) as asking:
        assert await server.sealing(asking, "http://x", "7") == []


async def test_an_admin_listener_that_does_not_answer():
    def refuse(request):
        raise httpx.ConnectError("refused", request=request)

    async with caller(refuse) as asking:
        assert (await server.health(asking, "http://x", "7")).level is Level.WARNING
        (found,) = await server.public(asking, "http://x")
        assert found.level is Level.FAILURE


async def test_a_server_and_its_clock():
    old = {"date": "Sat, 31 Jan 2015 12:00:00 GMT"}
    text = "openapi: 3.1.0\ninfo:\n  title: Restante\n"
    async with caller(lambda _: httpx.Response(200, text=text, headers=old)) as asking:
        there, its_clock = await server.public(asking, "http://x")
    assert there.level is Level.OK
    assert its_clock.level is Level.WARNING
    async with caller(lambda _: httpx.Response(200, text="<html>")) as asking:
        (found,) = await server.public(asking, "http://x")
    assert found.level is Level.FAILURE


GOOD = postgresql.Facts(url="pg", version=150_004, schema=VERSION, standbys="one", replicas=1)


def facts(**changed):
    return msgspec.structs.replace(GOOD, **changed)


@pytest.mark.parametrize(
    ("check", "bad", "level"),
    [
        (postgresql.version, {"version": 140_001}, Level.FAILURE),
        (postgresql.version, {"standby": True}, Level.FAILURE),
        (postgresql.schema, {"schema": VERSION + 1}, Level.FAILURE),
        (postgresql.schema, {"schema": VERSION - 1}, Level.WARNING),
        (postgresql.durability, {"synchronous_commit": "off"}, Level.FAILURE),
        (postgresql.durability, {"fsync": "off"}, Level.FAILURE),
        (postgresql.durability, {"full_page_writes": "off"}, Level.FAILURE),
        (postgresql.durability, {"synchronous_commit": "local"}, Level.WARNING),
        (postgresql.standbys, {"standbys": ""}, Level.WARNING),
        (postgresql.standbys, {"replicas": 0}, Level.FAILURE),
        (postgresql.connections, {"taken": 95}, Level.WARNING),
        (postgresql.vacuum, {"autovacuum": "off"}, Level.FAILURE),
    ],
)
def test_what_a_database_says_of_itself(check, bad, level):
    assert check(facts()).level is Level.OK
    found = check(facts(**bad))
    assert found.level is level
    assert found.advice


def test_a_database_without_tables_and_one_behind_a_pooler_are_well():
    assert postgresql.schema(facts(schema=None)).level is Level.OK
    assert "transaction mode" in postgresql.pooler(facts(pooled=True)).what
    assert postgresql.pooler(facts()).what == "none is between"


def test_webhooks_take_a_package_and_the_nodes_key(monkeypatch):
    assert postgresql.webhooks(facts()) is None
    some = {"webhooks": 2, "sealed_with": b"one"}
    good = postgresql.webhooks(facts(**some, own_keys=(b"two", b"one")))
    assert good is not None
    assert good.level is Level.OK
    other = postgresql.webhooks(facts(**some, own_keys=(b"two",)))
    assert other is not None
    assert other.level is Level.FAILURE
    monkeypatch.setattr(postgresql, "installed", lambda module: False)
    missing = postgresql.webhooks(facts(**some, own_keys=(b"one",)))
    assert missing is not None
    assert "restante[webhooks]" in missing.advice


class LocalWaker:
    """Two of these over one list of listeners are two nodes; ``deaf`` ones hear nothing."""

    def __init__(self, listeners, *, deaf=False):
        self._listeners = listeners
        self._deaf = deaf

    @contextlib.asynccontextmanager
    async def listening(self, on_wake):
        if not self._deaf:
            self._listeners.append(on_wake)
        on_wake(None)
        yield

    def wake(self, queues):
        for listener in self._listeners:
            listener(queues)

    def attend(self, queue):
        pass

    def leave(self, queue):
        pass


async def test_a_wake_goes_round(monkeypatch):
    monkeypatch.setattr(waker, "_AGAIN_SECONDS", 0)
    listeners: list[Any] = []
    assert await waker.round_trip(LocalWaker(listeners), LocalWaker(listeners)) < waker.SLOW_SECONDS


async def test_a_waker_that_nobody_hears(monkeypatch):
    monkeypatch.setattr(waker, "_AGAIN_SECONDS", 0)
    monkeypatch.setattr(waker, "CONNECT_SECONDS", 0)
    with pytest.raises(TimeoutError):
        await waker.round_trip(LocalWaker([]), LocalWaker([], deaf=True))


@pytest.mark.parametrize(("seconds", "level"), [(0.002, Level.OK), (0.4, Level.WARNING)])
def test_how_long_a_wake_takes(seconds, level):
    assert waker.judge("redis://h", seconds).level is level


THROUGH = proxy.Through("http://x", "key", "doctor", 60.0)
NOTIFICATION = {
    "id": "n",
    "queue": "doctor",
    "seq": 1,
    "lease": "L",
    "attempt": 1,
    "content_type": "text/plain",
    "published_at": "t",
    "lease_until": "t",
}


@pytest.mark.parametrize(
    ("answer", "level", "words"),
    [
        (httpx.Response(200, json={"notifications": []}), Level.OK, "waits for 60 s"),
        (httpx.Response(504, text="<html>"), Level.FAILURE, "cut after"),
        (
            httpx.Response(
                404,
                json={"type": "", "title": "", "status": 404, "code": "x", "detail": "no queue"},
            ),
            Level.FAILURE,
            "was refused: no queue",
        ),
    ],
)
async def test_a_long_poll(answer, level, words):
    async with caller(lambda _: answer) as asking:
        found = await proxy.long_poll(asking, THROUGH)
    assert found.level is level
    assert words in found.what
    assert ("proxy_read_timeout" in found.advice) is (words == "cut after")


async def test_what_comes_meanwhile_is_given_back():
    asked = []

    def answer(request):
        asked.append(request.url.path)
        return httpx.Response(200, json={"notifications": [NOTIFICATION]})

    async with caller(answer) as asking:
        found = await proxy.long_poll(asking, THROUGH)
    assert found.level is Level.WARNING
    assert asked == ["/v1/queues/doctor/receive", "/v1/leases/L/release"]


class Chunks(httpx.AsyncByteStream):
    """Chunks of an answer, and then nothing for ever, or the end."""

    def __init__(self, *chunks, ends=False):
        self._chunks = chunks
        self._ends = ends

    async def __aiter__(self):
        for chunk in self._chunks:
            yield chunk
        if not self._ends:
            await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("status", "stream", "level", "words"),
    [
        (200, Chunks(b"retry: 1\n\n", b"event: overview\n"), Level.OK, "stays"),
        (200, Chunks(), Level.FAILURE, "gathers it in a buffer"),
        (200, Chunks(b"event: overview\n", ends=True), Level.FAILURE, "cut after"),
        (403, Chunks(ends=True), Level.WARNING, "administrator's key"),
        (502, Chunks(ends=True), Level.FAILURE, "HTTP 502"),
    ],
)
async def test_a_stream_of_events(monkeypatch, status, stream, level, words):
    monkeypatch.setattr(proxy, "PROMPT_SECONDS", 0.05)
    async with caller(lambda _: httpx.Response(status, stream=stream)) as asking:
        found = await proxy.events(asking, THROUGH._replace(wait_seconds=0.05))
    assert found.level is level
    assert words in found.what


@pytest.mark.parametrize(
    ("issuer", "level", "words"),
    [
        ("https://id.test", Level.OK, "register https://desk.test/sign-in/openid/return there"),
        ("https://id.test/", Level.FAILURE, "says that it is another"),
        ("https://away.test", Level.FAILURE, "HTTP 404"),
    ],
)
async def test_a_provider(issuer, level, words):
    told = {
        "https://id.test/.well-known/openid-configuration": {
            "issuer": "https://id.test",
            "authorization_endpoint": "https://id.test/authorize",
            "token_endpoint": "https://id.test/token",
            "jwks_uri": "https://id.test/keys",
        },
        "https://id.test/keys": {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "kid": "1",
                    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                }
            ]
        },
    }

    async def fetch(url, headers, form=None):
        return (200, msgspec.json.encode(told[url])) if url in told else (404, b"")

    config = Config(
        openid_issuer=issuer, openid_client_id="desk", openid_page_url="https://desk.test"
    )
    found = await outward.provider(Case(config=config), fetch)
    assert found is not None
    assert (found.level, words in found.what) == (level, True), found


async def test_nothing_outward_is_looked_at_where_nothing_is_called():
    assert await outward.provider(Case(config=Config())) is None
    assert await outward.mail(Case(config=Config())) is None


async def test_a_mail_server_that_is_away(unused_tcp_port):
    config = Config(
        smtp_url=f"smtp+plain://127.0.0.1:{unused_tcp_port}",
        alert_mail_from="a@b.test",
        alert_mail_to=("c@d.test",),
    )
    found = await outward.mail(Case(config=config))
    assert found is not None
    assert (found.level, found.what) == (
        Level.FAILURE,
        f"127.0.0.1:{unused_tcp_port} does not let the service in: SMTPConnectError",
    )
