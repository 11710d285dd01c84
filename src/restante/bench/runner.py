"""The way in: `run(options)` does what `restante bench` was asked to do."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TypeVar

import msgspec

from restante.bench.lanes import LoadFailed
from restante.bench.machine import machine_facts
from restante.bench.options import WORKLOADS, BenchOptions
from restante.bench.peers import PEERS
from restante.bench.plot import PlotUnavailable, draw_lanes, require_matplotlib
from restante.bench.processes import ServerFailed, raise_file_limit
from restante.bench.report import markdown
from restante.bench.results import Results
from restante.bench.workloads import RUNS, Bench

__all__ = ["WORKLOADS", "BenchOptions", "main", "parse", "run"]

Number = TypeVar("Number", int, float)

_PLOT_NAME = "lifecycles.svg"
# For 10,000 connections and what else a server has open.
_FILES_WANTED = 12_000


def main(arguments: Sequence[str]) -> int:
    """`restante bench`: parse its arguments, run, return the exit code.

    0 and 1 as `run` says. Raises SystemExit with 2 for arguments that are wrong, 0 for --help.
    """
    try:
        return run(parse(arguments))
    except KeyboardInterrupt:
        _say("interrupted; every server is stopped, nothing was written")
        return 1


def parse(arguments: Sequence[str]) -> BenchOptions:
    """The options that the arguments stand for. Raises SystemExit as argparse does."""
    defaults = BenchOptions()
    parser = argparse.ArgumentParser(
        prog="restante bench",
        description="Run the standard workloads against a server of its own and, in W1, against "
        "other systems where they are installed (bench/install-peers.sh installs them).",
        epilog="W1 durable lifecycles; W2 wake; W3 idle connections; W4 backlog; W5 drain; "
        "W6 fan-out. All at full size take half an hour and 5 GB; --quick takes two minutes.",
    )
    parser.add_argument(
        "--workloads", default=",".join(WORKLOADS), metavar="W1,W2", help="which to run (all)"
    )
    parser.add_argument(
        "--peers",
        default="all",
        metavar="NAMES",
        help=f"run W1 against these too: all (that are installed), none, or some of "
        f"{','.join(PEERS)} (all)",
    )
    parser.add_argument(
        "--seconds", type=float, metavar="N", help=f"W1's window ({defaults.seconds:g})"
    )
    parser.add_argument(
        "--warmup", type=float, metavar="N", help=f"before it ({defaults.warmup_seconds:g})"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"take the median of these ({defaults.rounds})"
    )
    parser.add_argument(
        "--scale", type=float, metavar="X", help="sizes of W2 to W6, 1 being the standard (1)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=defaults.output,
        metavar="DIR",
        help=f"where the report goes and, meanwhile, the servers' data ({defaults.output})",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small: --seconds 3 --rounds 1 --scale 0.01"
    )
    given = parser.parse_args(arguments)
    quick = given.quick
    try:
        return BenchOptions(
            workloads=_names(given.workloads.upper()),
            peers={"all": None, "none": ()}.get(given.peers, _names(given.peers)),
            seconds=_first(given.seconds, 3.0 if quick else defaults.seconds),
            warmup_seconds=_first(given.warmup, defaults.warmup_seconds),
            rounds=_first(given.rounds, 1 if quick else defaults.rounds),
            scale=_first(given.scale, 0.01 if quick else defaults.scale),
            output=given.output,
        )
    except ValueError as error:
        parser.error(str(error))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _first(given: Number | None, default: Number) -> Number:
    return default if given is None else given


def run(options: BenchOptions) -> int:
    """Run the workloads and write report.md, results.json and lifecycles.svg to `options.output`.

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
