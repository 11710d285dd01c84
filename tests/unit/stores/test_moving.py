"""A SQLite store copied into another: all of it, in pieces, and nothing that should not be copied."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.unit.engine.request_house import WHO, Work, asked
from tests.unit.stores.world import answers, furnish

from restante import moving
from restante.changes import PutPaper
from restante.engine.broker import Broker
from restante.engine.copying import Copied, copy
from restante.engine.requests import RETENTION_SECONDS
from restante.errors import LeaseLost, RequestNotFound, StoreInUse, StoreRefused
from restante.idempotency import Fate
from restante.idempotency import State as RequestState
from restante.model import Selection, Settled, Settlement, State, Verb
from restante.moving import Part
from restante.papers import Kind, Paper
from restante.queries import PaperOf
from restante.stores.sqlite import SqliteStore
from restante.stores.sqlite.folder import FILE_NAME
from restante.stores.sqlite.moving import SqliteEnd, copy_source, copy_target
from restante.testing.clock import FakeClock
from restante.testing.conformance.stage import ACME, OPERATOR, Stage, refused


def opener(folder, clock, jitter):
    return SqliteStore(folder, clock, jitter=jitter)


class Killed(Exception):
    """The copying process is gone."""


async def copied(source: Path, target: Path, clock: FakeClock, *, after: int = 1 << 30) -> Copied:
    """Copy one store into another; killed after so many batches."""
    left = [after]

    def watch(what: str, rows: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    async with copy_source(source, clock) as old, copy_target(target, clock) as new:
        return await copy(old, new, watch)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(moving, "BATCH_ROWS", 7)


def ids(stage: Stage) -> list[str]:
    return sorted(set(stage._ids.values()))


async def test_a_copy_answers_as_the_source_does_and_goes_on(tmp_path, small_batches):
    async with Stage(opener, tmp_path / "a") as stage:
        leased = await furnish(stage)
        secret, clock = stage.store.token_secret, stage.clock
        asked = ids(stage)
        before = await answers(stage.store, asked)
    result = await copied(tmp_path / "a", tmp_path / "b", clock)
    assert result.faults == []
    assert result.parts == result.moved
    assert min(result.parts[part] for part in Part) > 0
    stage._folder = tmp_path / "b"
    await stage._open()
    try:
        assert stage.store.token_secret == secret
        assert await answers(stage.store, asked) == before
        await go_on(stage, leased)
    finally:
        await stage.store.close()


async def go_on(stage: Stage, leased: dict[str, Any]) -> None:
    """Drive the copy on with what clients hold from before it was made."""
    again = await stage.publish(
        b"<both/>", queues=("acme", "globex"), topic="news", idempotency_key="k1"
    )
    assert again.replayed
    assert [place.queue for place in again.deliveries] == ["acme", "globex"]
    assert (await stage.ack(leased["late"])).state is State.ACKED
    assert (await stage.ack(leased["late"])).repeated
    assert (await stage.ack(leased["newer"])).state is State.ACKED
    assert (await stage.nack(leased["overtaken"])).outcome == "nacked"
    assert (await stage.settle(leased["running"], Verb.RELEASE)).state is State.READY
    await refused(LeaseLost, stage.ack(leased["overtaken"]))
    fresh = await stage.publish(
        b"<new/>", queues=("acme", "globex", "long", "parks", "old", "short")
    )
    assert len(fresh.deliveries) == 6
    await stage.store.redrive("parks", Selection(), OPERATOR, 10)
    await stage.pass_time(1_000)
    for queue in ("acme", "globex", "long", "parks", "old", "short"):
        while found := await stage.lease(50, queue=queue):
            for delivery in found:
                await stage.ack(delivery)
        figures = await stage.figures(queue)
        assert figures.ready + figures.leased + figures.scheduled + figures.held == 0, queue
    await stage.check()


async def test_deadlines_keep_what_is_left_of_them(tmp_path):
    async with Stage(opener, tmp_path / "a") as stage:
        await stage.publish()
        delivery = await stage.one(seconds=100)
        stage.clock.jump_wall(-3_600)
        await stage.publish(deliver_after_seconds=50)
    clock = stage.clock
    # The source's timeline is an hour ahead of the wall clock.
    async with copy_source(tmp_path / "a", clock) as old, copy_target(tmp_path / "b", clock) as new:
        assert await old.now_ms() - await new.now_ms() == 3_600_000
        await copy(old, new, lambda what, rows: None)
    async with SqliteStore(tmp_path / "b", clock) as store:
        assert await store.next_due() == 50
        (answer,) = await store.settle([Settlement(ref=delivery.ref, verb=Verb.ACK, actor=ACME)])
        assert isinstance(answer, Settled)


async def test_a_batch_is_forgotten_before_the_keys_of_its_parts_in_the_copy_too(tmp_path):
    odd = Paper(kind=Kind.REQUEST, key="odd", content=b"no record", version=1)
    async with Stage(opener, tmp_path / "a") as stage:
        async with Broker(stage.store, stage.clock) as broker:
            await broker.requests.once(asked(in_parts=True), Work(fate=Fate.INCOMPLETE))
        await stage.publish()
        await stage.configure(PutPaper(odd))
        # Now the source's timeline is an hour ahead of the wall clock, and the copy's keys have an hour less.
        stage.clock.jump_wall(-3_600)
    await copied(tmp_path / "a", tmp_path / "b", stage.clock)
    async with (
        SqliteStore(tmp_path / "b", stage.clock) as store,
        Broker(store, stage.clock) as broker,
    ):
        stage.clock.advance(RETENTION_SECONDS - 1)
        assert (await broker.requests.find(WHO, "k1")).state is RequestState.INCOMPLETE
        stage.clock.advance(1)
        with pytest.raises(RequestNotFound):
            await broker.requests.find(WHO, "k1")
        assert await store.browse(PaperOf(Kind.REQUEST, "odd")) == odd


async def test_a_killed_copy_goes_on_where_it_was(tmp_path, small_batches):
    async with Stage(opener, tmp_path / "a") as stage:
        await furnish(stage)
        asked, clock = ids(stage), stage.clock
        before = await answers(stage.store, asked)
    result = None
    for after in itertools.count(1, 4):
        try:
            result = await copied(tmp_path / "a", tmp_path / "b", clock, after=after)
        except Killed:
            with pytest.raises(StoreRefused, match="never finished"):
                await SqliteStore(tmp_path / "b", clock).__aenter__()
            with pytest.raises(StoreRefused, match="never finished"):
                await copied(tmp_path / "b", tmp_path / "c", clock)
        else:
            break
    assert result is not None
    assert result.faults == []
    assert result.moved == {}, "killed while it was verified, last of all"
    async with SqliteStore(tmp_path / "b", clock) as store:
        assert await answers(store, asked) == before
    assert (await copied(tmp_path / "a", tmp_path / "b", clock)).before


async def test_a_target_that_holds_something_is_refused(tmp_path):
    async with Stage(opener, tmp_path / "a"), Stage(opener, tmp_path / "b"):
        pass
    with pytest.raises(StoreRefused, match=r"holds a store already \(clients\)"):
        await copied(tmp_path / "a", tmp_path / "b", FakeClock())


async def test_a_source_that_was_served_meanwhile_is_refused(tmp_path, small_batches):
    async with Stage(opener, tmp_path / "a") as stage:
        await furnish(stage)
        with pytest.raises(StoreInUse):
            await copied(tmp_path / "a", tmp_path / "b", stage.clock)
    with pytest.raises(Killed):
        await copied(tmp_path / "a", tmp_path / "b", stage.clock, after=20)
    await stage._open()
    await stage.publish()
    await stage.store.close()
    with pytest.raises(StoreRefused, match="has changed since"):
        await copied(tmp_path / "a", tmp_path / "b", stage.clock)


async def test_a_source_that_is_none_is_refused(tmp_path):
    with pytest.raises(StoreRefused, match="no store in"):
        await copied(tmp_path / "a", tmp_path / "b", FakeClock())
    assert not (tmp_path / "a").exists()


DAMAGES = {
    "UPDATE receipts SET entry = CAST(replace(entry, 'acked', 'nacked') AS BLOB) WHERE outcome = 'acked'": (
        "breaks the chain"
    ),
    "UPDATE notifications SET body = x'00' WHERE body IS NOT NULL": "its body is damaged",
    "UPDATE tallies SET ready = ready + 1, acked = acked - 1 WHERE ready > 0": "ready, and it counts",
    "DELETE FROM receipts WHERE r IN (SELECT last FROM tallies)": "its ledger ends at",
    "DELETE FROM receipts": "its ledger is not there",
    "UPDATE tallies SET acked = acked + 1": "in all states",
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_what_is_wrong_in_the_source_is_told(tmp_path, damage):
    async with Stage(opener, tmp_path / "a") as stage:
        await furnish(stage)
    connection = apsw.Connection(str(tmp_path / "a" / FILE_NAME))
    connection.execute(damage)
    connection.close()
    result = await copied(tmp_path / "a", tmp_path / "b", stage.clock)
    assert any(DAMAGES[damage] in fault for fault in result.faults), result.faults


async def test_a_copy_that_differs_is_never_let_go(tmp_path, monkeypatch):
    async with Stage(opener, tmp_path / "a") as stage:
        await furnish(stage)
    taken: list[Iterable[Any]] = []
    put = SqliteEnd.put

    async def careless(self, rows, before, now):
        taken.append(rows)
        await put(self, rows[:-1] if now.part is Part.DELIVERIES else rows, before, now)

    with monkeypatch.context() as patch:
        patch.setattr(SqliteEnd, "put", careless)
        with pytest.raises(
            StoreRefused, match=r"deliveries .* is in the source, and not in the copy"
        ):
            await copied(tmp_path / "a", tmp_path / "b", stage.clock)
    assert taken
    with pytest.raises(StoreRefused, match="never finished"):
        await SqliteStore(tmp_path / "b", stage.clock).__aenter__()
