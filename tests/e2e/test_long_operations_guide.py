"""What the guide to operations tells to paste into a shell works, in its order."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.e2e.conftest import Mailbox

GUIDE = Path(__file__).parents[2] / "docs" / "long-operations.md"


def test_the_guide_can_be_pasted_into_a_shell(mailbox: Mailbox, tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
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
    # Moved on once and ended, looked at twice, and told of in the queue.
    assert output.count('"state":"running"') == 1
    assert output.count('"result":"<report/>"') == 4
    assert '"code"' not in output
