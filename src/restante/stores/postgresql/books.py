"""A queue as one transaction knows it, under the lock on its tally, and the ledger's pen."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from restante.metering import Meter
from restante.model import Actor, Outcome, Settings, Signature, State
from restante.wire.receipts import LABELS, Subject, chain, entry_of

REMEMBERED_QUEUES: Final = 200_000
_decode_settings = msgspec.json.Decoder(Settings).decode

TALLY: Final = (
    "version, seq, receipts, chain,"
    " scheduled, ready, held, leased, dead, acked, superseded, expired, discarded"
)
COUNTS: Final = TALLY.split(", ")[4:]
"""The columns that count, in the order of ``State``."""


class Known(msgspec.Struct, frozen=True, gc=False):
    """What changes only when an administrator changes it: remembered by this node, as of one version."""

    id: int
    name: str
    owner: str
    settings: Settings
    version: int


class Registry:
    """The queues this node has met, by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Known] = {}

    def get(self, name: str) -> Known | None:
        return self._by_name.get(name)

    def clear(self) -> None:
        self._by_name.clear()

    def put(self, id: int, name: str, owner: str, settings: str, version: int) -> Known:
        known = Known(id, name, owner, _decode_settings(settings), version)
        if len(self._by_name) >= REMEMBERED_QUEUES:
            self._by_name.pop(next(iter(self._by_name)))
        self._by_name[name] = known
        return known


class QueueBook:
    """A queue whose tally this transaction holds locked. ``counts`` is indexed by ``State``."""

    __slots__ = ("chain", "counts", "dirty", "id", "known", "name", "receipts", "seq", "settings")

    def __init__(
        self, known: Known, seq: int, receipts: int, chain: bytes, counts: list[int]
    ) -> None:
        self.known = known
        self.id = known.id
        self.name = known.name
        self.settings = known.settings
        self.seq = seq
        self.receipts = receipts
        self.chain = chain
        self.counts = counts
        self.dirty = False

    def move(self, before: State | None, after: State) -> None:
        """Count one delivery out of one state and into another."""
        if before is not None:
            self.counts[before] -= 1
        self.counts[after] += 1
        self.dirty = True


class Written(msgspec.Struct, frozen=True, gc=False):
    """A receipt of this transaction, or of an earlier one, as far as a repeated settle asks for it."""

    number: int
    outcome: str
    state: str
    fence: int


class Pen:
    """Writes receipts to the ends of the ledgers; ``lines`` are the rows for the table, in their order."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.lines: list[tuple[Any, ...]] = []
        self.told: dict[tuple[int, int], list[Written]] = {}

    def write(  # noqa: PLR0913 (a receipt has that many facets)
        self,
        book: QueueBook,
        subject: Subject,
        seq: int,
        outcome: Outcome,
        state: State,
        *,
        actor: Actor,
        at_ms: int,
        attempt: int = 0,
        fence: int = 0,
        leased_at_ms: int | None = None,
        reason: str = "",
        reply: bytes | None = None,
        reply_content_type: str = "",
        signature: Signature | None = None,
    ) -> int:
        """Add a receipt to the end of the queue's ledger; its number."""
        number = book.receipts + 1
        entry = entry_of(
            book.name,
            number,
            subject,
            seq,
            outcome,
            state,
            actor=actor,
            at_ms=at_ms,
            attempt=attempt,
            fence=fence,
            leased_at_ms=leased_at_ms,
            reason=reason,
            reply=reply,
            reply_content_type=reply_content_type,
            signature=signature,
        )
        digest = chain(book.chain, entry)
        self.lines.append(
            (book.id, number, at_ms, subject.n, seq, outcome.value, fence, entry, digest)
        )
        written = Written(number, outcome.value, LABELS[state], fence)
        self.told.setdefault((book.id, seq), []).append(written)
        book.receipts, book.chain = number, digest
        book.dirty = True
        age_ms = at_ms - subject.published_at_ms
        self._meter.receipt(
            (book.name, outcome, state, age_ms, reason, number, seq, subject.id, actor.name)
        )
        return number
