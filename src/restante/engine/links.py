"""One-time links, by which an operator lets a client's people in to their page without a key.

What is kept is a paper by the hash of the token. It is used up in its place: of two who use it at once one is let in.
Whoever revokes a key of the client shuts out everybody who came before: links that were made until then open nothing
any more, and visits by them are over. An ``era`` ends with each of these, and links and visits are of one.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final, NamedTuple

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
_ERA_BYTES: Final = 8


class Opened(NamedTuple):
    """Whose page a link opens, and of which era the visit is."""

    client: str
    era: str


async def era_of(broker: Broker, client: str) -> str:
    """The one that it is now. Empty where no key of the client was revoked lately."""
    paper = await broker.store.browse(PaperOf(Kind.SHUT_OUT, client))
    return "" if paper is None else paper.content.decode()


def ended_era(client: str, now_ms: int) -> PutPaper:
    """What ends a client's era, together with whatever is the reason for it."""
    return PutPaper(
        Paper(
            kind=Kind.SHUT_OUT,
            key=client,
            content=secrets.token_hex(_ERA_BYTES).encode(),
            # No link and no visit of before lasts that long.
            expires_at_ms=now_ms + 2 * LIFE_SECONDS_MAXIMUM * 1_000,
        )
    )


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
        era = await era_of(self._broker, client)
        paper = _paper(token, f"{client} {era}".encode(), 1, expires)
        act = self._broker.acts.paper(
            actor, What.CLIENT_LINK_MADE, subject=client, details={"life_seconds": life_seconds}
        )
        await self._broker.configure(PutPaper(paper), act)
        return token

    async def client_of(self, token: str) -> str:
        """Whose page it opens, without using it. ``LinkUsed`` where it opens none, or none any more."""
        _, opened = await self._find(token)
        return opened.client

    async def use(self, token: str) -> Opened:
        """Use it up. ``LinkUsed``."""
        paper, opened = await self._find(token)
        used = _paper(token, b"", paper.version + 1, paper.expires_at_ms)
        try:
            await self._broker.configure(PutPaper(used))
        except PaperChanged as error:
            raise LinkUsed from error
        return opened

    async def _find(self, token: str) -> tuple[Paper, Opened]:
        paper = await self._broker.store.browse(PaperOf(Kind.CLIENT_LINK, _key(token)))
        now = self._broker.clock.wall_ms()
        if paper is None or not paper.content or now >= (paper.expires_at_ms or now):
            raise LinkUsed
        client, _, era = paper.content.decode().partition(" ")
        if era != await era_of(self._broker, client):
            raise LinkUsed
        return paper, Opened(client, era)


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
