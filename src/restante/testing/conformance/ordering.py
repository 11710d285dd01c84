"""Ordering keys and collapse keys."""

from __future__ import annotations

from restante.errors import LeaseLost
from restante.model import State
from restante.testing.conformance.stage import Stage, refused, seqs


async def one_of_a_key_at_a_time_in_order(stage: Stage) -> None:
    """I11."""
    for _ in range(3):
        await stage.publish(ordering_key="k")
    assert await stage.states() == [State.READY, State.HELD, State.HELD]
    for expected in (1, 2, 3):
        (delivery,) = await stage.lease()
        assert delivery.ref.seq == expected
        assert (await stage.ack(delivery)).ready == (expected < 3)


async def other_keys_and_none_are_not_held(stage: Stage) -> None:
    await stage.publish(ordering_key="a")
    await stage.publish(ordering_key="b")
    await stage.publish()
    await stage.publish(ordering_key="a")
    await stage.publish()
    assert seqs(await stage.lease()) == [1, 2, 3, 5]


async def keys_of_two_queues_are_two_keys(stage: Stage) -> None:
    await stage.put_queue("b")
    await stage.publish(ordering_key="k")
    await stage.publish(ordering_key="k", queues=("b",))
    assert seqs(await stage.lease(queue="b")) == [1]


async def a_retry_keeps_the_key_shut(stage: Stage) -> None:
    await stage.publish(ordering_key="k")
    await stage.publish(ordering_key="k")
    await stage.nack(await stage.one(), retry_after_seconds=5)
    assert await stage.states() == [State.SCHEDULED, State.HELD]
    assert await stage.lease() == []
    await stage.pass_time(5)
    first = await stage.one(seconds=5)
    assert first.ref.seq == 1
    await stage.pass_time(5)
    assert seqs(await stage.lease()) == [1]
    assert await stage.state(2) is State.HELD


async def one_that_waits_for_its_time_keeps_the_key_shut(stage: Stage) -> None:
    await stage.publish(ordering_key="k", deliver_after_seconds=10)
    await stage.publish(ordering_key="k")
    assert await stage.lease() == []
    await stage.pass_time(10)
    assert seqs(await stage.lease()) == [1]


async def a_held_one_waits_for_its_time_too(stage: Stage) -> None:
    """I11 and I12 together."""
    await stage.publish(ordering_key="k")
    await stage.publish(ordering_key="k", deliver_after_seconds=10)
    await stage.publish(ordering_key="k", deliver_after_seconds=10)
    assert await stage.states() == [State.READY, State.HELD, State.HELD]
    await stage.ack(await stage.one())
    assert await stage.state(2) is State.SCHEDULED
    assert await stage.pass_time(10) == {"acme": 1}
    await stage.ack(await stage.one())
    assert seqs(await stage.lease()) == [3], "its time has passed meanwhile"


async def a_dead_letter_lets_its_key_go_on(stage: Stage) -> None:
    await stage.publish(ordering_key="k")
    await stage.publish(ordering_key="k")
    settled = await stage.reject(await stage.one())
    assert (settled.state, settled.ready) == (State.DEAD, 1)
    assert seqs(await stage.lease()) == [2]


async def a_parked_dead_letter_keeps_its_key_shut(stage: Stage) -> None:
    await stage.put_queue(after_dead="park")
    await stage.publish(ordering_key="k")
    await stage.publish(ordering_key="k")
    await stage.publish(ordering_key="other")
    settled = await stage.reject(await stage.one())
    assert (settled.state, settled.ready) == (State.DEAD, 0)
    await stage.publish(ordering_key="k")
    assert await stage.states() == [State.DEAD, State.HELD, State.READY, State.HELD]
    assert await stage.discard(1) == (1, {"acme": 1})
    await stage.lease()
    assert await stage.states() == [State.DISCARDED, State.LEASED, State.LEASED, State.HELD]


async def attempts_used_up_park_too(stage: Stage) -> None:
    await stage.put_queue(after_dead="park", max_attempts=1)
    for key in ("a", "b"):
        await stage.publish(ordering_key=key)
        await stage.publish(ordering_key=key)
    nacked, left = await stage.lease(seconds=5)
    await stage.nack(nacked)
    await stage.pass_time(5)
    assert left.ordering_key == "b"
    assert await stage.states() == [State.DEAD, State.HELD, State.DEAD, State.HELD]


async def a_parked_one_is_retried_before_those_behind_it(stage: Stage) -> None:
    await stage.put_queue(after_dead="park")
    for _ in range(3):
        await stage.publish(ordering_key="k")
    await stage.reject(await stage.one())
    assert await stage.redrive(1) == (1, {"acme": 1})
    assert await stage.states() == [State.READY, State.HELD, State.HELD]
    await stage.ack(await stage.one())
    assert seqs(await stage.lease()) == [2]


async def a_queue_that_parks_no_more_lets_all_its_keys_go(stage: Stage) -> None:
    await stage.put_queue(after_dead="park")
    for key in ("a", "b"):
        await stage.publish(ordering_key=key)
        await stage.publish(ordering_key=key)
    for delivery in await stage.lease():
        await stage.reject(delivery)
    await stage.put_queue(after_dead="park", max_attempts=5)
    assert await stage.lease() == []
    await stage.put_queue(after_dead="continue")
    assert await stage.states() == [State.DEAD, State.READY, State.DEAD, State.READY]


async def a_redriven_one_waits_behind_what_is_on_its_way(stage: Stage) -> None:
    await stage.publish(ordering_key="k")
    await stage.publish(ordering_key="k")
    await stage.publish(ordering_key="k")
    await stage.reject(await stage.one())
    second = await stage.one()
    assert await stage.redrive(1) == (1, {"acme": 0})
    assert await stage.story(1) == ["published ready", "rejected dead", "redriven held"]
    assert await stage.lease() == []
    await stage.ack(second)
    assert seqs(await stage.lease()) == [1], "it goes before those that came after it"


async def redriving_two_of_a_key_keeps_their_order(stage: Stage) -> None:
    await stage.publish(ordering_key="k")
    await stage.publish(ordering_key="k")
    await stage.reject(await stage.one())
    await stage.put_queue(after_dead="park")
    await stage.reject(await stage.one())
    # The second is parked, and so the first, redriven alone, is held behind it. Redriven too, it must not overtake.
    await stage.redrive(1)
    assert await stage.states() == [State.HELD, State.DEAD]
    assert await stage.redrive(2) == (1, {"acme": 1})
    assert await stage.states() == [State.READY, State.HELD]
    await stage.ack(await stage.one())
    assert seqs(await stage.lease()) == [2]


async def a_newer_state_supersedes_those_that_wait(stage: Stage) -> None:
    await stage.publish(collapse_key="c")
    await stage.publish(collapse_key="c", deliver_after_seconds=60)
    await stage.publish(collapse_key="other")
    appended = await stage.publish(collapse_key="c")
    assert appended.ready == {"acme": 1}
    assert await stage.states() == [
        State.SUPERSEDED,
        State.SUPERSEDED,
        State.READY,
        State.READY,
    ]
    assert await stage.story(1) == ["published ready", "superseded superseded"]
    assert seqs(await stage.lease()) == [3, 4]


async def what_is_leased_is_not_superseded_before_it_comes_back(stage: Stage) -> None:
    for key in ("a", "b", "c", "d", "e"):
        await stage.publish(collapse_key=key)
    acked, released, nacked, rejected, left = await stage.lease(seconds=5)
    for key in ("a", "b", "c", "d", "e"):
        await stage.publish(collapse_key=key)
    assert (await stage.ack(acked)).state is State.ACKED
    assert (await stage.release(released)).ready == 0
    await stage.nack(nacked, retry_after_seconds=1)
    await stage.reject(rejected)
    await stage.pass_time(5)
    assert (await stage.states())[:5] == [
        State.ACKED,
        State.SUPERSEDED,
        State.SUPERSEDED,
        State.DEAD,
        State.SUPERSEDED,
    ]
    assert await stage.story(2) == [
        "published ready",
        "released ready",
        "superseded superseded",
    ]
    await refused(LeaseLost, stage.ack(left))
    assert seqs(await stage.lease()) == [6, 7, 8, 9, 10]


async def an_overtaken_dead_letter_is_superseded_when_redriven(stage: Stage) -> None:
    for ordering_key in ("", "k"):
        await stage.publish(collapse_key="c", ordering_key=ordering_key)
        old = await stage.one()
        await stage.publish(collapse_key="c", ordering_key=ordering_key)
        await stage.reject(old)
        await stage.redrive(old.ref.seq)
        assert await stage.state(old.ref.seq) is State.SUPERSEDED
        assert (await stage.story(old.ref.seq))[-1] == "superseded superseded"
        newer = await stage.one()
        assert newer.ref.seq == old.ref.seq + 1
        await stage.ack(newer)


async def dead_letters_are_not_superseded(stage: Stage) -> None:
    await stage.bury(collapse_key="c")
    await stage.publish(collapse_key="c")
    assert await stage.states() == [State.DEAD, State.READY]


async def a_superseded_one_lets_the_next_of_its_key_go(stage: Stage) -> None:
    await stage.publish(ordering_key="k", collapse_key="c", deliver_after_seconds=60)
    await stage.publish(ordering_key="k")
    appended = await stage.publish(ordering_key="k", collapse_key="c")
    assert await stage.states() == [State.SUPERSEDED, State.READY, State.HELD]
    assert appended.ready == {"acme": 1}, "somebody must be woken for the second"


async def superseding_a_whole_key_lets_none_of_it_go(stage: Stage) -> None:
    for _ in range(3):
        await stage.publish(ordering_key="k", collapse_key="c")
    await stage.publish(ordering_key="k", collapse_key="c")
    assert await stage.states() == [*([State.SUPERSEDED] * 3), State.READY]
    assert await stage.story(2) == ["published ready", "superseded superseded"]


async def a_new_state_behind_a_leased_one_is_held(stage: Stage) -> None:
    await stage.publish(ordering_key="k", collapse_key="c")
    delivery = await stage.one()
    await stage.publish(ordering_key="k", collapse_key="c")
    await stage.publish(ordering_key="k", collapse_key="c")
    assert await stage.states() == [State.LEASED, State.SUPERSEDED, State.HELD]
    settled = await stage.release(delivery)
    assert settled.ready == 1
    assert await stage.states() == [State.SUPERSEDED, State.SUPERSEDED, State.READY]
