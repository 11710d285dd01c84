"""The report and the options: ratios, what is left out, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from restante.bench.lanes import LaneFigures
from restante.bench.machine import MachineFacts
from restante.bench.options import BenchOptions
from restante.bench.plot import draw_lanes
from restante.bench.report import markdown, table
from restante.bench.results import Backlog, FanOutResult, LaneResult, Results, TransportResult
from restante.bench.specs import (
    IdleFigures,
    ProbeFigures,
    SteadyFigures,
    Took,
    WakeFigures,
    WireFigures,
)

MACHINE = MachineFacts(
    cores=2,
    cpu="a CPU",
    kernel="6.1",
    memory_bytes=2**34,
    file_system="ext4",
    fdatasync_p50_seconds=0.0001,
    fdatasync_p99_seconds=0.001,
    python="3.11.7",
    libraries={"restante": "0.1.0"},
)


def window(
    completed: int, generator_cpu_seconds: float = 1.0, other_cpu_seconds: float = 0.5
) -> LaneFigures:
    return LaneFigures(
        seconds=10.0,
        published=completed,
        completed=completed,
        server_cpu_seconds=5.0,
        generator_cpu_seconds=generator_cpu_seconds,
        other_cpu_seconds=other_cpu_seconds,
        confirm_p50_seconds=0.005,
        confirm_p99_seconds=0.02,
    )


def lane(system: str, *completed: int, **figures: float) -> LaneResult:
    windows = [window(count, **figures) for count in completed]
    return LaneResult(system, system.title(), "1.0", "as it comes", windows=windows)


def results(**found: Any) -> Results:
    return Results(
        started_at="now", seconds=10, rounds=3, scale=1, machine=MACHINE, failures=[], **found
    )


def row_of(report: str, name: str) -> list[str]:
    line = next(line for line in report.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_w1_gives_medians_and_ratios():
    own, peer = lane("restante", 90_000, 100_000, 70_000), lane("redis", 45_000, 45_000)
    report = markdown(results(lanes=[peer, own], missing_peers=["NATS"]), "picture.svg")
    assert row_of(report, "Restante")[1:5] == ["9,000", "7,000 to 10,000", "1.00", "56 µs"]
    assert row_of(report, "Redis")[1:5] == ["4,500", "4,500 to 4,500", "0.50", "111 µs"]
    assert "NATS: not installed" in report
    assert "(picture.svg)" in report
    assert "lower bound" not in report
    assert "say little" not in report


def test_a_busy_generator_is_pointed_out():
    report = markdown(results(lanes=[lane("redis", 90_000, generator_cpu_seconds=9.9)]), None)
    assert row_of(report, "Redis")[1] == "9,000 (*)"
    assert "lower bound" in report


def test_a_busy_machine_is_pointed_out():
    report = markdown(results(lanes=[lane("redis", 90_000, other_cpu_seconds=9.9)]), None)
    assert row_of(report, "Redis")[-1] == "99%"
    assert "the rates say little" in report


def test_the_parts_of_the_cpu_are_told_apart_where_a_database_has_one():
    own, queue = lane("restante", 100_000), lane("sqlqueue", 20_000)
    for part in own.windows:
        part.store_cpu_seconds, part.waker_cpu_seconds = 2.0, 0.5
    for part in queue.windows:
        part.store_cpu_seconds = part.server_cpu_seconds
    report = markdown(results(lanes=[own, queue, lane("redis", 50_000)], setup="2 nodes"), None)
    assert "- Restante on 2 nodes." in report
    assert row_of(report, "system")[-3:] == ["of it the nodes", "PostgreSQL", "the waker"]
    assert row_of(report, "Restante")[-3:] == ["25 µs", "20 µs", "5 µs"]
    assert row_of(report, "Sqlqueue")[-3:] == ["-", "250 µs", "-"]
    assert row_of(report, "Redis")[-3:] == ["-", "-", "-"]


def test_every_workload_has_its_part():
    took = Took(seconds=2.0, operations=1000, server_cpu_seconds=0.0, generator_cpu_seconds=1.0)
    probe = ProbeFigures(took, took, 0.001, 0.002)
    slow = ProbeFigures(msgspec.structs.replace(took, seconds=3.0), took, 0.001, 0.004)
    wake = WakeFigures(100, 0.001, 0.002, 0.003)
    idle = IdleFigures(1000, 2**20, 11 * 2**20)
    steady = SteadyFigures(1000, 2.5, 0.001, 0.004, 0.5)
    wire = WireFigures(100, 20_000, 150_000, 2)
    report = markdown(
        results(
            wakes={"longpoll": wake, "websocket": wake},
            idles={"longpoll": idle},
            transports=[TransportResult("events", "events", "1", wake, steady, wire, idle)],
            backlogs=[Backlog(1, 1000, took, [probe], [slow], 0.5, 1.0, 2**21)],
            drain=took,
            fan_out=FanOutResult(10, 2**20, [took, took], 3 * 2**20),
        ),
        None,
    )
    assert re.findall(r"^## (W\d)", report, re.MULTILINE) == ["W2", "W3", "W4", "W5", "W6"]
    assert row_of(report, "publish, 32")[1:] == ["2,000 µs", "3,000 µs", "1.50"]
    assert row_of(report, "publish, server")[3] == "-"
    assert row_of(report, "start to ready")[3] == "2.00"
    assert row_of(report, "long poll | 1,000")[4] == "10.2 KiB"
    assert row_of(report, "WebSocket")[1:] == ["1.00 ms", "2.00 ms", "3.00 ms"]
    assert row_of(report, "events")[1:] == [
        "1.00 ms / 2.00 ms",
        "1.00 ms / 4.00 ms",
        "500 µs",
        "1,700",
        "1",
        "2",
        "10.2 KiB",
    ]
    assert "a steady 400 a second" in report
    assert row_of(report, "10 | 1 MiB")[4] == "1.5 MiB"


def test_what_failed_is_said_in_one_line():
    found = results()
    found.failures = ["W3: the server ended\nwith a long trace"]
    assert "- W3: the server ended\n" in markdown(found, None)


def test_a_table():
    assert table(("a", "b"), [["1", "2"]]) == "| a | b |\n|---|---:|\n| 1 | 2 |"


def test_results_survive_json():
    found = results(lanes=[lane("redis", 1)])
    assert msgspec.json.decode(msgspec.json.encode(found), type=Results) == found


def test_the_plot_is_the_same_for_the_same_figures(tmp_path: Path):
    lanes = [lane("restante", 90_000), lane("redis", 45_000)]
    draw_lanes(lanes, tmp_path / "one.svg")
    draw_lanes(lanes, tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert "9,000" in (tmp_path / "one.svg").read_text()


@pytest.mark.parametrize(
    "wrong",
    [
        {"workloads": ("W9",)},
        {"ways": ("pigeon",)},
        {"peers": ("kafka",)},
        {"rounds": 0},
        {"scale": 0.0},
        {"scale": 1.5},
        {"seconds": 0.0},
        {"warmup_seconds": -1.0},
        {"store": "oracle"},
        {"waker": "pigeon"},
        {"nodes": 0},
    ],
)
def test_options_out_of_bounds_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=r"unknown|must be|needs"):
        BenchOptions(**wrong)


def test_what_it_runs_on_is_said():
    assert not BenchOptions().setup
    shared = BenchOptions(store="postgresql", nodes=2, waker="redis")
    assert shared.setup == "PostgreSQL, 2 nodes, woken by Redis"
    alone = BenchOptions(store="postgresql", nodes=1)
    assert alone.setup == "PostgreSQL, 1 node, woken by NOTIFY"


def test_sizes_are_scaled():
    assert BenchOptions(scale=0.01).scaled(100_000) == 1000
    assert BenchOptions(scale=0.001).scaled(1000) == 10
