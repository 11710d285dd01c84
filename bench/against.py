"""Measure W1 of this tree against another one's, in short windows that take turns on the same machine.

    git worktree add ../before COMMIT
    .venv/bin/python bench/against.py ../before --windows 12

Both servers are up all the while, and one of them has the load. A machine that is faster or slower for a while is so
for both: what is told is the median of the windows, and of the ratios of neighbouring ones.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import tempfile
from pathlib import Path

import uvloop

from restante.bench.lanes import Lane, Tally, measure
from restante.bench.processes import raise_file_limit
from restante.bench.restante_load import open_lanes
from restante.bench.restante_wire import xml_body
from restante.bench.server import RestanteServer
from restante.bench.ways import WAYS


class Load:
    """Lanes on one server, which go on and pause together."""

    def __init__(self, name: str, server: RestanteServer) -> None:
        self.name = name
        self.server = server
        self.tally = Tally()
        self.lanes: list[Lane] = []
        self.rates: list[float] = []
        self.cpu_us: list[float] = []

    async def open(self, count: int) -> None:
        way = WAYS["longpoll"]
        self.lanes = await open_lanes(self.server.target, self.tally, count, xml_body(1_024), way)

    def pause(self) -> None:
        self.tally.running = self.tally.paused = True

    async def window(self, warmup: float, seconds: float) -> None:
        """Go on for so long, then pause."""
        self.tally.paused = False
        for lane in self.lanes:
            lane.go_on()
        figures = await measure(
            self.tally, self.server.target.pids, warmup_seconds=warmup, seconds=seconds
        )
        self.pause()
        self.rates.append(figures.completed / figures.seconds)
        self.cpu_us.append(1e6 * figures.server_cpu_seconds / figures.completed)


async def run(servers: list[RestanteServer], options: argparse.Namespace) -> None:
    loads = [Load(name, server) for name, server in zip(("that", "this"), servers, strict=True)]
    for load in loads:
        await load.open(options.lanes)
        await asyncio.sleep(options.warmup)
        load.pause()
    gc.freeze()
    for number in range(options.windows):
        # Who has its turn first changes too: what a window leaves behind is for the next.
        for load in loads[:: 1 if number % 2 else -1]:
            await load.window(options.warmup, options.seconds)
            await asyncio.sleep(options.warmup)
    before, after = loads
    for load in loads:
        rate, cpu = statistics.median(load.rates), statistics.median(load.cpu_us)
        print(f"{load.name}: {rate:,.0f} lifecycles/s, server CPU {cpu:.0f} us each")
    for what, these, those in (
        ("lifecycles/s", after.rates, before.rates),
        ("server CPU each", after.cpu_us, before.cpu_us),
    ):
        ratios = [a / b for a, b in zip(these, those, strict=True)]
        quarters = statistics.quantiles(ratios, n=4)
        print(
            f"{what}, this against that: {quarters[1]:.3f} ({quarters[0]:.3f} to {quarters[2]:.3f})"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="the other tree's folder")
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--warmup", type=float, default=1)
    parser.add_argument("--seconds", type=float, default=4)
    options = parser.parse_args()
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="restante-bench-") as folder:
        servers: list[RestanteServer] = []
        try:
            for name, tree in (("that", options.other), ("this", Path(__file__).parents[1])):
                source = (tree / "src").resolve()
                command = ("env", f"PYTHONPATH={source}", sys.executable, "-m", "restante")
                place = Path(folder) / name
                place.mkdir()
                server = RestanteServer((*command, "serve", "--log-level", "error"), place)
                servers.append(server)
                server.start()
            uvloop.run(run(servers, options))
        finally:
            for server in servers:
                server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
