"""The way in: `run(options)` does what `restante bench` was asked to do."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import msgspec

from restante.bench.lanes import LoadFailed
from restante.bench.machine import machine_facts
from restante.bench.options import WORKLOADS, BenchOptions
from restante.bench.plot import PlotUnavailable, draw_lanes, draw_transports, require_matplotlib
from restante.bench.processes import ServerFailed, raise_file_limit
from restante.bench.report import markdown
from restante.bench.results import Results
from restante.bench.workloads import RUNS, Bench, reachable

__all__ = ["WORKLOADS", "BenchOptions", "run"]

_PLOT_NAME = "lifecycles.svg"
_TRANSPORTS_PLOT_NAME = "transports.svg"
# For 10,000 connections and what else a server has open.
_FILES_WANTED = 12_000


def run(options: BenchOptions) -> int:
    """Run the workloads and write report.md, results.json and plots to `options.output`.

    Prints progress to standard error and the report to standard output. Returns the exit code:
    0, or 1 when a workload or a system failed (the report holds the rest and says what failed).
    A failing workload does not stop the others. Linux only. Takes minutes; SIGINT and SIGTERM stop
    it and every server it started.
    """
    if not sys.platform.startswith("linux"):
        _say("restante bench measures through /proc and runs on Linux only")
        return 1
    if raise_file_limit() < _FILES_WANTED and {"W3"} & set(options.workloads):
        _say(f"fewer than {_FILES_WANTED:,} open files are allowed (ulimit -n): W3 may fail")
    try:
        require_matplotlib()
    except PlotUnavailable as error:
        _say(str(error))
    options.output.mkdir(parents=True, exist_ok=True)
    with _terminated_as_interrupted(), _work_directory(options.output) as work:
        results = _run_workloads(options, work)
    _write(options.output, results)
    return 1 if results.failures else 0


def _run_workloads(options: BenchOptions, work: Path) -> Results:
    started_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    results = Results(
        started_at=started_at,
        seconds=options.seconds,
        rounds=options.rounds,
        scale=options.scale,
        machine=machine_facts(work),
        setup=options.setup,
    )
    if results.machine.file_system in ("tmpfs", "ramfs"):
        _say("the output directory is in memory: nothing measured there is durable")
    bench = Bench(options, work, _say)
    for name in WORKLOADS:
        if name not in options.workloads:
            continue
        _say(f"{name} ...")
        try:
            RUNS[name](bench, results)
        except (LoadFailed, ServerFailed) as error:
            results.failures.append(f"{name}: {error}")
            _say(f"{name} failed: {error}")
    return results


def _write(output: Path, results: Results) -> None:
    plot = None
    if results.lanes:
        with contextlib.suppress(PlotUnavailable):
            draw_lanes(results.lanes, output / _PLOT_NAME)
            plot = _PLOT_NAME
    if results.transports:
        with contextlib.suppress(PlotUnavailable):
            draw_transports(results.transports, output / _TRANSPORTS_PLOT_NAME)
    report = markdown(results, plot)
    (output / "report.md").write_text(report)
    encoded = msgspec.json.format(msgspec.json.encode(results), indent=2)
    (output / "results.json").write_bytes(encoded + b"\n")
    print(report)
    _say(f"written to {output}")


@contextlib.contextmanager
def _work_directory(output: Path) -> Iterator[Path]:
    # Below the output, so that every system's data is on the disk that was asked for.
    with tempfile.TemporaryDirectory(dir=output, prefix="work-") as path:
        reachable(Path(path))
        yield Path(path).resolve()


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM unwind the stack like SIGINT does, so that every server is stopped."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Once is enough: a second signal must not break off the stopping.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
