"""The commands about what others do, as processes: signatures, groups, operations, requests, heads."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.conftest import Mailbox, Service, until_waited_for
from tests.e2e.programs import running
from tests.e2e.test_cli import ENVIRONMENT, restante

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shop(mailbox: Mailbox, tmp_path: Path) -> Run:
    """Commands with the publisher's key, in an empty folder."""
    access = {"RESTANTE_URL": mailbox.service.url, "RESTANTE_KEY": mailbox.publisher_key}
    return lambda *arguments, stdin=b"": restante(*arguments, cwd=tmp_path, stdin=stdin, **access)


def test_publishing_waits_for_the_reply(mailbox: Mailbox, tmp_path: Path) -> None:
    (tmp_path / "question.xml").write_bytes(b"<price-of/>")
    waiting = subprocess.Popen(
        [
            *(sys.executable, "-m", "restante", "publish", mailbox.name, "question.xml"),
            *("--wait", "60", "--json"),
        ],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env=ENVIRONMENT
        | {"RESTANTE_URL": mailbox.service.url, "RESTANTE_KEY": mailbox.publisher_key},
    )
    with waiting:
        try:
            (got,) = mailbox.receive(wait=30)
            acked = mailbox.client.post(f"/v1/leases/{got['lease']}/ack", content=b"<price/>")
            assert acked.status_code == 200, acked.text
            told, _ = waiting.communicate(timeout=60)
        finally:
            waiting.kill()
    assert waiting.returncode == 0
    (shown,) = json.loads(told)
    (delivery,) = shown["deliveries"]
    assert (shown["id"], shown["result"]) == (got["id"], "met")
    assert (delivery["outcome"], delivery["reply"]) == ("acked", "<price/>")
    assert delivery["receipt"] == acked.json()["receipt"]


async def test_a_wait_goes_on_over_a_restart_of_the_server(
    own_server: Service, tmp_path: Path
) -> None:
    box = Mailbox(own_server)
    (tmp_path / "question.xml").write_bytes(b"<price-of/>")
    access = {"RESTANTE_URL": own_server.url, "RESTANTE_KEY": box.publisher_key}
    command = (sys.executable, "-m", "restante", "publish", box.name, "question.xml")
    async with running([*command, "--wait", "100"], tmp_path, ENVIRONMENT | access) as waiting:
        await until_waited_for(own_server, 1)
        own_server.end(signal.SIGKILL)
        await waiting.until(lambda lines: any("waiting for it" in line for line in lines))
        await asyncio.to_thread(own_server.start)
        (got,) = await asyncio.to_thread(box.receive, wait=30)
        assert box.settle(got["lease"], "ack").status_code == 200
        await waiting.until(lambda lines: "question.xml: met" in lines)
        assert await waiting.wait() == 0
    box.close()


def test_who_is_refused_the_signature_fails(mailbox: Mailbox, shop: Run) -> None:
    key = f"question-{mailbox.name}"
    publish = ("publish", mailbox.name, "-", "--idempotency-key", key)
    assert shop(*publish, stdin=b"<a/>").returncode == 0
    (got,) = mailbox.receive()
    assert mailbox.settle(got["lease"], "reject", reason="no such article").status_code == 200
    told = shop(*publish, "--wait", "30", stdin=b"<a/>")
    assert told.returncode == 1
    assert "(published before)" in told.stdout
    assert "no such article" in told.stdout
    assert "not as many can sign any more" in told.stderr
    request = json.loads(shop("request", key, "--json").stdout)
    assert (request["state"], request["notification"]) == ("done", got["id"])
    missing = shop("request", "never-sent")
    assert missing.returncode == 1
    assert "no request with this key" in missing.stderr


def test_a_group_and_an_operation_are_followed_to_their_ends(mailbox: Mailbox, shop: Run) -> None:
    members = [{"queue": mailbox.name, "body": "<charge/>"}]
    asked = mailbox.publisher.post("/v1/groups", json={"members": members, "timeout_seconds": 60})
    group = asked.json()["id"]
    assert "pending" in shop("group", "show", group).stdout
    assert shop("group", "show", group, "--wait", "0").returncode == 1
    (got,) = mailbox.receive()
    assert mailbox.settle(got["lease"], "ack").status_code == 200
    ended = shop("group", "show", group, "--wait", "30", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["state"] == "complete"
    assert group in shop("group", "list").stdout

    made = mailbox.publisher.post("/v1/operations", json={"title": "a report"}).json()["id"]
    assert made in shop("operations", "list").stdout
    cancelled = shop("operations", "cancel", made)
    assert cancelled.stdout == f"{made} cancelled\n"
    waited = shop("operations", "show", made, "--wait", "30")
    assert waited.returncode == 1
    assert "cancelled" in waited.stdout
    assert made not in shop("operations", "list").stdout


def test_heads_are_kept_and_checked_with(mailbox: Mailbox, shop: Run, tmp_path: Path) -> None:
    mailbox.publish()
    (receipt, *_) = mailbox.receipts()
    proof = mailbox.client.get(f"/v1/receipts/{receipt['id']}/proof", params={"wait": 10})
    assert proof.status_code == 200, proof.text
    assert shop("ledger", "heads", "--out", "heads.txt").returncode == 0
    kept = (tmp_path / "heads.txt").read_text()
    assert shop("ledger", "head", "--out", "heads.txt").returncode == 0
    both = (tmp_path / "heads.txt").read_text()
    assert both.startswith(kept)
    assert len(both) > len(kept) > 0
