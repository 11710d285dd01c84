"""OpenID Connect for the operators' page: what is agreed with the provider, and what its claims mean. Pure.

OpenID Connect Core 1.0, with the authorization code flow and PKCE (RFC 7636).
"""

from __future__ import annotations

import hashlib
import ipaddress
import urllib.parse
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from restante.operators import Level

NAME_CHARACTERS: Final = 100
PREFIX: Final = "openid:"
"""Before the names of those who sign in so: no account's name has a colon."""
RETURN_PATH: Final = "/sign-in/openid/return"


class OpenId(msgspec.Struct, frozen=True, kw_only=True):
    """``page_url`` is where browsers find the page. Each of the three tuples has values of ``role_claim``."""

    issuer: str
    client_id: str
    client_secret: str | None
    page_url: str
    role_claim: str = "groups"
    viewer: tuple[str, ...] = ()
    operator: tuple[str, ...] = ()
    admin: tuple[str, ...] = ()

    @property
    def redirect_uri(self) -> str:
        """What has to be registered with the provider."""
        return f"{self.page_url.rstrip('/')}{RETURN_PATH}"

    @property
    def stamp(self) -> str:
        """Another one ends all visits: they were agreed with another provider, or under other rules."""
        agreed = msgspec.json.encode((self.issuer, self.client_id, self.role_claim, *self._roles()))
        return hashlib.sha256(agreed).hexdigest()[:16]

    def level(self, claims: Mapping[str, Any]) -> Level | None:
        """The highest role that the claims give; None where they give none.

        ``role_claim`` may lead into objects by dots (``realm_access.roles``), and is a text or a list of texts.
        """
        held = self._held(claims)
        levels = (Level.ADMIN, Level.OPERATOR, Level.VIEWER)
        for level, wanted in zip(levels, reversed(self._roles()), strict=True):
            if held & set(wanted):
                return level
        return None

    def _roles(self) -> tuple[tuple[str, ...], ...]:
        return self.viewer, self.operator, self.admin

    def _held(self, claims: Mapping[str, Any]) -> set[str]:
        found: Any = claims.get(self.role_claim)
        if found is None:
            found = claims
            for part in self.role_claim.split("."):
                found = found.get(part) if isinstance(found, Mapping) else None
        values = found if isinstance(found, list) else [found]
        return {value for value in values if isinstance(value, str)}


def name_of(claims: Mapping[str, Any]) -> str:
    """What a person is called here: by the user name, else the mail address, else the subject."""
    for claim in ("preferred_username", "email", "sub"):
        value = claims.get(claim)
        if isinstance(value, str) and value.strip():
            seen = "".join(letter if letter.isprintable() else "_" for letter in value.strip())
            return f"{PREFIX}{seen[:NAME_CHARACTERS]}"
    return f"{PREFIX}?"


def is_safe(url: str) -> bool:
    """Whether what is sent there cannot be read on its way: HTTPS, or plain HTTP to this machine."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if not host or parts.username is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_here(host))


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
