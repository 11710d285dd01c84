"""The calculation for a large service: each formula by hand, and what hot spots do."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from bench import scaling
from bench.scaling import Inputs

ROUND = Inputs(
    clients=1_000,
    rate=1_000,
    body_bytes=1_000,
    node_us=1_000,
    database_us=100,
    wal_bytes=10_000,
    kept_bytes=1_000,
    connection_bytes=1_024,
    commit_ms=2,
    safety=1,
    utilisation=0.5,
    connections_per_node=100,
    node_base_bytes=0,
    database_cores=1,
    database_wal_bytes=1e9,
    database_disk_bytes=1e15,
    database_connections=5,
    retention_days=1,
    spare=0,
    skew=0,
)


def values(inputs: Inputs, databases: int = 1) -> dict[str, float]:
    return {figure.name: figure.value for figure in scaling.figures(inputs, databases)}


def test_each_figure_is_what_its_formula_says():
    found = values(ROUND, 2)
    assert found["cores of nodes"] == pytest.approx(2)
    assert found["nodes"] == 10
    assert found["memory of all nodes"] == pytest.approx(1_000 * 1_024 / 2**30)
    assert found["cores of databases"] == pytest.approx(0.2)
    assert found["write-ahead log of each database"] == pytest.approx(5)
    assert found["connections to each database, from any node"] == 50
    assert found["connections to each database, from its own nodes"] == 25
    assert found["gathered in one commit, from any node"] == pytest.approx(0.3)
    assert found["gathered in one commit, from its own nodes"] == pytest.approx(0.6)
    assert found["one queue, one at a time"] == pytest.approx(500)
    assert found["network, publishers and clients"] == pytest.approx(0.016)
    assert found["network, nodes and databases"] == pytest.approx(0.096)
    assert found["disk for each day"] == pytest.approx(0.0864)
    assert found["disk of each database"] == pytest.approx(0.0432)


def test_the_tightest_limit_says_how_many_databases():
    assert scaling.database_count(ROUND) == 1
    assert scaling.database_count(replace(ROUND, database_us=5_000)) == 10
    assert scaling.database_count(replace(ROUND, database_wal_bytes=1e6)) == 20
    assert scaling.database_count(replace(ROUND, database_disk_bytes=8.64e9)) == 20
    assert scaling.database_count(replace(ROUND, safety=3, database_wal_bytes=1e6)) == 60


def test_nodes_are_as_many_as_cores_or_connections_need_and_some_to_spare():
    assert scaling.node_count(replace(ROUND, node_us=20_000)) == 40
    assert scaling.node_count(replace(ROUND, node_us=20_000, spare=0.1)) == 44
    assert scaling.node_count(replace(ROUND, fan_out=10)) == 20


@pytest.mark.parametrize("skew", [0, 0.5, 1, 1.2])
def test_the_shares_are_the_whole_and_fall(skew):
    largest, rest = scaling.shares(100_000, skew, single=500)
    assert sum(largest) + rest == pytest.approx(1)
    assert largest == sorted(largest, reverse=True)
    exact = sum(rank**-skew for rank in range(501, 100_001))
    whole = sum(rank**-skew for rank in range(1, 100_001))
    assert rest == pytest.approx(exact / whole, rel=1e-4)


def test_few_queues_are_all_placed_one_by_one():
    largest, rest = scaling.shares(3, 1)
    assert [*largest, rest] == pytest.approx([6 / 11, 3 / 11, 2 / 11, 0])


def test_a_directory_is_evener_than_a_hash():
    largest, rest = scaling.shares(10_000, 0.9)
    hashed = scaling.loads(largest, rest, 10, random.Random(1))
    placed = scaling.loads(largest, rest, 10, random.Random(1), pinned=len(largest))
    assert sum(hashed) == pytest.approx(1)
    assert sum(placed) == pytest.approx(1)
    assert max(placed) < max(hashed)
    assert max(placed) == pytest.approx(max(0.1, largest[0]), rel=0.01)


def test_a_skewed_load_needs_more_and_one_that_one_queue_has_alone_cannot_be_spread():
    even = replace(ROUND, clients=10_000, database_us=4_800)
    assert scaling.databases_needed(even, pinned=scaling.SINGLE_QUEUES) == 10
    skewed = replace(even, skew=0.6)
    hashed = scaling.databases_needed(skewed)
    directory = scaling.databases_needed(skewed, pinned=scaling.SINGLE_QUEUES)
    assert hashed is not None
    assert directory is not None
    assert 10 <= directory < hashed
    assert scaling.busiest(skewed, hashed) <= skewed.utilisation
    assert scaling.databases_needed(replace(even, skew=2)) is None


def test_the_program_tells_all_of_it(capsys):
    assert scaling.main(["--clients", "1000", "--rate", "1000", "--database-us", "60"]) == 0
    told = capsys.readouterr().out
    assert "| clients | 1,000 |" in told
    for figure in scaling.figures(Inputs(), 1):
        assert f"| {figure.name} |" in told
        assert figure.formula in told
