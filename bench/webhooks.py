"""Measure webhooks on this machine: deliveries a second to a local receiver, alone and beside dead endpoints.

    .venv/bin/python bench/webhooks.py --dead 1000
    .venv/bin/python bench/webhooks.py --dead 200 --hang

Compare with `restante bench W1 --way longpoll --way webhook` of the same run. Prints a line for each window.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
from pathlib import Path

import uvloop

from restante.bench.lanes import Tally, measure
from restante.bench.processes import free_port, raise_file_limit
from restante.bench.restante_load import open_lanes
from restante.bench.restante_wire import xml_body
from restante.bench.server import RestanteServer
from restante.bench.ways import WAYS
from restante.bench.webhooks import open_dead_ends


class Silent(asyncio.Protocol):
    """Takes connections, and says nothing."""


async def run(server: RestanteServer, options: argparse.Namespace) -> None:
    tally = Tally()
    way = WAYS["webhook"]
    await open_lanes(server.target, tally, options.lanes, xml_body(1_024), way)
    gc.freeze()
    for dead in (0, options.dead) if options.dead else (0,):
        port = free_port()
        if dead:
            if options.hang:
                loop = asyncio.get_running_loop()
                silent = await loop.create_server(Silent, "127.0.0.1", port, backlog=4_096)
                port = silent.sockets[0].getsockname()[1]
            await open_dead_ends(server.target, dead, options.waiting, port)
        tally.running = True
        pids = server.target.pids
        # A dead endpoint is tried often at first, and then at most once a minute.
        warmup = options.dead_warmup if dead else options.warmup
        figures = await measure(tally, pids, warmup_seconds=warmup, seconds=options.seconds)
        tally.running = True
        rate = figures.completed / figures.seconds
        cpu_us = 1e6 * figures.server_cpu_seconds / figures.completed
        other = figures.other_cpu_seconds / figures.seconds
        print(
            f"{options.lanes} lanes, {dead} dead: {rate:,.0f} deliveries/s,"
            f" server {cpu_us:.0f} us each (others {other:.2f} CPUs), pid {pids[0]}",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--dead", type=int, default=0)
    parser.add_argument("--hang", action="store_true", help="dead: takes calls, never answers")
    parser.add_argument("--waiting", type=int, default=20, help="notifications for each dead one")
    parser.add_argument("--warmup", type=float, default=5)
    parser.add_argument("--dead-warmup", type=float, default=90)
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args()
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="restante-bench-") as folder:
        command = (sys.executable, "-m", "restante", "serve", "--log-level", "error")
        server = RestanteServer(command, Path(folder), WAYS["webhook"].serve_options)
        server.start()
        try:
            uvloop.run(run(server, options))
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
