"""What the guide to webhooks tells to paste works, in its order, and its verifier verifies."""

from __future__ import annotations

import http.server
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import Mailbox

GUIDE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


class Inbox(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    calls: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.calls.append((headers, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def inbox() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    calls: list[tuple[dict[str, str], bytes]] = []
    handler = type("Handler", (Inbox,), {"calls": calls})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/inbox", calls
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_guide_can_be_pasted_into_a_shell(
    mailbox: Mailbox, inbox: tuple[str, list[tuple[dict[str, str], bytes]]], tmp_path: Path
) -> None:
    url, calls = inbox
    given = {
        "URL": mailbox.service.url,
        "QUEUE": mailbox.name,
        "KEY": mailbox.key,
        "HOOK": url,
        "PATH": os.environ["PATH"],
    }
    shell = ["bash", "-euo", "pipefail", "-c", "\n".join(blocks("sh"))]
    done = subprocess.run(
        shell, check=False, env=given, cwd=tmp_path, capture_output=True, timeout=50
    )
    output = done.stdout.decode()
    assert done.returncode == 0, output + done.stderr.decode()
    assert '{"ok":true,"status":204' in output
    assert '"state":"enabled"' in output
    first, second = re.findall(r'"secret":"(whsec_[^"]+)"', output)
    headers, body = calls[0]
    assert (headers["restante-ping"], headers["x-tenant"]) == ("true", "7")
    assert verifier()(first, headers, body)
    assert not verifier()(second, headers, body)
    left = mailbox.client.get(f"/v1/queues/{mailbox.name}/webhook").json()["secrets"]
    assert [secret["ends_at"] for secret in left] == [None]
    mailbox.client.post(f"/v1/queues/{mailbox.name}/webhook/ping")
    headers, body = calls[1]
    assert verifier()(second, headers, body)
    assert not verifier()(first, headers, body)


def verifier() -> Any:
    """The function that the guide gives to verify by hand."""
    (code,) = [block for block in blocks("python") if "def verify" in block]
    names: dict[str, Any] = {}
    exec(code, names)
    return names["verify"]


def test_the_guide_names_reasons_and_bounds_of_the_code() -> None:
    from restante.webhooks import BOUNDS, OLD_SECRET_SECONDS

    assert f"{BOUNDS['timeout_seconds'].low:g} to {BOUNDS['timeout_seconds'].high:g}" in GUIDE
    assert f"{BOUNDS['concurrency'].low:g} to {BOUNDS['concurrency'].high:g}" in GUIDE
    assert f"{OLD_SECRET_SECONDS // 3_600} hours" in GUIDE
    source = Path(__file__).parents[2] / "src/restante/transports/webhook/calling.py"
    for reason in re.findall(r'return "([a-z A-Z]+)"$', source.read_text(), re.MULTILINE):
        if reason not in {"TLS failed", "connection failed", "not an answer in HTTP"}:
            assert f"`{reason}`" in GUIDE, reason
