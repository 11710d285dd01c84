"""How deliveries are handed out."""

from __future__ import annotations

from restante.errors import LeaseLost, QueueNotFound
from restante.model import LeaseRequest, State
from restante.testing.conformance.stage import ACME, Stage, attempts, refused, seqs


async def an_empty_queue_gives_nothing(stage: Stage) -> None:
    leased = await stage.look()
    assert leased.deliveries == []
    assert not leased.at_limit


async def an_unknown_queue_is_refused(stage: Stage) -> None:
    await refused(QueueNotFound, stage.look(queue="nowhere"))


async def deliveries_come_in_the_order_of_their_seq(stage: Stage) -> None:
    for _ in range(5):
        await stage.publish()
    assert seqs(await stage.lease(2)) == [1, 2]
    assert seqs(await stage.lease(10)) == [3, 4, 5]
    assert await stage.lease(10) == []


async def a_look_says_whether_it_left_some_behind(stage: Stage) -> None:
    for _ in range(4):
        await stage.publish(b"x" * 100)
    assert [(await stage.look(1)).more, (await stage.look(2, max_bytes=100)).more] == [True, True]
    assert not (await stage.look(2)).more
    assert not (await stage.look(2)).more
    await stage.put_queue(max_in_flight=5)
    await stage.publish()
    await stage.publish()
    limited = await stage.look(2)
    assert (limited.at_limit, limited.more) == (True, False), "the next settle tells of more"


async def what_comes_back_is_first_again(stage: Stage) -> None:
    for _ in range(3):
        await stage.publish()
    first, _ = await stage.lease(2)
    await stage.release(first)
    assert seqs(await stage.lease(10)) == [1, 3]


async def a_lease_says_until_when(stage: Stage) -> None:
    await stage.publish()
    stage.clock.advance(2)
    delivery = await stage.one(seconds=7)
    assert delivery.lease_until_ms == stage.clock.wall_ms() + 7_000
    assert delivery.published_at_ms == stage.clock.wall_ms() - 2_000
    assert await stage.state(1) is State.LEASED


async def leases_of_one_delivery_do_not_overlap(stage: Stage) -> None:
    """I5: until its lease has ended, nobody else is given it."""
    await stage.publish()
    await stage.one(seconds=30)
    assert await stage.pass_time(29.999) == {}
    assert await stage.lease() == []
    assert await stage.pass_time(0.001) == {"acme": 1}
    assert seqs(await stage.lease()) == [1]


async def attempts_rise_by_one_with_each_lease(stage: Stage) -> None:
    """I9, and I6: the fence rises, too."""
    await stage.put_queue(backoff_base_seconds=0)
    await stage.publish()
    fences = []
    for attempt in (1, 2, 3):
        delivery = await stage.one(seconds=5)
        fences.append(delivery.ref.fence)
        assert delivery.attempt == attempt
        if attempt == 2:
            await stage.nack(delivery)
        else:
            await stage.pass_time(5)
    assert fences == sorted(set(fences)), "I6: the fence rises"


async def a_release_is_not_an_attempt(stage: Stage) -> None:
    await stage.publish()
    first = await stage.one()
    settled = await stage.release(first)
    assert (settled.outcome, settled.state, settled.ready) == ("released", State.READY, 1)
    second = await stage.one()
    assert attempts([first, second]) == [1, 1]
    assert second.ref.fence > first.ref.fence, "I6: the fence rises all the same"


async def no_more_than_max_in_flight(stage: Stage) -> None:
    await stage.put_queue(max_in_flight=3)
    for _ in range(5):
        await stage.publish()
    leased = await stage.look(2)
    assert (len(leased.deliveries), leased.at_limit) == (2, False)
    more = await stage.look(2)
    assert (len(more.deliveries), more.at_limit) == (1, True)
    none = await stage.look(2)
    assert (len(none.deliveries), none.at_limit) == (0, True)
    await stage.ack(more.deliveries[0])
    assert seqs(await stage.lease()) == [4]


async def a_lower_limit_takes_nothing_back(stage: Stage) -> None:
    for _ in range(4):
        await stage.publish()
    held = await stage.lease(3)
    await stage.put_queue(max_in_flight=1)
    assert (await stage.look()).at_limit
    for delivery in held:
        await stage.ack(delivery)
    assert seqs(await stage.lease()) == [4]


async def an_answer_stops_at_max_bytes(stage: Stage) -> None:
    for size in (600, 300, 200, 900):
        await stage.publish(b"x" * size)
    assert seqs(await stage.lease(10, max_bytes=1_000)) == [1, 2]
    assert seqs(await stage.lease(10, max_bytes=100)) == [3], "the first whatever its size"
    assert seqs(await stage.lease(10, max_bytes=100)) == [4]


async def queues_do_not_share_deliveries(stage: Stage) -> None:
    """I10: a queue hands out its own."""
    await stage.put_queue("b")
    await stage.publish(b"<a/>")
    await stage.publish(b"<b/>", queues=("b",))
    assert [d.body for d in await stage.lease(queue="b")] == [b"<b/>"]
    assert [d.body for d in await stage.lease()] == [b"<a/>"]


async def a_damaged_body_is_never_handed_out(stage: Stage) -> None:
    """I2. To a store, a body that does not match its digest is a damaged one, whoever damaged it."""
    await stage.publish(b"<one/>")
    await stage.publish(b"<damaged/>", body_sha256=bytes(32))
    await stage.publish(b"<three/>")
    assert seqs(await stage.lease(1)) == [1]
    assert seqs(await stage.lease(1)) == [3], "what is behind it is not held up"
    assert await stage.state(2) is State.DEAD
    assert await stage.story(2) == ["published ready", "rejected dead"]
    assert (await stage.look()).deliveries == []


async def extend_lets_a_lease_run_from_now(stage: Stage) -> None:
    await stage.publish()
    delivery = await stage.one(seconds=10)
    stage.clock.advance(8)
    extended = await stage.store.extend(delivery.ref, 10)
    assert (extended.outcome, extended.state) == ("extended", State.LEASED)
    assert extended.number == 0, "a lease that goes on has no receipt"
    assert extended.lease_until_ms == stage.clock.wall_ms() + 10_000
    assert await stage.pass_time(9.999) == {}
    assert await stage.pass_time(0.001) == {"acme": 1}
    assert len(await stage.ledger()) == 2


async def extend_may_shorten_a_lease(stage: Stage) -> None:
    await stage.publish()
    delivery = await stage.one(seconds=100)
    await stage.store.extend(delivery.ref, 1)
    assert await stage.pass_time(1) == {"acme": 1}


async def a_lease_that_is_over_cannot_be_extended(stage: Stage) -> None:
    for _ in range(3):
        await stage.publish()
    acked, ran_out, newer = await stage.lease(3, seconds=5)
    await stage.ack(acked)
    await refused(LeaseLost, stage.store.extend(acked.ref, 10))
    await stage.pass_time(5)
    await refused(LeaseLost, stage.store.extend(ran_out.ref, 10))
    assert seqs(await stage.lease()) == [2, 3]
    await refused(LeaseLost, stage.store.extend(newer.ref, 10))


async def an_overdue_lease_that_nobody_ended_can_be_extended(stage: Stage) -> None:
    await stage.publish()
    delivery = await stage.one(seconds=5)
    stage.clock.advance(6)
    await stage.store.extend(delivery.ref, 10)
    assert await stage.overdue() == {}


async def the_wall_clock_ends_no_lease(stage: Stage) -> None:
    """Deadlines do not follow it, wherever it jumps."""
    await stage.publish(deliver_after_seconds=60)
    await stage.publish(expires_after_seconds=3_600)
    await stage.publish()
    await stage.lease(1)
    for jump in (2 * 86_400, -3 * 86_400):
        stage.clock.jump_wall(jump)
        assert await stage.overdue() == {}
        due = await stage.store.next_due()
        assert due is not None
        assert due == 30
    assert await stage.pass_time(30) == {"acme": 1}


async def calls_take_effect_in_their_order(stage: Stage) -> None:
    """A method is started by the call, not by the await."""
    first = stage.store.append([stage.draft(b"1")])
    second = stage.store.append([stage.draft(b"2")])
    asked = LeaseRequest(queue="acme", max=10, lease_seconds=30, actor=ACME)
    looked = stage.store.lease(asked)
    third = stage.store.append([stage.draft(b"3")])
    assert [d.body for d in (await looked).deliveries] == [b"1", b"2"]
    await first, await second, await third
    assert (await stage.figures()).published == 3


async def a_cancelled_caller_undoes_nothing(stage: Stage) -> None:
    future = stage.store.append([stage.draft(b"<kept/>")])
    future.cancel()
    assert [d.body for d in await stage.lease()] == [b"<kept/>"]
