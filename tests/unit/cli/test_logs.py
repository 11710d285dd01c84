"""What the log may not say."""

from __future__ import annotations

import subprocess
import sys

import pytest

CRASH = """
import structlog
from restante.cli import logs
logs.configure("info", {format!r})
def fail(key):
    raise RuntimeError("it broke")
try:
    fail("canary-" + "7f3a")
except RuntimeError:
    structlog.get_logger("x").exception("http.failed")
"""


@pytest.mark.parametrize("format", ["console", "json"])
def test_a_traceback_shows_no_variables(format: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH.format(format=format)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert "it broke" in done.stderr
    assert "canary-7f3a" not in done.stderr
