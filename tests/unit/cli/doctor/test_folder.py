"""The doctor's checks of the data folder and of the store in it."""

import asyncio
import datetime
import os
import socket
from pathlib import Path

import apsw
import pytest
from tests.certificates import Authority

from restante.cli.doctor import folder, ledger, network, sqlite
from restante.cli.doctor.findings import Case, Level
from restante.clock import SystemClock
from restante.config import load
from restante.engine.receipt_log import ReceiptLog
from restante.keyfiles import LEDGER_KEY_FILE
from restante.stores.sqlite import SqliteStore
from restante.stores.sqlite.folder import FILE_NAME, lock
from restante.wire.checkpoints import LogKeys, SignerKey

MIB = 2**20


def case(data, **flags):
    return Case(config=load(None, {}, {"data": data, **flags}))


@pytest.fixture
def stored(tmp_path):
    """A folder with a store in it that nobody has open."""
    data = tmp_path / "data"

    async def make():
        async with SqliteStore(data, SystemClock()):
            pass

    asyncio.run(make())
    return data


def test_a_folder_that_is_not_there_is_made_at_the_start(tmp_path):
    found = folder.there(case(tmp_path / "new"))
    assert found is not None
    assert found.level is Level.OK
    assert folder.folder_mode(case(tmp_path / "new")) is None


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    found = folder.there(case(tmp_path / "file"))
    assert found is not None
    assert found.level is Level.FAILURE


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    assert folder.there(case(tmp_path)) is None
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = folder.there(case(tmp_path))
    assert found is not None
    assert found.level is Level.FAILURE


@pytest.mark.parametrize(("mode", "level"), [(0o700, Level.OK), (0o750, Level.WARNING)])
def test_who_may_look_into_the_folder(tmp_path, mode, level):
    tmp_path.chmod(mode)
    found = folder.folder_mode(case(tmp_path))
    assert found is not None
    assert found.level is level


@pytest.mark.parametrize(("mode", "level"), [(0o600, Level.OK), (0o640, Level.FAILURE)])
def test_who_may_read_keys(tmp_path, mode, level):
    assert folder.key_files(case(tmp_path)) is None
    key = tmp_path / "secrets.key"
    key.touch()
    key.chmod(mode)
    found = folder.key_files(case(tmp_path))
    assert found is not None
    assert found.level is level
    assert (str(key) in found.advice) is (level is Level.FAILURE)


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("ext4", Level.OK),
        ("xfs", Level.OK),
        ("", Level.OK),
        ("nfs4", Level.FAILURE),
        ("cifs", Level.FAILURE),
        ("fuse.sshfs", Level.FAILURE),
        ("tmpfs", Level.WARNING),
        ("overlay", Level.WARNING),
    ],
)
def test_file_systems(tmp_path, kind, level):
    assert folder.judge_file_system(tmp_path, kind).level is level


def test_the_innermost_mount_counts_and_the_last_of_two_in_one_place(tmp_path):
    table = tmp_path / "mountinfo"
    inner = tmp_path / "a b"
    mounted = str(inner).replace(" ", "\\040")
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        f"2 1 0:5 / {mounted} rw shared:1 - ext4 /dev/sdb rw\n"
        f"3 1 0:6 / {mounted} rw - nfs4 server:/x rw\n"
        f"4 1 0:7 / {tmp_path}/a rw - tmpfs none rw\n"
    )
    assert folder.type_of(inner / "deep", table) == "nfs4"
    assert folder.type_of(tmp_path, table) == "ext4"
    assert folder.type_of(tmp_path, tmp_path / "none") == ""


def test_the_system_s_own_table_is_read():
    assert folder.type_of(Path("/proc/self")) == "proc"


@pytest.mark.parametrize(
    ("free", "level"),
    [(1_000 * MIB, Level.OK), (255 * MIB, Level.WARNING), (63 * MIB, Level.FAILURE)],
)
def test_room(free, level):
    assert folder.judge_room(free, 64 * MIB).level is level


@pytest.mark.parametrize(
    ("seconds", "level", "battery"),
    [
        (0.001, Level.OK, False),
        (0.03, Level.WARNING, False),
        (0.000_02, Level.OK, True),
    ],
)
def test_time_to_the_disk(seconds, level, battery):
    found = folder.judge_syncing(seconds)
    assert found.level is level
    assert ("a power cut loses" in found.what) is battery


def test_what_was_measured_leaves_nothing_behind(tmp_path):
    assert folder.measured(tmp_path) > 0
    assert not list(tmp_path.iterdir())


def test_on_postgresql_the_disk_is_another_s(tmp_path):
    elsewhere = case(tmp_path, store="postgresql://u@h/d")
    for check in (folder.file_system, folder.room, folder.syncing, sqlite.library, sqlite.whole):
        assert check(elsewhere) is None


@pytest.mark.parametrize(
    ("version", "level"), [("3.51.3", Level.OK), ("3.54.1", Level.OK), ("3.40.1", Level.FAILURE)]
)
def test_the_library(version, level):
    assert sqlite.judge_library(version).level is level


def test_a_store_that_is_whole(stored):
    found = sqlite.whole(case(stored))
    assert found is not None
    assert found.level is Level.OK
    assert "a quick check finds nothing" in found.what


def test_a_store_that_is_damaged(stored):
    path = stored / FILE_NAME
    path.write_bytes(path.read_bytes()[:512] + b"\xff" * 4_096)
    found = sqlite.whole(case(stored))
    assert found is not None
    assert found.level is Level.FAILURE


def test_a_store_that_somebody_has_open_is_left_to_him(stored):
    assert sqlite.owner(stored) is None
    with lock(stored):
        assert sqlite.owner(stored) == str(os.getpid())
        found = sqlite.whole(case(stored))
        assert found is not None
        assert (found.level, str(os.getpid()) in found.what) == (Level.OK, True)
        assert network.addresses(case(stored)) is None
    assert sqlite.owner(stored) is None


def test_webhooks_that_nothing_can_call(stored, monkeypatch):
    assert sqlite.webhooks(case(stored)) is None
    connection = apsw.Connection(str(stored / FILE_NAME))
    connection.execute("INSERT INTO webhooks VALUES ('acme', 1, x'00')")
    connection.close()
    found = sqlite.webhooks(case(stored))
    assert found is not None
    assert found.level is Level.OK
    monkeypatch.setattr(sqlite, "installed", lambda module: False)
    found = sqlite.webhooks(case(stored))
    assert found is not None
    assert found.level is Level.FAILURE


async def sealed(data, *keys):
    """A folder with a store whose log one has sealed who has these keys."""
    async with SqliteStore(data, SystemClock()) as store:
        await ReceiptLog(store, SystemClock(), "one", LogKeys(keys)).step()


def test_the_key_of_the_log(stored):
    # Nothing was sealed yet, so any key will do.
    assert sqlite.ledger_key(case(stored)) is None
    own, other = (SignerKey("receipts.example", bytes([n]) * 32) for n in (1, 2))
    asyncio.run(sealed(stored, own))
    file = stored / LEDGER_KEY_FILE
    missing = sqlite.ledger_key(case(stored))
    assert missing is not None
    assert missing.level is Level.FAILURE
    assert "no " + str(file) in missing.what
    assert not file.exists()
    for line, level, words in (
        (own.text, Level.OK, "goes on with the log receipts.example"),
        (other.text, Level.FAILURE, f"another key than {other.verifier.text}"),
        (f"{other.text}\n{own.verifier.text}", Level.OK, "goes on"),
        ("nonsense", Level.FAILURE, "not a key"),
    ):
        file.write_text(line)
        file.chmod(0o600)
        found = sqlite.ledger_key(case(stored))
        assert found is not None
        assert (found.level, words in found.what) == (level, True), found
    with lock(stored):
        assert sqlite.ledger_key(case(stored)) is None


@pytest.mark.parametrize("state", [b"", b"{}", b"\xff"])
def test_a_log_that_is_none(state):
    found = ledger.judge(state, LogKeys((SignerKey("receipts.example", b"1" * 32),)))
    assert found.level is Level.FAILURE
    assert "not what was signed" in found.what


def test_addresses(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = case(tmp_path, listen="127.0.0.1:0", admin_listen="127.0.0.1:0")
        found = network.addresses(free)
        assert found is not None
        assert found.level is Level.OK
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        found = network.addresses(case(tmp_path, listen=address, admin_listen="127.0.0.1:0"))
        assert found is not None
        assert found.level is Level.FAILURE
        assert address in found.what


def test_certificates(tmp_path):
    assert network.certificate(case(tmp_path)) is None
    authority = Authority(tmp_path)
    one, other = authority.for_server("127.0.0.1"), authority.for_server("localhost", file="other")

    def found(key):
        shown = network.certificate(case(tmp_path, tls_certificate=one.certificate, tls_key=key))
        assert shown is not None
        return shown

    assert found(one.key).level is Level.OK
    assert found(other.key).level is Level.FAILURE
    assert found(tmp_path / "none").level is Level.FAILURE


@pytest.mark.parametrize(
    ("days", "level"),
    [(15, Level.OK), (13, Level.WARNING), (0, Level.FAILURE), (-3, Level.FAILURE)],
)
def test_how_long_a_certificate_is_good(tmp_path, days, level):
    left = datetime.timedelta(days=days)
    assert network.judge_certificate(tmp_path, left).level is level
