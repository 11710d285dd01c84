"""From SQLite to PostgreSQL and back again: all three answer alike, and each goes on where the one before was."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import asyncpg
import pytest
from tests.unit.stores.test_moving import Killed, go_on, ids, opener
from tests.unit.stores.world import answers, furnish

from restante import moving
from restante.engine.copying import Copied, copy
from restante.errors import ConfigurationError, StoreInUse, StoreRefused, StoreUnavailable
from restante.model import State
from restante.moving import Part
from restante.ports import CopySource, CopyTarget
from restante.stores.postgresql import PostgresqlStore
from restante.stores.postgresql import moving as postgresql_moving
from restante.stores.sqlite import SqliteStore
from restante.stores.sqlite import moving as sqlite_moving
from restante.testing.clock import FakeClock
from restante.testing.conformance.stage import Stage
from restante.testing.servers.postgresql import PostgresqlServer

Place = Path | str
"""A folder, or a database's URL."""


@pytest.fixture
def database(postgresql: PostgresqlServer, request):
    """A database of the test's own."""
    name = request.node.name[:60]
    yield postgresql.create_database(name)
    postgresql.query(f'DROP DATABASE "{name}" WITH (FORCE)', database="postgres")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(moving, "BATCH_ROWS", 17)


def source(place: Place, clock: FakeClock) -> AbstractAsyncContextManager[CopySource]:
    if isinstance(place, str):
        return postgresql_moving.copy_source(place, clock)
    return sqlite_moving.copy_source(place, clock)


def target(place: Place, clock: FakeClock) -> AbstractAsyncContextManager[CopyTarget]:
    if isinstance(place, str):
        return postgresql_moving.copy_target(place, clock)
    return sqlite_moving.copy_target(place, clock)


async def copied(old: Place, new: Place, clock: FakeClock, *, after: int = 1 << 30) -> Copied:
    """Copy one store into another; killed after so many batches."""
    left = [after]

    def watch(what: str, rows: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    async with source(old, clock) as from_, target(new, clock) as to:
        return await copy(from_, to, watch)


async def test_there_and_back_again(tmp_path, database):
    async with Stage(opener, tmp_path / "a") as stage:
        leased = await furnish(stage)
        clock, asked = stage.clock, ids(stage)
        secret = stage.store.token_secret
        before = await answers(stage.store, asked)
    there = await copied(tmp_path / "a", database, clock)
    async with PostgresqlStore(database, clock=clock) as store:
        assert store.token_secret == secret
        assert await answers(store, asked) == before
    back = await copied(database, tmp_path / "b", clock)
    assert there.faults == back.faults == []
    assert there.moved == back.moved
    assert min(back.parts[part] for part in Part) > 0
    async with SqliteStore(tmp_path / "b", clock) as store:
        assert await answers(store, asked) == before
    # What clients hold from before both is good in either.
    for place in (database, tmp_path / "b"):
        stage.store = (
            PostgresqlStore(place, clock=clock, jitter=lambda: 0.5)
            if isinstance(place, str)
            else SqliteStore(place, clock)
        )
        stage.clock = clock
        async with stage.store:
            if isinstance(place, str):
                assert (await stage.ack(leased["newer"])).state is State.ACKED
                fresh = await stage.publish(b"<new/>")
                assert fresh.deliveries
                await stage.check()
            else:
                await go_on(stage, leased)


async def test_a_copy_of_a_database_goes_on_in_another(tmp_path, database):
    async with Stage(opener, tmp_path / "a") as stage:
        leased = await furnish(stage)
    await copied(tmp_path / "a", database, stage.clock)
    stage.store = PostgresqlStore(database, clock=stage.clock, jitter=lambda: 0.5)
    async with stage.store:
        await go_on(stage, leased)
        before = await answers(stage.store, ids(stage))
    result = await copied(database, tmp_path / "b", stage.clock)
    assert result.faults == []
    async with SqliteStore(tmp_path / "b", stage.clock) as store:
        assert await answers(store, ids(stage)) == before


async def test_a_killed_copy_goes_on_where_it_was(tmp_path, database):
    async with Stage(opener, tmp_path / "a") as stage:
        await furnish(stage)
        before = await answers(stage.store, ids(stage))
    for after in (0, 5, 9, 20):
        with pytest.raises(Killed):
            await copied(tmp_path / "a", database, stage.clock, after=after)
        with pytest.raises(StoreRefused, match="never finished"):
            await PostgresqlStore(database, clock=stage.clock).__aenter__()
        with pytest.raises(StoreRefused, match="never finished"):
            await copied(database, tmp_path / "b", stage.clock)
    assert (await copied(tmp_path / "a", database, stage.clock)).faults == []
    assert (await copied(tmp_path / "a", database, stage.clock)).before
    async with PostgresqlStore(database, clock=stage.clock) as store:
        assert await answers(store, ids(stage)) == before


async def test_two_copies_into_one_database_do_not_mix(tmp_path, database):
    async with Stage(opener, tmp_path / "a") as stage:
        await furnish(stage)
    async with (
        source(tmp_path / "a", stage.clock) as old,
        target(database, stage.clock) as one,
        target(database, stage.clock) as other,
    ):
        results = await asyncio.gather(
            copy(old, one, lambda what, rows: None),
            copy(old, other, lambda what, rows: None),
            return_exceptions=True,
        )
    refusals = [result for result in results if not isinstance(result, Copied)]
    assert all(isinstance(refusal, StoreInUse | StoreRefused) for refusal in refusals), results
    assert refusals
    assert (await copied(tmp_path / "a", database, stage.clock)).faults == []


async def test_a_database_that_is_served_is_refused(tmp_path, database):
    async with Stage(opener, tmp_path / "a") as stage:
        await stage.publish()
    async with PostgresqlStore(database, clock=stage.clock):
        pass
    connection = await asyncpg.connect(database)
    await connection.execute(
        "INSERT INTO restante.nodes VALUES ('1', 'node-a', '1', '', 0, false, 0, 0, false, clock_timestamp())"
    )
    with pytest.raises(StoreInUse, match="served by node-a"):
        await copied(tmp_path / "a", database, stage.clock)
    with pytest.raises(StoreInUse, match="served by node-a"):
        await copied(database, tmp_path / "b", stage.clock)
    await connection.execute("UPDATE restante.nodes SET beat_at = beat_at - interval '11 s'")
    await connection.close()
    assert (await copied(tmp_path / "a", database, stage.clock)).faults == []
    async with Stage(opener, tmp_path / "c"):
        pass
    with pytest.raises(StoreRefused, match="holds a store already"):
        await copied(tmp_path / "c", database, stage.clock)


async def test_a_database_that_goes_away_is_told_of(tmp_path, database, postgresql):
    with pytest.raises(ConfigurationError, match="nowhere"):
        await copied(database.rpartition("/")[0] + "/nowhere", tmp_path / "b", FakeClock())
    async with Stage(opener, tmp_path / "a") as stage:
        await furnish(stage)

    def watch(what: str, rows: int) -> None:
        postgresql.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            database=database.rpartition("/")[2],
        )

    async with source(tmp_path / "a", stage.clock) as old, target(database, stage.clock) as new:
        with pytest.raises(StoreUnavailable, match="went away"):
            await copy(old, new, watch)
    assert (await copied(tmp_path / "a", database, stage.clock)).faults == []
