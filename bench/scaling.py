"""Calculate what a service of a given size takes: nodes, databases, cores, memory, network, disk.

    .venv/bin/python bench/scaling.py
    .venv/bin/python bench/scaling.py --clients 100000 --rate 10000 --node-us 250 --database-us 50

What was measured is an argument, and so is what was assumed; every figure comes with its formula. Then a simulation:
how uneven it gets when queues are hashed over databases and a few queues have much of the load.
docs/scaling.md says what the figures mean.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, NamedTuple

KIB: Final = 1024
GIB: Final = 1024**3
DAY_SECONDS: Final = 86_400
SINGLE_QUEUES: Final = 2_000
"""So many of the largest queues are placed one by one in the simulation; what is left is as good as even."""
STEPS: Final = 3
"""Of each lifecycle: publish, lease, settle."""
TRIALS: Final = 100
QUANTILE: Final = 0.999


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is asked for, what was measured, and what was chosen. Durations have their unit in the name."""

    clients: int = 1_000_000
    rate: float = 100_000
    """Notifications a second, each published once, leased once and acked once."""
    body_bytes: float = 1_024
    fan_out: float = 1.0
    """Deliveries of each notification."""

    node_us: float = 1_024
    """A node's CPU for each lifecycle; this and the next three as ``bench/cluster.py --way longpoll`` measured them."""
    database_us: float = 210
    """PostgreSQL's CPU for each lifecycle."""
    wal_bytes: float = 3_970
    """Write-ahead log of each lifecycle."""
    kept_bytes: float = 3_105
    """What each lifecycle leaves on the disk until its retention is over: body, notification, receipts, indexes."""
    connection_bytes: float = 24 * KIB
    """A node's memory for each client that is connected and idle."""
    commit_ms: float = 2.0
    """From COMMIT to its answer: the primary's fsync, the way to the standby and back, and the standby's fsync."""

    safety: float = 1.3
    """What all measured costs are multiplied by."""
    utilisation: float = 0.7
    """How busy a core may be, so that waiting stays short."""
    connections_per_node: int = 10_000
    node_base_bytes: float = 100 * 1024 * KIB
    database_cores: int = 16
    database_wal_bytes: float = 200e6
    """Write-ahead log that a database's disk and the way to its standby carry in a second."""
    database_disk_bytes: float = 10e12
    database_connections: int = 10
    """Of each node to each database, at most: most of them are idle."""
    retention_days: float = 7
    spare: float = 0.1
    """Nodes beyond those that are needed: for failures and restarts."""
    skew: float = 0.8
    """Zipf's exponent: 0, all queues have the same load; 1, each has the load of the first by its rank."""


class Figure(NamedTuple):
    """One result: ``formula`` says what it is of."""

    name: str
    value: float
    unit: str
    formula: str


def node_count(inputs: Inputs) -> int:
    """Nodes with their spare: one process uses one core, and holds so many connections."""
    needed = max(_cores_of_nodes(inputs), _nodes_for_clients(inputs)) * (1 + inputs.spare)
    return math.ceil(round(needed, 6))


def limits(inputs: Inputs) -> dict[str, float]:
    """How many databases the whole load would keep fully busy, by what it is that is busy."""
    deliveries = _deliveries(inputs)
    kept = deliveries * inputs.kept_bytes * DAY_SECONDS * inputs.retention_days
    return {
        "cores": _cores_of_databases(inputs) * inputs.utilisation / inputs.database_cores,
        "write-ahead log": deliveries
        * inputs.wal_bytes
        * inputs.safety
        / inputs.database_wal_bytes,
        "disk": kept / inputs.database_disk_bytes,
    }


def database_count(inputs: Inputs) -> int:
    """Databases that carry the load when it is even; see ``databases_needed`` for when it is not."""
    return math.ceil(max(limits(inputs).values()) / inputs.utilisation)


def _deliveries(inputs: Inputs) -> float:
    return inputs.rate * inputs.fan_out


def _cores_of_nodes(inputs: Inputs) -> float:
    return _deliveries(inputs) * inputs.node_us / 1e6 * inputs.safety / inputs.utilisation


def _nodes_for_clients(inputs: Inputs) -> float:
    return inputs.clients / inputs.connections_per_node


def _cores_of_databases(inputs: Inputs) -> float:
    return _deliveries(inputs) * inputs.database_us / 1e6 * inputs.safety / inputs.utilisation


def figures(inputs: Inputs, databases: int) -> Iterator[Figure]:
    """Everything that can be calculated, for so many databases."""
    deliveries = _deliveries(inputs)
    nodes = node_count(inputs)
    wal = deliveries * inputs.wal_bytes * inputs.safety
    memory = inputs.node_base_bytes * nodes + inputs.clients * inputs.connection_bytes
    bodies = deliveries * inputs.body_bytes
    yield Figure(
        "cores of nodes",
        _cores_of_nodes(inputs),
        "cores",
        "rate x fan_out x node_us x safety / utilisation",
    )
    yield Figure(
        "nodes for the connections",
        _nodes_for_clients(inputs),
        "nodes",
        "clients / connections_per_node",
    )
    yield Figure("nodes", nodes, "nodes", "the larger of both x (1 + spare), one core each")
    yield Figure(
        "memory of all nodes",
        memory * inputs.safety / GIB,
        "GiB",
        "(nodes x node_base_bytes + clients x connection_bytes) x safety",
    )
    yield Figure(
        "cores of databases",
        _cores_of_databases(inputs),
        "cores",
        "rate x fan_out x database_us x safety / utilisation",
    )
    yield from (
        Figure(f"databases for the {what}", busy / inputs.utilisation, "primaries", formula)
        for (what, busy), formula in zip(
            limits(inputs).items(),
            (
                "cores of databases / database_cores",
                "rate x fan_out x wal_bytes x safety / database_wal_bytes / utilisation",
                "disk for each day x retention_days / database_disk_bytes / utilisation",
            ),
            strict=True,
        )
    )
    yield Figure("databases", databases, "primaries", "by the simulation below, with a directory")
    for who, served in (("any node", nodes), ("its own nodes", math.ceil(nodes / databases))):
        yield Figure(
            f"connections to each database, from {who}",
            served * inputs.database_connections,
            "connections",
            "those nodes x database_connections",
        )
        yield Figure(
            f"gathered in one commit, from {who}",
            STEPS * deliveries / databases / served * inputs.commit_ms / 1e3,
            "operations",
            "3 x rate x fan_out / databases / those nodes x commit_ms",
        )
    yield Figure(
        "write-ahead log of each database",
        wal / databases / 1e6,
        "MB/s",
        "rate x fan_out x wal_bytes x safety / databases; as much to each standby",
    )
    yield Figure(
        "one queue, one at a time",
        1e3 / inputs.commit_ms,
        "commits/s",
        "1 / commit_ms: what happens to a queue happens one commit after the other",
    )
    yield Figure(
        "network, publishers and clients",
        2 * bodies * 8 / 1e9,
        "Gbit/s",
        "2 x rate x fan_out x body_bytes, without heads",
    )
    yield Figure(
        "network, nodes and databases",
        (2 * bodies + wal) * 8 / 1e9,
        "Gbit/s",
        "bodies in and out, and the log to one standby",
    )
    yield Figure(
        "disk for each day",
        deliveries * inputs.kept_bytes * DAY_SECONDS / 1e12,
        "TB",
        "rate x fan_out x kept_bytes x 86,400, on the primaries, and as much on the standbys",
    )
    yield Figure(
        "disk of each database",
        deliveries * inputs.kept_bytes * DAY_SECONDS * inputs.retention_days / 1e12 / databases,
        "TB",
        "that x retention_days / databases",
    )


# -- hot spots ----------------------------------------------------------------------------------


def shares(queues: int, skew: float, single: int = SINGLE_QUEUES) -> tuple[list[float], float]:
    """What part of the load each of the largest queues has, in falling order, and all the others together."""
    single = min(single, queues)
    largest = [rank**-skew for rank in range(1, single + 1)]
    rest = _sum_of_powers(single, queues, skew)
    whole = sum(largest) + rest
    return [weight / whole for weight in largest], rest / whole


def _sum_of_powers(after: int, last: int, skew: float) -> float:
    """Of rank to the minus skew, for the ranks beyond ``after``: by the integral, with half a rank on either side."""
    if last <= after:
        return 0.0
    low, high = after + 0.5, last + 0.5
    if math.isclose(skew, 1.0):
        return math.log(high / low)
    return float((high ** (1 - skew) - low ** (1 - skew)) / (1 - skew))


def loads(
    largest: Sequence[float], rest: float, databases: int, chance: random.Random, *, pinned: int = 0
) -> list[float]:
    """The part of the whole that each database gets: queues hashed, the ``pinned`` largest placed by a directory.

    A directory puts each where least is so far.
    """
    found = [rest / databases] * databases
    for share in largest[pinned:]:
        found[chance.randrange(databases)] += share
    heapq.heapify(found)
    for share in largest[:pinned]:
        heapq.heapreplace(found, found[0] + share)
    return found


def busiest(
    inputs: Inputs, databases: int, *, pinned: int = 0, trials: int = TRIALS, seed: int = 1
) -> float:
    """How busy databases are at the quantile ``QUANTILE``, of so many placements; 1 is all that one can do."""
    chance = random.Random(seed)  # noqa: S311  # nobody's secret
    largest, rest = shares(inputs.clients, inputs.skew)
    whole = max(limits(inputs).values())
    found: list[float] = []
    for _ in range(1 if pinned >= len(largest) else trials):
        found += loads(largest, rest, databases, chance, pinned=pinned)
    found.sort()
    return found[min(len(found) - 1, math.ceil(QUANTILE * len(found)) - 1)] * whole


def databases_needed(inputs: Inputs, *, pinned: int = 0, most: int = 2_000) -> int | None:
    """The fewest databases of which the busiest stays within ``utilisation``; None where even ``most`` do not.

    Found by doubling and halving: near its end a database more may, by chance, be a little worse.
    """
    largest, _ = shares(inputs.clients, inputs.skew)
    whole = max(limits(inputs).values())
    if largest[0] * whole > inputs.utilisation:
        return None
    low = database_count(inputs) - 1
    high = low + 1
    while busiest(inputs, high, pinned=pinned) > inputs.utilisation:
        low, high = high, high * 2
        if high > most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if busiest(inputs, middle, pinned=pinned) > inputs.utilisation:
            low = middle
        else:
            high = middle
    return high


# -- telling ------------------------------------------------------------------------------------


def report(inputs: Inputs) -> Iterator[str]:
    """The whole calculation, line by line, as Markdown."""
    yield "## What goes in"
    yield ""
    yield "| input | value |"
    yield "|---|---:|"
    for field in fields(inputs):
        yield f"| {field.name} | {getattr(inputs, field.name):,} |"
    even = database_count(inputs)
    needed = databases_needed(inputs, pinned=SINGLE_QUEUES)
    yield ""
    yield "## What it takes"
    yield ""
    yield "| what | value | unit | formula |"
    yield "|---|---:|---|---|"
    for figure in figures(inputs, needed or even):
        yield f"| {figure.name} | {_number(figure.value)} | {figure.unit} | {figure.formula} |"
    yield ""
    yield "## Hot spots"
    yield ""
    yield (
        f"{inputs.clients:,} queues over databases; {even} would do if the load were even, none more than"
        f" {inputs.utilisation:.0%} busy. Needed: so many that this holds for 999 in 1,000 ({TRIALS} placements)."
    )
    yield ""
    yield (
        f"| Zipf's exponent | the largest queue alone | 1 in 1,000 of {even}, hashed | needed, hashed |"
        " needed, with a directory for the largest |"
    )
    yield "|---:|---:|---:|---:|---:|"
    whole = max(limits(inputs).values())
    for skew in (0.0, 0.5, 0.8, 0.9, 1.0):
        skewed = replace(inputs, skew=skew)
        largest, _ = shares(inputs.clients, skew)
        hashed = databases_needed(skewed)
        directory = databases_needed(skewed, pinned=SINGLE_QUEUES)
        yield (
            f"| {skew} | {largest[0] * whole:.1%} of a database | {busiest(skewed, even):.0%} busy |"
            f" {hashed or 'no number'} | {directory or 'no number'} |"
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for field in fields(Inputs):
        flag = f"--{field.name.replace('_', '-')}"
        kind = int if isinstance(field.default, int) else float
        parser.add_argument(flag, type=kind, default=field.default, help="[default: %(default)s]")
    for line in report(Inputs(**vars(parser.parse_args(arguments)))):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
