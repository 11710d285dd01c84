"""The papers of groups: the open ones and the closed, their bodies, and the idempotency keys that made them."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final, NamedTuple

import msgspec
import structlog

from restante.changes import Change, DropPaper, PutPaper
from restante.engine.group import Group
from restante.errors import IdempotencyKeyReused, PaperChanged
from restante.ids import CHANCE_BITS, uuid7
from restante.papers import Kind, Paper
from restante.ports import Clock, Store
from restante.queries import PaperOf, Papers

_log = structlog.get_logger(__name__)

GROUP_RETENTION_SECONDS: Final = 30 * 86_400
_OPEN: Final = "open/"
_PAST: Final = "past/"
_PAGE: Final = 1_000
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Group).decode


class Kept(NamedTuple):
    """A group as it was read or written, and the version of its paper."""

    group: Group
    version: int


class Earlier(NamedTuple):
    """What an idempotency key has made (None: nothing that is kept), and the version of the key's paper (0: none)."""

    group: Group | None
    version: int


class _Asked(msgspec.Struct, frozen=True):
    """Which group an idempotency key has made, and of what."""

    id: str
    fingerprint: str


_decode_asked = msgspec.json.Decoder(_Asked).decode


class GroupPapers:
    """What the store keeps of groups."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def new(self, group: Group) -> Change:
        """What writes down one that nobody has seen yet."""
        return PutPaper(self._paper(group, f"{_OPEN}{group.id}", 1))

    def new_key(self, name: str, fingerprint: str, group: Group, earlier: Earlier) -> Change:
        """What writes down that this idempotency key has made it, in the place of what was found of an earlier one."""
        return PutPaper(
            Paper(
                kind=Kind.GROUP_KEY,
                key=name,
                content=_encode(_Asked(group.id, fingerprint)),
                version=earlier.version + 1,
                expires_at_ms=group.asked_at_ms + GROUP_RETENTION_SECONDS * 1_000,
            )
        )

    async def asked(self, name: str, fingerprint: str) -> Earlier:
        """What this idempotency key has made. ``IdempotencyKeyReused`` where that was another group.

        A key may outlive its group, where the wall clock was set back meanwhile: it has made nothing then.
        """
        paper = await self._store.browse(PaperOf(Kind.GROUP_KEY, name))
        if paper is None:
            return Earlier(None, 0)
        asked = _decode_asked(paper.content)
        group = await self.any(asked.id)
        if group is not None and asked.fingerprint != fingerprint:
            raise IdempotencyKeyReused("the key was used for another group")
        return Earlier(group, paper.version)

    async def made_with(self, name: str) -> Group | None:
        """What this idempotency key has made, whatever it was."""
        paper = await self._store.browse(PaperOf(Kind.GROUP_KEY, name))
        return None if paper is None else await self.any(_decode_asked(paper.content).id)

    async def open(self) -> list[Kept]:
        """All that are not closed, the oldest first. One that cannot be read is logged, and left out."""
        found: list[Kept] = []
        after = _OPEN
        while True:
            papers = await self._store.browse(
                Papers(Kind.GROUP, after=after, before=f"{_OPEN}~", limit=_PAGE)
            )
            for paper in papers:
                try:
                    found.append(Kept(_decode(paper.content), paper.version))
                except (msgspec.DecodeError, ValueError) as error:
                    _log.error("group.damaged", paper=paper.key, error=str(error))
            if len(papers) < _PAGE:
                return found
            after = papers[-1].key

    async def past(self, after: str, limit: int) -> list[Group]:
        """Those that are closed, the newest first: beyond the id ``after``, where that is not empty."""
        papers = await self._store.browse(
            Papers(
                Kind.GROUP,
                after=_PAST,
                before=f"{_PAST}{after}" if after else f"{_PAST}~",
                limit=limit,
                newest_first=True,
            )
        )
        return [_decode(paper.content) for paper in papers]

    async def find(self, id: str) -> Kept | None:
        """One that is not closed."""
        paper = await self._store.browse(PaperOf(Kind.GROUP, f"{_OPEN}{id}"))
        return None if paper is None else Kept(_decode(paper.content), paper.version)

    async def any(self, id: str) -> Group | None:
        """One that may be closed."""
        kept = await self.find(id)
        if kept is not None:
            return kept.group
        paper = await self._store.browse(PaperOf(Kind.GROUP, f"{_PAST}{id}"))
        return None if paper is None else _decode(paper.content)

    async def body(self, key: str) -> bytes:
        """``PaperChanged`` where it is no more, because the group is closed."""
        paper = await self._store.browse(PaperOf(Kind.GROUP_BODY, key))
        if paper is None:
            raise PaperChanged("the group is closed")
        return paper.content

    async def put(self, kept: Kept, group: Group) -> Kept:
        """Write the group down in the place of what was read; ``PaperChanged`` where that is no more."""
        key, version = f"{_OPEN}{group.id}", kept.version + 1
        changes: list[Change] = [PutPaper(self._paper(group, key, version))]
        if group.closed:
            changes += [
                DropPaper(Kind.GROUP, key),
                PutPaper(self._paper(group, f"{_PAST}{group.id}", 0)),
            ]
            for index in range(len(group.members)):
                changes += [DropPaper(Kind.GROUP_BODY, one) for one in body_keys(group.id, index)]
        await asyncio.shield(self._store.configure(changes))
        return Kept(group, version)

    def _paper(self, group: Group, key: str, version: int) -> Paper:
        expires = None
        if group.closed:
            expires = self._clock.wall_ms() + GROUP_RETENTION_SECONDS * 1_000
        content = _encode(group)
        return Paper(
            kind=Kind.GROUP, key=key, content=content, version=version, expires_at_ms=expires
        )


def body_keys(id: str, index: int) -> tuple[str, str]:
    """Where a member's body is kept, and its compensation's."""
    return f"{id}/{index}", f"{id}/{index}/compensation"


def new_body(key: str, body: bytes) -> Change:
    """What writes a body down."""
    return PutPaper(Paper(kind=Kind.GROUP_BODY, key=key, content=body, version=1))


def notification_id(group: Group, key: str) -> str:
    """The id under which the body of that key is published: known before, so that it can be looked for."""
    chance = int.from_bytes(hashlib.sha256(key.encode()).digest()) >> (256 - CHANCE_BITS)
    return uuid7(group.asked_at_ms, chance)
