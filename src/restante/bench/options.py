"""What a run of the benchmark is asked to do."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from restante.bench.nodes import NOTIFY, WAKERS
from restante.bench.peers import PEERS
from restante.bench.ways import WAYS

SQLITE, POSTGRESQL = "sqlite", "postgresql"
WORKLOADS = ("W1", "W2", "W3", "W4", "W5", "W6", "W7", "transports")


def _own_serve_command() -> tuple[str, ...]:
    return (sys.executable, "-m", "restante", "serve")


class BenchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Raises ValueError for a name that is unknown or a number out of bounds.

    `workloads`: which of W1 to W7, and "transports". `ways`: over which transports W1, W2, W3 and
    "transports" are run. `peers`: which systems W1 is run against; None means every one that is
    installed, () none. `seconds` and `warmup_seconds`: the window of W1 and of "transports" (more
    than 0; the warm-up at least 0), of W1 in each of `rounds` rounds. `scale` shrinks the sizes of W2 to W7 (more than
    0, at most 1; 0.01 is a quick look). `output`: where report.md, results.json and the plot go;
    the servers keep their data below it for as long as the run lasts, so it has to be on the disk
    that is meant. `serve_command`: what starts the server, up to and without its options.
    `store`: "sqlite", one server with a file, or "postgresql", `nodes` servers (at least 1) on one database,
    woken by `waker`, one of WAKERS.
    """

    workloads: tuple[str, ...] = WORKLOADS
    ways: tuple[str, ...] = tuple(WAYS)
    peers: tuple[str, ...] | None = None
    seconds: float = 10.0
    warmup_seconds: float = 2.0
    rounds: int = 3
    scale: float = 1.0
    output: Path = Path("bench-results")
    serve_command: tuple[str, ...] = msgspec.field(default_factory=_own_serve_command)

    store: str = SQLITE
    nodes: int = 2
    waker: str = NOTIFY

    def __post_init__(self) -> None:
        _all_known("workload", self.workloads, WORKLOADS)
        _all_known("way", self.ways, tuple(WAYS))
        _all_known("peer", self.peers or (), tuple(PEERS))
        _all_known("store", (self.store,), (SQLITE, POSTGRESQL))
        _all_known("waker", (self.waker,), tuple(WAKERS))
        if self.nodes < 1:
            raise ValueError(f"nodes must be at least 1, not {self.nodes}")
        if self.seconds <= 0 or self.warmup_seconds < 0:
            raise ValueError("a window needs more than 0 seconds, a warm-up at least 0")
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, not {self.rounds}")
        if not 0 < self.scale <= 1:
            raise ValueError(f"scale must be more than 0 and at most 1, not {self.scale}")

    @property
    def setup(self) -> str:
        """What Restante runs on, in words; empty for one process with a file."""
        if self.store == SQLITE:
            return ""
        nodes = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        return f"PostgreSQL, {nodes}, woken by {WAKERS[self.waker]}"

    def scaled(self, size: int) -> int:
        """A size of the standard workloads at this run's scale, at least 10."""
        return max(round(size * self.scale), 10)


def _all_known(what: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {what} {name!r}; there are {', '.join(known)}")
