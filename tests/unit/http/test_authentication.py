"""Who somebody is: by key, by cookie, by certificate, and which of them counts."""

from __future__ import annotations

import time

import pytest
from cryptography import x509
from tests.certificates import DAY, Authority
from tests.unit.engine.house import OPERATOR

from restante.engine.administration import Administration
from restante.engine.broker import Broker
from restante.errors import Unauthenticated
from restante.http import client_certificates
from restante.http.authentication import Authenticator
from restante.http.head import Head
from restante.http.socket import Socket
from restante.model import Role
from restante.stores.memory import MemoryStore
from restante.testing.clock import FakeClock
from restante.wire import cookies

ADMIN_KEY = "the-key-of-the-environment"


@pytest.fixture
async def house():
    # Certificates are made to be valid today.
    clock = FakeClock(int(time.time() * 1_000))
    async with MemoryStore(clock) as store, Broker(store, clock) as broker:
        yield House(broker, clock)


class House:
    def __init__(self, broker, clock):
        self.broker = broker
        self.clock = clock
        self.administration = Administration(broker, OPERATOR)
        self.authenticator = Authenticator(broker, ADMIN_KEY)

    async def certificate(self, name, san, *, role=Role.PUBLISHER, seconds=None):
        return await self.administration.add_certificate(role, name, san, seconds, "")

    async def who(self, shown=None, *, by_cookie=False, client=("192.0.2.1", 4711), **headers):
        head = Head(scope_of(shown, client, headers))
        return await self.authenticator.authenticate(head, "http", by_cookie=by_cookie)

    async def refused(self, shown=None, **more):
        with pytest.raises(Unauthenticated) as told:
            await self.who(shown, **more)
        return told.value.detail


def scope_of(shown, client, headers):
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    tls = {"client_cert_chain": [] if shown is None else [shown.pem]}
    return {"path": "/", "headers": named, "client": client, "extensions": {"tls": tls}}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


# -- certificates -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "san"),
    [
        ("dns:back.acme.example", "dns:Back.ACME.example"),
        ("uri:spiffe://acme/back", "uri:spiffe://acme/back"),
        ("email:ops@acme.example", "email:ops@ACME.example"),
    ],
)
async def test_a_certificate_stands_for_who_has_its_name(house, authority, kept, san):
    made = await house.certificate("acme-shop", kept)
    actor = await house.who(authority.for_client(san))
    assert (actor.name, actor.role, actor.key_id) == ("acme-shop", Role.PUBLISHER, made.id)
    assert actor.remote_address == "192.0.2.1:4711"


async def test_a_certificate_of_nobodys_name_is_nobody(house, authority):
    await house.certificate("acme", "dns:back.acme.example")
    for shown in (
        authority.for_client("dns:front.acme.example"),
        authority.for_client("dns:sub.back.acme.example"),
        authority.for_client("dns:*.acme.example"),
        authority.for_client("uri:dns:back.acme.example"),
        authority.for_client(common_name="back.acme.example"),
    ):
        assert "certificate" in await house.refused(shown)


async def test_the_first_name_that_somebody_has_counts(house, authority):
    await house.certificate("second", "dns:b.example")
    await house.certificate("third", "dns:c.example")
    shown = authority.for_client("dns:*.example", "dns:a.example", "dns:b.example", "dns:c.example")
    assert (await house.who(shown)).name == "second"
    made = await house.certificate("first", "dns:a.example")
    assert (await house.who(shown)).name == "first"
    await house.administration.revoke_key(made.id)
    assert (await house.who(shown)).name == "second"


async def test_names_without_end_are_not_all_asked_for(house, authority):
    names = [f"dns:n{number}.example" for number in range(100)]
    await house.certificate("last", names[-1])
    await house.certificate("within", names[client_certificates.NAMES - 1])
    assert (await house.who(authority.for_client(*names))).name == "within"
    assert "nobody" in await house.refused(
        authority.for_client(*names[client_certificates.NAMES :])
    )


async def test_it_ends_with_its_credential_and_with_its_own_time(house, authority):
    await house.certificate("acme", "dns:a.example", seconds=60)
    shown = authority.for_client("dns:a.example")
    old = authority.for_client("dns:a.example", file="old", valid=(-2 * DAY, -DAY))
    assert (await house.who(shown)).name == "acme"
    assert await house.refused(old) == "the certificate has expired"
    house.clock.advance(61)
    assert "stands for nobody here (dns:a.example)" in await house.refused(shown)


async def test_what_is_no_certificate_is_nobody(house, tmp_path):
    class Shown:
        pem = "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n"

    assert await house.refused(Shown) == "the certificate cannot be read"
    Shown.pem = "b\u00fccher"
    assert await house.refused(Shown) == "the certificate cannot be read"


async def test_a_page_of_another_site_cannot_use_a_browsers_certificate(house, authority):
    await house.certificate("acme", "dns:a.example")
    shown = authority.for_client("dns:a.example")
    for headers in (
        {"origin": "https://evil.example", "host": "restante.example"},
        {"origin": "null", "host": "restante.example"},
        {"origin": "https://restante.example:8443", "host": "restante.example"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ):
        assert "another site" in await house.refused(shown, **headers)
    for headers in (
        {"origin": "https://restante.example", "host": "restante.example"},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ):
        assert (await house.who(shown, **headers)).name == "acme"


# -- which counts -------------------------------------------------------------------------------


async def test_the_key_wins_over_the_certificate(house, authority):
    await house.certificate("acme", "dns:a.example")
    shown = authority.for_client("dns:a.example")
    _, text = await house.administration.add_key(Role.PUBLISHER, "shop", None, "")
    assert (await house.who(shown, authorization=f"Bearer {text}")).name == "shop"
    assert (await house.who(shown, authorization=f"Bearer {ADMIN_KEY}")).role is Role.ADMIN
    # Not even a wrong one is passed over: who sent it should hear of it.
    assert "not a valid" in await house.refused(shown, authorization="Bearer nonsense")
    assert "Bearer" in await house.refused(shown, authorization="Basic YTpi")
    scope = scope_of(shown, None, {}) | {"subprotocols": ["restante.v1", f"restante.key.{text}"]}
    socket = Socket(scope, None, None)  # type: ignore[arg-type]
    assert (await house.authenticator.authenticate(socket, "websocket")).name == "shop"


async def test_a_cookie_stands_for_its_key_where_cookies_do(house, authority):
    await house.certificate("acme", "dns:a.example")
    shown = authority.for_client("dns:a.example")
    key, _ = await house.administration.add_key(Role.PUBLISHER, "shop", None, "")
    ends = house.clock.wall_ms() // 1_000 + 60
    cookie = f"{cookies.NAME}={cookies.seal(house.broker.store.token_secret, key.id, ends)}"
    assert (await house.who(shown, cookie=cookie, by_cookie=True)).name == "shop"
    assert (await house.who(shown, cookie=cookie)).name == "acme"
    assert (await house.who(shown, by_cookie=True)).name == "acme"


async def test_without_anything_nobody_is_let_in(house):
    assert await house.refused() == "send Authorization: Bearer <key>"


async def test_the_id_of_a_certificate_is_no_key(house):
    made = await house.certificate("acme", "dns:a.example")
    for text in (f"rst_{made.id}_{'a' * 38}", made.id, "dns:a.example"):
        assert "not a valid" in await house.refused(authorization=f"Bearer {text}")


# -- where from ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "remote"),
    [
        (("192.0.2.1", 4711), "192.0.2.1:4711"),
        (("2001:db8::1", 4711), "[2001:db8::1]:4711"),
        # Behind a proxy, which does not tell the port.
        (("192.0.2.1", 0), "192.0.2.1"),
        (None, ""),
    ],
)
async def test_addresses_stand_in_receipts_as_they_are_read(house, client, remote):
    actor = await house.who(client=client, authorization=f"Bearer {ADMIN_KEY}")
    assert actor.remote_address == remote


async def test_who_was_let_in_by_a_certificate_is_so_until_it_ends(house, authority):
    shown = authority.for_client("dns:until.example", file="until")
    key = await house.certificate("acme", "dns:until.example")
    actor = await house.who(shown)
    last_second = x509.load_pem_x509_certificate(shown.pem.encode()).not_valid_after_utc
    assert actor.until_ms == int(last_second.timestamp()) * 1_000 + 999
    again = await house.authenticator.confirm(actor, "192.0.2.2:1")
    assert (again.until_ms, again.remote_address) == (actor.until_ms, "192.0.2.2:1")
    house.clock.advance((actor.until_ms - house.clock.wall_ms()) / 1_000)
    await house.authenticator.confirm(actor, "")
    house.clock.advance(0.001)
    with pytest.raises(Unauthenticated, match="the certificate has expired"):
        await house.authenticator.confirm(actor, "")
    assert key.expires_at_ms is None


async def test_names_of_kinds_that_cannot_be_read_are_nobody(house, authority, monkeypatch):
    def unknown(*_):
        raise x509.UnsupportedGeneralNameType("x400Address", 3)

    monkeypatch.setattr(x509.Extensions, "get_extension_for_class", unknown)
    with pytest.raises(Unauthenticated):
        client_certificates.read(authority.for_client("dns:odd.example", file="odd").pem)
