"""``restante backup``, ``restore`` and ``copy``: what they say, and how they refuse."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.unit.stores.world import furnish

from restante.stores.sqlite import SqliteStore
from restante.testing.conformance.stage import Stage


@pytest.fixture
def store(tmp_path: Path) -> Path:
    async def play() -> None:
        async with Stage(lambda *given: SqliteStore(*given[:2], jitter=given[2]), folder) as stage:
            await furnish(stage)

    folder = tmp_path / "store"
    asyncio.run(play())
    return folder


def test_backup_and_restore(program, store, tmp_path):
    file = tmp_path / "saved.db"
    told = program("backup", str(store), "--to", str(file))
    assert told.exit_code == 0, told.output
    assert "6 queues" in told.stdout
    assert f"Keep {store / 'secrets.key'} too" in told.stderr
    assert program("backup", str(store), "--to", str(file)).exit_code == 2
    again = program("backup", f"sqlite:///{store}", "--to", str(file), "--force", "--json")
    assert json.loads(again.stdout)["queues"] == 6
    told = program("restore", str(file), "--data", str(tmp_path / "new"))
    assert told.exit_code == 0, told.output
    assert "Put the secrets.key" in told.stderr
    refused = program("restore", str(file), "--data", str(tmp_path / "new"))
    assert refused.exit_code == 5
    assert "holds a store already" in refused.stderr


def test_copy(program, store, tmp_path):
    urls = ("--from", f"sqlite:///{store}", "--to", f"sqlite:///{tmp_path / 'new'}")
    told = program("copy", *urls)
    assert told.exit_code == 0, told.output
    assert "copied and verified" in told.stdout
    assert "6 queues" in told.stdout
    assert f"Give {store / 'secrets.key'} to every server" in told.stderr
    again = program("copy", *urls)
    assert again.exit_code == 0
    assert "finished by an earlier run" in again.stdout
    assert json.loads(program("copy", *urls, "--json").stdout)["before"] is True


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["backup", "nowhere", "--to", "x"], 5, "no store in nowhere"),
        (["backup", "postgresql://h/d", "--to", "x"], 2, "pg_basebackup"),
        (["restore", "nowhere", "--data", "x"], 2, "no file nowhere"),
        (["copy", "--from", "memory://", "--to", "sqlite:///x"], 2, "no store that can be copied"),
        (["copy", "--from", "sqlite:///x", "--to", "sqlite:///x"], 2, "the same store"),
        (["copy", "--from", "sqlite:///x", "--to", "sqlite:///y"], 5, "no store in x"),
        (["copy", "--from", "sqlite:///x"], 2, "--to"),
    ],
)
def test_refusals(program, tmp_path, monkeypatch, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    told = program(*arguments)
    assert told.exit_code == code, told.output
    assert says in told.stderr
    assert list(tmp_path.iterdir()) == []
