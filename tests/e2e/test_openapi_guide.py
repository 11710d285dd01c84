"""What the vendor's guide tells to paste into a shell works, in its order."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from tests.e2e.conftest import Mailbox

GUIDE = Path(__file__).parents[2] / "docs" / "http.md"


def test_the_guide_can_be_pasted_into_a_shell(mailbox: Mailbox, tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 6
    for body in (b"<one/>", b"<two/>"):
        assert mailbox.publish(body).status_code == 201
    given = {
        "URL": mailbox.service.url,
        "QUEUE": mailbox.name,
        "KEY": mailbox.key,
        "PUBLISHER_KEY": mailbox.publisher_key,
        "PATH": os.environ["PATH"],
    }
    shell = ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)]
    done = subprocess.run(
        shell, check=False, env=given, cwd=tmp_path, capture_output=True, timeout=50
    )
    output = done.stdout.decode()
    assert done.returncode == 0, output + done.stderr.decode()
    assert "<one/>" in output
    assert '"body":"<two/>"' in output
    assert f'"receipt":"{mailbox.name}~3"' in output
    assert '"code":"out_of_bounds"' in output
    assert '<received xmlns="urn:restante:v1"><notifications>' in output
    assert '"reply":"<accepted/>"' in output
    assert '"result":"pending"' in output
    assert output.count("\u2014 restante/") == 1, "the signature of a head"
    proof = json.loads((tmp_path / "proof.json").read_bytes())
    assert sorted(proof) == ["checkpoint", "entry", "index", "path"]
    assert mailbox.figures()["published"] == 4


def test_the_guide_names_no_path_that_is_not_there() -> None:
    from tests.e2e.test_asyncapi import DOCUMENT as STREAMS
    from tests.e2e.test_openapi import DOCUMENT

    addresses = {channel["address"] for channel in STREAMS["channels"].values()}
    for path in re.findall(r"`(?:GET |POST )?(/v1/[^`\s?]+)`", GUIDE.read_text()):
        assert path in DOCUMENT["paths"] or path in addresses, path
