"""All or compensate."""

import asyncio

import pytest
from tests.unit.engine.group_house import (
    BOTH,
    OTHER,
    ask,
    discard,
    handed_out,
    left_over,
    member,
    outcome,
    settle,
    stands,
    take,
)
from tests.unit.engine.house import ACME, OPERATOR, SHOP, settings, turns

from restante.engine import group_papers, group_quota
from restante.engine.broker import Broker
from restante.engine.group_request import Payload, Wanted
from restante.engine.settling import Settle
from restante.errors import (
    BodyTooLarge,
    Forbidden,
    GroupNotFound,
    IdempotencyKeyReused,
    InvalidHeader,
    Malformed,
    OutOfBounds,
    QueueNotFound,
    StoreUnavailable,
    TooManyGroups,
)
from restante.model import Actor, Role, Verb


async def test_all_sign(broker):
    id = await ask(broker)
    assert await stands(broker, id) == ("pending", ["ready", "ready"])
    delivery = await settle(broker, "acme")
    assert (delivery.body, delivery.attributes["group"]) == (b"<do-acme/>", id)
    assert (await stands(broker, id))[0] == "pending"
    await settle(broker, "bob")
    assert await stands(broker, id) == ("complete", ["acked", "acked"])
    assert await handed_out(broker, "acme") == []
    assert await left_over(broker) == 0
    assert len(broker.waiting) == 0


async def test_one_rejects_and_who_acked_is_compensated(broker):
    id = await ask(broker)
    first = await settle(broker, "acme")
    await settle(broker, "bob", Verb.REJECT, reason="out of stock")
    group = await broker.groups.group(id, SHOP)
    assert (group.state, group.reason) == ("compensated", "bob dead: out of stock")
    _, delivery = await take(broker, "acme")
    assert (delivery.id, delivery.body) == (group.members[0].compensation, b"<undo-acme/>")
    assert delivery.attributes == {"group": id, "compensates": first.id}
    assert group.members[1].compensation == ""
    assert await handed_out(broker, "bob") == []
    await discard(broker, "bob")
    assert await left_over(broker) == 0


async def test_a_late_ack_is_compensated_as_well(broker):
    id = await ask(broker)
    await settle(broker, "bob", Verb.REJECT)
    assert await stands(broker, id) == ("compensating", ["ready", "dead"])
    await settle(broker, "acme")
    assert await stands(broker, id) == ("compensated", ["acked", "dead"])
    assert await handed_out(broker, "acme") == [b"<undo-acme/>"]


async def test_the_time_is_up(broker, clock):
    id = await ask(broker, timeout_seconds=10)
    await settle(broker, "acme")
    clock.advance(9.9)
    await turns()
    assert (await stands(broker, id))[0] == "pending"
    clock.advance(0.2)
    await turns()
    assert await stands(broker, id) == ("compensated", ["acked", "expired"])
    assert (await broker.groups.group(id, SHOP)).reason in ("the time is up", "bob expired")
    assert await handed_out(broker, "acme") == [b"<undo-acme/>"]


@pytest.mark.parametrize("days", [2, -2])
async def test_a_wall_clock_that_jumps_ends_no_group_and_keeps_none_open(broker, clock, days):
    id = await ask(broker, timeout_seconds=10)
    clock.jump_wall(days * 86_400)
    await settle(broker, "acme")
    assert await stands(broker, id) == ("pending", ["acked", "ready"])
    clock.advance(9)
    await turns()
    assert (await stands(broker, id))[0] == "pending"
    clock.advance(1)
    await turns()
    assert (await stands(broker, id))[0] == "compensated"
    assert (await broker.groups.group(id, SHOP)).ended_at_ms == clock.wall_ms()


async def test_what_is_leased_when_the_time_is_up_may_still_ack(broker, clock):
    id = await ask(broker, timeout_seconds=10)
    await settle(broker, "acme")
    session, delivery = await take(broker, "bob")
    clock.advance(15)
    await turns()
    assert await stands(broker, id) == ("compensating", ["acked", "leased"])
    assert await handed_out(broker, "acme") == [b"<undo-acme/>"]
    await (await session.settle([Settle(lease=session.token(delivery), verb=Verb.ACK)])).results()
    await turns()
    assert await stands(broker, id) == ("compensated", ["acked", "acked"])
    assert await handed_out(broker, "bob") == [b"<undo-bob/>"]


async def test_what_is_not_required_stops_nothing(broker):
    id = await ask(broker, (member("acme"), member("bob", required=False)))
    await settle(broker, "bob", Verb.REJECT)
    assert (await stands(broker, id))[0] == "pending"
    await settle(broker, "acme")
    assert await stands(broker, id) == ("complete", ["acked", "dead"])


async def test_without_a_compensation_there_is_nothing_to_undo(broker):
    id = await ask(broker, (member("acme", undo=False), member("bob")))
    await settle(broker, "acme")
    await settle(broker, "bob", Verb.REJECT)
    assert (await stands(broker, id))[0] == "compensated"
    assert await handed_out(broker, "acme") == []


async def test_waiting_for_a_group(broker, clock):
    id = await ask(broker)
    task = asyncio.create_task(outcome(broker, id, 30))
    await settle(broker, "acme")
    assert not task.done()
    await settle(broker, "bob", Verb.REJECT)
    assert (await task).state in ("compensating", "compensated")
    other = await ask(broker)
    task = asyncio.create_task(outcome(broker, other, 30))
    await turns()
    clock.advance(30)
    assert (await task).state == "pending"


async def test_asked_for_twice_under_one_key(broker):
    id = await ask(broker, key="k")
    assert await ask(broker, key="k") == id
    assert await ask(broker, key="k", actor=OTHER) != id
    with pytest.raises(IdempotencyKeyReused):
        await ask(broker, timeout_seconds=61, key="k")
    twice = await asyncio.gather(ask(broker, key="n"), ask(broker, key="n"))
    assert twice[0] == twice[1]
    assert len(await handed_out(broker, "acme")) == 3
    for key in ("x" * 256, "a\nb"):
        with pytest.raises(InvalidHeader):
            await ask(broker, key=key)


@pytest.mark.parametrize("days_back", [0, 2])
async def test_a_key_whose_group_was_forgotten_makes_another(broker, store, clock, days_back):
    """The key may outlive its group by as much as the wall clock was set back meanwhile."""
    first = await ask(broker, key="k")
    clock.jump_wall(-days_back * 86_400)
    for queue in ("acme", "bob"):
        await settle(broker, queue)
    clock.advance(group_papers.GROUP_RETENTION_SECONDS + 1)
    await store.prune(100)
    with pytest.raises(GroupNotFound):
        await broker.groups.group(first, SHOP)
    asked = await broker.groups.ask(BOTH, 61, SHOP, "k")
    assert not asked.replayed
    await turns()
    assert len(await handed_out(broker, "acme")) == 1
    again = await broker.groups.ask(BOTH, 61, SHOP, "k")
    assert (again.group.id, again.replayed) == (asked.group.id, True)


async def test_an_administrator_of_the_same_name_is_another_principal(broker):
    admin = Actor(SHOP.name, Role.ADMIN, "k-admin")
    asked = await broker.groups.ask(BOTH, 60, admin, "k")
    own = await broker.groups.ask(BOTH, 60, SHOP, "k")
    assert (asked.replayed, own.replayed) == (False, False)
    assert own.group.id != asked.group.id
    assert (await broker.groups.ask(BOTH, 60, SHOP, "k")) == (own.group, True)
    with pytest.raises(GroupNotFound):
        await broker.groups.group(asked.group.id, SHOP)
    assert [group.id for group in (await broker.groups.page(SHOP)).groups] == [own.group.id]
    made = await broker.groups.made_with(SHOP.principal, "k")
    assert made is not None
    assert made.id == own.group.id
    assert await broker.groups.made_with(OTHER.principal, "k") is None


async def test_who_may(broker):
    id = await ask(broker)
    with pytest.raises(Forbidden):
        await ask(broker, actor=ACME)
    with pytest.raises(Forbidden):
        await broker.groups.group(id, ACME)
    for actor, asked in ((OTHER, id), (SHOP, "nothing"), (SHOP, "x" * 1_000)):
        with pytest.raises(GroupNotFound):
            await outcome(broker, asked, actor=actor)
    assert [one.id for one in (await broker.groups.page(SHOP)).groups] == [id]
    assert (await broker.groups.page(OTHER)).groups == []


async def test_refused(broker, monkeypatch):
    for wanted, error in (
        ((), OutOfBounds),
        (BOTH * 11, OutOfBounds),
        ((member("acme", required=False),), Malformed),
        ((member("acme"), member("nowhere")), QueueNotFound),
        ((Wanted("acme", Payload(bytes(300_000), "a/b"), None, True),), OutOfBounds),
    ):
        with pytest.raises(error):
            await ask(broker, wanted)
    for seconds in (0, 604_801):
        with pytest.raises(OutOfBounds):
            await ask(broker, timeout_seconds=seconds)
    await settings(broker, max_body_bytes=9)
    with pytest.raises(BodyTooLarge):
        await ask(broker)
    await settings(broker)
    monkeypatch.setattr(group_quota, "OPEN_GROUPS", 0)
    with pytest.raises(TooManyGroups):
        await ask(broker)
    assert await left_over(broker) == 0
    assert await handed_out(broker, "bob") == []


@pytest.mark.parametrize("writes", range(6))
async def test_another_broker_goes_on_where_one_died(store, clock, monkeypatch, writes):
    """The node can write nothing after so many writes, whichever they are; nothing is lost or done twice."""
    with monkeypatch.context() as patch:
        left = writes + 1  # the first is the asking itself

        def dying(verb):
            method = getattr(store, verb)

            def may_fail(*asked):
                nonlocal left
                left -= 1
                if left < 0:
                    raise StoreUnavailable("gone")
                return method(*asked)

            return may_fail

        async with Broker(store, clock) as one:
            for verb in ("configure", "append"):
                patch.setattr(store, verb, dying(verb))
            id = await ask(one)
            session = await one.session("acme", OPERATOR)
            for delivery in await session.receive(max=1):
                await (
                    await session.settle([Settle(lease=session.token(delivery), verb=Verb.ACK)])
                ).results()
            session = await one.session("bob", OPERATOR)
            for delivery in await session.receive(max=1):
                item = Settle(lease=session.token(delivery), verb=Verb.REJECT)
                await (await session.settle([item])).results()
            await turns()
    async with Broker(store, clock) as two:
        await turns()
        if writes == 0:
            await settle(two, "acme")
            await settle(two, "bob", Verb.REJECT)
        assert await stands(two, id) == ("compensated", ["acked", "dead"])
        assert await handed_out(two, "acme") == [b"<undo-acme/>"]
        assert await handed_out(two, "bob") == []
        await discard(two, "bob")
        assert await left_over(two) == 0


async def test_two_nodes_watch_the_same_group(store, clock):
    async with Broker(store, clock) as one, Broker(store, clock) as two:
        id = await ask(one)
        await two.groups._take_up()
        await turns()
        await settle(two, "acme")
        await settle(one, "bob", Verb.REJECT)
        assert await stands(two, id) == ("compensated", ["acked", "dead"])
        assert await handed_out(one, "acme") == [b"<undo-acme/>"]
