"""The table that the relay reads, in SQLite, where any column may hold anything."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from restante import publish_in
from restante.errors import ConfigurationError, Malformed
from restante.outbox.table import READ_BYTES, OutboxTable
from restante.written import check_written

TABLE = "restante_outbox"
GIVEN = {
    "id": "0197a1b2-c3d4-7000-8000-000000000001",
    "publisher": "shop",
    "queue": "acme",
    "content_type": "text/plain",
    "body": b"x",
}


def test_large_bodies_are_read_a_few_at_a_time(tmp_path):
    file = tmp_path / "shop.db"
    rows = OutboxTable(f"sqlite:///{file}", TABLE)
    rows.create()
    with contextlib.closing(rows), contextlib.closing(sqlite3.connect(file)) as connection:
        for number in range(5):
            publish_in(connection, bytes(READ_BYTES // 2), queue=f"q{number}", table=TABLE)
        connection.commit()
        first = rows.waiting(10)
        rows.settle([one.id for one in first], {})
        left = rows.waiting(10)
    assert [one.queue for one in first] == ["q0", "q1"]
    assert [one.queue for one in left] == ["q2", "q3"]


def waiting(folder: Path, **more: Any) -> Any:
    """The one row, as it is read."""
    file = folder / "shop.db"
    rows = OutboxTable(f"sqlite:///{file}", TABLE)
    with contextlib.closing(rows), contextlib.closing(sqlite3.connect(file)) as connection:
        assert rows.create()
        values = {**GIVEN, **more}
        names = ", ".join(values)
        marks = ", ".join("?" for _ in values)
        connection.execute(
            f"INSERT INTO {TABLE} ({names}) VALUES ({marks})", tuple(values.values())
        )
        connection.commit()
        (found,) = rows.waiting(10)
    return found


@pytest.mark.parametrize(
    ("more", "body"),
    [
        ({}, b"x"),
        ({"body": "Bodø"}, "Bodø".encode()),
        ({"written_at": "2026-01-01 00:00:00"}, b"x"),
    ],
)
def test_a_row_is_read_as_it_was_meant(tmp_path, more, body):
    found = waiting(tmp_path, **more)
    assert check_written(found).body == body
    assert found.waited_seconds >= 0


@pytest.mark.parametrize(
    "odd",
    [
        {"written_at": "yesterday"},
        {"deliver_after_seconds": "soon"},
        {"expires_after_seconds": b"late"},
        {"attributes": b"{}"},
        {"queue": b"acme"},
        {"id": b"1"},
    ],
)
def test_an_odd_row_is_refused_by_itself(tmp_path, odd):
    found = waiting(tmp_path, **odd)
    with pytest.raises(Malformed):
        check_written(found)


@pytest.mark.parametrize(
    "url",
    [
        "ann:open-sesame@db",
        "postgresql+psycopg://ann:open-sesame@db:port/shop",
        "no://a:open-sesame@b",
    ],
)
def test_a_url_of_no_use_is_refused_without_its_password(url):
    with pytest.raises(ConfigurationError) as refused:
        OutboxTable(url, TABLE)
    assert "open-sesame" not in str(refused.value)
