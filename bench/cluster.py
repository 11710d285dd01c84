"""Measure what a lifecycle costs on a cluster: CPU of nodes and of PostgreSQL, write-ahead log, disk.

    .venv/bin/python bench/cluster.py
    .venv/bin/python bench/cluster.py --way longpoll --seconds 20

The load of W1 (64 publishers, 64 consumers, 1 KiB) without a balancer: each node has its part of the publishers and of
the consumers, and they meet in the same queues. Prints the arguments that bench/scaling.py takes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import httpx
import uvloop

from restante.bench.lanes import Tally, measure
from restante.bench.processes import cpu_seconds, raise_file_limit
from restante.bench.restante_load import open_lanes
from restante.bench.restante_wire import xml_body
from restante.bench.specs import Target
from restante.bench.ways import WAYS
from restante.testing.cluster import DATABASE, Cluster

LANES = 64
BODY_BYTES = 1_024


def wal_position(cluster: Cluster) -> int:
    (found,) = cluster.primary.query("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
    return int(found)


def targets(cluster: Cluster) -> list[Target]:
    """Each node as the load is told of it, with a client and a publisher that are made first."""
    headers = {"authorization": f"Bearer {cluster.admin_key}"}
    with httpx.Client(base_url=cluster.url, headers=headers, timeout=30) as admin:
        client = admin.post("/v1/clients", json={"name": "bench"}).json()["key"]
        publisher = {"role": "publisher", "name": "bench-publisher"}
        key = admin.post("/v1/keys", json=publisher).json()["key"]
    return [
        Target(
            system="restante",
            port=node.port,
            pids=[node.pid or 0],
            admin_key=cluster.admin_key,
            publisher_key=key,
            client_key=client,
            client="bench",
            grpc_port=node.grpc_port,
        )
        for node in cluster.nodes
    ]


def database_bytes(cluster: Cluster) -> int:
    (found,) = cluster.primary.query(f"SELECT pg_database_size('{DATABASE}')")
    return int(found)


async def run(cluster: Cluster, options: argparse.Namespace) -> None:
    tally = Tally()
    nodes = targets(cluster)
    for node in nodes:
        lanes = LANES // len(nodes)
        await open_lanes(node, tally, lanes, xml_body(BODY_BYTES), WAYS[options.way])
    databases = [server.pids[:1] for server in (cluster.primary, cluster.standby) if server]
    cpu = [cpu_seconds(pids) for pids in databases]
    wal, kept, begun = wal_position(cluster), database_bytes(cluster), tally.completed
    pids = [pid for node in nodes for pid in node.pids]
    figures = await measure(tally, pids, warmup_seconds=0, seconds=options.seconds)
    wal, kept = wal_position(cluster) - wal, database_bytes(cluster) - kept
    spent = [cpu_seconds(pids) - before for pids, before in zip(databases, cpu, strict=True)]
    count = tally.completed - begun
    milliseconds = figures.confirm_p50_seconds * 1e3
    print(f"{count / figures.seconds:,.0f} lifecycles/s, confirmed in {milliseconds:.1f} ms (p50)")
    print(f"the standby's CPU: {spent[1] / count * 1e6:.0f} us a lifecycle")
    print(
        f"--node-us {figures.server_cpu_seconds / count * 1e6:.0f}"
        f" --database-us {spent[0] / count * 1e6:.0f}"
        f" --wal-bytes {wal / count:.0f} --kept-bytes {kept / count:.0f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--way", choices=sorted(WAYS), default="websocket")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    raise_file_limit()
    with (
        tempfile.TemporaryDirectory(prefix="restante-bench-") as folder,
        Cluster(Path(folder), nodes=options.nodes) as cluster,
    ):
        uvloop.run(run(cluster, options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
