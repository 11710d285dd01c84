"""The log of receipts: sealing what was written, and proving what is in it.

Sealing is a step that takes the log from one size to the next, all in one transaction: the hashes, the places of the
receipts, the signed head, and the paper that says how far it has come, in the place of the version that was read. So
of two nodes that try one does, and what a crash left undone is done by the next step. A node leaves it to another that
has sealed a moment ago. Receipts are sealed behind their commit: nothing on the way of a notification waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import msgspec

from restante.changes import AddSeals, Change, PutPaper
from restante.engine.log_reader import LogReader, decoded
from restante.errors import (
    LogDamaged,
    PaperChanged,
    ReceiptNotFound,
    ReceiptNotSealed,
    ShuttingDown,
    StoreError,
)
from restante.logs import get_logger
from restante.merkle import (
    HASH_BYTES,
    TILE_WIDTH,
    Damaged,
    ReadTile,
    Tile,
    consistency,
    grown,
    inclusion,
    leaf_hash,
    root,
)
from restante.model import check_bounds
from restante.papers import Kind, Paper
from restante.ports import Clock, Store
from restante.queries import LogLag, PaperOf, ReceiptByNumber, Seals, Unsealed
from restante.receipt_log import (
    STATE_KEY,
    Lag,
    LogKey,
    LogState,
    Seal,
    UnsealedPage,
    decode_state,
    encode_key,
    encode_state,
    head_key,
    tile_key,
)
from restante.wire import proofs
from restante.wire.checkpoints import NO_KEYS, LogKeys, NotSigned, TreeHead, of_note, to_note

_log = get_logger(__name__)

SEAL_SECONDS: Final = 0.5
"""How often it is looked for receipts that are not in the log."""
STEP_RECEIPTS: Final = 1_000
"""So many are sealed at once, at most: about two milliseconds of hashing."""
LEFT_TO_ANOTHER_SECONDS: Final = 2.0
"""Whoever has sealed within this time goes on."""
HEAD_SECONDS: Final = 600.0
"""How often a head is kept for good, and sent to wherever heads go (see ``head_post.py``)."""
WATCH_SECONDS: Final = 10.0
"""How often it is looked how far the log is behind."""
_LARGE_BYTES: Final = 1_048_576
_NO_HASHES: Final = bytes(TILE_WIDTH * HASH_BYTES)
T = TypeVar("T")


class _Edge(msgspec.Struct):
    """The log as this node has written or read it. ``tiles`` are those that are not complete."""

    state: LogState
    version: int
    tiles: dict[Tile, bytes]


class ReceiptLog(LogReader):
    """``keys`` sign heads: without any this node seals nothing, and only tells of what others have sealed.

    A log that none of them has signed, and none of those before them, is not gone on with, nor one that is not the
    continuation of what this node has signed, seen, or been given in ``heads`` as signed before.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        node: str,
        keys: LogKeys = NO_KEYS,
        head_seconds: float = HEAD_SECONDS,
        heads: Iterable[str] = (),
    ) -> None:
        super().__init__(store, clock, keys)
        self._node = node
        self._head_ms = int(head_seconds * 1_000)
        self._edge: _Edge | None = None
        self._known = _newest(heads, keys)
        self._told_keys = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._listeners: list[Callable[[], None]] = []
        self._failures = 0
        """How often sealing has failed in a row."""
        self.size = 0
        """Receipts in the log, as this node knows."""
        self.head_at_ms: int | None = None
        """When the newest head was signed (wall clock), as this node knows."""
        self.lag = Lag()
        """How far the log was behind when it was last looked at."""
        self.trouble = ""
        """Why this node could not seal when it last tried, for people; empty where it could."""

    @property
    def failing(self) -> bool:
        """Whether this node could not seal when it last tried."""
        return bool(self.trouble)

    @property
    def seals(self) -> bool:
        """Whether this node takes part in sealing."""
        return bool(self._keys.signers)

    def listen(self, callback: Callable[[], None]) -> None:
        """Call back whenever this node has kept a head."""
        self._listeners.append(callback)

    # -- sealing --------------------------------------------------------------------------------

    async def live(self) -> None:
        """Until cancelled: seal what there is."""
        while self._keys.signers:
            try:
                if not await self._is_anothers():
                    while await self.step():
                        pass
                self.trouble, self._failures = "", 0
            except ShuttingDown:
                return
            except PaperChanged:
                self._edge = None  # Another node has sealed meanwhile.
            except (StoreError, LogDamaged) as error:
                if self._failed(error.code, error.detail):
                    failures = self._failures
                    _log.error(
                        "log.not_sealed", code=error.code, error=str(error), failures=failures
                    )
            except Exception as error:  # noqa: BLE001 (logged; one defect must not end all sealing)
                name = type(error).__name__
                if self._failed(name, f"a defect: {name}"):
                    _log.exception("log.failed", failures=self._failures)
            await self._clock.wait(SEAL_SECONDS)

    def _failed(self, why: str, trouble: str) -> bool:
        """Nothing could be sealed. Whether that is to be logged."""
        self._edge, self.trouble = None, trouble
        self._failures += 1
        return self._is_to_be_told(why)

    async def watch(self) -> None:
        """Until cancelled: look how far the log is behind, whoever seals."""
        while self._keys.signers:
            try:
                self.lag = await self._store.browse(LogLag())
            except ShuttingDown:
                return
            except StoreError:
                # What was seen last stands, and grows older.
                pass
            except Exception:  # noqa: BLE001 (logged; the next look may succeed)
                _log.exception("log.not_watched")
            await self._clock.wait(WATCH_SECONDS)

    async def step(self) -> bool:
        """Seal up to ``STEP_RECEIPTS``; whether there may be more. ``PaperChanged`` where another did meanwhile."""
        # Before the question what is not sealed: the other way round another's step could come in between, unseen.
        edge = self._edge or await self._load()
        page = await self._store.browse(Unsealed(STEP_RECEIPTS))
        more = sum(len(run.entries) for run in page.runs) >= STEP_RECEIPTS
        keep = not more and self._is_to_be_kept(edge.state, grows=bool(page.runs))
        if not page.runs and not keep:
            self._edge = edge
            return False
        await self._tell_keys()
        leaves = await _hashed(page)
        after, changes = self._grow(edge, page, leaves, keep=keep)
        # The edge is what was written, or nobody knows: not what was to be written.
        self._edge = None
        await self._store.configure(changes)
        self._edge = after
        self._see(after.state)
        self._known[after.state.origin] = after.state.head
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        if keep:
            for callback in self._listeners:
                callback()
        return more

    def _is_to_be_kept(self, state: LogState, *, grows: bool) -> bool:
        """Whether a head is due that says something new.

        Only where everything is sealed that was written: so whatever a kept head has not in it is younger than it is.
        Of a log that is new one is kept before anything is in it.
        """
        age_ms = self._clock.wall_ms() - state.kept_at_ms
        return (grows or state.size != state.kept_size) and not 0 <= age_ms < self._head_ms

    def _grow(
        self, edge: _Edge, page: UnsealedPage, leaves: list[bytes], *, keep: bool
    ) -> tuple[_Edge, list[Change]]:
        """The log with these receipts, and what has to be written for it."""
        before = edge.state
        seals: list[Seal] = []
        place = before.size
        for run in page.runs:
            seals.append(Seal(run.queue, run.first, len(run.entries), place))
            place += len(run.entries)
        changed = grown(before.size, leaves, edge.tiles.__getitem__)
        tiles = edge.tiles | changed
        now = self._clock.wall_ms()
        head = TreeHead(place, root(place, tiles.__getitem__), now)
        state = LogState(
            origin=before.origin,
            size=head.size,
            root=head.root,
            at_ms=now,
            node=self._node,
            checkpoint=to_note(before.origin, head, self._keys.signers),
            kept_at_ms=now if keep else before.kept_at_ms,
            kept_size=head.size if keep else before.kept_size,
        )
        changes: list[Change] = [
            PutPaper(_paper(Kind.LOG, STATE_KEY, encode_state(state), edge.version + 1)),
            *(PutPaper(_paper(Kind.LOG_TILE, tile_key(at), changed[at])) for at in changed),
        ]
        if seals:
            changes.append(AddSeals(tuple(seals), page.cursor))
        if keep:
            note = state.checkpoint.encode()
            changes.append(PutPaper(_paper(Kind.LOG_HEAD, head_key(head.size), note)))
        open_tiles = {at: hashes for at, hashes in tiles.items() if len(hashes) < len(_NO_HASHES)}
        return _Edge(state, edge.version + 1, open_tiles), changes

    async def _is_anothers(self) -> bool:
        """Whether another node is at it; what this one remembers is dropped where another has been since."""
        if self._store.nodes is None:
            return False
        paper = await self._store.browse(PaperOf(Kind.LOG, STATE_KEY))
        if paper is None:
            return False
        if self._edge is not None and self._edge.version != paper.version:
            self._edge = None
        state = decoded(decode_state, paper)
        self._see(state)
        age_ms = self._clock.wall_ms() - state.at_ms
        if state.node == self._node or not 0 <= age_ms < LEFT_TO_ANOTHER_SECONDS * 1_000:
            return False
        # Now, and not only when it is this node's turn: then nobody is left who can seal.
        self._signed(state)
        return True

    def _see(self, state: LogState) -> None:
        self.size, self.head_at_ms = state.size, state.at_ms

    async def _load(self) -> _Edge:
        paper = await self._store.browse(PaperOf(Kind.LOG, STATE_KEY))
        if paper is None:
            if self._known:
                raise LogDamaged("the log is gone, of which this node knows heads")
            new = LogState(
                origin=self._keys.signers[0].verifier.name,
                size=0,
                root=b"",
                at_ms=0,
                node=self._node,
                checkpoint="",
            )
            return _Edge(new, 0, {})
        state = decoded(decode_state, paper)
        tiles = await self._tiles(functools.partial(root, state.size))
        self._check(state, tiles)
        await self._check_known(state)
        self._known[state.origin] = state.head
        self._see(state)
        return _Edge(state, paper.version, tiles)

    def _check(self, state: LogState, tiles: dict[Tile, bytes]) -> None:
        """What is gone on with is what was signed: whoever can write into the database signs nothing by that."""
        head = self._signed(state)
        try:
            found = root(state.size, lambda tile: tiles.get(tile, b""))
        except Damaged as error:
            raise LogDamaged(f"the head of the log cannot be gone on with: {error}") from error
        if head != state.head or found != state.root:
            raise LogDamaged("the head of the log is not what was signed over its hashes")

    async def _check_known(self, state: LogState) -> None:
        """What was signed once is not signed otherwise: an older state of the log was signed, too."""
        known = self._known.get(state.origin)
        if known is None:
            return
        if state.size < known.size:
            raise LogDamaged(f"the log has {state.size} receipts, and had {known.size}")
        try:
            found = await self._computed(functools.partial(root, known.size))
        except Damaged as error:
            raise LogDamaged(f"the log cannot be gone on with: {error}") from error
        if found != known.root:
            raise LogDamaged(f"the log is another than at {known.size} receipts")

    def _signed(self, state: LogState) -> TreeHead:
        try:
            return of_note(state.checkpoint, state.origin, self._keys.trusted)
        except NotSigned as error:
            raise LogDamaged(f"the head of the log cannot be gone on with: {error}") from error

    async def _tell_keys(self) -> None:
        """Have the keys on record before anything is signed with them."""
        if self._told_keys:
            return
        for signer in self._keys.signers:
            id = signer.verifier.id.hex()
            if await self._store.browse(PaperOf(Kind.LOG_KEY, id)) is None:
                key = LogKey(key=signer.verifier.text, since_ms=self._clock.wall_ms())
                await self._store.configure(
                    [PutPaper(_paper(Kind.LOG_KEY, id, encode_key(key), 1))]
                )
        self._told_keys = True

    # -- proving --------------------------------------------------------------------------------

    async def places(self, queue: str, numbers: Iterable[int]) -> dict[int, int]:
        """Where in the log these receipts of a queue are; those that are not sealed yet are left out."""
        found: dict[int, int] = {}
        seals: list[Seal] = []
        for number in sorted(numbers):
            seals = [seal for seal in seals if seal.first + seal.count > number]
            if not seals:
                seals = await self._store.browse(Seals(queue, number))
            if not seals:
                break  # nothing from here on is sealed
            place = seals[0].place_of(number)
            if place is not None:
                found[number] = place
        return found

    async def place(self, queue: str, number: int) -> int | None:
        """Where in the log the receipt is; None: not sealed yet, or not there."""
        seals = await self._store.browse(Seals(queue, number, limit=1))
        return seals[0].place_of(number) if seals else None

    async def proof(self, queue: str, number: int) -> bytes:
        """The proof that the receipt is in the log (``wire/proofs.py``). ``ReceiptNotFound``, ``ReceiptNotSealed``."""
        receipt = await self._store.browse(ReceiptByNumber(queue, number))
        if receipt is None:
            raise ReceiptNotFound(f"there is no receipt {queue[:128]}~{number}")
        place = await self.place(queue, number)
        if place is None:
            raise ReceiptNotSealed(f"receipt {queue}~{number} is not in the log yet")
        state = await self.state()
        path = await self._computed(functools.partial(inclusion, place, state.size))
        return proofs.to_json(receipt.entry, place, path, state.checkpoint)

    async def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the log of ``old`` receipts is the beginning of that of ``new``. ``OutOfBounds``."""
        size = (await self.state()).size
        check_bounds("to", new, 1, size)
        check_bounds("from", old, 1, new)
        return await self._computed(functools.partial(consistency, old, new))

    def sealed(self) -> asyncio.Future[None]:
        """Resolves when this node has sealed something from now on."""
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(news)
        news.add_done_callback(self._waiting.discard)
        return news

    async def _computed(self, compute: Callable[[ReadTile], T]) -> T:
        tiles = await self._tiles(compute)
        return compute(lambda tile: tiles.get(tile, b""))

    async def _tiles(self, compute: Callable[[ReadTile], object]) -> dict[Tile, bytes]:
        """The tiles that it takes to compute something."""
        wanted: dict[Tile, None] = {}

        def noted(tile: Tile) -> bytes:
            wanted[tile] = None
            return _NO_HASHES

        compute(noted)
        browse = self._store.browse
        papers = await asyncio.gather(
            *(browse(PaperOf(Kind.LOG_TILE, tile_key(tile))) for tile in wanted)
        )
        return {
            tile: paper.content
            for tile, paper in zip(wanted, papers, strict=True)
            if paper is not None
        }


async def _hashed(page: UnsealedPage) -> list[bytes]:
    """The leaves of all entries in their order; of large ones beside the event loop."""
    entries = [entry for run in page.runs for entry in run.entries]
    if sum(map(len, entries)) < _LARGE_BYTES:
        return list(map(leaf_hash, entries))
    return await asyncio.to_thread(lambda: list(map(leaf_hash, entries)))


def _newest(checkpoints: Iterable[str], keys: LogKeys) -> dict[str, TreeHead]:
    """The largest of these heads that the keys have signed, by origin."""
    newest: dict[str, TreeHead] = {}
    for checkpoint in checkpoints:
        origin = checkpoint.partition("\n")[0]
        with contextlib.suppress(NotSigned):
            head = of_note(checkpoint, origin, keys.trusted)
            newest[origin] = max(head, newest.get(origin, head))
    return newest


def _paper(kind: Kind, key: str, content: bytes, version: int = 0) -> Paper:
    return Paper(kind=kind, key=key, content=content, version=version)
