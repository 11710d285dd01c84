"""Signing in by OpenID Connect: with a provider that is well, and with all that can be wrong about one."""

import asyncio
import base64
import contextlib
import functools
import hashlib
import hmac
import json
import urllib.parse

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from tests.unit.desk.house import Site
from tests.unit.desk.test_pages import HOSTILE, Markup
from tests.unit.engine.house import acts

from restante.desk.openid import provider as providers
from restante.desk.openid.flow import AWAY_SECONDS
from restante.desk.openid.provider import AGAIN_SECONDS, KEEP_SECONDS, Provider
from restante.errors import OpenIdFailed
from restante.openid import OpenId

ISSUER = "https://login.test"
OPENID = OpenId(
    issuer=ISSUER,
    client_id="desk/1",
    client_secret="s e:cret",
    page_url="https://desk.test/",
    viewer=("staff",),
    operator=("post",),
    admin=("root",),
)


@functools.cache
def first_key():
    """Made once: it takes a tenth of a second."""
    return RSAKey.generate_key(2_048, {"kid": "one", "use": "sig"})


class Fake:
    """A provider; the test bends what it says."""

    def __init__(self, clock):
        self.clock = clock
        self.key = first_key()
        self.keys = [self.key]
        self.claims = {"sub": "u-1", "preferred_username": "ada", "groups": ["staff", "post"]}
        self.metadata = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/auth?tenant=1",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/keys",
        }
        self.userinfo = {}
        self.header = {"alg": "RS256", "kid": "one"}
        self.signing_key = self.key
        self.nonce = ""
        self.status = 200
        self.asked = []
        self.form = {}
        self.token = None

    async def __call__(self, url, headers, form=None):
        self.asked.append(url.removeprefix(ISSUER))
        match url.removeprefix(ISSUER):
            case "/.well-known/openid-configuration":
                told: object = self.metadata
            case "/keys":
                told = {"keys": [key.as_dict(private=False) for key in self.keys]}
            case "/token":
                self.form = form | {"authorization": headers["authorization"]}
                told = {"id_token": self.token or self.signed(), "access_token": "at"}
            case "/userinfo":
                assert headers["authorization"] == "Bearer at"
                told = self.userinfo
            case other:
                raise AssertionError(other)
        return self.status, json.dumps(told).encode()

    def signed(self):
        now = self.clock.wall_ms() // 1_000
        standard = {
            "iss": ISSUER,
            "aud": "desk/1",
            "iat": now,
            "exp": now + 300,
            "nonce": self.nonce,
        }
        claims = {name: one for name, one in (standard | self.claims).items() if one is not None}
        return jwt.encode(self.header, claims, self.signing_key, algorithms=[self.header["alg"]])


@pytest.fixture
def fake(clock):
    return Fake(clock)


@pytest.fixture
def provider(fake, clock):
    return Provider(OPENID, clock, fake)


@pytest.fixture
def site(broker, provider):
    return Site(broker, provider)


class Tour:
    """A browser on its way to the provider and back."""

    def __init__(self, site, fake):
        self.browser = site.browser()
        self.fake = fake
        self.asked = {}

    async def begin(self, there="/queues/acme"):
        answer = await self.browser.get("/sign-in/openid", params={"next": there})
        assert answer.status_code == 303, answer.text
        place, _, query = answer.headers["location"].partition("&")
        assert place == f"{ISSUER}/auth?tenant=1"
        self.asked = dict(urllib.parse.parse_qsl(query))
        self.fake.nonce = self.asked["nonce"]
        return answer

    async def back(self, **query):
        query = {"code": "c-1", "state": self.asked.get("state", ""), **query}
        return await self.browser.see("/sign-in/openid/return", params=query)


@pytest.fixture
def tour(site, fake):
    return Tour(site, fake)


async def test_one_is_led_there_and_back(site, broker, fake, tour):
    page = (await tour.browser.see("/sign-in?next=/audit")).text
    assert 'href="/sign-in/openid?next=%2Faudit"' in page
    assert "Sign in with login.test" in page
    begun = await tour.begin()
    cookie = begun.headers["set-cookie"]
    assert cookie.startswith("__Host-restante-openid=")
    assert cookie.endswith("Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Lax")
    assert tour.asked["redirect_uri"] == "https://desk.test/sign-in/openid/return"
    answer = await tour.back()
    # Not led on, but a page of this site that goes on: the visit's cookie is for this site's own requests alone.
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0; url=/queues/acme">' in answer.text
    assert "Max-Age=0" in answer.headers.get_list("set-cookie")[1]
    challenge = hashlib.sha256(fake.form["code_verifier"].encode()).digest()
    assert base64.urlsafe_b64encode(challenge).rstrip(b"=").decode() == tour.asked["code_challenge"]
    assert fake.form["code"] == "c-1"
    pair = base64.b64decode(fake.form["authorization"].removeprefix("Basic ")).decode()
    assert pair == "desk%2F1:s+e%3Acret"
    page = (await tour.browser.see("/")).text
    assert "<strong>openid:ada</strong> operator" in page
    assert (await tour.browser.see("/queues/acme/settings")).status_code == 200
    (act,) = await acts(broker, what="operator.signed_in")
    assert (act.who.name, act.details) == ("openid:ada", {"by": ISSUER, "role": "operator"})
    answer = await tour.browser.send_form("/sign-out")
    assert (await tour.browser.see("/")).status_code == 303


@pytest.mark.parametrize(
    ("groups", "level"),
    [
        (["staff"], "viewer"),
        ("post", "operator"),
        (["root", "staff"], "admin"),
        (["strangers"], None),
        ([], None),
        (None, None),
        ({"root": True}, None),
        ([["root"]], None),
    ],
)
async def test_the_role_is_that_of_the_claim(fake, tour, groups, level):
    fake.claims["groups"] = groups
    await tour.begin()
    answer = await tour.back()
    if level is None:
        assert answer.status_code == 403
        assert "has no role here" in answer.text
        assert (await tour.browser.see("/")).status_code == 303
    else:
        assert f"</strong> {level}" in (await tour.browser.see("/")).text


async def test_groups_may_be_told_elsewhere(fake, tour):
    del fake.claims["groups"]
    fake.metadata["userinfo_endpoint"] = f"{ISSUER}/userinfo"
    fake.userinfo = {"sub": "u-1", "groups": ["root"]}
    await tour.begin()
    await tour.back()
    assert "</strong> admin" in (await tour.browser.see("/")).text
    fake.userinfo = {"sub": "u-2", "groups": ["root"]}
    await tour.begin()
    assert "tells of somebody else" in (await tour.back()).text


def foreign(fake):
    fake.signing_key = RSAKey.generate_key(2_048)


def written(header, claims):
    """The part of a token that is signed."""
    parts = (base64.urlsafe_b64encode(json.dumps(one).encode()) for one in (header, claims))
    return b".".join(part.rstrip(b"=") for part in parts)


def claims_of(fake):
    return jwt.decode(fake.signed(), fake.key).claims


def unsigned(fake):
    fake.token = f"{written({'alg': 'none'}, claims_of(fake)).decode()}."


def confused(fake):
    """Signed with the public key, as if it were a shared secret."""
    told = written({"alg": "HS256", "kid": "one"}, claims_of(fake))
    mac = hmac.digest(fake.key.as_pem(private=False), told, "sha256")
    fake.token = f"{told.decode()}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    "bend",
    [
        foreign,
        unsigned,
        confused,
        lambda fake: fake.claims.update(iss="https://evil.test"),
        lambda fake: fake.claims.update(aud="another"),
        lambda fake: fake.claims.update(aud=["desk/1", "another"]),
        lambda fake: fake.claims.update(azp="another"),
        lambda fake: fake.claims.update(nonce="another"),
        lambda fake: fake.claims.update(nonce=None),
        lambda fake: fake.claims.update(nonce=[fake.nonce]),
        lambda fake: fake.claims.update(sub=["u-1"]),
        lambda fake: fake.claims.update(exp=1_700_000_000),
        lambda fake: fake.claims.update(exp=None),
        lambda fake: fake.claims.update(iat=None),
        lambda fake: fake.claims.update(sub=None),
        lambda fake: setattr(fake, "token", "no.token.at.all"),
        lambda fake: setattr(fake, "token", 7),
        lambda fake: setattr(fake, "status", 500),
        lambda fake: setattr(fake, "keys", []),
    ],
)
async def test_what_does_not_hold_lets_nobody_in(site, broker, fake, tour, bend):
    await tour.begin()
    bend(fake)
    answer = await tour.back()
    assert answer.status_code == 403
    assert "/sign-in" in answer.text
    assert "__Host-restante=" not in str(answer.headers)
    assert (await tour.browser.see("/")).status_code == 303
    assert await acts(broker, what="operator") == []


async def test_other_keys_that_are_known(fake, tour):
    fake.signing_key = ECKey.generate_key("P-256", {"kid": "two"})
    fake.keys = [fake.key, fake.signing_key]
    fake.header = {"alg": "ES256", "kid": "two"}
    await tour.begin()
    assert (await tour.back()).status_code == 200


async def test_a_key_that_is_new_is_asked_for_but_not_for_ever(fake, tour, clock):
    await tour.begin()
    await tour.back()
    fake.signing_key = RSAKey.generate_key(2_048, {"kid": "new"})
    fake.header = {"alg": "RS256", "kid": "new"}
    fake.keys = [fake.key, fake.signing_key]
    await tour.begin()
    assert (await tour.back()).status_code == 403, "asked for a moment ago"
    clock.advance(AGAIN_SECONDS)
    await tour.begin()
    assert (await tour.back()).status_code == 200
    assert fake.asked.count("/keys") == 2
    clock.advance(KEEP_SECONDS)
    await tour.begin()
    assert fake.asked.count("/.well-known/openid-configuration") == 2


@pytest.mark.parametrize(
    "query",
    [
        {"state": "another"},
        {"state": ""},
        {"iss": "https://evil.test"},
        {"error": "access_denied", "error_description": HOSTILE},
        {"error": HOSTILE},
    ],
)
async def test_answers_that_are_not_taken(fake, tour, query):
    await tour.begin()
    answer = await tour.back(**query)
    assert answer.status_code == 403
    assert Markup(answer.text).handlers == set()
    assert "/token" not in fake.asked


async def test_a_provider_that_names_itself_has_to(fake, tour):
    fake.metadata["authorization_response_iss_parameter_supported"] = True
    await tour.begin()
    assert (await tour.back()).status_code == 403
    await tour.begin()
    assert (await tour.back(iss=ISSUER)).status_code == 200


async def test_begun_elsewhere_twice_or_too_long_ago(site, fake, tour, clock):
    other = Tour(site, fake)
    await tour.begin()
    other.asked = tour.asked
    assert "not begun in this browser" in (await other.back()).text
    assert (await tour.back()).status_code == 200
    assert "not begun in this browser" in (await tour.back()).text
    await tour.begin()
    clock.advance(AWAY_SECONDS)
    assert "taken too long" in (await tour.back()).text


@pytest.mark.parametrize(
    "there", ["//evil.test", "https://evil.test", "/\\evil.test", "javascript:1"]
)
async def test_nobody_is_led_elsewhere(tour, there):
    await tour.begin(there)
    assert 'content="0; url=/"' in (await tour.back()).text


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "https://evil.test"},
        {"token_endpoint": "http://login.test/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"userinfo_endpoint": "http://login.test/userinfo"},
        {"token_endpoint": None},
    ],
)
async def test_a_provider_that_cannot_be_trusted(site, fake, told):
    fake.metadata.update(told)
    answer = await site.browser().get("/sign-in/openid")
    assert answer.status_code == 403
    assert "/sign-in" in answer.text


async def test_a_visit_ends_when_something_else_is_agreed(broker, fake, tour, clock):
    await tour.begin()
    await tour.back()
    for openid in (msgspec.structs.replace(OPENID, operator=()), None):
        other = Site(broker, None if openid is None else Provider(openid, clock, fake))
        browser = other.browser()
        browser.cookies = tour.browser.cookies
        assert (await browser.see("/")).status_code == 303


async def test_without_a_provider_there_is_no_such_way(broker):
    browser = Site(broker).browser()
    assert "openid" not in (await browser.see("/sign-in")).text
    assert (await browser.get("/sign-in/openid")).status_code == 404


async def test_a_plain_connection_is_not_enough(site):
    browser = site.browser(scheme="http", address="203.0.113.7")
    del browser.headers["sec-fetch-site"]
    answer = await browser.get("/sign-in/openid")
    assert (answer.status_code, "not private" in answer.text) == (403, True)


async def test_what_is_asked_of_a_provider_is_bounded(unused_tcp_port):
    """No redirect is followed, and an answer without an end is not read to it."""

    left = asyncio.Event()

    async def answer(reader, writer):
        line = await reader.readline()
        if b"/moved" in line:
            writer.write(b"HTTP/1.1 302 Found\r\nlocation: /endless\r\ncontent-length: 0\r\n\r\n")
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
        writer.transport.abort()
        left.set()

    async with await asyncio.start_server(answer, "127.0.0.1", unused_tcp_port):
        url = f"http://127.0.0.1:{unused_tcp_port}"
        assert await providers.fetch(f"{url}/moved", {}) == (302, b"")
        with pytest.raises(OpenIdFailed, match="more than is read"):
            await providers.fetch(f"{url}/endless", {})
        await left.wait()


async def test_a_provider_that_is_away(unused_tcp_port_factory):
    url = f"http://127.0.0.1:{unused_tcp_port_factory()}/"
    with pytest.raises(OpenIdFailed, match="cannot be reached"):
        await providers.fetch(url, {})
