"""Every transport through nginx and HAProxy, as their files in ``deploy/`` have it, and over TLS without a proxy."""

from __future__ import annotations

import asyncio
import base64
import re
from contextlib import AsyncExitStack
from typing import Final

import httpx
import psutil
import pytest
from tests.certificates import Authority
from tests.e2e.conftest import Mailbox, raw_post
from tests.e2e.echo import Echo, EchoClient
from tests.e2e.ways import PROXIED, WAYS, opened, secure_socket

from restante.bench.processes import free_port
from restante.testing.servers.proxies import DEPLOY, PROXIES, Behind, HAProxy, address_of
from restante.testing.transports import Want, all_drivers, transport_cases
from restante.testing.transports.stage import Stage, ack, http_client, one

MAIN: Final = frozenset(
    {
        "what_is_published_comes_and_is_signed_for",
        "bytes_of_any_kind_come_as_they_are",
        "what_comes_later_comes_as_it_comes",
        "a_nack_with_a_delay_comes_again_after_it",
        "what_is_rejected_is_a_dead_letter_at_once",
        "who_collects_over_it_may_publish_over_it_too",
        "a_lease_that_runs_out_comes_again",
        "an_extended_lease_is_kept",
        "no_more_than_the_credit_is_handed_out",
        "who_is_gone_in_mid_delivery_loses_nothing",
        "who_is_gone_while_it_waits_takes_nothing_along",
        "who_comes_back_is_sent_again_what_it_has_not_settled",
        "the_transport_can_be_changed_in_mid_stream",
        "a_revoked_key_ends_the_connection",
    }
)
# What the service calls itself passes no proxy on its way in.
CONNECTING: Final = [driver for driver in all_drivers() if Want.CONNECTS in driver.offers]
CASES: Final = [
    (driver, scenario)
    for driver, scenario in transport_cases()
    if driver in CONNECTING and scenario.name.partition("-")[2] in MAIN
]


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("ways")) as ways:
        yield ways


# -- the transports -----------------------------------------------------------------------------


def test_every_main_scenario_is_one_of_the_suite() -> None:
    assert {scenario.name.partition("-")[2] for _, scenario in CASES} == MAIN


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("driver", "scenario"), CASES, ids=lambda case: getattr(case, "name", None)
)
async def test_transport(way, driver, scenario, ways):
    other = CONNECTING[(CONNECTING.index(driver) + 1) % len(CONNECTING)]
    await scenario.run(ways.target(way), driver, other)


@pytest.mark.parametrize("kind", PROXIES)
def test_who_hangs_up_on_a_poll_leaves_no_lease(kind, own_server, tmp_path):
    """The proxy lets go of its own connection as soon as the client's is gone."""
    authority = Authority(tmp_path)
    behind = Behind(address_of(own_server.url), address_of(own_server.admin_url))
    proxy = kind(tmp_path / kind.name, [behind], authority.for_server("127.0.0.1"))
    box = Mailbox(own_server)
    with proxy.running():
        with secure_socket(proxy.address, authority) as connection:
            path = f"/v1/queues/{box.name}/receive"
            connection.sendall(raw_post(path, box.key, b'{"wait":60}'))
            while not ways_to(proxy, own_server.address):
                pass
        while ways_to(proxy, own_server.address):
            pass
        box.publish(b"<a/>")
        (delivered,) = box.receive()
        assert delivered["attempt"] == 1
    box.close()


@pytest.mark.timeout(240)
async def test_what_is_idle_outlasts_the_proxies_own_time_outs(ways, tmp_path):
    """By default nginx cuts off after 60 silent seconds, and HAProxy, as Debian has it, after 50.

    All that stays open does so at once, both proxies' side by side, until each stream of events has had five
    heartbeats: 75 seconds.
    """
    async with AsyncExitStack() as stack:
        echo = await stack.enter_async_context(Echo())
        calls = []
        streams = []
        waiting = []
        for way in ways.proxies:
            for driver in CONNECTING:
                if Want.ATTACHED in driver.offers:
                    stage = await stack.enter_async_context(Stage(ways.target(way), driver))
                    streams.append((stage, await stage.attach()))
            client = await stack.enter_async_context(EchoClient(ways, way, tmp_path, echo))
            call = client.stream()
            await call.write(b"before")
            assert await call.read() == b"before"
            calls.append(call)
            stage = await stack.enter_async_context(Stage(ways.target(way), CONNECTING[0]))
            waiting += [heartbeats(stage, 5), empty_poll(stage)]
        await asyncio.gather(*waiting)
        for stage, consumer in streams:
            (id,) = await stage.publish(b"<late/>")
            delivered = await one(consumer)
            assert (delivered.id, delivered.attempt) == (id, 1)
            await ack(consumer, delivered)
        for call in calls:
            await call.write(b"after")
            assert await call.read() == b"after"


def ways_to(proxy, address):
    """How many connections the proxy holds to that address."""
    process = psutil.Process(proxy.pid)
    return sum(
        tuple(connection.raddr) == address and connection.status == psutil.CONN_ESTABLISHED
        for one in (process, *process.children())
        for connection in one.net_connections("tcp")
    )


async def heartbeats(stage, count):
    path = f"/v1/queues/{stage.queue}/events"
    async with http_client(stage.target, stage.key) as http, http.stream("GET", path) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            count -= line.startswith(":")
            if not count:
                return
    raise AssertionError("the stream has ended")


async def empty_poll(stage):
    """The longest there is, and the next over the same connection."""
    name, key = await stage.another_client()
    async with http_client(stage.target, key) as http:
        answer = await http.post(f"/v1/queues/{name}/receive", json={"wait": 60})
        assert (answer.status_code, answer.json()) == (200, {"notifications": []})
        answer = await http.post(f"/v1/queues/{name}/next?wait=0")
        assert answer.status_code == 204


# -- gRPC ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", PROXIED)
async def test_grpc_passes_on_the_same_port(way, ways, tmp_path):
    async with Echo() as echo, EchoClient(ways, way, tmp_path, echo) as client:
        large = bytes(range(256)) * 12_000
        lies = (("client-cert", "mine"), ("x-forwarded-for", "198.51.100.7"))
        assert await client.unary(large, lies) == large
        assert "client-cert" not in echo.metadata
        assert echo.metadata["x-forwarded-for"].rpartition(",")[2].strip() == "127.0.0.1"
        assert echo.metadata["x-forwarded-proto"] == "https"
        call = client.stream()
        for message in (b"1", b"2", b"3"):
            await call.write(message)
            assert await call.read() == message
        echo.gone.clear()
        call.cancel()
        await echo.gone.wait()
        # Beside it, all the rest goes where it always did.
        async with httpx.AsyncClient(verify=ways.context(), base_url=client.url) as other:
            for media in ("application/json", "application/grpc-web+proto"):
                answer = await other.post("/v1/nothing", headers={"content-type": media})
                assert answer.json()["code"] == "route_not_found"


# -- the files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("with_authority", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_the_files_are_found_right(kind, with_authority, count, tmp_path):
    authority = Authority(tmp_path)
    issued = authority.for_server("127.0.0.1")
    nodes = [
        Behind(f"127.0.0.{node}:7070", f"127.0.0.{node}:7071", f"127.0.0.{node}:7072")
        for node in range(1, count + 1)
    ]
    proxy = kind(tmp_path / kind.name, nodes, issued, authority.file if with_authority else None)
    told = proxy.check()
    assert "[warn]" not in told
    assert "WARNING" not in told


def test_every_name_to_fill_in_is_explained():
    """In the file itself, and in the guide's commands."""
    guide = (DEPLOY.parent / "docs" / "proxies.md").read_text()
    explained = 0
    for file in (DEPLOY / "nginx").glob("*.conf"):
        template = file.read_text()
        names = set(re.findall(r"@@([A-Z_]+)@@", template))
        assert set(re.findall(r"^#   ([A-Z_]+) ", template, re.MULTILINE)) == names
        assert names <= set(re.findall(r"s\|@@([A-Z_]+)@@\|", guide))
        explained += len(names)
    assert explained == 9
    template = (DEPLOY / "haproxy" / "restante.cfg").read_text()
    names = set(re.findall(r"\$\{(RESTANTE_[A-Z_]+[23]?)", template))
    told = set(re.findall(r"^#   (RESTANTE_[A-Z_]+)", template, re.MULTILINE))
    own = {"RESTANTE_SERVER", "RESTANTE_GRPC", "RESTANTE_ADMIN_HOST", "RESTANTE_ADMIN_PORT"}
    others = {f"{name}_{node}" for name in own for node in (2, 3)}
    assert names == told | {"RESTANTE_ADMIN_PORT"} | others
    assert len(names) == 7 + 8


@pytest.mark.parametrize("kind", PROXIES)
def test_without_an_authority_no_certificate_is_asked_for(kind, ways, tmp_path):
    shown = ways.authority.for_client("dns:nobody.example", file="nobody")
    behind = Behind(address_of(ways.plain.url), address_of(ways.plain.admin_url))
    issued = ways.authority.for_server("127.0.0.1")
    proxy = kind(tmp_path / kind.name, [behind], issued)
    lies = {"client-cert": f":{base64.b64encode(shown.der).decode()}:"}
    with proxy.running(), httpx.Client(verify=ways.context(shown), base_url=proxy.url) as client:
        assert client.get("/openapi.yaml").status_code == 200
        # nginx and HAProxy take the header away all the same.
        assert "Bearer" in client.get("/v1/queues", headers=lies).json()["detail"]


def test_haproxy_sends_nobody_to_a_server_that_is_not_ready(ways, tmp_path):
    behind = Behind(address_of(ways.plain.url), admin=f"127.0.0.1:{free_port()}")
    proxy = HAProxy(tmp_path / "haproxy", [behind], ways.authority.for_server("127.0.0.1"))
    with proxy.running(), httpx.Client(verify=ways.context(), base_url=proxy.url) as client:
        while (status := client.get("/openapi.yaml").status_code) == 200:
            pass
        assert status == 503
