"""What is believed of whom: addresses, schemes and certificates that a proxy tells of, or that anybody made up."""

from __future__ import annotations

import base64
import ssl
import urllib.parse

import pytest
from tests.certificates import Authority

from restante.http.proxies import HOPS, TrustedProxies, certificate_of

PROXIES = TrustedProxies(["10.0.0.0/8", "127.0.0.1", "2001:db8::/32"])


def scope_of(peer, headers=(), **more):
    scope = {
        "type": "http",
        "scheme": "http",
        "client": (peer, 50_000),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "extensions": {},
    }
    return scope | more


def unwrapped(peer, *headers, **more):
    scope = scope_of(peer, headers, **more)
    PROXIES.unwrap(scope)
    return scope


@pytest.fixture(scope="module")
def issued(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca")).for_client("dns:backend.acme.example")


def rfc_9440(issued):
    return f":{base64.b64encode(issued.der).decode()}:"


# -- who is believed ----------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["192.0.2.1", "11.0.0.1", "2001:db9::1", "::ffff:192.0.2.1", "x"])
def test_from_a_stranger_the_headers_mean_nothing(peer, issued):
    headers = [
        ("x-forwarded-for", "198.51.100.7"),
        ("x-forwarded-proto", "https"),
        ("client-cert", rfc_9440(issued)),
    ]
    scope = unwrapped(peer, *headers)
    assert scope == scope_of(peer, headers)


@pytest.mark.parametrize("peer", ["10.1.2.3", "127.0.0.1", "2001:db8::5", "::ffff:10.1.2.3"])
def test_from_a_trusted_proxy_they_are_the_clients(peer, issued):
    scope = unwrapped(
        peer,
        ("x-forwarded-for", "198.51.100.7"),
        ("x-forwarded-proto", "https"),
        ("client-cert", rfc_9440(issued)),
    )
    assert scope["client"] == ("198.51.100.7", 0)
    assert scope["scheme"] == "https"
    assert scope["extensions"]["tls"]["client_cert_chain"] == [issued.pem]


def test_without_a_peer_nothing_is_believed(issued):
    scope = scope_of("x", [("client-cert", rfc_9440(issued))], client=None)
    PROXIES.unwrap(scope)
    assert scope["extensions"] == {}


# -- the address --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([], "10.0.0.1"),
        ([""], "10.0.0.1"),
        (["198.51.100.7"], "198.51.100.7"),
        # What the client itself has sent stands in front.
        (["127.0.0.1, 203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        (["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        # Through two proxies.
        (["203.0.113.9, 198.51.100.7, 10.9.9.9"], "198.51.100.7"),
        (["198.51.100.7,10.9.9.9,  2001:db8::7"], "198.51.100.7"),
        # Only proxies: the first of them is the client.
        (["10.0.0.7, 10.0.0.8"], "10.0.0.7"),
        # Nothing behind what is no address is believed.
        (["198.51.100.7, unknown"], "10.0.0.1"),
        (["198.51.100.7, unknown, 10.0.0.8"], "10.0.0.8"),
        (["198.51.100.7:4711"], "198.51.100.7"),
        (["[2001:db9::1]:4711"], "2001:db9::1"),
        (["2001:DB9::1"], "2001:db9::1"),
        (["198.51.100.7, 10.0.0.8, 10.0.0.9;drop"], "10.0.0.1"),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(lines, client):
    assert PROXIES.client_of("10.0.0.1", lines) == client


def test_a_list_without_end_is_not_read_to_its_end():
    assert PROXIES.client_of("10.0.0.1", ["192.0.2.1," + "10.0.0.2," * HOPS + "10.0.0.3"]) == (
        "10.0.0.2"
    )


def test_a_proxys_own_request_keeps_its_port():
    assert unwrapped("10.0.0.1")["client"] == ("10.0.0.1", 50_000)


# -- the scheme ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "lines", "scheme"),
    [
        ("http", ["https"], "https"),
        ("http", ["HTTPS"], "https"),
        ("http", ["http"], "http"),
        ("websocket", ["https"], "wss"),
        ("websocket", ["http"], "ws"),
        # The nearest proxy's word is the last.
        ("http", ["https, http"], "http"),
        ("http", ["http", "https"], "https"),
        ("http", ["gopher"], "as it was"),
        ("http", [], "as it was"),
    ],
)
def test_the_scheme(kind, lines, scheme):
    headers = [("x-forwarded-proto", line) for line in lines]
    assert unwrapped("10.0.0.1", *headers, type=kind, scheme="as it was")["scheme"] == scheme


# -- the certificate ----------------------------------------------------------------------------


def test_a_certificate_may_come_as_nginx_writes_it(issued):
    escaped = urllib.parse.quote(issued.pem, safe="")
    assert certificate_of([escaped]) == issued.pem


def test_a_certificate_may_come_as_the_rfc_has_it(issued):
    assert certificate_of([rfc_9440(issued)]) == issued.pem
    assert certificate_of([f" {rfc_9440(issued)} "]) == issued.pem


@pytest.mark.parametrize(
    "value",
    ["", "::", ":", ":*:", ":YQ=", "YQ==", ":Y Q=:", "-----BEGIN", "(null)", "%2D", "none"],
)
def test_any_other_value_is_no_certificate(value):
    assert certificate_of([value]) is None


def test_of_two_lines_none_counts(issued):
    """The proxy should have taken the client's away, and has not."""
    assert certificate_of([rfc_9440(issued), rfc_9440(issued)]) is None


def test_the_proxys_own_certificate_is_not_its_clients(issued):
    own = {"tls": {"client_cert_chain": [issued.pem], "tls_version": "TLSv1.3"}}
    scope = unwrapped("10.0.0.1", extensions=own)
    assert scope["extensions"]["tls"] == {"client_cert_chain": [], "tls_version": "TLSv1.3"}
    # What the connection has is not changed: the next request on it is looked at anew.
    assert own["tls"]["client_cert_chain"] == [issued.pem]


def test_a_client_that_connects_by_itself_keeps_its_certificate(issued):
    own = {"tls": {"client_cert_chain": [issued.pem]}}
    assert unwrapped("192.0.2.1", extensions=own)["extensions"] == own


def test_der_is_what_it_was(issued):
    assert ssl.PEM_cert_to_DER_cert(certificate_of([rfc_9440(issued)]) or "") == issued.der
