"""Saving a store while it is open, and making one of what was saved."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from tests.unit.stores.world import answers, furnish

from restante.errors import ConfigurationError, LeaseLost, StoreInUse, StoreRefused
from restante.stores.sqlite import SqliteStore, schema
from restante.stores.sqlite import backup as saving
from restante.stores.sqlite.backup import backup, restore
from restante.stores.sqlite.folder import FILE_NAME
from restante.testing.conformance.stage import Stage, refused


def opener(folder, clock, jitter):
    return SqliteStore(folder, clock, jitter=jitter)


def unseen(done: int, total: int) -> None:
    assert 0 < done <= total


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
async def test_what_is_left_of_another_store_is_not_played_into_the_restored_one(tmp_path, suffix):
    async with Stage(opener, tmp_path / "a") as stage:
        await furnish(stage)
    backup(tmp_path / "a", tmp_path / "saved.db", unseen)
    left = tmp_path / "b" / f"{FILE_NAME}{suffix}"
    left.parent.mkdir()
    left.write_bytes(b"")
    with pytest.raises(StoreRefused, match="of a store that was here"):
        restore(tmp_path / "saved.db", tmp_path / "b", unseen)
    left.unlink()
    restore(tmp_path / "saved.db", tmp_path / "b", unseen)


async def test_what_was_saved_while_it_was_open_is_there_again(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "STEP_PAGES", 2)
    file = tmp_path / "saved.db"
    async with Stage(opener, tmp_path / "a") as stage:
        leased = await furnish(stage)
        asked = sorted(set(stage._ids.values()))
        before = await answers(stage.store, asked)
        other = apsw.Connection(str(tmp_path / "a" / FILE_NAME))

        def meddle(done: int, total: int) -> None:
            # Commits between any two steps: none is in the copy, and none makes it begin again.
            unseen(done, total)
            steps.append(done)
            other.execute("INSERT INTO clients VALUES (?, 0)", (f"later-{done}",))

        steps: list[int] = []
        contents = backup(tmp_path / "a", file, meddle)
        other.close()
        secret = stage.store.token_secret
    assert steps == sorted(set(steps))
    assert len(steps) > 5
    assert file.stat().st_mode & 0o777 == 0o600
    assert (contents.queues, contents.webhooks) == (6, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "saved.db"]
    assert restore(file, tmp_path / "b", unseen) == contents
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["lock", FILE_NAME]
    stage._folder = tmp_path / "b"
    await stage._open()
    assert stage.store.token_secret != secret, "tokens of a future that never was open nothing"
    assert await answers(stage.store, asked) == before
    await stage.ack(leased["newer"])
    with pytest.raises(StoreInUse):
        restore(file, tmp_path / "b", unseen)
    await stage.check()
    await stage.store.close()


async def test_a_store_of_before_comes_back_as_it_was(tmp_path):
    async with Stage(opener, tmp_path / "a") as stage:
        await stage.publish()
        delivery = await stage.one(seconds=60)
        backup(tmp_path / "a", tmp_path / "saved.db", unseen)
        await stage.ack(delivery)
    restore(tmp_path / "saved.db", tmp_path / "b", unseen)
    stage._folder = tmp_path / "b"
    await stage._open()
    await stage.pass_time(60)
    again = await stage.one()
    assert (again.id, again.attempt) == (delivery.id, 2)
    await refused(LeaseLost, stage.nack(delivery))
    await stage.store.close()


async def test_nothing_is_written_over(tmp_path):
    file = tmp_path / "saved.db"
    async with Stage(opener, tmp_path / "a"):
        pass
    file.write_text("of value")
    with pytest.raises(ConfigurationError, match="there already"):
        backup(tmp_path / "a", file, unseen)
    assert file.read_text() == "of value"
    backup(tmp_path / "a", file, unseen, force=True)
    with pytest.raises(StoreRefused, match="holds a store already"):
        restore(file, tmp_path / "a", unseen)


async def test_what_is_no_store_is_not_saved(tmp_path):
    with pytest.raises(StoreRefused, match="no store in"):
        backup(tmp_path / "nowhere", tmp_path / "saved.db", unseen)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / FILE_NAME).write_bytes(b"these are my holiday pictures" * 200)
    with pytest.raises(StoreRefused, match="not a store"):
        backup(tmp_path / "a", tmp_path / "saved.db", unseen)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def _change(file: Path, *statements: str) -> None:
    connection = apsw.Connection(str(file))
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (f"PRAGMA user_version = {schema.VERSION + 1}", "newer Restante"),
        ("PRAGMA application_id = 7", "not a store of Restante"),
        ("INSERT INTO meta VALUES ('copying', x'00')", "never finished"),
        ("UPDATE tallies SET ready = ready + 1, seq = seq + 1", "figures of queue"),
        ("DELETE FROM receipts WHERE outcome = 'discarded'", "figures of queue"),
        ("DELETE FROM deliveries", "figures of queue"),
    ],
)
async def test_what_cannot_be_trusted_is_not_restored(tmp_path, statement, says):
    async with Stage(opener, tmp_path / "a") as stage:
        await furnish(stage)
    backup(tmp_path / "a", tmp_path / "saved.db", unseen)
    _change(tmp_path / "saved.db", statement)
    with pytest.raises(StoreRefused, match=says):
        restore(tmp_path / "saved.db", tmp_path / "b", unseen)
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["lock"]


@pytest.mark.parametrize("keep", [0, 50, 5_000, 40_000])
async def test_a_file_that_was_cut_off_is_not_restored(tmp_path, keep):
    async with Stage(opener, tmp_path / "a") as stage:
        await furnish(stage)
    file = tmp_path / "saved.db"
    backup(tmp_path / "a", file, unseen)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(StoreRefused, match=r"damaged|not a store"):
        restore(file, tmp_path / "b", unseen)
    with pytest.raises(ConfigurationError, match="no file"):
        restore(tmp_path / "nowhere.db", tmp_path / "b", unseen)


async def test_pages_that_were_damaged_are_seen(tmp_path):
    async with Stage(opener, tmp_path / "a") as stage:
        await furnish(stage)
    file = tmp_path / "saved.db"
    backup(tmp_path / "a", file, unseen)
    whole = bytearray(file.read_bytes())
    found = 0
    for page in range(1, len(whole) // 4_096):
        broken = whole.copy()
        broken[page * 4_096 : page * 4_096 + 40] = b"\xa5" * 40
        file.write_bytes(broken)
        try:
            restore(file, tmp_path / f"b{page}", unseen)
        except StoreRefused:
            found += 1
    assert found > len(whole) // 4_096 // 2
