"""Measure what a repeat of a request with an idempotency key costs, against a plain publish, in one run.

    .venv/bin/python bench/repeats.py --count 500

One caller, one connection, one server on a SQLite file: publishes, publishes with a key, repeats of these, calls with
a key (a subscription is made) and repeats of these, in turns, so that what else the machine does is in all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import httpx

from restante.bench.server import RestanteServer
from restante.bench.specs import Target

BODY: Final = b"<order/>" * 128


async def measure(count: int) -> None:
    """Print the median and the 99th percentile of each, in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        server = RestanteServer((sys.executable, "-m", "restante", "serve"), Path(folder))
        server.start()
        try:
            took = await _take(server.target, count)
        finally:
            server.stop()
    for name, times in took.items():
        median, late = statistics.median(times), statistics.quantiles(times, n=100)[98]
        print(f"{name:<28} p50 {median * 1_000:6.2f} ms   p99 {late * 1_000:6.2f} ms")


async def _take(target: Target, count: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {}
    url = f"http://127.0.0.1:{target.port}"
    headers = {"authorization": f"Bearer {target.admin_key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:

        async def send(name: str, path: str, key: str | None = None, **given: object) -> None:
            named = {} if key is None else {"idempotency-key": key}
            begun = time.perf_counter()
            answer = await http.post(path, headers=named, **given)  # type: ignore[arg-type]
            took.setdefault(name, []).append(time.perf_counter() - begun)
            answer.raise_for_status()

        await send("client", "/v1/clients", json={"name": "acme"})
        took.clear()
        for number in range(count):
            publish = "/v1/queues/acme/notifications"
            ask = {"pattern": f"topic.n{number}", "queue": "acme"}
            await send("publish", publish, content=BODY)
            await send("publish with a key", publish, f"p{number}", content=BODY)
            await send("publish repeated", publish, f"p{number}", content=BODY)
            await send("call with a key", "/v1/subscriptions", f"s{number}", json=ask)
            await send("call repeated", "/v1/subscriptions", f"s{number}", json=ask)
    return took


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=500)
    asyncio.run(measure(parser.parse_args().count))
