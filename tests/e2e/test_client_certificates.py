"""A certificate in place of a key: shown to the server itself, or told of by a proxy that is trusted, and no other."""

from __future__ import annotations

import base64
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.certificates import Authority, Issued
from tests.e2e.conftest import Service, bearer
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

PROXY = "127.0.0.2"
"""Another address of this machine, for a proxy that is nobody else."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def acme(authority: Authority) -> Issued:
    return authority.for_client("dns:backend.acme.example", file="acme")


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, acme: Issued
) -> Iterator[Service]:
    """It speaks TLS and takes the word of one proxy, who speaks TLS with it."""
    issued = authority.for_server("127.0.0.1")
    service = Service(
        tmp_path_factory.mktemp("service") / "data",
        *("--tls-certificate", str(issued.certificate), "--tls-key", str(issued.key)),
        *("--tls-client-authority", str(authority.file), "--trusted-proxies", PROXY),
        ca_file=authority.file,
    )
    service.start()
    with service.caller() as admin:
        assert admin.post("/v1/clients", json={"name": "acme"}).status_code == 201
        assert add(admin, "acme", "dns:Backend.ACME.example").status_code == 201
    yield service
    assert service.end(signal.SIGTERM) == 0, service.log()
    assert "Traceback" not in service.log()


def add(admin: httpx.Client, name: str, san: str) -> httpx.Response:
    asked = {"role": "client", "name": name, "certificate_san": san}
    return admin.post("/v1/keys", json=asked)


def context_of(service: Service, shown: Issued | None) -> ssl.SSLContext:
    context = service.trust()
    assert isinstance(context, ssl.SSLContext)
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


def caller(
    service: Service, shown: Issued | None = None, *, address: str = "127.0.0.1"
) -> httpx.Client:
    """Calls without a key, with a certificate perhaps, from an address of this machine's."""
    transport = httpx.HTTPTransport(verify=context_of(service, shown), local_address=address)
    return httpx.Client(base_url=service.url, transport=transport, timeout=30)


def forwarded(shown: Issued) -> dict[str, str]:
    return {"client-cert": f":{base64.b64encode(shown.der).decode()}:"}


def round_trip(service: Service, client: httpx.Client, **headers: str) -> dict[str, Any]:
    """Collect and sign; the receipt of it."""
    with service.caller() as admin:
        admin.post("/v1/queues/acme/notifications", content=b"<a/>")
        got = client.post("/v1/queues/acme/next?wait=5", headers=headers)
        assert got.status_code == 200, got.text
        path = f"/v1/leases/{got.headers['restante-lease']}/ack"
        signed = client.post(path, headers=headers).json()
        receipt: dict[str, Any] = admin.get(f"/v1/receipts/{signed['receipt']}").json()
        return receipt


def test_a_certificate_does_what_a_key_does(service: Service, acme: Issued) -> None:
    with caller(service, acme) as client, service.caller() as admin:
        receipt = round_trip(service, client)
        assert receipt["principal"] == "acme"
        keys = admin.get("/v1/keys").json()["keys"]
        (key,) = (key for key in keys if key["id"] == receipt["key_id"])
        assert key["certificate_san"] == "dns:backend.acme.example"
        assert key["id"].startswith("san-")
        # Its own queues, and nobody else's.
        assert [queue["name"] for queue in client.get("/v1/queues").json()["queues"]] == ["acme"]
        assert client.get("/v1/keys").status_code == 403


def test_no_key_is_shown_for_a_certificate(service: Service) -> None:
    with service.caller() as admin:
        made = add(admin, "acme", "uri:spiffe://acme/backend")
        assert made.status_code == 201
        assert "key" not in made.json()
        again = add(admin, "acme", "uri:spiffe://acme/backend")
        assert (again.status_code, again.json()["code"]) == (409, "already_exists")
        third = add(admin, "acme", "dns:third.example")
        assert (third.status_code, third.json()["code"]) == (409, "too_many_keys")
        assert admin.delete(f"/v1/keys/{made.json()['id']}").status_code == 204


def test_a_key_that_is_sent_is_the_one_that_counts(service: Service, acme: Issued) -> None:
    with service.caller() as admin, caller(service, acme) as client:
        other = admin.post("/v1/clients", json={"name": "other"}).json()
        found = client.get("/v1/queues", headers=bearer(other["key"])).json()["queues"]
        assert [queue["name"] for queue in found] == ["other"]
        assert client.get("/v1/queues", headers=bearer("nonsense")).status_code == 401


def test_who_shows_nothing_or_a_strangers_certificate_is_not_let_in(
    service: Service, tmp_path: Path
) -> None:
    with caller(service) as client:
        assert client.get("/v1/queues").status_code == 401
    stranger = Authority(tmp_path).for_client("dns:backend.acme.example")
    with caller(service, stranger) as client, pytest.raises(httpx.TransportError):
        client.get("/v1/queues")


def test_a_revoked_certificate_ends_its_connections(service: Service, authority: Authority) -> None:
    shown = authority.for_client("dns:leaving.example", file="leaving")
    with service.caller() as admin:
        admin.post("/v1/clients", json={"name": "leaving"})
        id = add(admin, "leaving", "dns:leaving.example").json()["id"]
        with connect(
            f"wss{service.url.removeprefix('https')}/v1/queues/leaving/socket",
            ssl=context_of(service, shown),
            subprotocols=[Subprotocol("restante.v1")],
            proxy=None,
        ) as link:
            link.send('{"type": "credit", "messages": 1}')
            admin.post("/v1/queues/leaving/notifications", content=b"<a/>")
            assert "<a/>" in str(link.recv(10))
            assert admin.delete(f"/v1/keys/{id}").status_code == 204
            assert "revoked" in str(link.recv(5))
            with pytest.raises(ConnectionClosed):
                link.recv(5)
        with caller(service, shown) as client:
            assert client.get("/v1/queues").status_code == 401
        # The name is free for the next who has it.
        assert add(admin, "leaving", "dns:leaving.example").status_code == 201
        with caller(service, shown) as client:
            assert client.get("/v1/queues").status_code == 200


# -- told of by a proxy -------------------------------------------------------------------------


def test_a_trusted_proxys_word_is_taken(service: Service, acme: Issued) -> None:
    with caller(service, address=PROXY) as proxy:
        told = forwarded(acme) | {"x-forwarded-for": "203.0.113.9, 198.51.100.7"}
        receipt = round_trip(service, proxy, **told)
        assert (receipt["principal"], receipt["remote_address"]) == ("acme", "198.51.100.7")
        # Each request is another client's: the connection remembers nothing.
        assert proxy.get("/v1/queues").status_code == 401


def test_nobody_else_can_tell_of_a_certificate_or_an_address(
    service: Service, acme: Issued
) -> None:
    told = forwarded(acme) | {"x-forwarded-for": PROXY}
    with caller(service) as liar:
        answer = liar.get("/v1/queues", headers=told)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    with caller(service, acme) as client:
        receipt = round_trip(service, client, **{"x-forwarded-for": "198.51.100.7"})
        assert str(receipt["remote_address"]).startswith("127.0.0.1:")


def test_a_header_that_the_proxy_let_through_beside_its_own_opens_nothing(
    service: Service, acme: Issued, authority: Authority
) -> None:
    own = authority.for_client("dns:somebody.example", file="somebody")
    with caller(service, address=PROXY) as proxy:
        headers = [*forwarded(acme).items(), *forwarded(own).items()]
        assert proxy.get("/v1/queues", headers=headers).status_code == 401


def test_the_proxys_own_certificate_opens_nothing(service: Service, acme: Issued) -> None:
    """It shows one to Restante, for itself; who comes without one through it is still nobody."""
    with caller(service, acme, address=PROXY) as proxy:
        assert proxy.get("/v1/queues").status_code == 401


def test_the_cookie_is_for_https_only_where_the_proxy_says_so(service: Service) -> None:
    with service.caller() as admin:
        asked = {"role": "client", "name": "acme"}
        key = admin.post("/v1/keys", json=asked).json()
    try:
        for address, scheme, secure in (
            (PROXY, "https", True),
            (PROXY, "http", False),
            ("127.0.0.1", "http", True),
        ):
            with caller(service, address=address) as client:
                headers = bearer(key["key"]) | {"x-forwarded-proto": scheme}
                cookie = client.post("/v1/cookie", headers=headers).headers["set-cookie"]
                assert ("; Secure" in cookie) is secure
    finally:
        with service.caller() as admin:
            admin.delete(f"/v1/keys/{key['id']}")
