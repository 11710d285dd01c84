"""The clients' own keys to sign outcomes with: registered, revoked, and looked up when something signed comes.

All keys of a client are one paper, so that their number is bounded on whatever node they are added. It is asked for
each time: a revoked key verifies nothing from then on, on any node. Many signatures are verified in portions, so that
the event loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from restante.admission import check_text
from restante.changes import PutPaper
from restante.engine.acts import Acts, What
from restante.errors import (
    AlreadyExists,
    ClientNotFound,
    KeyNotFound,
    PaperChanged,
    RestanteError,
    SigningKeyUnknown,
    TooManySigningKeys,
)
from restante.model import Actor, Queue, Signature, Verb, check_bounds
from restante.papers import Kind, Paper
from restante.ports import Clock, Store
from restante.queries import ClientByName, PaperOf
from restante.wire.client_signatures import Opened, SigningKey, open_key, read_key, verified

ACTIVE_KEYS: Final = 8
KEYS: Final = 40
"""Of one client, those that were revoked too: they are kept as long as there may be receipts that they signed."""
AT_ONCE: Final = 4
"""Signatures that are verified before anything else has its turn: about a millisecond's worth."""
_LABEL_CHARACTERS: Final = 255
_REMEMBERED: Final = 1_000
_TRIES: Final = 5
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[SigningKey]).decode


class Signed(NamedTuple):
    """An outcome in a queue that its client signed. ``said`` is the reply with an ack, else the reason."""

    signature: Signature
    queue: Queue
    verb: Verb
    said: bytes


Verdict = Signature | RestanteError
"""The signature with its algorithm, or why it does not hold."""


class Ring:
    """A client's keys, as they are at one moment."""

    __slots__ = ("_by_id", "version")

    def __init__(self, version: int, keys: Iterable[SigningKey]) -> None:
        self.version = version
        self._by_id = {key.id: open_key(key) for key in keys}

    def verdict(self, signed: Signed, now_ms: int) -> Verdict:
        """As ``client_signatures.verified``, by the key that the signature names, else ``SigningKeyUnknown``."""
        signature = signed.signature
        key: Opened | None = self._by_id.get(signature.key)
        if key is None:
            return SigningKeyUnknown(f"the queue's client has no signing key {signature.key}")
        try:
            return verified(signature, key, signed.queue.name, signed.verb, signed.said, now_ms)
        except RestanteError as error:
            return error


_EMPTY: Final = Ring(0, ())


class SigningKeys:
    """The register."""

    def __init__(self, store: Store, clock: Clock, acts: Acts) -> None:
        self._store = store
        self._clock = clock
        self._acts = acts
        self._rings: dict[str, Ring] = {}
        self._turn = asyncio.Lock()

    async def of(self, client: str) -> list[SigningKey]:
        """A client's keys in the order in which they were added, those that have ended too. ``ClientNotFound``."""
        if await self._store.browse(ClientByName(client)) is None:
            raise ClientNotFound(f"there is no client {client[:128]} here")
        return (await self._kept(client))[1]

    async def add(self, client: str, pem: str, label: str, actor: Actor) -> SigningKey:
        """Register a public key or certificate: at most 8 active ones, and 40 in all.

        ``InvalidSigningKey``, ``ClientNotFound``, ``TooManySigningKeys``; ``AlreadyExists`` for a key that the client
        has or had.
        """
        check_bounds("length of label", len(label), 0, _LABEL_CHARACTERS)
        if label:
            check_text("label", label)
        await self.of(client)
        key = read_key(pem, label, self._clock.wall_ms())

        def added(keys: list[SigningKey]) -> list[SigningKey]:
            if any(one.id == key.id for one in keys):
                raise AlreadyExists(f"{client} has the signing key {key.id} already, or had it")
            active = sum(one.revoked_at_ms is None for one in keys)
            if active >= ACTIVE_KEYS or len(keys) >= KEYS:
                raise TooManySigningKeys(
                    f"{client} has {active} active signing keys of {len(keys)}:"
                    f" {ACTIVE_KEYS} may be active, and {KEYS} kept"
                )
            return [*keys, key]

        details = {"client": client, "algorithm": key.algorithm, "label": label}
        await self._change(client, added, actor, What.SIGNING_KEY_ADDED, key.id, details)
        return key

    async def revoke(self, client: str, id: str, actor: Actor) -> SigningKey:
        """Nothing is signed with it from now on. Revoking twice changes nothing. ``KeyNotFound``."""
        now_ms = self._clock.wall_ms()
        revoked: list[SigningKey] = []

        def changed(keys: list[SigningKey]) -> list[SigningKey] | None:
            found = next((key for key in keys if key.id == id), None)
            if found is None:
                raise KeyNotFound(f"{client[:128]} has no signing key {id[:80]}")
            if found.revoked_at_ms is None:
                ended = msgspec.structs.replace(found, revoked_at_ms=now_ms)
                revoked[:] = [ended]
                return [ended if key is found else key for key in keys]
            revoked[:] = [found]
            return None

        details = {"client": client}
        await self._change(client, changed, actor, What.SIGNING_KEY_REVOKED, id, details)
        return revoked[0]

    async def verdicts(self, signed: Sequence[Signed]) -> list[Verdict]:
        """Of each, by the keys of the queue's client as they are now.

        More than a few are verified in portions, and of all such batches one portion in each turn of the event loop:
        whoever signs much waits, and nobody else does.
        """
        rings = {owner: await self._ring(owner) for owner in {one.queue.owner for one in signed}}
        now_ms = self._clock.wall_ms()

        def some(start: int) -> list[Verdict]:
            portion = signed[start : start + AT_ONCE]
            return [rings[one.queue.owner].verdict(one, now_ms) for one in portion]

        if len(signed) <= AT_ONCE:
            return some(0)
        verdicts: list[Verdict] = []
        for start in range(0, len(signed), AT_ONCE):
            async with self._turn:
                verdicts += some(start)
                await asyncio.sleep(0)
        return verdicts

    async def _ring(self, client: str) -> Ring:
        paper = await self._store.browse(PaperOf(Kind.SIGNING_KEYS, client))
        if paper is None:
            return _EMPTY
        ring = self._rings.get(client)
        if ring is None or ring.version != paper.version:
            # Opening them takes longer than verifying with one.
            ring = Ring(paper.version, _decode(paper.content))
            if len(self._rings) >= _REMEMBERED:
                self._rings.pop(next(iter(self._rings)))
            self._rings[client] = ring
        return ring

    async def _kept(self, client: str) -> tuple[int, list[SigningKey]]:
        paper = await self._store.browse(PaperOf(Kind.SIGNING_KEYS, client))
        return (0, []) if paper is None else (paper.version, _decode(paper.content))

    async def _change(
        self,
        client: str,
        change: Callable[[list[SigningKey]], list[SigningKey] | None],
        actor: Actor,
        what: What,
        id: str,
        details: Mapping[str, str],
    ) -> None:
        """Put what ``change`` makes of the keys in their place, and the act beside it; None: nothing changes."""
        for attempt in range(_TRIES):
            version, keys = await self._kept(client)
            changed = change(keys)
            if changed is None:
                return
            paper = Paper(
                kind=Kind.SIGNING_KEYS,
                key=client,
                content=_encode(changed),
                version=version + 1,
            )
            act = self._acts.paper(actor, what, subject=id, details=details)
            try:
                await self._store.configure([PutPaper(paper), act])
            except PaperChanged:
                # Another node was faster: the bounds are to be looked at again.
                if attempt == _TRIES - 1:
                    raise
            else:
                return
