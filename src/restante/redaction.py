"""Secrets in URLs: whether there is one, and what may be shown."""

from __future__ import annotations

from typing import Final

_TOKENS: Final = frozenset({"nats", "tls"})
"""Schemes of which a user without a password is a secret, too."""


def holds_secret(url: str) -> bool:
    """Whether there may be a password or a token in it: ``scheme://user:password@host``, or ``?password=``."""
    scheme, user, _ = _parts(url)
    return ":" in user or (bool(user) and scheme in _TOKENS) or "password=" in url.partition("?")[2]


def shown(url: str) -> str:
    """The URL as it may stand in a message: without whom it names, and without its query."""
    scheme, user, rest = _parts(url)
    if not scheme:
        return "..."
    if "=" in user.partition("?")[2]:
        return f"{scheme}://..."  # that may have been a query, with an @ in it
    return f"{scheme}://{'...@' if user else ''}{rest.partition('?')[0]}"


def _parts(url: str) -> tuple[str, str, str]:
    """The scheme, all before the last ``@``, and the rest: a password may hold by mistake what ends a host's part."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "", "", url
    user, _, rest = rest.rpartition("@")
    return scheme, user, rest
