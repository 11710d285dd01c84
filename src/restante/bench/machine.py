"""Facts about the machine, without which no figure means anything."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from importlib import metadata
from pathlib import Path

import msgspec

from restante.bench.stats import percentile

_LIBRARIES = ("restante", "apsw", "uvicorn", "uvloop", "httptools", "msgspec")
_SYNCS = 300
_BLOCK = b"\0" * 4096


class MachineFacts(msgspec.Struct):
    """The fdatasync figures are for appending 4 KiB to a file where the servers keep their data."""

    cores: int
    cpu: str
    kernel: str
    memory_bytes: int
    file_system: str
    fdatasync_p50_seconds: float
    fdatasync_p99_seconds: float
    python: str
    libraries: dict[str, str]


def machine_facts(directory: Path) -> MachineFacts:
    """Look around; `directory` is on the disk that the servers will use."""
    syncs = _fdatasync_seconds(directory)
    return MachineFacts(
        cores=len(os.sched_getaffinity(0)),
        cpu=_cpu_model(),
        kernel=platform.release(),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        file_system=_file_system(directory),
        fdatasync_p50_seconds=percentile(syncs, 50),
        fdatasync_p99_seconds=percentile(syncs, 99),
        python=platform.python_version(),
        libraries=_library_versions(),
    )


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(directory: Path) -> str:
    """The type of the file system that holds a directory: the longest mount point above it."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount_point, mount_type = line.split()[:3]
        if directory.resolve().is_relative_to(mount_point) and len(mount_point) >= len(best):
            best, kind = mount_point, mount_type
    return kind


def _fdatasync_seconds(directory: Path) -> list[float]:
    path = directory / "fdatasync-probe"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    seconds = []
    try:
        for _ in range(_SYNCS):
            os.write(descriptor, _BLOCK)
            began = time.perf_counter()
            os.fdatasync(descriptor)
            seconds.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return seconds
