"""A log of receipts that was copied, or saved and restored: sound by what was kept of it before, and gone on with."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.e2e.conftest import Mailbox, Service
from tests.e2e.test_ledger import (
    assert_proved,
    head_of,
    is_consistent,
    key_of,
    live,
    proof_of,
    restante,
    unsealed,
)

from restante.testing.servers.postgresql import PostgresqlServer

pytestmark = pytest.mark.timeout(120)
KEY_FILE = "ledger.key"
Move = Callable[[Service, Path], AbstractContextManager[tuple[Service, str]]]


def run(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "restante", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def copied(old: Service, folder: Path) -> Iterator[tuple[Service, str]]:
    """From SQLite to PostgreSQL: a server of the copy that is not started, and the URL of its store."""
    with PostgresqlServer() as database:
        url = database.create_database()
        old.end(signal.SIGKILL)
        run("copy", "--from", f"sqlite:///{old.data}", "--to", url)
        key_file = str(old.data / KEY_FILE)
        with ended(
            Service(folder / "copied", "--store", url, "--ledger-key-file", key_file)
        ) as new:
            yield new, url


@contextlib.contextmanager
def restored(old: Service, folder: Path) -> Iterator[tuple[Service, str]]:
    """Saved while it was served, and restored elsewhere with its key."""
    with restored_alone(old, folder) as (new, url):
        shutil.copy(old.data / KEY_FILE, new.data)
        yield new, url


@contextlib.contextmanager
def restored_alone(old: Service, folder: Path) -> Iterator[tuple[Service, str]]:
    saved, data = folder / "saved.db", folder / "restored"
    run("backup", str(old.data), "--to", str(saved))
    old.end(signal.SIGKILL)
    run("restore", str(saved), "--data", str(data))
    with ended(Service(data)) as new:
        yield new, f"sqlite:///{data}"


@contextlib.contextmanager
def ended(service: Service) -> Iterator[Service]:
    """The same, stopped at the end where it runs."""
    try:
        yield service
    finally:
        if service.running:
            service.end(signal.SIGTERM)


@pytest.mark.parametrize("move", [copied, restored])
def test_a_moved_log_is_sound_and_gone_on_with(
    own_server: Service, tmp_path: Path, move: Move
) -> None:
    box = Mailbox(own_server)
    live(box, 30)
    early = box.receipts()[-1]
    place = proof_of(box.client, early)["index"]
    key, known = key_of(box.client), tmp_path / "heads.txt"
    known.write_text(box.client.get("/v1/ledger/head").text)
    old_size, old_root = head_of(known.read_text(), key)
    # Of which some, mostly, are not in the log when it is moved.
    live(box, 5)
    late = box.receipts()[-1]
    box.close()
    judged = ("--trust", key, "--head", str(known))
    with move(own_server, tmp_path) as (service, store):
        told = restante("verify", "--store", store, *judged)
        assert "looked at 70 receipts" in told
        service.start()
        there = Mailbox(service)
        live(there, 3)
        proof_of(there.client, there.receipts()[-1])
        there.close()
        with service.caller(box.key) as client:
            assert proof_of(client, early)["index"] == place
            for receipt in (early, late):
                assert_proved(proof_of(client, receipt), receipt, key)
            size, root = head_of(client.get("/v1/ledger/head").text, key)
            asked = {"from": old_size, "to": size}
            path = client.get("/v1/ledger/consistency", params=asked).json()["path"]
        assert size == 76
        path = [bytes.fromhex(one) for one in path]
        assert is_consistent(old_size, size, path, old_root, root)
        told = restante("verify", *judged, of=service)
        assert "looked at 76 receipts" in told
        assert unsealed(told) == 0
        assert "log.not_sealed" not in service.log()


def test_a_restored_log_without_its_key_is_gone_on_with_by_its_public_part(
    own_server: Service, tmp_path: Path
) -> None:
    box = Mailbox(own_server)
    live(box, 3)
    proof_of(box.client, box.receipts()[-1])
    key, known = key_of(box.client), tmp_path / "heads.txt"
    known.write_text(box.client.get("/v1/ledger/head").text)
    box.close()
    with restored_alone(own_server, tmp_path) as (service, _):
        service.start()
        there = Mailbox(service)
        live(there, 1)
        receipt = there.receipts()[-1]
        answer = there.client.get(f"/v1/receipts/{receipt['id']}/proof")
        assert (answer.status_code, answer.json()["code"]) == (409, "receipt_not_sealed")
        assert "log_damaged" in service.log()
        service.end(signal.SIGTERM)
        with (service.data / KEY_FILE).open("a") as file:
            file.write(f"{key}\n")
        service.start()
        proof = proof_of(there.client, receipt)
        (new_key,) = {one["key"] for one in there.client.get("/v1/ledger/keys").json()["keys"]} - {
            key
        }
        assert_proved(proof, receipt, new_key)
        trusted = ("--trust", key, "--trust", new_key)
        told = restante("verify", *trusted, "--head", str(known), of=service)
        assert "looked at 8 receipts" in told
        there.close()
