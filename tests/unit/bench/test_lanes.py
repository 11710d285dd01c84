"""The turn-taking of a lane: one publish at a time, and not too far ahead of the consumer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from restante.bench import restante_load
from restante.bench.lanes import LANE_BACKLOG, Lane, LoadFailed, Tally, measure
from restante.bench.specs import NodePorts, Target


def lane_with_log() -> tuple[Lane, list[str]]:
    lane, log = Lane(Tally()), []
    lane.publish = lambda: log.append("publish")
    return lane, log


async def test_a_confirm_brings_the_next_publish():
    lane, log = lane_with_log()
    lane.begin()
    assert len(log) == 1
    lane.confirmed()
    assert len(log) == 2
    assert (lane.tally.published, lane.tally.completed) == (1, 0)


async def test_a_publisher_waits_for_its_consumer():
    lane, log = lane_with_log()
    lane.begin()
    for _ in range(LANE_BACKLOG):
        lane.confirmed()
    assert len(log) == LANE_BACKLOG
    lane.completed()
    assert len(log) == LANE_BACKLOG + 1
    lane.completed()
    assert len(log) == LANE_BACKLOG + 1


async def test_nothing_is_published_once_it_is_over():
    lane, log = lane_with_log()
    lane.begin()
    lane.tally.running = False
    lane.confirmed()
    lane.completed()
    assert len(log) == 1


async def test_the_first_failure_ends_the_measurement():
    tally = Tally()
    tally.fail("first")
    tally.fail("second")
    with pytest.raises(LoadFailed, match="first"):
        await measure(tally, [], warmup_seconds=60, seconds=60)


async def test_a_window_without_a_lifecycle_is_no_result():
    with pytest.raises(LoadFailed, match="not one lifecycle"):
        await measure(Tally(), [], warmup_seconds=0, seconds=0)


def test_a_target_is_each_of_its_nodes():
    target = Target(
        "restante", 1, [10, 11, 20, 30], others=[NodePorts(2, 3)], store_pids=[20], waker_pids=[30]
    )
    assert [(node.port, node.grpc_port) for node in target.nodes] == [(1, 0), (2, 3)]
    assert target.node_pids == [10, 11]
    assert [node.port for node in Target("restante", 1, []).nodes] == [1]


async def test_lanes_go_from_each_node_to_each(monkeypatch: pytest.MonkeyPatch):
    pairs: dict[str, list[int]] = {}

    class Way:
        async def connect_publisher(self, target: Target, queue: str, *_: Any) -> Any:
            pairs[queue] = [target.port]
            return lambda: None

        async def connect_consumer(self, target: Target, queue: str, _: Any) -> None:
            pairs[queue].append(target.port)

    async def make_queues(*_: Any) -> None:
        """There is no server."""

    monkeypatch.setattr(restante_load, "make_queues", make_queues)
    target = Target("restante", 1, [], others=[NodePorts(2)])
    way: Any = Way()
    await restante_load.open_lanes(target, Tally(), 64, b"", way)
    crossing = Counter((here, there) for here, there in pairs.values())
    assert crossing == {(1, 1): 16, (1, 2): 16, (2, 1): 16, (2, 2): 16}
