"""The standard workloads, W1 to W7, and the comparison of transports: which servers run, and what is done to them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from restante.bench.lanes import LaneFigures, LoadFailed
from restante.bench.load import run_load
from restante.bench.nodes import RestanteNodes, restante_nodes
from restante.bench.options import POSTGRESQL, BenchOptions
from restante.bench.peers import PEERS
from restante.bench.processes import ServerFailed
from restante.bench.results import (
    Backlog,
    FanOutResult,
    LaneResult,
    Neighbours,
    Results,
    TransportResult,
)
from restante.bench.server import RestanteServer
from restante.bench.specs import (
    Drain,
    FanOut,
    Fill,
    Idle,
    IdleFigures,
    Lanes,
    MakeQueues,
    Probe,
    ProbeFigures,
    Steady,
    SteadyFigures,
    Subscribe,
    Target,
    Took,
    Wake,
    WakeFigures,
    WireBytes,
    WireFigures,
)
from restante.bench.ways import WAYS, Way

BODY_BYTES = 1024
LANES = 64
_WAKE_IDLE, _WAKE_PROBES = 1_000, 2_000
_IDLE = 10_000
_NEVER_READING = 200
_COMPARED_WAKE, _COMPARED_IDLE = 100, 2_000
# A load that every transport carries, on a slow machine too.
_COMPARED_RATE, _COMPARED_BYTES = 400.0, 100
_ONE_QUEUE_BACKLOG = 1_000_000
_MANY_QUEUES, _EACH_OF_MANY = 100_000, 10
_PROBE_OPERATIONS, _PROBE_CONNECTIONS = 10_000, 32
# Fewer would not use enough processor time to be counted in the kernel's ticks.
_LEAST_PROBE_OPERATIONS = 2_000
_DRAIN_TOTAL, _DRAIN_BATCH = 100_000, 1_000
_FAN_OUT_QUEUES = 10_000
# The largest body that a queue takes with its default settings.
_FAN_OUT_BODY_BYTES = 1_048_576

RESTANTE = "restante"

Say = Callable[[str], None]


class Bench:
    """One run: options, a place for the servers' data, and somewhere to report progress."""

    def __init__(self, options: BenchOptions, work: Path, say: Say) -> None:
        self.options = options
        self._work = work
        self.say = say

    @contextlib.contextmanager
    def directory(self) -> Iterator[Path]:
        """A fresh directory, gone afterwards."""
        with tempfile.TemporaryDirectory(dir=self._work, prefix="run-") as path:
            reachable(Path(path))
            yield Path(path)

    @contextlib.contextmanager
    def restante(
        self, way: str = "longpoll"
    ) -> Iterator[tuple[RestanteServer | RestanteNodes, float]]:
        """Restante on an empty store, ready for this way, and the seconds it took to be ready."""
        options, said = self.options, WAYS[way].serve_options
        with self.directory() as directory:
            if options.store == POSTGRESQL:
                with restante_nodes(
                    options.serve_command, directory, said, count=options.nodes, waker=options.waker
                ) as nodes:
                    yield nodes, nodes.start()
                return
            server = RestanteServer(options.serve_command, directory, said)
            try:
                yield server, server.start()
            finally:
                server.stop()


def reachable(directory: Path) -> None:
    """Let servers that run as another user reach what is theirs in a directory."""
    directory.chmod(0o711)


def lifecycles(bench: Bench, results: Results) -> None:
    """W1: each round runs every system, each on a fresh store, and begins with another one."""
    options = bench.options
    systems = [_own_result(bench, results, WAYS[name]) for name in options.ways]
    for name, peer in PEERS.items():
        if options.peers is not None and name not in options.peers:
            continue
        if peer.program() is None:
            results.missing_peers.append(peer.title)
            bench.say(f"W1 {peer.title}: not installed, left out")
        else:
            systems.append(LaneResult(name, peer.title, peer.version(), peer.settings))
    for number in range(options.rounds):
        start = number % len(systems)
        for system in systems[start:] + systems[:start]:
            try:
                window = _lane_window(bench, system)
            except (LoadFailed, ServerFailed) as error:
                results.failures.append(f"W1, {system.title}: {error}")
                bench.say(f"W1 {system.title}: failed: {error}")
                continue
            system.windows.append(window)
            rate = window.completed / window.seconds
            bench.say(f"W1 round {number + 1}, {system.title}: {rate:,.0f} lifecycles/s")
    results.lanes = [system for system in systems if system.windows]


def _own_result(bench: Bench, results: Results, way: Way) -> LaneResult:
    version = results.machine.libraries.get(RESTANTE, "")
    setup = bench.options.setup
    title = f"Restante{f' on {setup}' if setup else ''}, {way.title}"
    return LaneResult(RESTANTE, title, version, way.settings, way.name)


def _lane_window(bench: Bench, system: LaneResult) -> LaneFigures:
    if system.system == RESTANTE:
        with bench.restante(system.way) as (server, _):
            return run_load(_lanes(bench, server.target, system.way), LaneFigures)
    with bench.directory() as directory:
        running = PEERS[system.system].start(directory)
        try:
            peer, pids = PEERS[system.system], running.pids
            target = Target(
                system=peer.name,
                port=running.port,
                pids=pids,
                store_pids=pids if peer.is_store else [],
            )
            return run_load(_lanes(bench, target, ""), LaneFigures)
        finally:
            running.stop()


def _lanes(bench: Bench, target: Target, way: str) -> Lanes:
    options = bench.options
    return Lanes(target, LANES, BODY_BYTES, options.warmup_seconds, options.seconds, way)


def wake(bench: Bench, results: Results) -> None:
    """W2: from publish to hand, with 1,000 idle consumers."""
    idle = bench.options.scaled(_WAKE_IDLE)
    probes = bench.options.scaled(_WAKE_PROBES)
    for way in bench.options.ways:
        with bench.restante(way) as (server, _):
            run_load(MakeQueues(server.target, "idle-", idle), Took)
            spec = Wake(server.target, "idle-", idle, probes, BODY_BYTES, way)
            results.wakes[way] = run_load(spec, WakeFigures)
            bench.say(f"W2 {way}: p50 {results.wakes[way].p50_seconds * 1e3:.2f} ms")


def idle(bench: Bench, results: Results) -> None:
    """W3: what 10,000 idle consumers cost in memory."""
    idle = bench.options.scaled(_IDLE)
    ways = [way for way in bench.options.ways if WAYS[way].idles]
    if not ways:
        raise LoadFailed(
            "the service calls webhooks: there are no consumers that wait to be measured"
        )
    for way in ways:
        with bench.restante(way) as (server, _):
            run_load(MakeQueues(server.target, "idle-", idle), Took)
            results.idles[way] = run_load(Idle(server.target, "idle-", idle, way), IdleFigures)


def backlog(bench: Bench, results: Results) -> None:
    """W4: what publish, lease and start cost with a million waiting, in one queue and in many."""
    options = bench.options
    one = _backlog(bench, 1, options.scaled(_ONE_QUEUE_BACKLOG))
    results.backlogs.append(one)
    many = _backlog(bench, options.scaled(_MANY_QUEUES), _EACH_OF_MANY)
    results.backlogs.append(many)


def _backlog(bench: Bench, queues: int, per_queue: int) -> Backlog:
    operations = max(bench.options.scaled(_PROBE_OPERATIONS), _LEAST_PROBE_OPERATIONS)

    def probe(target: Target) -> list[ProbeFigures]:
        spec = Probe(target, "backlog-", queues, operations, _PROBE_CONNECTIONS, BODY_BYTES)
        return [run_load(spec, ProbeFigures) for _ in range(bench.options.rounds)]

    with bench.restante() as (server, _):
        run_load(MakeQueues(server.target, "backlog-", queues), Took)
        _vacuum(server)
        empty = probe(server.target)
        server.stop()
        ready_empty_seconds = server.start()
        bench.say(f"W4: filling {queues:,} queues with {per_queue:,} each")
        fill_spec = Fill(server.target, "backlog-", queues, per_queue, BODY_BYTES)
        fill = run_load(fill_spec, Took)
        _vacuum(server)
        full = probe(server.target)
        server.stop()
        return Backlog(
            queues=queues,
            notifications=fill.operations,
            fill=fill,
            empty=empty,
            full=full,
            ready_empty_seconds=ready_empty_seconds,
            store_bytes=server.data_bytes(),
            ready_full_seconds=server.start(),
        )


def _vacuum(server: RestanteServer | RestanteNodes) -> None:
    if isinstance(server, RestanteNodes):
        server.vacuum()


def drain(bench: Bench, results: Results) -> None:
    """W5: one client comes back to 100,000."""
    total = bench.options.scaled(_DRAIN_TOTAL)
    with bench.restante() as (server, _):
        run_load(MakeQueues(server.target, "drain-", 1), Took)
        run_load(Fill(server.target, "drain-", 1, total, BODY_BYTES), Took)
        spec = Drain(server.target, "drain-0", total, min(_DRAIN_BATCH, total))
        results.drain = run_load(spec, Took)


def fan_out(bench: Bench, results: Results) -> None:
    """W6: one publish to 10,000 queues, the body stored once."""
    queues = bench.options.scaled(_FAN_OUT_QUEUES)
    with bench.restante() as (server, _):
        run_load(MakeQueues(server.target, "fan-", queues), Took)
        run_load(Subscribe(server.target, "news", "fan-", queues), Took)
        before = server.data_bytes()
        spec = FanOut(server.target, "news", queues, _FAN_OUT_BODY_BYTES)
        publishes = [run_load(spec, Took) for _ in range(bench.options.rounds)]
        grown = server.data_bytes() - before
        results.fan_out = FanOutResult(queues, _FAN_OUT_BODY_BYTES, publishes, grown)


def bad_neighbours(bench: Bench, results: Results) -> None:
    """W7: what 200 consumers that never read cost the others."""
    options = bench.options
    for way in options.ways:
        with bench.restante(way) as (server, _):
            steady = Steady(server.target, way, LANES, _COMPARED_RATE, options.seconds, BODY_BYTES)
            alone = run_load(steady, SteadyFigures)
            steady.never_reading = options.scaled(_NEVER_READING)
            beside = run_load(steady, SteadyFigures)
            results.neighbours[way] = Neighbours(steady.never_reading, alone, beside)
            bench.say(
                f"W7 {way}: p99 {beside.p99_seconds / alone.p99_seconds:.2f} of what it is alone"
            )


def transports(bench: Bench, results: Results) -> None:
    """Each transport by itself: latency, bytes, processor time, memory."""
    options = bench.options
    for name in options.ways:
        way = WAYS[name]
        with bench.restante(name) as (server, _):
            target = server.target
            run_load(MakeQueues(target, "idle-", _COMPARED_WAKE), Took)
            idle_spec = Wake(
                target, "idle-", _COMPARED_WAKE, options.scaled(_WAKE_PROBES), BODY_BYTES, name
            )
            alone = run_load(idle_spec, WakeFigures)
            steady = run_load(
                Steady(target, name, LANES, _COMPARED_RATE, options.seconds, BODY_BYTES),
                SteadyFigures,
            )
            wire = run_load(WireBytes(target, name, _COMPARED_BYTES, BODY_BYTES), WireFigures)
        memory = None
        if way.idles:
            with bench.restante(name) as (server, _):
                count = options.scaled(_COMPARED_IDLE)
                run_load(MakeQueues(server.target, "idle-", count), Took)
                memory = run_load(Idle(server.target, "idle-", count, name), IdleFigures)
        results.transports.append(
            TransportResult(name, way.title, way.requests, alone, steady, wire, memory)
        )
        bench.say(f"transports {name}: p50 {alone.p50_seconds * 1e3:.2f} ms")


RUNS: dict[str, Callable[[Bench, Results], None]] = {
    "W1": lifecycles,
    "W2": wake,
    "W3": idle,
    "W4": backlog,
    "W5": drain,
    "W6": fan_out,
    "W7": bad_neighbours,
    "transports": transports,
}
