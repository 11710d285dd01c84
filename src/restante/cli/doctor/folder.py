"""The data folder: who may read it, what it lies on, whether there is room, and how soon it is on disk."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from restante.app import ADMIN_KEY_FILE
from restante.cli.doctor.findings import Case, Finding, failure, ok, warning
from restante.keyfiles import SECRETS_KEY_FILE

NETWORK: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "virtiofs"),
    }
)
"""File systems on which locks, or what is written through, are not to be relied on."""
PASSING: Final = frozenset({"tmpfs", "ramfs"})
LAYERED: Final = "overlay"
SYNCS: Final = 9
_BLOCK: Final = b"\0" * 4_096
SLOW_SECONDS: Final = 0.02
FAST_SECONDS: Final = 0.000_1
"""Less than any device takes that has no battery of its own."""


def there(case: Case) -> Finding | None:
    """Whether the folder is there, and can be written to."""
    folder, subject = case.config.data, "data folder"
    if not folder.exists():
        return ok(subject, f"{folder} is not there yet: the first start makes it")
    if not folder.is_dir():
        return failure(subject, f"{folder} is no folder", "name another with --data")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return failure(
            subject,
            f"this user may not write to {folder}",
            "run this as the user that the server runs as, or give the folder to it with chown",
        )
    return None


def folder_mode(case: Case) -> Finding | None:
    folder = case.config.data
    if not folder.is_dir():
        return None
    mode = folder.stat().st_mode & 0o777
    if mode & 0o077:
        return warning(
            "data folder",
            f"others than its owner may look into {folder} (mode {mode:04o})",
            f"chmod 700 {folder}",
        )
    return ok("data folder", f"{folder}: nobody but its owner may look into it")


def key_files(case: Case) -> Finding | None:
    """The modes of the files that hold keys."""
    config = case.config
    named = (
        config.data / ADMIN_KEY_FILE,
        config.secrets_key_file or config.data / SECRETS_KEY_FILE,
        config.tls_key,
    )
    found = [path for path in named if path is not None and path.exists()]
    if not found:
        return None
    open_ = [str(path) for path in found if path.stat().st_mode & 0o077]
    if open_:
        return failure(
            "key files",
            f"others than their owner may read {', '.join(open_)}",
            f"chmod 600 {' '.join(open_)}, and replace those keys if anybody may have read them",
        )
    return ok("key files", f"nobody but their owner may read the {len(found)} there are")


def file_system(case: Case) -> Finding | None:
    """What SQLite's file lies on."""
    if not case.on_sqlite:
        return None
    return judge_file_system(case.config.data, type_of(case.config.data))


def judge_file_system(folder: Path, kind: str) -> Finding:
    """Whether a store in that folder, on such a file system, keeps what it is given."""
    subject = "file system"
    if kind in NETWORK:
        return failure(
            subject,
            f"{folder} is on {kind}, over a network: its locks and its writes are not to be relied on",
            "keep the folder on a disk of this machine, or the store in a PostgreSQL (store = ...)",
        )
    if kind in PASSING:
        return warning(
            subject,
            f"{folder} is on {kind}, in memory: everything is gone when the machine stops",
            "for anything but a trial, keep the folder on a disk",
        )
    if kind == LAYERED:
        return warning(
            subject,
            f"{folder} is in a container's own layer: everything is gone with the container",
            "mount a volume there",
        )
    return ok(subject, f"{folder} is on {kind or 'a file system of unknown kind'}")


def type_of(path: Path, table: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that the path lies on, or would; "" where the system does not tell."""
    wanted = path.absolute().resolve()
    best, kind = -1, ""
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        # proc(5): the fifth field is where it is mounted; after a lone hyphen comes the type.
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")
        if wanted.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), after.split()[0]
    return kind


def room(case: Case) -> Finding | None:
    """Free disk, against what has to stay free."""
    folder = case.config.data
    if not case.on_sqlite or not folder.is_dir():
        return None
    disk = os.statvfs(folder)
    return judge_room(disk.f_bavail * disk.f_frsize, case.config.reserve_bytes)


def judge_room(free_bytes: int, reserve_bytes: int) -> Finding:
    """Whether that is enough."""
    subject = "disk"
    free, reserve = f"{free_bytes / 2**20:,.0f} MiB", f"{reserve_bytes / 2**20:,.0f} MiB"
    if free_bytes < reserve_bytes:
        return failure(
            subject,
            f"{free} are free, less than reserve_bytes ({reserve}): publishing is refused (507)",
            "free some space; shorter body_retention_seconds of queues keep it free",
        )
    if free_bytes < 4 * reserve_bytes:
        return warning(
            subject,
            f"{free} are free; below {reserve} (reserve_bytes) publishing is refused",
            "free some space, or shorten body_retention_seconds of queues",
        )
    return ok(subject, f"{free} are free ({reserve} of them are kept in reserve)")


def syncing(case: Case) -> Finding | None:
    """How long it takes until a small write is on disk."""
    folder = case.config.data
    if not case.on_sqlite or not os.access(folder, os.W_OK | os.X_OK):
        return None
    if type_of(folder) in PASSING:
        return None
    return judge_syncing(measured(folder))


def measured(folder: Path) -> float:
    """The median time, in seconds, of some writes of a block with fdatasync(2), in a file that does not stay."""
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            os.pwrite(file.fileno(), _BLOCK, 0)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def judge_syncing(seconds: float) -> Finding:
    """What such a time means: each publish and each ack waits for one."""
    subject, took = "fsync", f"a small write is on disk within {seconds * 1_000:.2f} ms"
    if seconds > SLOW_SECONDS:
        return warning(
            subject,
            f"{took}: each publish and each ack waits for one",
            "keep the folder on a faster disk (an SSD, or one with a write cache that a battery keeps)",
        )
    if seconds < FAST_SECONDS:
        # Good hardware is as fast as one that lies: it is said, and left to who knows the machine.
        return ok(
            subject,
            f"{took}: that takes a cache which a battery keeps. Where this disk (or the virtual machine's) has none,"
            " it only says that it has written, and a power cut loses what was acknowledged",
        )
    return ok(subject, took)


CHECKS: Final = (there, folder_mode, key_files, file_system, room, syncing)
