"""Every transport through nginx and HAProxy, as their files in ``deploy/`` have it, and over TLS without a proxy."""

from __future__ import annotations

import asyncio
import base64
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Final, Self

import grpc
import grpc.aio
import httpx
import pytest
from tests.certificates import Authority, Issued
from tests.e2e.conftest import ADMIN_KEY, Service, bearer
from tests.e2e.echo import STREAM, UNARY, Echo
from tests.e2e.proxies import PROXIES, Behind, HAProxy, Proxy, address_of, free_port

from restante.testing.transports import Target, Want, drivers, transport_cases
from restante.testing.transports.stage import Stage, ack, http_client, one

WAYS: Final = (*(proxy.name for proxy in PROXIES), "native")
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
CONNECTING: Final = [driver for driver in drivers() if Want.CONNECTS in driver.offers]
CASES: Final = [
    (driver, scenario)
    for driver, scenario in transport_cases()
    if driver in CONNECTING and scenario.name.partition("-")[2] in MAIN
]


class Ways:
    """A server behind each proxy, and one that speaks TLS itself; all with certificates of one authority."""

    def __init__(self, authority: Authority, plain: Service, secure: Service) -> None:
        self.authority = authority
        self.plain = plain
        self.secure = secure
        self.proxies: dict[str, Proxy] = {}

    def url(self, way: str) -> str:
        return self.secure.url if way == "native" else self.proxies[way].url

    def target(self, way: str) -> Target:
        return Target(
            url=self.url(way),
            # gRPC comes to a proxy's one port, which tells it from the rest.
            grpc=grpc_of(self.secure) if way == "native" else self.proxies[way].address,
            admin_key=ADMIN_KEY,
            ca_file=str(self.authority.file),
        )

    def caller(
        self, way: str, key: str | None = None, shown: Issued | None = None, *, address: str = ""
    ) -> httpx.Client:
        """Calls that way with a key or a certificate, from an address of this machine's."""
        context = ssl.create_default_context(cafile=self.authority.file)
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        transport = httpx.HTTPTransport(verify=context, local_address=address or None)
        headers = {} if key is None else bearer(key)
        return httpx.Client(
            base_url=self.url(way), transport=transport, headers=headers, timeout=30
        )


def grpc_of(service: Service) -> str:
    """Where the service speaks gRPC; empty where it does not."""
    return str(getattr(service, "grpc", ""))


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    folder = tmp_path_factory.mktemp("ways")
    authority = Authority(folder)
    issued = authority.for_server("127.0.0.1")
    plain = Service(folder / "plain", "--trusted-proxies", "127.0.0.1")
    secure = Service(
        folder / "secure",
        *("--tls-certificate", str(issued.certificate), "--tls-key", str(issued.key)),
        *("--tls-client-authority", str(authority.file)),
        ca_file=authority.file,
    )
    with ExitStack() as stack:
        for service in (plain, secure):
            service.start()
            stack.callback(_end, service)
        ways = Ways(authority, plain, secure)
        behind = Behind(address_of(plain.url), address_of(plain.admin_url), grpc_of(plain))
        for kind in PROXIES:
            proxy = kind(folder / kind.name, behind, issued, authority)
            stack.enter_context(proxy.running())
            ways.proxies[kind.name] = proxy
        yield ways


def _end(service: Service) -> None:
    assert service.end(signal.SIGTERM) == 0, service.log()
    assert "Traceback" not in service.log()


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


# -- what proxies may do to a request -----------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_large_heads_and_odd_names_pass(way, ways):
    """Attributes are headers: 16 KiB of them, of names that nginx for one drops by default."""
    attributes = {f"restante-attribute-a_b.{n}": "v" * 120 for n in range(120)}
    with ways.caller(way, ADMIN_KEY) as admin:
        admin.post("/v1/clients", json={"name": "heads"})
        made = admin.post("/v1/queues/heads/notifications", content=b"<a/>", headers=attributes)
        assert made.status_code == 201, made.text
        whole = admin.post("/v1/queues/heads/receive", json={"lease": 1}).json()
        assert len(whole["notifications"][0]["attributes"]) == 120
        named = {f"restante-attribute-{'x' * 40}_{n}": "v" * 90 for n in range(120)}
        assert admin.post("/v1/queues/heads/notifications", headers=named).status_code == 201
        got = admin.post("/v1/queues/heads/next?wait=5")
        assert got.status_code == 200
        assert named.items() <= dict(got.headers).items()
        large = {f"restante-attribute-{n}": "v" * 4_000 for n in range(9)}
        refused = admin.post("/v1/queues/heads/notifications", headers=large)
        assert refused.status_code in {400, 431}


@pytest.mark.parametrize("way", WAYS)
def test_large_bodies_pass_and_too_large_ones_are_refused_by_restante(way, ways):
    with ways.caller(way, ADMIN_KEY) as admin:
        admin.post("/v1/clients", json={"name": "bodies"})
        admin.put("/v1/queues/bodies", json={"max_body_bytes": 16_777_216})
        body = bytes(range(256)) * 65_536
        path = "/v1/queues/bodies/notifications"
        assert admin.post(path, content=body).status_code == 201
        got = admin.post("/v1/queues/bodies/next?wait=5")
        assert got.content == body
        admin.post(f"/v1/leases/{got.headers['restante-lease']}/ack")
        refused = admin.post(path, content=body + b"x")
        assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("way", WAYS)
def test_an_offer_of_another_protocol_is_passed_over(way, ways):
    """As Java's HTTP client makes it with every first request."""
    offer = {
        "connection": "Upgrade, HTTP2-Settings",
        "upgrade": "h2c",
        "http2-settings": "AAMAAABk",
    }
    with ways.caller(way, ADMIN_KEY) as admin:
        answer = admin.post("/v1/queues/nobodys/receive", json={"wait": 0}, headers=offer)
        assert (answer.status_code, answer.json()["code"]) == (404, "queue_not_found")


@pytest.mark.parametrize("way", [proxy.name for proxy in PROXIES])
def test_clients_may_speak_http_2(way, ways):
    with ways.caller(way, ADMIN_KEY) as admin:
        admin.post("/v1/clients", json={"name": "second"})
        admin.post("/v1/queues/second/notifications", content=b"<one/>")
        admin.post("/v1/queues/second/notifications", content=b"<two/>")
    command = ["curl", "--http2", "--no-progress-meter", "--no-buffer"]
    command += ["--cacert", str(ways.authority.file), "-H", f"Authorization: Bearer {ADMIN_KEY}"]
    url = f"{ways.url(way)}/v1/queues/second"
    polled = subprocess.run(
        [*command, "-w", " over HTTP/%{http_version}", "-X", "POST", f"{url}/next?lease=300"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert polled.stdout == "<one/> over HTTP/2"
    with subprocess.Popen([*command, f"{url}/events"], stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        assert any("<two/>" in line for line in curl.stdout)
        curl.terminate()


# -- who is who ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_clients_certificate_is_told_of(way, ways):
    shown = ways.authority.for_client(f"dns:{way}.acme.example", file=way)
    other = ways.authority.for_client("dns:other.example", file="other")
    with ways.caller(way, ADMIN_KEY) as admin:
        name = f"acme-{way}"
        admin.post("/v1/clients", json={"name": name})
        asked = {"role": "client", "name": name, "certificate_san": f"dns:{way}.acme.example"}
        key_id = admin.post("/v1/keys", json=asked).json()["id"]
        admin.post(f"/v1/queues/{name}/notifications", content=b"<a/>")
        with ways.caller(way, shown=shown, address="127.0.0.3") as client:
            got = client.post(f"/v1/queues/{name}/next?wait=5")
            assert got.status_code == 200, got.text
            client.post(f"/v1/leases/{got.headers['restante-lease']}/ack")
        receipt = admin.get(f"/v1/queues/{name}/receipts?outcome=acked").json()["receipts"][0]
        assert (receipt["principal"], receipt["key_id"]) == (name, key_id)
        assert receipt["remote_address"].partition(":")[0] == "127.0.0.3"
        for nobody in (None, other):
            with ways.caller(way, shown=nobody) as client:
                assert client.get("/v1/queues").status_code == 401


@pytest.mark.parametrize("way", WAYS)
def test_nobody_can_tell_of_a_certificate_or_an_address_himself(way, ways):
    name, san = f"victim-{way}", f"dns:{way}.victim.example"
    victim = ways.authority.for_client(san, file="victim")
    own = ways.authority.for_client("dns:own.example", file="own")
    with ways.caller(way, ADMIN_KEY) as admin:
        admin.post("/v1/clients", json={"name": name})
        asked = {"role": "client", "name": name, "certificate_san": san}
        admin.post("/v1/keys", json=asked)
        lies = {
            "client-cert": f":{base64.b64encode(victim.der).decode()}:",
            "x-forwarded-for": "198.51.100.7",
            "x-forwarded-proto": "http",
        }
        for shown in (None, own):
            with ways.caller(way, shown=shown) as liar:
                assert liar.get("/v1/queues", headers=lies).status_code == 401
                # Nor by a name that looks alike.
                alike = {"Client_Cert": lies["client-cert"], "Client.Cert": lies["client-cert"]}
                assert liar.get("/v1/queues", headers=alike).status_code == 401
        with ways.caller(way, ADMIN_KEY, address="127.0.0.3") as liar:
            liar.post(f"/v1/queues/{name}/notifications", content=b"<a/>", headers=lies)
        receipt = admin.get(f"/v1/queues/{name}/receipts?outcome=published").json()["receipts"][-1]
        assert receipt["remote_address"].partition(":")[0] == "127.0.0.3"
        key = admin.post("/v1/keys", json={"role": "client", "name": name}).json()["key"]
        with ways.caller(way, key) as client:
            assert "; Secure" in client.post("/v1/cookie", headers=lies).headers["set-cookie"]


@pytest.mark.parametrize("way", WAYS)
def test_a_header_with_a_space_behind_its_name_gets_nowhere(way, ways):
    """One program's `Client-Cert ` might be the next one's `Client-Cert` (RFC 9112, section 5.1)."""
    context = ssl.create_default_context(cafile=ways.authority.file)
    host, port = address_of(ways.url(way)).split(":")
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.sendall(b"GET /v1/queues HTTP/1.1\r\nHost: x\r\nClient-Cert : :YQ==:\r\n\r\n")
        assert connection.recv(100).split()[1] == b"400"


@pytest.mark.parametrize("way", WAYS)
def test_a_certificate_of_another_authority_gets_nowhere(way, ways, tmp_path):
    stranger = Authority(tmp_path).for_client("dns:victim.example")
    with ways.caller(way, ADMIN_KEY, shown=stranger) as client:
        try:
            answer = client.get("/v1/queues")
        except httpx.TransportError:
            return
    # nginx lets the handshake pass, and says so then.
    assert (way, answer.status_code) == ("nginx", 400)


# -- gRPC ---------------------------------------------------------------------------------------


class EchoClient:
    """Calls an echo through another proxy of that kind."""

    def __init__(self, ways: Ways, way: str, folder: Path, echo: Echo) -> None:
        behind = Behind(address_of(ways.plain.url), address_of(ways.plain.admin_url), echo.address)
        issued = ways.authority.for_server("127.0.0.1")
        self._proxy = type(ways.proxies[way])(folder / way, behind, issued, ways.authority)
        self._credentials = grpc.ssl_channel_credentials(ways.authority.file.read_bytes())
        self._stack = AsyncExitStack()
        self.url = self._proxy.url

    async def __aenter__(self) -> Self:
        self._stack.enter_context(self._proxy.running())
        self._channel = await self._stack.enter_async_context(
            grpc.aio.secure_channel(self._proxy.address, self._credentials)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def unary(self, message: bytes, metadata: Any) -> bytes:
        call: Any = self._channel.unary_unary(UNARY)
        answer: bytes = await call(message, metadata=metadata)
        return answer

    def stream(self) -> Any:
        call: Any = self._channel.stream_stream(STREAM)
        return call()


@pytest.mark.parametrize("way", [proxy.name for proxy in PROXIES])
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
        context = ssl.create_default_context(cafile=ways.authority.file)
        async with httpx.AsyncClient(verify=context, base_url=client.url) as other:
            for media in ("application/json", "application/grpc-web+proto"):
                answer = await other.post("/v1/nothing", headers={"content-type": media})
                assert answer.json()["code"] == "route_not_found"


# -- the files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("with_authority", [False, True])
def test_the_files_are_found_right(kind, with_authority, tmp_path):
    authority = Authority(tmp_path)
    issued = authority.for_server("127.0.0.1")
    behind = Behind("127.0.0.1:7070", "127.0.0.1:7071", "127.0.0.1:7072")
    proxy = kind(tmp_path / kind.name, behind, issued, authority if with_authority else None)
    told = proxy.check()
    assert "[warn]" not in told
    assert "WARNING" not in told


@pytest.mark.parametrize("kind", PROXIES)
def test_without_an_authority_no_certificate_is_asked_for(kind, ways, tmp_path):
    shown = ways.authority.for_client("dns:nobody.example", file="nobody")
    behind = Behind(address_of(ways.plain.url), address_of(ways.plain.admin_url))
    issued = ways.authority.for_server("127.0.0.1")
    proxy = kind(tmp_path / kind.name, behind, issued)
    context = ssl.create_default_context(cafile=ways.authority.file)
    context.load_cert_chain(shown.certificate, shown.key)
    lies = {"client-cert": f":{base64.b64encode(shown.der).decode()}:"}
    with proxy.running(), httpx.Client(verify=context, base_url=proxy.url) as client:
        assert client.get("/openapi.yaml").status_code == 200
        # nginx and HAProxy take the header away all the same.
        assert "Bearer" in client.get("/v1/queues", headers=lies).json()["detail"]


def test_haproxy_sends_nobody_to_a_server_that_is_not_ready(ways, tmp_path):
    behind = Behind(address_of(ways.plain.url), admin=f"127.0.0.1:{free_port()}")
    proxy = HAProxy(tmp_path / "haproxy", behind, ways.authority.for_server("127.0.0.1"))
    context = ssl.create_default_context(cafile=ways.authority.file)
    with proxy.running(), httpx.Client(verify=context, base_url=proxy.url) as client:
        while (status := client.get("/openapi.yaml").status_code) == 200:
            pass
        assert status == 503
