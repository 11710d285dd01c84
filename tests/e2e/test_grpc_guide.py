"""What the guide to gRPC tells to paste works, in its order, with what the server hands out and nothing else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.e2e.conftest import Mailbox, Service

GUIDE = (Path(__file__).parents[2] / "docs" / "grpc.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def run(*command: str, box: Mailbox, folder: Path) -> subprocess.Popen[str]:
    python = Path(sys.executable).parent
    given = {
        "URL": box.service.url,
        "GRPC": box.service.grpc,
        "QUEUE": box.name,
        "KEY": box.key,
        # Its python3 is the one that has the packages which the guide names.
        "PATH": f"{python}:{os.environ['PATH']}",
    }
    return subprocess.Popen(
        command, env=given, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_the_guide_can_be_pasted_into_a_shell(own_server: Service, tmp_path: Path) -> None:
    box = Mailbox(own_server)
    assert box.publish(b"<one/>").status_code == 201
    shell = run("bash", "-euo", "pipefail", "-c", "\n".join(blocks("sh")), box=box, folder=tmp_path)
    output, _ = shell.communicate(timeout=50)
    assert shell.returncode == 0, output
    assert "<one/>" in output
    assert f'"receipt": "{box.name}~2"' in output
    assert "404 Not Found" in output
    assert "restante-code: queue_not_found" in output
    (receipt,) = box.receipts(outcome="acked")
    assert receipt["reply"] == "<booked/>"

    # The loop, with the modules that the shell has generated: it collects, signs, and leaves when the service stops.
    (tmp_path / "loop.py").write_text("".join(blocks("python")))
    loop = run(sys.executable, "-u", "loop.py", box=box, folder=tmp_path)
    assert loop.stdout is not None
    assert box.publish(b"<two/>").status_code == 201
    lines = [loop.stdout.readline(), loop.stdout.readline()]
    assert "application/xml b'<two/>'" in lines[0], lines
    assert f"['{box.name}~4']" in lines[1], lines
    stop = threading.Thread(target=own_server.end, args=(signal.SIGTERM,))
    stop.start()
    output, _ = loop.communicate(timeout=30)
    stop.join()
    assert loop.returncode == 0, output
    box.close()
