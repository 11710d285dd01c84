"""One-time links, by which an operator lets a client's people in to their page without a key.

What is kept is a paper by the hash of the token. It is used up in its place: of two who use it at once one is let in.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from restante.changes import PutPaper
from restante.engine.acts import What
from restante.engine.broker import Broker
from restante.errors import ClientNotFound, LinkUsed, PaperChanged
from restante.model import Actor, check_bounds
from restante.papers import Kind, Paper
from restante.queries import ClientByName, PaperOf

LIFE_SECONDS: Final = 86_400
LIFE_SECONDS_MAXIMUM: Final = 7 * 86_400
_TOKEN_BYTES: Final = 32


class Links:
    """Those of one store."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def make(self, client: str, life_seconds: int, actor: Actor) -> str:
        """A token that opens the client's page once, within so many seconds (60 to ``LIFE_SECONDS_MAXIMUM``).

        It is shown this once. ``ClientNotFound``, ``OutOfBounds``.
        """
        check_bounds("life_seconds", life_seconds, 60, LIFE_SECONDS_MAXIMUM)
        if await self._broker.store.browse(ClientByName(client)) is None:
            raise ClientNotFound(f"there is no client {client[:128]} here")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        expires = self._broker.clock.wall_ms() + life_seconds * 1_000
        paper = _paper(token, client.encode(), 1, expires)
        act = self._broker.acts.paper(
            actor, What.CLIENT_LINK_MADE, subject=client, details={"life_seconds": life_seconds}
        )
        await self._broker.configure(PutPaper(paper), act)
        return token

    async def client_of(self, token: str) -> str:
        """Whose page it opens, without using it. ``LinkUsed`` where it opens none, or none any more."""
        return (await self._find(token)).content.decode()

    async def use(self, token: str) -> str:
        """Use it up; the client. ``LinkUsed``."""
        paper = await self._find(token)
        used = _paper(token, b"", paper.version + 1, paper.expires_at_ms)
        try:
            await self._broker.configure(PutPaper(used))
        except PaperChanged as error:
            raise LinkUsed from error
        return paper.content.decode()

    async def _find(self, token: str) -> Paper:
        paper = await self._broker.store.browse(PaperOf(Kind.CLIENT_LINK, _key(token)))
        now = self._broker.clock.wall_ms()
        if paper is None or not paper.content or now >= (paper.expires_at_ms or now):
            raise LinkUsed
        return paper


def _paper(token: str, content: bytes, version: int, expires_at_ms: int | None) -> Paper:
    return Paper(
        kind=Kind.CLIENT_LINK,
        key=_key(token),
        content=content,
        version=version,
        expires_at_ms=expires_at_ms,
    )


def _key(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
