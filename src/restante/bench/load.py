"""The load generator: a process of its own, `python -m restante.bench.load`.

Reads one scenario as JSON from standard input, runs it, and prints one line of JSON: its figures,
or {"error": text} with exit code 1.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from typing import TypeVar

import msgspec
import uvloop

from restante.bench import latency, restante_load, scenarios
from restante.bench.lanes import LaneFigures, LoadFailed, Tally, measure
from restante.bench.peers import PEERS
from restante.bench.processes import raise_file_limit
from restante.bench.restante_wire import UnexpectedAnswer, xml_body
from restante.bench.specs import (
    Drain,
    FanOut,
    Fill,
    Idle,
    Lanes,
    MakeQueues,
    Probe,
    Scenario,
    Steady,
    Subscribe,
    Wake,
    WireBytes,
)
from restante.bench.ways import WAYS, way_of

Figures = TypeVar("Figures")
_LONGEST_RUN_SECONDS = 3600
_LONGEST_SETUP_SECONDS = 60


def run_load(scenario: Scenario, figures: type[Figures]) -> Figures:
    """Run a scenario in a process of its own and return its figures.

    Raises LoadFailed with what went wrong there.
    """
    done = subprocess.run(
        [sys.executable, "-m", "restante.bench.load"],
        input=msgspec.json.encode(scenario),
        stdout=subprocess.PIPE,
        timeout=_LONGEST_RUN_SECONDS,
        check=False,
    )
    if done.returncode == 0:
        return msgspec.json.decode(done.stdout, type=figures)
    try:
        raise LoadFailed(msgspec.json.decode(done.stdout)["error"])
    except msgspec.DecodeError:
        raise LoadFailed(f"the load generator ended with {done.returncode}") from None


async def _run(scenario: Scenario) -> object:
    match scenario:
        case Lanes():
            return await _run_lanes(scenario)
        case MakeQueues():
            return await scenarios.run_make_queues(scenario)
        case Fill():
            return await scenarios.run_fill(scenario)
        case Probe():
            return await scenarios.run_probe(scenario)
        case Wake():
            return await scenarios.run_wake(scenario)
        case Idle():
            return await scenarios.run_idle(scenario)
        case Steady():
            return await latency.run_steady(scenario)
        case WireBytes():
            return await latency.run_wire_bytes(scenario)
        case Drain():
            return await scenarios.run_drain(scenario)
        case Subscribe():
            return await scenarios.run_subscribe(scenario)
        case FanOut():
            return await scenarios.run_fan_out(scenario)


async def _run_lanes(scenario: Lanes) -> LaneFigures:
    target, tally = scenario.target, Tally()
    body = xml_body(scenario.body_bytes)
    async with asyncio.timeout(_LONGEST_SETUP_SECONDS):
        if target.system == "restante":
            way = way_of(WAYS, scenario.way)
            await restante_load.open_lanes(target, tally, scenario.lanes, body, way)
        else:
            await PEERS[target.system].open_lanes(target.port, tally, scenario.lanes, body)
    # What is there now stays to the end: spare the collector from looking through it again.
    gc.freeze()
    return await measure(
        tally,
        target.pids,
        warmup_seconds=scenario.warmup_seconds,
        seconds=scenario.seconds,
        store_pids=target.store_pids,
        waker_pids=target.waker_pids,
    )


def main() -> int:
    """Run the scenario on standard input; return the exit code."""
    raise_file_limit()
    scenario: Scenario = msgspec.json.decode(sys.stdin.buffer.read(), type=Scenario)
    try:
        figures = uvloop.run(_run(scenario))
    except (LoadFailed, UnexpectedAnswer, OSError) as error:
        text = str(error) or type(error).__name__
        sys.stdout.buffer.write(msgspec.json.encode({"error": text}))
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
