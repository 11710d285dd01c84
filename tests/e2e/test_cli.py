"""The command line as processes: a server, commands against it, and every way a start can fail."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service

SECONDS = 30
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("RESTANTE_")}


def restante(
    *arguments: str, cwd: Path, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "restante", *arguments],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env=ENVIRONMENT | environment,
        timeout=SECONDS,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def serve(data: Path, *more: str) -> list[str]:
    command = [sys.executable, "-m", "restante", "serve", "--data", str(data)]
    return [*command, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", *more]


@contextlib.contextmanager
def started(data: Path, *more: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A starting server, killed in the end if it still runs."""
    process = subprocess.Popen(
        serve(data, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=data.parent,
        env=ENVIRONMENT | environment,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    words = process.stdout.readline().split()
    assert words[:1] == ["ready"], words
    return words[1]


@pytest.fixture
def run(server: Service, tmp_path):
    """Commands of the administrator against the shared server, in an empty folder."""

    def command(*arguments: str, stdin: bytes = b"", key: str = ADMIN_KEY):
        access = {"RESTANTE_URL": server.url, "RESTANTE_KEY": key}
        return restante(*arguments, cwd=tmp_path, stdin=stdin, **access)

    return command


def test_from_publish_to_receipt(run, mailbox: Mailbox, tmp_path):
    name = mailbox.name
    body = '<?xml version="1.0" encoding="UTF-16"?><order/>'.encode("utf-16")
    (tmp_path / "1.xml").write_bytes(b"<order/>")
    (tmp_path / "2.xml").write_bytes(body)
    published = run("publish", name, "1.xml", "2.xml", "--json")
    assert published.returncode == 0, published.stderr
    first = json.loads(published.stdout)[0]["id"]

    got = run("receive", name, "--wait", "0", "--output", "in", "--json", key=mailbox.key)
    assert got.returncode == 0, got.stderr
    one, two = (json.loads(line) for line in got.stdout.splitlines())
    written = sorted((tmp_path / "in").iterdir())
    assert [path.read_bytes() for path in written] == [b"<order/>", body]

    acked = run("ack", one["lease"], "--reply", "<accepted/>", key=mailbox.key)
    assert acked.returncode == 0, acked.stderr
    receipt = acked.stdout.split()[-1]
    assert run("reject", two["lease"], "--reason", "no such article").returncode == 0

    shown = json.loads(run("receipts", "show", receipt, "--json").stdout)
    assert (shown["outcome"], shown["reply"]) == ("acked", "<accepted/>")
    state = json.loads(run("status", first, "--json").stdout)["deliveries"][0]
    assert (state["state"], state["client"]) == ("acked", name)
    dead = json.loads(run("dead", "list", name, "--json").stdout)["dead"]
    assert [letter["reason"] for letter in dead] == ["no such article"]
    assert run("dead", "redrive", name, "--all").stdout == "1 dead letter redriven\n"
    assert "no gap, and the chain holds" in run("receipts", "verify", name).stdout


def test_administering(run, mailbox: Mailbox):
    name = mailbox.name
    changed = run("queue", "set", name, "lease-seconds=120", "depth_limit=9")
    assert changed.returncode == 0, changed.stderr
    settings = json.loads(run("queue", "show", name, "--json").stdout)["settings"]
    assert (settings["lease_seconds"], settings["depth_limit"]) == (120, 9)
    assert name in run("queue", "list").stdout
    assert name in run("client", "list").stdout
    made = run("keys", "add", "client", name)
    assert made.stdout.startswith("rst_")
    third = run("keys", "add", "client", name)
    assert third.returncode == 1
    assert "keys revoke" in third.stderr
    subscribed = json.loads(run("subscriptions", "add", f"{name}.#", name, "--json").stdout)
    assert name in run("subscriptions", "list").stdout
    assert run("subscriptions", "remove", subscribed["id"]).returncode == 0


def test_a_wrong_key_is_6_and_a_role_that_may_not_too(run, mailbox: Mailbox):
    wrong = run("queue", "list", key="rst_not_a_key")
    assert wrong.returncode == 6
    assert "RESTANTE_KEY" in wrong.stderr
    assert run("client", "list", key=mailbox.key).returncode == 6
    # What is another's is as if it were not there.
    assert run("queue", "show", "someone-elses", key=mailbox.key).returncode == 1


def test_nobody_there_is_1_and_says_what_to_do(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        told = restante("queue", "list", "--url", url, "--key", "k", cwd=tmp_path)
    assert told.returncode == 1
    assert "restante serve" in told.stderr
    assert "Traceback" not in told.stderr


def test_the_first_start_writes_the_administrators_key(tmp_path):
    data = tmp_path / "data"
    with started(data) as process:
        url = ready(process)
        key_file = data / "admin.key"
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        found = restante("client", "add", "acme", "--url", url, "--data", "data", cwd=tmp_path)
        assert found.returncode == 0, found.stderr
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert out == ""
    assert str(key_file) in err
    assert key_file.read_text().strip() not in err
    assert restante("check", "--data", "data", cwd=tmp_path).stdout == "data: all is well\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_long_poll_end_and_the_exit_code_is_0(tmp_path, number):
    with started(tmp_path / "data", RESTANTE_ADMIN_KEY=ADMIN_KEY) as process:
        access: Any = {"RESTANTE_URL": ready(process), "RESTANTE_KEY": ADMIN_KEY}
        assert restante("client", "add", "acme", cwd=tmp_path, **access).returncode == 0
        published = restante("publish", "acme", "-", cwd=tmp_path, stdin=b"x", **access)
        assert published.returncode == 0, published.stderr
        waiting = subprocess.Popen(
            [
                *(sys.executable, "-m", "restante", "receive", "acme"),
                *("--wait", "60", "--json", "--follow", "--ack"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=ENVIRONMENT | access,
        )
        try:
            assert waiting.stdout is not None
            assert json.loads(waiting.stdout.readline())["body"] == "x"
            process.send_signal(number)
            process.communicate(timeout=SECONDS)
            assert process.returncode == 0
            _, told = waiting.communicate(timeout=SECONDS)
            assert waiting.returncode == 1
            assert "Traceback" not in told
        finally:
            if waiting.poll() is None:
                waiting.kill()
                waiting.communicate()


def test_json_logs_are_json(tmp_path):
    with started(
        tmp_path / "data", "--log-format", "json", RESTANTE_ADMIN_KEY=ADMIN_KEY
    ) as process:
        ready(process)
        process.terminate()
        _, err = process.communicate(timeout=SECONDS)
    events = [json.loads(line)["event"] for line in err.splitlines() if line.startswith("{")]
    assert events == ["serve.ready", "serve.stopping"]
    assert ADMIN_KEY not in err


def test_a_port_in_use_is_3(server: Service, tmp_path):
    host, port = server.address
    told = restante("serve", "--data", "d", "--listen", f"{host}:{port}", cwd=tmp_path)
    assert told.returncode == 3
    assert f"{host}:{port} is in use" in told.stderr
    assert "--listen" in told.stderr


def test_a_store_in_use_is_4(server: Service, tmp_path):
    told = subprocess.run(
        serve(server.data), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert told.returncode == 4
    assert f"process {server.pid}" in told.stderr
    assert restante("check", "--data", str(server.data), cwd=tmp_path).returncode == 4


@pytest.fixture
def stopped_store(tmp_path) -> Path:
    data = tmp_path / "data"
    with started(data) as process:
        ready(process)
        process.terminate()
        process.communicate(timeout=SECONDS)
    return data


@pytest.mark.parametrize("harm", ["newer", "damaged"])
def test_a_store_that_cannot_be_trusted_is_5(stopped_store, tmp_path, harm):
    file = stopped_store / "restante.db"
    if harm == "newer":
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA user_version = 999")
    else:
        file.write_bytes(b"this is no database at all" * 1_000)
    for command in (
        ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"],
        ["check"],
    ):
        told = restante(*command, "--data", "data", cwd=tmp_path)
        assert told.returncode == 5, told.stderr
        assert "newer Restante" in told.stderr if harm == "newer" else "restante.db" in told.stderr
        assert "Traceback" not in told.stderr


def test_wrong_settings_are_2(tmp_path):
    (tmp_path / "restante.toml").write_text('listne = "127.0.0.1:0"\n')
    told = restante("serve", cwd=tmp_path)
    assert told.returncode == 2
    assert "did you mean listen?" in told.stderr


@pytest.mark.timeout(90)
def test_the_demo_accounts_for_every_document(tmp_path):
    told = restante("demo", "--documents", "60", "--data", "demo", cwd=tmp_path)
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.count("all accounted for") == 3
    assert "the document breaks off" in told.stdout
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.stdout.partition("(process ")[2].partition(",")[0]), 0)
    again = restante("demo", "--data", "demo", cwd=tmp_path)
    assert again.returncode == 2
    assert "not empty" in again.stderr


def test_an_interrupted_demo_leaves_nothing_behind(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "restante", "demo", "--documents", "3000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT | {"TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    server = int(process.stdout.readline().partition("(process ")[2].partition(",")[0])
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
