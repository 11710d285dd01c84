"""What time does: deliveries that wait for theirs, leases that run out, notifications that expire."""

from __future__ import annotations

from restante.errors import LeaseLost
from restante.model import State
from restante.queries import Now
from restante.testing.conformance.stage import Stage, refused, seqs


async def nothing_comes_before_its_time(stage: Stage) -> None:
    """I12."""
    appended = await stage.publish(deliver_after_seconds=10)
    assert appended.ready == {}
    assert await stage.state(1) is State.SCHEDULED
    assert await stage.pass_time(9.999) == {}
    assert await stage.lease() == []
    assert await stage.pass_time(0.001) == {"acme": 1}
    assert seqs(await stage.lease()) == [1]


async def next_due_says_when(stage: Stage) -> None:
    assert await stage.store.next_due() is None
    await stage.publish()
    assert await stage.store.next_due() is None, "what is ready waits for nobody's clock"
    await stage.publish(deliver_after_seconds=60)
    assert await stage.store.next_due() == 60
    await stage.publish(expires_after_seconds=50)
    assert await stage.store.next_due() == 50
    await stage.lease(1, seconds=40)
    assert await stage.store.next_due() == 40
    stage.clock.advance(39)
    assert await stage.store.next_due() == 1
    stage.clock.advance(5)
    assert await stage.store.next_due() == 0
    assert await stage.overdue() == {"acme": 1}
    assert await stage.store.next_due() == 6


async def now_runs_evenly_wherever_the_wall_clock_jumps(stage: Stage) -> None:
    now_ms = await stage.store.browse(Now())
    assert now_ms == stage.clock.wall_ms()
    for jump in (2 * 86_400, -3 * 86_400):
        stage.clock.jump_wall(jump)
        assert await stage.store.browse(Now()) == now_ms
    stage.clock.advance(5)
    assert await stage.store.browse(Now()) == now_ms + 5_000


async def overdue_is_done_in_small_steps(stage: Stage) -> None:
    for _ in range(5):
        await stage.publish(deliver_after_seconds=1)
    assert await stage.pass_time(0) == {}
    stage.clock.advance(1)
    assert await stage.overdue(2) == {"acme": 2}
    assert await stage.overdue(2) == {"acme": 2}
    assert await stage.overdue(2) == {"acme": 1}
    assert await stage.overdue(2) == {}


async def overdue_names_each_queue(stage: Stage) -> None:
    await stage.put_queue("b")
    await stage.publish(queues=("acme", "b"), deliver_after_seconds=5)
    await stage.publish(queues=("b",), deliver_after_seconds=5)
    assert await stage.pass_time(5) == {"acme": 1, "b": 2}


async def overdue_names_a_queue_whose_flow_it_opened(stage: Stage) -> None:
    """A lease that ends in the dead letters makes room under ``max_in_flight``: somebody must look."""
    await stage.put_queue(max_in_flight=1, max_attempts=1)
    await stage.publish()
    await stage.publish()
    await stage.lease(seconds=5)
    assert await stage.pass_time(5) == {"acme": 1}
    assert seqs(await stage.lease()) == [2]


async def what_is_ready_expires(stage: Stage) -> None:
    await stage.publish(expires_after_seconds=10)
    await stage.publish()
    stage.clock.advance(9.999)
    assert seqs(await stage.lease(1)) == [1]
    await stage.publish(expires_after_seconds=10)
    stage.clock.advance(10)
    assert seqs(await stage.lease()) == [2], "past its expiry it is not handed out, swept or not"
    await stage.overdue()
    assert await stage.story(3) == ["published ready", "expired expired"]
    assert await stage.state(3) is State.EXPIRED


async def what_is_scheduled_expires(stage: Stage) -> None:
    await stage.publish(deliver_after_seconds=100, expires_after_seconds=10)
    await stage.pass_time(10)
    assert await stage.story(1) == ["published scheduled", "expired expired"]
    assert await stage.pass_time(100) == {}


async def what_is_held_expires(stage: Stage) -> None:
    await stage.publish(ordering_key="k")
    await stage.publish(ordering_key="k", expires_after_seconds=10)
    await stage.publish(ordering_key="k")
    await stage.pass_time(10)
    assert await stage.states() == [State.READY, State.EXPIRED, State.HELD]
    assert await stage.story(2) == ["published held", "expired expired"]
    await stage.ack(await stage.one())
    assert await stage.state(3) is State.READY


async def what_expires_lets_the_next_of_its_key_go(stage: Stage) -> None:
    await stage.publish(ordering_key="k", expires_after_seconds=10)
    await stage.publish(ordering_key="k")
    assert await stage.pass_time(10) == {"acme": 1}
    assert await stage.states() == [State.EXPIRED, State.READY]


async def what_is_leased_does_not_expire(stage: Stage) -> None:
    await stage.publish(expires_after_seconds=10)
    delivery = await stage.one(seconds=60)
    assert await stage.pass_time(20) == {}
    assert (await stage.ack(delivery)).state is State.ACKED


async def what_comes_back_too_late_expires_then(stage: Stage) -> None:
    for _ in range(3):
        await stage.publish(expires_after_seconds=10)
    released, nacked, left = await stage.lease(seconds=30)
    stage.clock.advance(20)
    await stage.release(released)
    await stage.nack(nacked, retry_after_seconds=5)
    await stage.pass_time(10)
    assert await stage.story(1) == ["published ready", "released ready", "expired expired"]
    assert await stage.story(2) == ["published ready", "nacked scheduled", "expired expired"]
    assert await stage.story(3) == ["published ready", "lease_expired ready", "expired expired"]
    await refused(LeaseLost, stage.ack(left))


async def what_is_acked_or_dead_does_not_expire(stage: Stage) -> None:
    await stage.bury(expires_after_seconds=10)
    await stage.publish(expires_after_seconds=10)
    await stage.ack(await stage.one())
    assert await stage.pass_time(100) == {}
    assert await stage.states() == [State.DEAD, State.ACKED]


async def a_dead_letter_past_its_expiry_expires_when_redriven(stage: Stage) -> None:
    await stage.bury(expires_after_seconds=10)
    stage.clock.advance(11)
    assert (await stage.redrive(1))[0] == 1
    assert (await stage.story(1))[-2:] == ["redriven ready", "expired expired"]
    assert await stage.lease() == []


async def due_and_expired_at_once_is_expired(stage: Stage) -> None:
    await stage.publish(deliver_after_seconds=10, expires_after_seconds=10)
    await stage.pass_time(10)
    assert await stage.state(1) is State.EXPIRED
    assert await stage.lease() == []
