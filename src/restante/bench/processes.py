"""Servers as real subprocesses: start, wait until ready, measure from /proc, stop by pid.

Linux only: processor time and memory come from /proc, for the server's whole process tree.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


class ServerFailed(Exception):
    """A server did not start, or went away. The text says what it printed last."""


def free_port() -> int:
    """A loopback TCP port that was free a moment ago; another program may take it meanwhile."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one, for 10,000 connections, and return it.

    Children inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _stat_fields(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name stands in brackets and may hold spaces: count fields from behind it.
    return text[text.rindex(")") + 2 :].split()


def process_tree(roots: Iterable[int]) -> list[int]:
    """The given processes that live, and all that descend from them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields is not None:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    tree: list[int] = []
    todo = [pid for pid in roots if _stat_fields(pid) is not None]
    while todo:
        pid = todo.pop()
        if pid not in tree:
            tree.append(pid)
            todo.extend(children.get(pid, ()))
    return tree


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system time used so far by a process tree, its ended children included.

    The kernel counts in ticks, 10 ms as a rule: measure over seconds.
    """
    ticks = 0
    for pid in process_tree(roots):
        fields = _stat_fields(pid)
        if fields is not None:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS_PER_SECOND


def machine_busy_seconds() -> float:
    """Processor time used so far by everything on the machine, the kernel's own work included."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    user, nice, system, _idle, _iowait, irq, softirq = (int(field) for field in fields)
    return (user + nice + system + irq + softirq) / _TICKS_PER_SECOND


def rss_bytes(roots: Iterable[int]) -> int:
    """Resident memory of a process tree; pages shared between processes count in each."""
    total = 0
    for pid in process_tree(roots):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    return total


def directory_bytes(directory: Path) -> int:
    """What the files below a directory occupy on the disk (blocks, not lengths)."""
    total = 0
    for path in directory.rglob("*"):
        # Files come and go while the server runs.
        with contextlib.suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total


class Server:
    """One started server process, alone in its process group, its output in `log`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        """Start `command`. `environment` is added to this process's own."""
        self.name = name
        self.log = log
        self.started_at = time.perf_counter()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=directory,
                # Its own group, so that an interrupt of the benchmark does not reach the server
                # before the benchmark has read its figures.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def tail(self) -> str:
        """The last lines the server printed."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-15:])

    def wait_until(self, ready: Callable[[], bool], seconds: float = _START_SECONDS) -> float:
        """Wait until `ready()` holds; return the seconds since the start of the process.

        Raises ServerFailed when the process ends first or the time runs out.
        """
        deadline = time.perf_counter() + seconds
        while not ready():
            if self._process.poll() is not None:
                code = self._process.returncode
                raise ServerFailed(f"{self.name} ended with exit code {code}:\n{self.tail()}")
            if time.perf_counter() > deadline:
                raise ServerFailed(f"{self.name} was not ready in {seconds:.0f} s:\n{self.tail()}")
            time.sleep(0.005)
        return time.perf_counter() - self.started_at

    def stop(self) -> int:
        """End the server and whatever it started: SIGTERM, and SIGKILL if that is not enough. Its exit code."""
        tree = process_tree([self.pid])
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid in process_tree(tree):
            if pid != self.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return int(self._process.returncode)


def accepts_connections(port: int) -> bool:
    """Whether something listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
