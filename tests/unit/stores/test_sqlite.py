"""What is the SQLite store's own: its file, its owner, its transactions."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import msgspec
import pytest

from restante.changes import AddKey
from restante.errors import ShuttingDown, StoreFull, StoreInUse, StoreRefused, StoreUnavailable
from restante.model import Key, Role
from restante.queries import KeyById, Unsealed
from restante.stores.sqlite import SqliteStore, check_file, committer, schema
from restante.stores.sqlite.books import RESERVE_BYTES
from restante.stores.sqlite.folder import FILE_NAME
from restante.stores.sqlite.seals import SealReads
from restante.testing.clock import FakeClock
from restante.testing.conformance.stage import Stage


def opener(folder, clock, jitter):
    return SqliteStore(folder, clock, jitter=jitter)


async def refusal(folder: Path) -> str:
    with pytest.raises(StoreRefused) as caught:
        async with SqliteStore(folder, FakeClock()):
            pass
    return str(caught.value)


async def test_one_process_owns_the_file(tmp_path):
    async with Stage(opener, tmp_path) as stage:
        with pytest.raises(StoreInUse, match="in use by process"):
            await SqliteStore(tmp_path, stage.clock).__aenter__()
        with pytest.raises(StoreInUse):
            check_file(tmp_path)
        await stage.publish()
    assert check_file(tmp_path) == []


async def test_what_is_no_store_is_refused_and_left_alone(tmp_path):
    file = tmp_path / FILE_NAME
    file.write_bytes(b"these are my holiday pictures" * 200)
    assert "not a store" in await refusal(tmp_path)
    assert file.read_bytes().startswith(b"these are my")
    file.unlink()
    other = apsw.Connection(str(file))
    other.execute("CREATE TABLE pictures (x)")
    other.close()
    assert "not a store of Restante" in await refusal(tmp_path)


async def test_a_newer_store_is_refused(tmp_path):
    async with SqliteStore(tmp_path, FakeClock()):
        pass
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    connection.pragma("user_version", schema.VERSION + 1)
    connection.close()
    assert "newer Restante" in await refusal(tmp_path)


async def test_an_older_store_is_brought_up_to_date(tmp_path, monkeypatch):
    """As the first release wrote it: what it held is there, and what came later has its default."""
    monkeypatch.setattr(schema, "VERSION", 1)
    async with SqliteStore(tmp_path, FakeClock()):
        pass
    monkeypatch.undo()
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    assert connection.pragma("user_version") == 1
    connection.execute("INSERT INTO keys VALUES ('k', 'admin', 'op', x'00', 1, NULL, NULL, '')")
    connection.close()
    async with SqliteStore(tmp_path, FakeClock()) as store:
        key = Key(id="k", role=Role.ADMIN, name="op", secret_hash=b"\0", created_at_ms=1)
        assert await store.browse(KeyById("k")) == key
        certificate = msgspec.structs.replace(key, id="san-a", certificate_san="dns:a")
        await store.configure([AddKey(certificate)])
        assert await store.browse(KeyById("san-a")) == certificate


async def test_a_refused_store_can_be_opened_once_it_is_mended(tmp_path):
    """The lock is let go of when opening fails."""
    (tmp_path / FILE_NAME).write_bytes(b"x" * 5_000)
    await refusal(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    async with SqliteStore(tmp_path, FakeClock()):
        pass


@pytest.mark.parametrize("part", ["table seals", "index papers_by_expiry"])
async def test_a_store_that_lacks_a_part_is_refused(tmp_path, part):
    async with SqliteStore(tmp_path, FakeClock()):
        pass
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    connection.execute(f"DROP {part}")
    connection.close()
    assert (await refusal(tmp_path)).endswith(f"is damaged: {part} is not there")


async def test_nothing_to_check(tmp_path):
    with pytest.raises(StoreRefused, match="no store"):
        check_file(tmp_path)


async def test_durability_is_set(tmp_path):
    async with SqliteStore(tmp_path, FakeClock()) as store:
        pragma = store._connection.pragma
        assert (pragma("journal_mode"), pragma("synchronous")) == ("wal", 2)


async def test_a_body_for_nobody_is_not_kept(tmp_path):
    async with Stage(opener, tmp_path) as stage:
        await stage.publish(b"x" * 5_000, queues=())
        await stage.publish(b"<kept/>")
        store: Any = stage.store
        bodies = store._connection.execute("SELECT body FROM notifications").fetchall()
        assert bodies == [(None,), (b"<kept/>",)]


# -- the committer ------------------------------------------------------------------------------


async def test_an_operation_that_breaks_fails_alone(tmp_path):
    """Its neighbours in the transaction are run again, one by one."""
    async with Stage(opener, tmp_path) as stage:
        used = (await stage.publish()).id
        futures = [
            stage.store.append([stage.draft(b"1")]),
            stage.store.append([stage.draft(b"2", id=used)]),
            stage.store.append([stage.draft(b"3")]),
        ]
        results: list[Any] = await asyncio.gather(*futures, return_exceptions=True)
        first, second, third = results
        assert isinstance(second, apsw.ConstraintError)
        assert [place.seq for (one,) in (first, third) for place in one.deliveries] == [2, 3]
        assert [d.body for d in await stage.lease()] == [b"<hello/>", b"1", b"3"]
        await stage.check()


async def test_too_much_waiting_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(committer, "PENDING_OPERATIONS", 2)
    async with Stage(opener, tmp_path) as stage:
        futures = [stage.store.append([stage.draft()]) for _ in range(3)]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert [isinstance(one, StoreUnavailable) for one in results] == [False, False, True]
        await stage.publish()


async def test_damage_in_what_is_to_be_sealed_ends_no_service(tmp_path, monkeypatch):
    async with Stage(opener, tmp_path) as stage:
        await stage.publish()

        def damaged(*_):
            raise apsw.CorruptError("database disk image is malformed")

        with monkeypatch.context() as patch:
            patch.setattr(SealReads, "_cursor", damaged)
            with pytest.raises(StoreUnavailable, match="damaged"):
                await stage.store.browse(Unsealed(10))
        await stage.publish()
        assert len((await stage.store.browse(Unsealed(10))).runs[0].entries) == 2


async def test_closing_finishes_what_was_submitted(tmp_path):
    async with Stage(opener, tmp_path) as stage:
        futures = [stage.store.append([stage.draft()]) for _ in range(600)]
        closing = asyncio.create_task(stage.store.close())
        await asyncio.gather(*futures)
        await closing
        with pytest.raises(ShuttingDown):
            await stage.store.append([stage.draft()])
        await stage.reopen()
        assert (await stage.figures()).published == 600


async def test_closing_twice_is_closing_once(tmp_path):
    store = SqliteStore(tmp_path, FakeClock())
    async with store:
        pass
    await store.close()


# -- a disk that fills up -----------------------------------------------------------------------


@pytest.mark.parametrize(("spare_bytes", "has_room"), [(-65_536, False), (65_536, True)])
async def test_what_the_log_has_yet_to_put_into_the_file_is_not_free(
    tmp_path, monkeypatch, spare_bytes, has_room
):
    """Else the log could not be moved into a file that finds no room, and would grow with each ack until none fits."""
    async with Stage(opener, tmp_path) as stage:
        for number in range(60):
            await stage.publish(b"%d" % number * 16_000)
        store: Any = stage.store
        pages: int = store._connection.pragma("page_count")
        outstanding = pages * 4_096 - (tmp_path / FILE_NAME).stat().st_size
        assert outstanding > 500_000, "all of it is in the log"
        free = RESERVE_BYTES + outstanding + spare_bytes
        disk = SimpleNamespace(f_blocks=10**9, f_frsize=4_096, f_bavail=free // 4_096)
        monkeypatch.setattr(os, "statvfs", lambda _: disk)
        stage.clock.advance(1)
        if has_room:
            await stage.publish()
        else:
            with pytest.raises(StoreFull):
                await stage.publish()
            # What is there is collected all the same, and the log has gone into the file.
            (lease,) = await stage.lease(1)
            assert lease.attempt == 1
