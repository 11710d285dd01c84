"""An OpenID provider: where it is asked, by which keys it signs, and whether what it says holds.

Nothing of it is believed that is not signed by its keys for this client and this sign-in (OpenID Connect Core 1.0,
section 3.1.3.7). What it answers is read up to a bound, in bounded time, from addresses that cannot be read on the way.
"""

from __future__ import annotations

import asyncio
import base64
import urllib.parse
from typing import Any, Final, Protocol

import httpx
import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from restante.errors import OpenIdFailed
from restante.openid import OpenId, is_safe
from restante.ports import Clock

TIMEOUT_SECONDS: Final = 10.0
ANSWER_BYTES: Final = 1024 * 1024
LEEWAY_SECONDS: Final = 60
"""How far the two clocks may be apart."""
KEEP_SECONDS: Final = 3_600.0
"""How long what the provider says of itself, and its keys, are good for."""
AGAIN_SECONDS: Final = 30.0
"""Its keys are asked for anew for one that is not known, but not more often than that."""
ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "EdDSA",
)
"""Signatures by a key that only the provider has: neither ``none`` nor those by a shared secret."""
_WELL_KNOWN: Final = "/.well-known/openid-configuration"


class Fetch(Protocol):
    """How the provider is asked."""

    async def __call__(
        self, url: str, headers: dict[str, str], form: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """``(status, body)`` of a GET, or of a POST of a form. Raises ``OpenIdFailed``."""


class Metadata(msgspec.Struct, frozen=True):
    """What it says of itself (OpenID Connect Discovery 1.0, section 3), as far as it is used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    authorization_response_iss_parameter_supported: bool = False


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str
    access_token: str = ""


class Provider:
    """The provider that was agreed with."""

    def __init__(self, openid: OpenId, clock: Clock, fetch: Fetch) -> None:
        self.openid = openid
        self._clock = clock
        self._fetch = fetch
        self._metadata: tuple[float, Metadata] | None = None
        self._keys: tuple[float, KeySet] | None = None

    async def metadata(self) -> Metadata:
        """What it says of itself. Raises ``OpenIdFailed``."""
        now = self._clock.monotonic()
        if self._metadata is None or now >= self._metadata[0] + KEEP_SECONDS:
            told = await self._get(f"{self.openid.issuer.rstrip('/')}{_WELL_KNOWN}", Metadata)
            if told.issuer != self.openid.issuer:
                raise OpenIdFailed("the provider says that it is another")
            endpoints = (told.authorization_endpoint, told.token_endpoint, told.jwks_uri)
            if not all(map(is_safe, endpoints)) or not is_safe(
                told.userinfo_endpoint or endpoints[0]
            ):
                raise OpenIdFailed("the provider names an address that is not safe")
            self._metadata = now, told
        return self._metadata[1]

    async def check(self) -> None:
        """Ask for what it says of itself and for its keys. Raises ``OpenIdFailed``."""
        await self._key_set(await self.metadata())

    async def claims(self, code: str, verifier: str, nonce: str) -> dict[str, Any]:
        """What the provider says of who has signed in there, for the code that it gave. Raises ``OpenIdFailed``."""
        metadata = await self.metadata()
        tokens = await self._exchange(metadata, code, verifier)
        claims = await self._verified(metadata, tokens.id_token, nonce)
        if metadata.userinfo_endpoint and tokens.access_token and self.openid.level(claims) is None:
            # Some providers tell of groups there alone.
            more = await self._get(
                metadata.userinfo_endpoint,
                dict[str, Any],
                {"authorization": f"Bearer {tokens.access_token}"},
            )
            if more.get("sub") != claims["sub"]:
                raise OpenIdFailed("the provider tells of somebody else")
            claims = more | claims
        return claims

    async def _exchange(self, metadata: Metadata, code: str, verifier: str) -> _Tokens:
        openid = self.openid
        headers = {"accept": "application/json"}
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": openid.redirect_uri,
            "code_verifier": verifier,
        }
        if openid.client_secret is None:
            form["client_id"] = openid.client_id
        else:
            # Each is form-encoded before they are joined (RFC 6749, section 2.3.1).
            pair = ":".join(map(urllib.parse.quote_plus, (openid.client_id, openid.client_secret)))
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        status, body = await self._fetch(metadata.token_endpoint, headers, form)
        if status != 200:
            raise OpenIdFailed(f"the provider gave no token: HTTP {status}")
        tokens: _Tokens = _decoded(body, _Tokens)
        return tokens

    async def _verified(self, metadata: Metadata, token: str, nonce: str) -> dict[str, Any]:
        client = self.openid.client_id
        try:
            try:
                decoded = jwt.decode(token, await self._key_set(metadata), algorithms=[*ALGORITHMS])
            except (JoseError, ValueError):
                # It may have been signed by a key that is new.
                keys = await self._key_set(metadata, anew=True)
                decoded = jwt.decode(token, keys, algorithms=[*ALGORITHMS])
            claims = decoded.claims
            jwt.JWTClaimsRegistry(
                now=self._clock.wall_ms() // 1_000,
                leeway=LEEWAY_SECONDS,
                iss={"essential": True, "value": metadata.issuer},
                aud={"essential": True, "value": client},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(claims)
        except (JoseError, ValueError) as error:
            raise OpenIdFailed("what the provider says of you cannot be verified") from error
        # The library takes a list that has the value among others for it.
        if claims["nonce"] != nonce or not isinstance(claims["sub"], str):
            raise OpenIdFailed("what the provider says of you is not about this sign-in")
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else client) != client:
            raise OpenIdFailed("what the provider says of you is meant for another")
        return claims

    async def _key_set(self, metadata: Metadata, *, anew: bool = False) -> KeySet:
        now = self._clock.monotonic()
        good_for = AGAIN_SECONDS if anew else KEEP_SECONDS
        if self._keys is None or now >= self._keys[0] + good_for:
            told = await self._get(metadata.jwks_uri, dict[str, Any])
            try:
                keys = KeySet.import_key_set(told)
            except (JoseError, ValueError, KeyError, TypeError) as error:
                raise OpenIdFailed("the provider's keys cannot be read") from error
            self._keys = now, keys
        return self._keys[1]

    async def _get(self, url: str, kind: Any, headers: dict[str, str] | None = None) -> Any:
        status, body = await self._fetch(url, {"accept": "application/json", **(headers or {})})
        if status != 200:
            raise OpenIdFailed(f"the provider answers with HTTP {status}")
        return _decoded(body, kind)


def _decoded(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise OpenIdFailed("the provider answers with something else than was asked for") from error


async def fetch(
    url: str, headers: dict[str, str], form: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Ask over HTTP, following nothing and keeping nothing. Raises ``OpenIdFailed``."""
    method = "GET" if form is None else "POST"
    try:
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client,
            client.stream(method, url, headers=headers, data=form) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > ANSWER_BYTES:
                    raise OpenIdFailed("the provider answers with more than is read")
            return response.status_code, bytes(body)
    except (TimeoutError, httpx.TimeoutException) as error:
        raise OpenIdFailed(f"the provider did not answer in {TIMEOUT_SECONDS:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OpenIdFailed("the provider cannot be reached") from error
