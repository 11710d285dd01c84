"""What proxies may do to a request, and must not: to heads, to bodies, and to what it says of who sent it."""

from __future__ import annotations

import base64
import subprocess

import httpx
import pytest
from tests.certificates import Authority
from tests.e2e.conftest import ADMIN_KEY
from tests.e2e.ways import PROXIED, WAYS, opened, secure_socket
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from restante.testing.servers.proxies import address_of


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("ways")) as ways:
        yield ways


@pytest.mark.parametrize("way", WAYS)
def test_large_heads_and_odd_names_pass(way, ways):
    """Attributes are headers: 16 KiB of them, of names that nginx for one drops by default."""
    attributes = {f"restante-attribute-a_b.{n}": "v" * 120 for n in range(120)}
    with ways.caller(way, ADMIN_KEY) as admin:
        admin.post("/v1/clients", json={"name": f"heads-{way}"})
        made = admin.post(
            f"/v1/queues/heads-{way}/notifications", content=b"<a/>", headers=attributes
        )
        assert made.status_code == 201, made.text
        (whole,) = admin.post(f"/v1/queues/heads-{way}/receive").json()["notifications"]
        assert len(whole["attributes"]) == 120
        admin.post(f"/v1/leases/{whole['lease']}/ack")
        named = {f"restante-attribute-{'x' * 40}_{n}": "v" * 90 for n in range(120)}
        assert admin.post(f"/v1/queues/heads-{way}/notifications", headers=named).status_code == 201
        got = admin.post(f"/v1/queues/heads-{way}/next?wait=5")
        assert got.status_code == 200
        assert named.items() <= dict(got.headers).items()
        admin.post(f"/v1/leases/{got.headers['restante-lease']}/ack")
        one_large = {"restante-attribute-large": "v" * 16_000}
        assert (
            admin.post(f"/v1/queues/heads-{way}/notifications", headers=one_large).status_code
            == 201
        )
        large = {f"restante-attribute-{n}": "v" * 4_000 for n in range(9)}
        refused = admin.post(f"/v1/queues/heads-{way}/notifications", headers=large)
        assert refused.status_code in {400, 431}


@pytest.mark.parametrize("way", WAYS)
def test_large_bodies_pass_and_too_large_ones_are_refused_by_restante(way, ways):
    with ways.caller(way, ADMIN_KEY) as admin:
        admin.post("/v1/clients", json={"name": f"bodies-{way}"})
        admin.put(f"/v1/queues/bodies-{way}", json={"max_body_bytes": 16_777_216})
        body = bytes(range(256)) * 65_536
        path = f"/v1/queues/bodies-{way}/notifications"
        assert admin.post(path, content=body).status_code == 201
        got = admin.post(f"/v1/queues/bodies-{way}/next?wait=5")
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


@pytest.mark.parametrize("way", PROXIED)
def test_clients_may_speak_http_2(way, ways):
    with ways.caller(way, ADMIN_KEY) as admin:
        admin.post("/v1/clients", json={"name": f"second-{way}"})
        admin.post(f"/v1/queues/second-{way}/notifications", content=b"<one/>")
        admin.post(f"/v1/queues/second-{way}/notifications", content=b"<two/>")
    command = ["curl", "--http2", "--no-progress-meter", "--no-buffer"]
    command += ["--cacert", str(ways.authority.file), "-H", f"Authorization: Bearer {ADMIN_KEY}"]
    url = f"{ways.url(way)}/v1/queues/second-{way}"
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
        admin.post(f"/v1/queues/{name}/notifications", content=b"<b/>")
        with connect(
            f"wss{ways.url(way).removeprefix('https')}/v1/queues/{name}/socket",
            ssl=ways.context(shown),
            subprotocols=[Subprotocol("restante.v1")],
            proxy=None,
        ) as link:
            link.send('{"type": "credit", "messages": 1}')
            assert "<b/>" in str(link.recv(10))


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
    with secure_socket(address_of(ways.url(way)), ways.authority) as connection:
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
