"""The transport suite through nginx over two nodes on PostgreSQL, which die and are replaced between scenarios."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from restante.testing.cluster import Cluster
from restante.testing.transports import Target, Want, all_drivers, transport_cases

# What the service calls itself passes no balancer on its way in.
CONNECTING = [driver for driver in all_drivers() if Want.CONNECTS in driver.offers]
CASES = [(driver, scenario) for driver, scenario in transport_cases() if driver in CONNECTING]
BACK_SECONDS = 30.0
A_SAMPLE = 23
"""Of so many cases one is played; it shares no divisor with the number of drivers or of scenarios."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as cluster:
        yield cluster


def steps(cluster: Cluster) -> Iterator[Callable[[], object]]:
    """What is done to the cluster between scenarios, for ever. Each leaves something that serves."""
    for node in itertools.cycle(cluster.nodes):
        yield from (
            node.kill,
            node.start,
            cluster.fail_over,
            cluster.seed_standby,
            node.stop,
            node.start,
        )


@pytest.mark.timeout(240)
async def test_a_sample_of_the_suite_passes_whatever_has_just_died(cluster):
    await play(cluster, CASES[::A_SAMPLE])


@pytest.mark.long
@pytest.mark.timeout(7_200)
async def test_the_whole_suite_passes_whatever_has_just_died(cluster):
    await play(cluster, CASES)


async def play(cluster, cases):
    target = Target(
        url=cluster.secure_url,
        grpc=cluster.balancer.address,
        admin_key=cluster.admin_key,
        ca_file=str(cluster.ca_file),
    )
    for (driver, scenario), step in zip(cases, steps(cluster), strict=False):
        step()
        for node in cluster.nodes:
            node.wait_until_ready()
        # It hears of connections that ended before this one began: a POST over one of them would be answered 502.
        # Where it holds both nodes for dead, the one for what happened before, it answers 502 until it tries again.
        async with (
            httpx.AsyncClient(base_url=cluster.url) as anybody,
            asyncio.timeout(BACK_SECONDS),
        ):
            while (await anybody.get("/openapi.yaml")).status_code != 200:
                pass
        other = CONNECTING[(CONNECTING.index(driver) + 1) % len(CONNECTING)]
        try:
            await scenario.run(target, driver, other)
        except BaseException as error:
            error.add_note(f"{driver.name}: {scenario}, after {step}")
            raise
