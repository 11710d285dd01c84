"""What operators look at, as processes: top, queue show, trace and doctor, against a server and a PostgreSQL."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.certificates import Authority
from tests.e2e.conftest import ADMIN_KEY, Mailbox, Service
from tests.e2e.test_cli import ENVIRONMENT, restante

from restante.keyfiles import load_keyring
from restante.testing.servers.postgresql import PostgresqlServer
from restante.testing.servers.proxies import Behind, Nginx, address_of

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def run(server: Service, tmp_path):
    def command(*arguments: str, **environment: str):
        access = {"RESTANTE_URL": server.url, "RESTANTE_KEY": ADMIN_KEY}
        return restante(*arguments, cwd=tmp_path, stdin=b"", **(access | environment))

    return command


@pytest.fixture
def failing(mailbox: Mailbox) -> Mailbox:
    fail(mailbox)
    return mailbox


def fail(mailbox: Mailbox) -> None:
    """A client that waits for one thing, has signed for another after a failure, and rejected a third."""
    ids = [mailbox.publish(b"<order/>").json()["id"] for _ in range(3)]
    first, second = mailbox.receive(max=2)
    assert [first["id"], second["id"]] == ids[:2]
    mailbox.settle(first["lease"], "nack", reason="stock system is down", retry_after=0)
    mailbox.settle(second["lease"], "reject", reason="no such article")
    (again,) = mailbox.receive(max=1)
    mailbox.settle(again["lease"], "ack")


def test_top_once(own_server: Service, tmp_path):
    """On a server of its own: what needs attention first is told, whatever is searched for."""
    box = Mailbox(own_server)
    fail(box)
    name = box.name

    def run(*arguments: str):
        access = {"RESTANTE_URL": own_server.url, "RESTANTE_KEY": ADMIN_KEY}
        return restante(*arguments, cwd=tmp_path, stdin=b"", **access)

    told = run("top", "--once", "--search", name)
    while f"{name} 1 dead letter; 1 waiting" not in told.stdout:
        # The server looks about once a second.
        assert told.returncode == 0, told.stderr
        told = run("top", "--once", "--search", name)
    assert re.search(rf"^{name} +1 +0 ", told.stdout, re.MULTILINE)
    shown = json.loads(run("top", "--json", "--search", name).stdout)
    assert [queue["name"] for queue in shown["queues"]] == [name]
    box.close()


def test_top_lives_in_a_small_terminal_until_it_is_interrupted(server: Service, mailbox: Mailbox):
    main, side = pty.openpty()
    access = {"RESTANTE_URL": server.url, "RESTANTE_KEY": ADMIN_KEY, "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "restante", "top", "--interval", "0.2", "--search", mailbox.name],
        stdin=side,
        stdout=side,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT | access | {"COLUMNS": "80", "LINES": "24"},
    )
    os.close(side)
    seen = b""
    published = False
    while not re.search(rb"waiting [1-9][0-9,]* \(leased", seen) or not published:
        assert select.select([main], [], [], 30)[0], seen
        seen += os.read(main, 65_536)
        if not published and mailbox.name.encode() in seen:
            mailbox.publish(b"<order/>")
            published, seen = True, b""
    process.send_signal(signal.SIGINT)
    while process.poll() is None:
        if select.select([main], [], [], 0.1)[0]:
            try:
                os.read(main, 65_536)
            except OSError:
                break
    _, told = process.communicate(timeout=30)
    os.close(main)
    assert (process.returncode, told) == (0, b"")


def test_queue_show(run, failing: Mailbox):
    told = run("queue", "show", failing.name)
    assert told.returncode == 0, told.stderr
    for words in ("waiting, last hour", "acked, last hour", "time to ack", "lease_seconds"):
        assert words in told.stdout
    shown = json.loads(run("queue", "show", failing.name, "--json").stdout)
    assert shown["figures"]["acked"] == 1
    assert len(shown["history"]["points"]) == 60
    own = restante(
        *("queue", "show", failing.name),
        cwd=Path.cwd(),
        RESTANTE_URL=failing.service.url,
        RESTANTE_KEY=failing.key,
    )
    assert own.returncode == 0, own.stderr


def test_trace(run, failing: Mailbox):
    (receipt, *_) = failing.receipts(outcome="acked")
    told = run("trace", receipt["notification"])
    assert told.returncode == 0, told.stderr
    whats = re.findall(r"(published|leased|nacked|signed) +\d* +(ready|leased|acked) ", told.stdout)
    assert whats == [
        ("published", "ready"),
        ("leased", "leased"),
        ("nacked", "ready"),
        ("leased", "leased"),
        ("signed", "acked"),
    ]
    assert "stock system is down" in told.stdout
    assert run("trace", "01900000-0000-7000-8000-000000000000").returncode == 1


def doctored(cwd: Path, *arguments: str, **environment: str):
    """The exit code, and the findings by subject."""
    told = restante("doctor", "--json", *arguments, cwd=cwd, stdin=b"", **environment)
    assert told.returncode in {0, 1, 2}, told.stderr
    findings = json.loads(told.stdout)["findings"]
    by_subject: dict[str, list[dict[str, str]]] = {}
    for finding in findings:
        by_subject.setdefault(finding["subject"], []).append(finding)
    return told.returncode, by_subject


def test_the_doctor_asks_the_process_that_has_the_store(own_server: Service, tmp_path):
    settings = tmp_path / "restante.toml"
    admin = own_server.admin_url.partition("://")[2]
    settings.write_text(f'data = "{own_server.data}"\nadmin_listen = "{admin}"\n')
    code, found = doctored(tmp_path, "--config", str(settings), "--url", own_server.url)
    pid = str(own_server.pid)
    assert [one["level"] for one in found["server"]] == ["ok", "ok", "ok"]
    assert f"process {pid} is healthy" in found["server"][0]["what"]
    assert f"process {pid} seals receipts" in found["server"][1]["what"]
    assert pid in found["store"][0]["what"]
    assert all(one["level"] == "ok" for one in found["clock"])
    assert "addresses" not in found
    # How soon its disk writes is the machine's own.
    others = [one for subject, ones in found.items() if subject != "fsync" for one in ones]
    assert {one["level"] for one in others} == {"ok"}, found
    assert code in {0, 1}

    own_server.end(signal.SIGKILL)
    code, found = doctored(tmp_path, "--config", str(settings), "--url", own_server.url)
    assert (code, found["server"][0]["level"]) == (2, "failure")
    assert "a quick check finds nothing" in found["store"][0]["what"]
    assert "goes on with the log" in found["ledger key"][0]["what"]


def test_the_doctor_says_what_to_do(tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    (data / "admin.key").write_text("rst_...")
    (data / "admin.key").chmod(0o644)
    told = restante("doctor", "--data", str(data), cwd=tmp_path)
    assert told.returncode == 2
    assert f"chmod 700 {data}" in told.stdout
    assert f"chmod 600 {data}/admin.key" in told.stdout
    assert "1 that do not work" in told.stdout
    told = restante("doctor", "--data", str(data), cwd=tmp_path, RESTANTE_LISTEN="nowhere")
    assert told.returncode == 2
    assert "RESTANTE_LISTEN: 'nowhere' is not allowed" in told.stdout


def test_the_doctor_looks_at_a_database_and_wakes_through_it(tmp_path):
    keys = tmp_path / "secrets.key"
    load_keyring(keys)
    with PostgresqlServer() as database:
        url = database.create_database()
        service = Service(
            tmp_path / "node" / "data", "--store", url, "--secrets-key-file", str(keys)
        )
        service.data.mkdir(parents=True)
        service.start()
        environment = {"RESTANTE_STORE": url, "RESTANTE_SECRETS_KEY_FILE": str(keys)}
        try:
            with service.caller() as admin:
                while admin.get("/v1/ledger/head").status_code != 200:
                    continue  # its first head is about to be signed
            _, found = doctored(tmp_path, "--url", service.url, **environment)
        finally:
            service.end(signal.SIGTERM)
        levels = {
            subject: found[subject][0]["level"]
            for subject in ("PostgreSQL", "schema", "durability", "autovacuum", "waker", "pooler")
        }
        assert set(levels.values()) == {"ok"}, found
        assert found["standby"][0]["level"] == "warning"
        assert re.search(r"takes \d+\.\d ms", found["waker"][0]["what"])
        assert "none is between" in found["pooler"][0]["what"]
        assert found["ledger key"][0]["level"] == "failure"
        environment["RESTANTE_LEDGER_KEY_FILE"] = str(service.data / "ledger.key")
        _, found = doctored(tmp_path, **environment)
        assert found["ledger key"][0]["level"] == "ok"
        database.query("ALTER DATABASE " + url.rpartition("/")[2] + " SET synchronous_commit = off")
        code, found = doctored(tmp_path, **environment)
        assert (code, found["durability"][0]["level"]) == (2, "failure")
    code, found = doctored(tmp_path, **environment)
    assert (code, found["PostgreSQL"][0]["level"]) == (2, "failure")


def test_the_doctor_finds_a_proxy_that_does_not_wait(server: Service, mailbox: Mailbox, tmp_path):
    authority = Authority(tmp_path)
    behind = Behind(address_of(server.url), address_of(server.admin_url))
    proxy = Nginx(tmp_path / "nginx", [behind], authority.for_server("127.0.0.1"))
    trusts = {"SSL_CERT_FILE": str(authority.file), "RESTANTE_KEY": ADMIN_KEY}

    def levels(wait: str) -> tuple[list[str], list[dict[str, str]]]:
        _, found = doctored(
            tmp_path,
            *("--through", proxy.url, "--queue", mailbox.name, "--wait", wait),
            **trusts,
        )
        return [one["level"] for one in found["proxy"]], found["proxy"]

    with proxy.running():
        assert levels("4")[0] == ["ok", "ok", "ok"]
    settings = proxy.folder / "restante.conf"
    text, changed = re.subn(
        r"proxy_read_timeout \w+;", "proxy_read_timeout 2s;", settings.read_text()
    )
    assert changed
    settings.write_text(text)
    with proxy.running():
        found, told = levels("4")
    # The stream has something to tell every second or so: it may outlast such a time-out.
    assert (found[0], found[2]) == ("failure", "ok")
    assert "was cut after 2" in told[0]["what"]
    assert "proxy_read_timeout" in told[0]["advice"]


async def test_a_stream_of_overviews_comes_as_things_change(server: Service, mailbox: Mailbox):
    async with (
        server.async_caller(ADMIN_KEY) as caller,
        caller.stream("GET", "/v1/overview/events", params={"search": mailbox.name}) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        published = False
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            (queue,) = json.loads(line.removeprefix("data: "))["queues"] or [None]
            if not published:
                mailbox.publish(b"<order/>")
                published = True
            elif queue is not None and queue["depth"] == 1:
                break


def test_a_queue_tells_of_its_last_minute(server: Service, mailbox: Mailbox) -> None:
    """At once, on the node that was asked: the figures of a queue are looked at when they are asked for."""
    for _ in range(3):
        mailbox.publish()
    first, second, third = mailbox.receive(max=3)
    mailbox.settle(first["lease"], "ack")
    mailbox.settle(second["lease"], "nack", reason="HTTP 500")
    mailbox.settle(third["lease"], "reject", reason="no such article")
    found = mailbox.client.get(f"/v1/queues/{mailbox.name}").json()["figures"]
    assert found["rates"] == {"published": 0.05, "acked": 0.017, "failed": 0.033}
    assert {one["reason"]: one["count"] for one in found["errors"]} == {
        "HTTP 500": 1,
        "no such article": 1,
    }
    assert (found["acked"], found["dead"], found["published"]) == (1, 1, 3)
