"""The first administrator's key: written once, readable by its owner alone, and always one that opens."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import Service


@pytest.fixture
def unstarted(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "data")
    yield service
    with contextlib.suppress(ProcessLookupError, AssertionError):
        service.end(signal.SIGKILL)


def test_the_first_start_writes_a_key_that_opens_and_the_second_keeps_it(
    unstarted: Service,
) -> None:
    unstarted.start(admin_key=None)
    file = unstarted.data / "admin.key"
    assert file.stat().st_mode & 0o777 == 0o600
    key = file.read_text().strip()
    unstarted.end(signal.SIGKILL)
    unstarted.start(admin_key=None)
    assert file.read_text().strip() == key
    with unstarted.caller(key) as caller:
        assert caller.get("/v1/keys").status_code == 200


@pytest.mark.parametrize("left", ["admin.key", "admin.new"])
def test_a_start_killed_while_it_wrote_the_key_does_not_stop_the_next(
    unstarted: Service, left: str
) -> None:
    unstarted.data.mkdir()
    (unstarted.data / left).write_text("rst_half")
    unstarted.start(admin_key=None)
    key = (unstarted.data / "admin.key").read_text().strip()
    with unstarted.caller(key) as caller:
        assert caller.get("/v1/keys").status_code == 200
    assert key not in unstarted.log()
