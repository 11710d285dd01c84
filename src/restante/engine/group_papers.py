"""The papers of groups: the open ones and the closed, whose they are, their bodies, and the keys that made them."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final, NamedTuple

import msgspec

from restante.changes import Change, DropPaper, PutPaper
from restante.engine.group import Group
from restante.errors import IdempotencyKeyReused, Malformed, PaperChanged
from restante.ids import CHANCE_BITS, uuid7
from restante.logs import get_logger
from restante.papers import Kind, Paper
from restante.ports import Clock, Store
from restante.queries import PaperOf, Papers

_log = get_logger(__name__)

GROUP_RETENTION_SECONDS: Final = 30 * 86_400
_OPEN: Final = "open/"
_PAST: Final = "past/"
_PAGE: Final = 1_000
_AT_ONCE: Final = 50
"""So many of a page are read at a time."""
_DAMAGED: Final = (msgspec.DecodeError, ValueError)
"""What is raised for a paper that holds no group."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Group).decode


class Kept(NamedTuple):
    """A group as it was read or written, and the version of its paper."""

    group: Group
    version: int


class GroupPage(NamedTuple):
    """``next`` is the cursor to go on with; None at the end. A page may be short, even empty, before the end."""

    groups: list[Group]
    next: str | None


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

    def new(self, group: Group) -> list[Change]:
        """What writes down one that nobody has seen yet."""
        return [
            PutPaper(self._paper(group, f"{_OPEN}{group.id}", 1)),
            PutPaper(self._of(group, _OPEN)),
        ]

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
                except _DAMAGED as error:
                    _log.error("group.damaged", paper=paper.key, error=str(error))
            if len(papers) < _PAGE:
                return found
            after = papers[-1].key

    async def page(self, principal: str, after: str, limit: int) -> GroupPage:
        """That principal's, empty: everybody's: those that are not closed, then the closed; the newest first.

        ``Malformed`` for a cursor that is none.
        """
        kind, prefix = (Kind.GROUP_OF, f"{principal}/") if principal else (Kind.GROUP, "")
        rows: list[Paper] = []
        for begin, end in _ranges(after):
            left = limit - len(rows)
            if left:
                within = Papers(kind, f"{prefix}{begin}", f"{prefix}{end}", left, newest_first=True)
                rows = [*rows, *await self._store.browse(within)]
        # One that was closed in between is there twice.
        once = list({row.key.rpartition("/")[2]: row for row in rows}.values())
        found: list[Group | None] = []
        for start in range(0, len(once), _AT_ONCE):
            some = once[start : start + _AT_ONCE]
            found += await asyncio.gather(*(self._listed(row, prefix) for row in some))
        groups = [group for group in found if group is not None]
        return GroupPage(groups, rows[-1].key.removeprefix(prefix) if len(rows) == limit else None)

    async def _listed(self, row: Paper, prefix: str) -> Group | None:
        """None for one that is no more, and one that cannot be read, too: that is logged."""
        try:
            if row.kind is Kind.GROUP:
                return _decode(row.content)
            return await self.any(row.key.rpartition("/")[2])
        except _DAMAGED as error:
            _log.error("group.damaged", paper=row.key.removeprefix(prefix), error=str(error))
            return None

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
                DropPaper(Kind.GROUP_OF, _key_of(group, _OPEN)),
                PutPaper(self._of(group, _PAST)),
            ]
            for index in range(len(group.members)):
                changes += [DropPaper(Kind.GROUP_BODY, one) for one in body_keys(group.id, index)]
        await asyncio.shield(self._store.configure(changes))
        return Kept(group, version)

    def _paper(self, group: Group, key: str, version: int) -> Paper:
        return Paper(
            kind=Kind.GROUP,
            key=key,
            content=_encode(group),
            version=version,
            expires_at_ms=self._expires_at_ms(group),
        )

    def _of(self, group: Group, place: str) -> Paper:
        return Paper(
            kind=Kind.GROUP_OF,
            key=_key_of(group, place),
            content=b"",
            expires_at_ms=self._expires_at_ms(group),
        )

    def _expires_at_ms(self, group: Group) -> int | None:
        return self._clock.wall_ms() + GROUP_RETENTION_SECONDS * 1_000 if group.closed else None


def _key_of(group: Group, place: str) -> str:
    return f"{group.asked_by.principal}/{place}{group.id}"


def _ranges(after: str) -> list[tuple[str, str]]:
    """Between which keys there may be some behind that cursor. ``Malformed`` for one that is none."""
    if after.startswith(_PAST):
        return [(_PAST, after)]
    if after and not after.startswith(_OPEN):
        raise Malformed("after must be what an earlier page gave as next")
    return [(_OPEN, after or f"{_OPEN}~"), (_PAST, f"{_PAST}~")]


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
