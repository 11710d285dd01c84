"""What vendors use in JavaScript beside the examples: grpc-js that publishes, and the verifiers of webhooks."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.conftest import Mailbox, Service
from tests.e2e.hooks import hooked, next_call, receiving
from tests.e2e.programs import installed

SCRIPTS = Path(__file__).parents[1] / "clients" / "node"
XML = "<order>ü</order>".encode()


def run(folder: Path, script: str, *arguments: str, said: str = "") -> list[str]:
    """The lines that a script prints, run where its packages are."""
    command = installed(SCRIPTS / script, folder)
    done = subprocess.run(
        [*command, *arguments],
        check=False,
        cwd=folder,
        input=said,
        text=True,
        capture_output=True,
        timeout=40,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("known", [True, False])
def test_grpc_js_publishes_from_the_proto_alone(
    server: Service, mailbox: Mailbox, tmp_path: Path, known: bool
) -> None:
    (tmp_path / "restante.proto").write_bytes(httpx.get(f"{server.url}/restante.proto").content)
    key = mailbox.publisher_key if known else "rst_nobody"
    lines = run(
        tmp_path, "publish.mjs", "restante.proto", server.grpc, key, mailbox.name, "<a/>", "<ü/>"
    )
    if known:
        got = mailbox.receive()
        assert lines == [f"published {one['id']}" for one in got]
        assert [one["body"] for one in got] == ["<a/>", "<ü/>"]
        assert {one["content_type"] for one in got} == {"application/xml"}
        receipts = mailbox.receipts(outcome="published")
        assert {receipt["transport"] for receipt in receipts} == {"grpc"}
    else:
        assert lines == ["refused UNAUTHENTICATED unauthenticated"]
        assert mailbox.figures()["published"] == 0


@pytest.mark.parametrize("payload", ["body", "json"])
async def test_verifiers_in_javascript(server: Service, tmp_path: Path, payload: str) -> None:
    async with hooked(server) as one, receiving() as (receiver, url):
        first = (await one.set(url, payload=payload))["secret"]
        second = (await one.post("secrets"))["secret"]
        await one.publish(XML)
        call = await next_call(receiver)
        await receiver.answer(call, 204)
    headers = {name: value for name, value in call.headers.items() if name.startswith("webhook-")}
    # Only to the second, so that a receiver takes none that was recorded long ago.
    stale = headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 600)}
    cases: list[tuple[str, dict[str, str], bytes]] = [
        (first, headers, call.body),
        (second, headers, call.body),
        ("whsec_" + base64.b64encode(bytes(24)).decode(), headers, call.body),
        (first, headers, call.body.replace(b"order", b"0rder")),
        (first, headers | {"webhook-id": "another"}, call.body),
        (first, stale, call.body),
    ]
    asked = "".join(
        json.dumps({"secret": secret, "headers": of_it, "body": base64.b64encode(body).decode()})
        + "\n"
        for secret, of_it, body in cases
    )
    verdicts: list[dict[str, Any]] = [
        json.loads(line) for line in run(tmp_path, "verify.mjs", said=asked)
    ]
    assert verdicts[:2] == [{"standardwebhooks": "ok", "svix": "ok"}] * 2
    for verdict in verdicts[2:5]:
        assert set(verdict.values()) == {"No matching signature found"}
    assert set(verdicts[5].values()) == {"Message timestamp too old"}
    assert len(verdicts) == len(cases)
