"""What the page about requests tells to paste into a shell works, in its order."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.e2e.conftest import ADMIN_KEY, Service

GUIDE = Path(__file__).parents[2] / "docs" / "requests.md"


def test_the_guide_can_be_pasted_into_a_shell(server: Service, tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    given = {"URL": server.url, "ADMIN_KEY": ADMIN_KEY, "PATH": os.environ["PATH"]}
    shell = ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)]
    done = subprocess.run(
        shell, check=False, env=given, cwd=tmp_path, capture_output=True, timeout=50
    )
    output = done.stdout.decode()
    assert done.returncode == 0, output + done.stderr.decode()
    made, rest = output[: output.index("}") + 1], output
    assert rest.count(made) == 2
    assert '"state":"done"' in output
