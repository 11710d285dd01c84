"""To the provider and back, in the visitor's browser.

What the browser has to bring back stands in a cookie of its own, sealed: nothing is kept here meanwhile. That cookie is
``SameSite=Lax``, since who comes back comes from the provider's site; it opens nothing. The visit's own is ``Strict``,
and would not be sent along by a browser that is led on from another site: so the way back ends on a page of this site
which goes on by itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import urllib.parse
from typing import Final

import msgspec

from restante.desk.openid.provider import Provider
from restante.desk.origins import is_private, local_path
from restante.desk.site import Desk, to
from restante.desk.visitors import TRANSPORT
from restante.engine.acts import What
from restante.errors import Forbidden, OpenIdFailed, RestanteError
from restante.http.answers import Answer, Header
from restante.http.api import Routes
from restante.http.authentication import remote_of
from restante.http.request import Request
from restante.logs import get_logger
from restante.model import Actor, Role
from restante.openid import RETURN_PATH, name_of
from restante.wire import visits

COOKIE: Final = "__Host-restante-openid"
AWAY_SECONDS: Final = 600
"""How long signing in there may take."""
SCOPES: Final = "openid profile email groups"
_BYTES: Final = 32
_log = get_logger(__name__)


class Way(msgspec.Struct, frozen=True):
    """What the browser brings back. ``until`` is in seconds since 1970."""

    state: str
    nonce: str
    verifier: str
    there: str
    until: int


def add_routes(routes: Routes, desk: Desk, provider: Provider) -> None:
    """Attach the way there and the way back."""
    flow = Flow(desk, provider)
    routes.add("GET", "/sign-in/openid", flow.lead_there, None)
    routes.add("GET", RETURN_PATH, flow.come_back, None)


class Flow:
    """The authorization code flow with PKCE (RFC 7636), state and nonce."""

    def __init__(self, desk: Desk, provider: Provider) -> None:
        self._desk = desk
        self._provider = provider
        self._secret = hashlib.blake2b(
            b"openid", digest_size=32, key=desk.broker.store.token_secret, person=b"restante desk"
        ).digest()

    async def lead_there(self, request: Request) -> Answer:
        try:
            if not is_private(request):
                raise Forbidden("this connection is not private")
            metadata = await self._provider.metadata()
        except RestanteError as error:
            return self._failed(request, error)
        way = Way(
            state=secrets.token_urlsafe(_BYTES),
            nonce=secrets.token_urlsafe(_BYTES),
            verifier=secrets.token_urlsafe(_BYTES),
            there=local_path(request.query.get("next", "/")),
            until=self._now() + AWAY_SECONDS,
        )
        openid = self._provider.openid
        challenge = hashlib.sha256(way.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": openid.client_id,
            "redirect_uri": openid.redirect_uri,
            "scope": SCOPES,
            "state": way.state,
            "nonce": way.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        place = metadata.authorization_endpoint
        joint = "&" if "?" in place else "?"
        return to(f"{place}{joint}{urllib.parse.urlencode(asked)}", self._cookie(way))

    async def come_back(self, request: Request) -> Answer:
        try:
            way = self._way_of(request)
            visit = await self._visit(request, way)
        except RestanteError as error:
            _log.warning(
                "operator.not_signed_in",
                by="openid",
                address=remote_of(request),
                reason=error.detail,
            )
            return self._failed(request, error)
        answer = self._desk.render(request, "again.html", there=way.there)
        answer.headers = (*answer.headers, self._desk.visitors.cookie(visit), self._cookie(None))
        return answer

    async def _visit(self, request: Request, way: Way) -> visits.Visit:
        query = request.query
        issuer = self._provider.openid.issuer
        metadata = await self._provider.metadata()
        # Another provider's answer is not taken for this one's (RFC 9207).
        named = query.get("iss")
        if (named or issuer) != issuer or (
            metadata.authorization_response_iss_parameter_supported and named is None
        ):
            raise OpenIdFailed("that is the answer of another provider")
        if "error" in query:
            raise Forbidden(f"the provider did not let you in: {query['error'][:100]}")
        claims = await self._provider.claims(query.get("code", ""), way.verifier, way.nonce)
        level = self._provider.openid.level(claims)
        name = name_of(claims)
        if level is None:
            raise Forbidden(f"{name} has no role here")
        visit = self._desk.visitors.by_provider(name, level)
        remote = remote_of(request)
        who = Actor(name, Role.ADMIN, "", TRANSPORT, remote)
        await self._desk.broker.acts.record(
            who, What.OPERATOR_SIGNED_IN, subject=name, details={"by": issuer, "role": level.value}
        )
        _log.info("operator.signed_in", operator=name, by="openid", address=remote)
        return visit

    def _failed(self, request: Request, error: RestanteError) -> Answer:
        answer = self._desk.render(
            request, "openid_failed.html", error.status, title=error.title, detail=error.detail
        )
        answer.headers = (*answer.headers, self._cookie(None))
        return answer

    # -- what the browser brings back -----------------------------------------------------------

    def _cookie(self, way: Way | None) -> Header:
        value, life = "", 0
        if way is not None:
            told = msgspec.json.encode(way)
            value = base64.urlsafe_b64encode(self._mac(told) + told).rstrip(b"=").decode()
            life = AWAY_SECONDS
        cookie = f"{COOKIE}={value}; Path=/; Max-Age={life}; Secure; HttpOnly; SameSite=Lax"
        return b"set-cookie", cookie.encode()

    def _way_of(self, request: Request) -> Way:
        value = visits.cookie_of(request.header(b"cookie") or "", COOKIE) or ""
        try:
            data = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
            mac, told = data[:_BYTES], data[_BYTES:]
            if not hmac.compare_digest(mac, self._mac(told)):
                raise ValueError
            way = msgspec.json.decode(told, type=Way)
        except ValueError as error:
            raise OpenIdFailed("signing in was not begun in this browser: begin anew") from error
        if self._now() >= way.until:
            raise OpenIdFailed("signing in has taken too long: begin anew")
        if not hmac.compare_digest(way.state.encode(), request.query.get("state", "").encode()):
            raise OpenIdFailed("that is the answer to another sign-in: begin anew")
        return way

    def _mac(self, told: bytes) -> bytes:
        return hashlib.blake2b(told, digest_size=_BYTES, key=self._secret).digest()

    def _now(self) -> int:
        return self._desk.broker.clock.wall_ms() // 1_000
