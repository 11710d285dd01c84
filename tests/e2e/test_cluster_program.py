"""``deploy/cluster/cluster.py``, as ``make cluster`` runs it: up, used, asked, and down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

PROJECT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(PROJECT / "deploy" / "cluster" / "cluster.py")]


def asked(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.timeout(180)
def test_a_cluster_comes_up_is_used_and_goes_down(tmp_path):
    folder = tmp_path / "cluster"
    here = ("--folder", str(folder))
    assert "no cluster runs" in asked("status", *here).stderr
    up = subprocess.Popen([*PROGRAM, "up", *here], stdout=subprocess.PIPE, text=True)
    try:
        assert up.stdout is not None
        told = ""
        for line in up.stdout:
            told += line
            if "End it with" in line:
                break
        assert "administrator's key" in told
        state = json.loads((folder / "cluster.json").read_text())
        headers = {"authorization": f"Bearer {(folder / 'admin.key').read_text().strip()}"}
        made = httpx.post(f"{state['url']}/v1/clients", json={"name": "acme"}, headers=headers)
        assert made.status_code == 201, made.text
        assert len(state["nodes"]) == 2
        for node in state["nodes"]:
            # Any of them knows.
            assert httpx.get(f"{node}/v1/queues/acme", headers=headers).status_code == 200
        assert state["url"] in asked("status", *here).stdout
        assert "a cluster runs" in asked("up", *here).stderr
        assert asked("down", *here).returncode == 0
        assert up.wait(60) == 0
    finally:
        up.kill()
        up.wait()
        if up.stdout is not None:
            up.stdout.close()
    assert asked("status", *here).returncode == 1
    assert not [process for process in psutil.process_iter() if runs_in(process, folder)]


def runs_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return str(folder) in " ".join(process.cmdline())
    except psutil.Error:
        return False
