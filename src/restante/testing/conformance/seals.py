"""Receipts come into the log once, each queue's in their order, and together with the paper that says so."""

from __future__ import annotations

from restante.changes import AddSeals, PutPaper
from restante.errors import PaperChanged
from restante.papers import Kind, Paper
from restante.queries import LedgerSpan, LogLag, PaperOf, Receipts, Seals, Span, Unsealed
from restante.receipt_log import STATE_KEY, Lag, Run, Seal
from restante.testing.conformance.stage import Stage, refused

_SECONDS_KEPT = 60


async def what_is_not_sealed_comes_with_its_entries(stage: Stage) -> None:
    await stage.put_queue("billing")
    assert (await stage.store.browse(Unsealed())).runs == []
    await stage.publish(b"1")
    await stage.publish(b"2", queues=("billing",))
    await stage.ack(await stage.one())
    page = await stage.store.browse(Unsealed())
    assert {run.queue: run for run in page.runs} == {
        "acme": Run("acme", 1, await _entries(stage, "acme")),
        "billing": Run("billing", 1, await _entries(stage, "billing")),
    }


async def a_page_has_the_next_ones_of_each_queue(stage: Stage) -> None:
    for number in range(5):
        await stage.publish(b"%d" % number)
    entries = await _entries(stage, "acme")
    for first in (1, 3, 5):
        page = await stage.store.browse(Unsealed(limit=2))
        assert page.runs == [Run("acme", first, entries[first - 1 : first + 1])]
        await _seal(stage, page.cursor, Seal("acme", first, len(page.runs[0].entries), first - 1))
    assert (await stage.store.browse(Unsealed(limit=2))).runs == []


async def what_is_sealed_says_where_it_is(stage: Stage) -> None:
    await stage.put_queue("billing")
    for number in range(4):
        await stage.publish(b"%d" % number)
    page = await stage.store.browse(Unsealed(limit=3))
    first = Seal("acme", 1, 3, 70)
    await _seal(stage, page.cursor, first)
    page = await stage.store.browse(Unsealed())
    last = Seal("acme", 4, 1, 90)
    await _seal(stage, page.cursor, last)
    assert await stage.store.browse(Seals("acme")) == [first, last]
    assert await stage.store.browse(Seals("acme", limit=1)) == [first]
    assert await stage.store.browse(Seals("acme", 3)) == [first, last]
    assert await stage.store.browse(Seals("acme", 4)) == [last]
    assert await stage.store.browse(Seals("acme", 5)) == []
    assert await stage.store.browse(Seals("billing")) == []
    assert await stage.store.browse(Seals("nobody")) == []
    spans = [await stage.store.browse(LedgerSpan(name)) for name in ("acme", "nobody")]
    assert spans == [Span(0, 4), Span()]
    assert [first.place_of(number) for number in (0, 1, 3, 4)] == [None, 70, 72, None]


async def two_never_seal_the_same(stage: Stage) -> None:
    await stage.publish(b"1")
    page = await stage.store.browse(Unsealed())
    seal = Seal("acme", 1, 1, 0)
    state = Paper(kind=Kind.LOG, key=STATE_KEY, content=b"1", version=1)
    await stage.configure(PutPaper(state), AddSeals((seal,), page.cursor))
    again = stage.configure(PutPaper(state), AddSeals((seal,), page.cursor))
    await refused(PaperChanged, again)
    assert await stage.store.browse(Seals("acme")) == [seal]
    assert await stage.store.browse(PaperOf(Kind.LOG, STATE_KEY)) == state


async def receipts_written_meanwhile_are_sealed_later(stage: Stage) -> None:
    await stage.publish(b"1")
    page = await stage.store.browse(Unsealed())
    await stage.publish(b"2")
    await _seal(stage, page.cursor, Seal("acme", 1, 1, 0))
    entries = await _entries(stage, "acme")
    assert (await stage.store.browse(Unsealed())).runs == [Run("acme", 2, entries[1:])]


async def how_far_the_log_is_behind(stage: Stage) -> None:
    await stage.put_queue("billing")
    assert await stage.store.browse(LogLag()) == Lag()
    began = stage.clock.wall_ms()
    for _ in range(3):
        await stage.publish(b"1", queues=("acme", "billing"))
        stage.clock.advance(1)
    assert await stage.store.browse(LogLag()) == Lag(6, began)
    assert (await stage.store.browse(LogLag(limit=4))).receipts == 4
    page = await stage.store.browse(Unsealed(limit=4))
    places = [Seal(run.queue, run.first, len(run.entries), run.first) for run in page.runs]
    await _seal(stage, page.cursor, *places)
    left = await stage.store.browse(LogLag())
    assert left.receipts == 2
    assert left.oldest_at_ms is not None
    assert left.oldest_at_ms > began
    page = await stage.store.browse(Unsealed())
    places = [Seal(run.queue, run.first, len(run.entries), 9) for run in page.runs]
    await _seal(stage, page.cursor, *places)
    assert await stage.store.browse(LogLag()) == Lag()


async def receipts_past_their_time_are_passed_over(stage: Stage) -> None:
    await stage.put_queue(receipt_retention_seconds=_SECONDS_KEPT)
    for number in range(3):
        await stage.publish(b"%d" % number)
        await stage.ack(await stage.one())
    page = await stage.store.browse(Unsealed(limit=2))
    await _seal(stage, page.cursor, Seal("acme", 1, 2, 0))
    stage.clock.advance(_SECONDS_KEPT + 1)
    await stage.prune_all()
    # The newest of a ledger is kept whatever its age.
    left = await _entries(stage, "acme")
    assert len(left) == 1
    assert await stage.store.browse(LedgerSpan("acme")) == Span(5, 6)
    assert (await stage.store.browse(Unsealed())).runs == [Run("acme", 6, left)]
    assert (await stage.store.browse(LogLag())).receipts == 1


async def _entries(stage: Stage, queue: str) -> list[bytes]:
    page = await stage.store.browse(Receipts(queue))
    return [receipt.entry for receipt in page.receipts]


async def _seal(stage: Stage, cursor: int, *seals: Seal) -> None:
    await stage.configure(AddSeals(seals, cursor))
