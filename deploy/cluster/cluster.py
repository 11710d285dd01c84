#!/usr/bin/env python3
"""A whole cluster of Restante on this machine, for trials: `make cluster`, or with its virtual environment's Python:

    deploy/cluster/cluster.py up [--nodes N] [--folder FOLDER]   until Ctrl-C
    deploy/cluster/cluster.py status | down [--folder FOLDER]

It needs Debian's postgresql, redis-server and nginx, listens on 127.0.0.1 only, and keeps nothing when it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import sys
from pathlib import Path

from restante.bench.processes import ServerFailed
from restante.testing.cluster import Cluster

FOLDER = Path("restante-cluster")
STATE = "cluster.json"
STOP_SECONDS = 120.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help in (
        ("up", "start it, and keep it until Ctrl-C"),
        ("status", "say what runs where"),
        ("down", "end one that runs elsewhere"),
    ):
        command = commands.add_parser(name, help=help)
        command.add_argument("--folder", type=Path, default=FOLDER, help="[default: %(default)s]")
        if name == "up":
            command.add_argument("--nodes", type=int, default=2, help="[default: %(default)s]")
    asked = parser.parse_args()
    if asked.command == "up":
        return up(asked.folder, asked.nodes)
    return status(asked.folder) if asked.command == "status" else down(asked.folder)


def up(folder: Path, nodes: int) -> int:
    if running(folder) is not None:
        return refuse(f"a cluster runs in {folder}: end it with `down`, or name another folder")
    if folder.exists():
        if not (folder / STATE).exists():
            return refuse(f"{folder} is there, and no cluster's: name another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / STATE).write_text("{}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with Cluster(folder, nodes=nodes) as cluster:
            state = {"pid": os.getpid(), "started": started(os.getpid()), **told(cluster)}
            (folder / STATE).write_text(json.dumps(state, indent=2))
            show(state)
            print(f"\nEnd it with Ctrl-C, or: {sys.argv[0]} down --folder {folder}", flush=True)
            signal.pause()
    except ServerFailed as error:
        return refuse(str(error))
    except KeyboardInterrupt:
        print("\nended")
    return 0


def told(cluster: Cluster) -> dict[str, object]:
    return {
        "url": cluster.url,
        "with TLS, and gRPC": cluster.secure_url,
        "certificate to trust": str(cluster.ca_file),
        "administrator's key": str(cluster.admin_key_file),
        "nodes": [node.url for node in cluster.nodes],
        "databases": cluster.store_url(),
        "waker": cluster.redis.url,
        "logs": str(cluster.folder),
    }


def status(folder: Path) -> int:
    state = running(folder)
    if state is None:
        return refuse(f"no cluster runs in {folder}")
    show(state)
    return 0


def down(folder: Path) -> int:
    state = running(folder)
    if state is None:
        return refuse(f"no cluster runs in {folder}")
    pid = int(str(state["pid"]))
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        # It is readable once the process has ended.
        if not select.select([process], [], [], STOP_SECONDS)[0]:
            return refuse(f"process {pid} has not ended in {STOP_SECONDS:.0f} s")
    finally:
        os.close(process)
    return 0


def running(folder: Path) -> dict[str, object] | None:
    """What the process that runs there has written down; None where none does."""
    try:
        state: dict[str, object] = json.loads((folder / STATE).read_text())
        alive = started(int(str(state["pid"]))) == state["started"]
    except (OSError, ValueError, KeyError):
        return None
    return state if alive else None


def started(pid: int) -> str:
    """When the process started, in the kernel's ticks: its number may be another's by now. Raises ``OSError``."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def show(state: dict[str, object]) -> None:
    for name, value in state.items():
        if name not in {"pid", "started"}:
            print(f"{name:22}{' '.join(value) if isinstance(value, list) else value}", flush=True)


def refuse(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
