"""Members of groups that end otherwise than by an ack, and dead ones that are redriven."""

import pytest
from tests.unit.engine.group_house import (
    BOTH,
    ask,
    discard,
    handed_out,
    left_over,
    member,
    redrive,
    settle,
    stands,
    take,
)
from tests.unit.engine.house import SHOP, settings, turns

from restante.engine.broker import Broker
from restante.engine.group import LATE_MS, Group, GroupState, Member, Seen, step
from restante.engine.settling import Settle
from restante.model import State, Verb
from restante.outcomes import FAILED

# -- the step -----------------------------------------------------------------------------------


def group(*members, state=GroupState.PENDING):
    return Group(
        id="g",
        asked_by=SHOP,
        asked_at_ms=0,
        timeout_seconds=10,
        members=tuple(
            Member(
                queue=queue,
                required=required,
                content_type="a/b",
                compensation_type="a/b",
                notification=queue,
            )
            for queue, required in members
        ),
        state=state,
        published=True,
    )


@pytest.mark.parametrize("state", sorted(FAILED))
def test_whichever_way_a_required_one_fails_the_group_has_failed_of_it(state):
    asked = group(("acme", True), ("bob", True))
    after = step(asked, [Seen(State.READY), Seen(state, "why")], 1, 1)
    assert (after.state, after.reason) == (GroupState.COMPENSATING, f"bob {state.label}: why")
    assert after.ended_at_ms is None
    after = step(after, [Seen(State.EXPIRED), Seen(state, "why")], 2, 2)
    assert (after.state, after.ended_at_ms) == (GroupState.COMPENSATED, 2)
    assert after.closed is (state is not State.DEAD)


@pytest.mark.parametrize("state", sorted(FAILED))
def test_whichever_way_another_fails_the_group_goes_on(state):
    asked = group(("acme", True), ("bob", False))
    after = step(asked, [Seen(State.LEASED), Seen(state)], 1, 1)
    assert after.state is GroupState.PENDING
    after = step(after, [Seen(State.ACKED), Seen(state)], 2, 2)
    assert (after.state, after.closed) == (GroupState.COMPLETE, True)


def test_of_what_nothing_is_known_any_more_it_has_failed():
    after = step(group(("acme", True)), [None], 1, 1)
    assert (after.state, after.reason) == ("compensated", "acme discarded: no longer kept")


def test_a_dead_one_keeps_it_open_until_it_must_have_expired():
    asked = group(("acme", True))
    for now, closed in ((1, False), (10_000 + LATE_MS - 1, False), (10_000 + LATE_MS, True)):
        asked = step(asked, [Seen(State.DEAD)], now, now)
        assert (asked.state, asked.ended_at_ms, asked.closed) == ("compensated", 1, closed)


# -- a broker -----------------------------------------------------------------------------------


async def test_an_expired_one_fails_it_and_who_acked_is_compensated(broker, clock):
    id = await ask(broker, timeout_seconds=10)
    await settle(broker, "acme")
    clock.advance(10.1)
    await turns()
    assert await stands(broker, id) == ("compensated", ["acked", "expired"])
    assert await handed_out(broker, "acme") == [b"<undo-acme/>"]
    assert await handed_out(broker, "bob") == []
    assert await left_over(broker) == 0


async def test_one_that_ran_out_of_attempts_fails_it(broker):
    await settings(broker, "bob", max_attempts=1)
    id = await ask(broker)
    await settle(broker, "acme")
    await settle(broker, "bob", Verb.NACK, reason="busy")
    assert await stands(broker, id) == ("compensated", ["acked", "dead"])
    assert (await broker.groups.group(id, SHOP)).reason == "bob dead: busy"
    assert await handed_out(broker, "acme") == [b"<undo-acme/>"]


async def test_one_that_is_discarded_while_others_are_out_is_over(broker):
    id = await ask(broker)
    session, delivery = await take(broker, "acme")
    await settle(broker, "bob", Verb.REJECT)
    await discard(broker, "bob")
    assert await stands(broker, id) == ("compensating", ["leased", "discarded"])
    await (await session.settle([Settle(lease=session.token(delivery), verb=Verb.ACK)])).results()
    await turns()
    assert await stands(broker, id) == ("compensated", ["acked", "discarded"])
    assert await handed_out(broker, "acme") == [b"<undo-acme/>"]
    assert await left_over(broker) == 0


async def test_one_that_is_not_required_may_be_discarded(broker):
    id = await ask(broker, (*BOTH[:1], member("bob", required=False)))
    await settle(broker, "bob", Verb.REJECT)
    await discard(broker, "bob")
    await settle(broker, "acme")
    assert await stands(broker, id) == ("complete", ["acked", "discarded"])
    assert await left_over(broker) == 0


async def test_a_dead_one_that_is_redriven_after_the_end_and_acked_is_compensated(broker, clock):
    id = await ask(broker)
    await settle(broker, "acme")
    await settle(broker, "bob", Verb.REJECT)
    assert await stands(broker, id) == ("compensated", ["acked", "dead"])
    ended_at_ms = (await broker.groups.group(id, SHOP)).ended_at_ms
    clock.advance(30)
    await redrive(broker, "bob")
    acked = await settle(broker, "bob")
    assert acked.body == b"<do-bob/>"
    assert await stands(broker, id) == ("compensated", ["acked", "acked"])
    _, undo = await take(broker, "bob")
    assert (undo.body, undo.attributes["compensates"]) == (b"<undo-bob/>", acked.id)
    seen = await broker.groups.group(id, SHOP)
    assert (seen.members[1].compensation, seen.ended_at_ms) == (undo.id, ended_at_ms)
    assert await handed_out(broker, "acme") == [b"<undo-acme/>"]
    assert await left_over(broker) == 0


async def test_so_it_is_when_another_node_goes_on_with_it(store, clock):
    async with Broker(store, clock) as one:
        id = await ask(one)
        await settle(one, "bob", Verb.REJECT)
        await settle(one, "acme", Verb.REJECT)
        assert await stands(one, id) == ("compensated", ["dead", "dead"])
        await redrive(one, "bob")
    async with Broker(store, clock) as two:
        await turns()
        await settle(two, "bob")
        assert await stands(two, id) == ("compensated", ["dead", "acked"])
        assert await handed_out(two, "bob") == [b"<undo-bob/>"]


async def test_one_that_is_redriven_when_the_time_is_up_expires(broker, clock):
    id = await ask(broker, timeout_seconds=10)
    await settle(broker, "acme")
    await settle(broker, "bob", Verb.REJECT)
    clock.advance(11)
    await redrive(broker, "bob")
    assert await handed_out(broker, "bob") == []
    assert await stands(broker, id) == ("compensated", ["acked", "expired"])
    assert await left_over(broker) == 0


async def test_one_that_was_leased_again_when_the_time_was_up_is_waited_for(broker, clock):
    id = await ask(broker, timeout_seconds=10)
    await settle(broker, "bob", Verb.REJECT)
    await settle(broker, "acme", Verb.REJECT)
    await redrive(broker, "bob")
    session, delivery = await take(broker, "bob")
    clock.advance(20)
    await turns()
    await (await session.settle([Settle(lease=session.token(delivery), verb=Verb.ACK)])).results()
    await turns()
    assert await stands(broker, id) == ("compensated", ["dead", "acked"])
    assert await handed_out(broker, "bob") == [b"<undo-bob/>"]


@pytest.mark.parametrize("undo", [True, False])
async def test_what_is_kept_is_dropped_when_no_dead_one_can_come_back(broker, clock, undo):
    id = await ask(broker, (member("acme"), member("bob", undo=undo)), timeout_seconds=10)
    await settle(broker, "acme")
    await settle(broker, "bob", Verb.REJECT)
    assert (await left_over(broker) > 0) is undo
    clock.advance(10 + LATE_MS / 1_000)
    await turns()
    # It looks once a minute.
    clock.advance(60)
    await turns()
    assert await stands(broker, id) == ("compensated", ["acked", "dead"])
    assert await left_over(broker) == 0
