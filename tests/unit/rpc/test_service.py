"""The calls that answer once, and Subscribe."""

import asyncio
from typing import Any

import pytest
from tests.unit.engine.house import ACME, BOB, OPERATOR, SHOP, letter, settings, slow, turns
from tests.unit.rpc.house import Link

from restante.engine.administration import Administration
from restante.errors import (
    Displaced,
    Forbidden,
    Malformed,
    OutOfBounds,
    QueueNotFound,
    ShuttingDown,
    Unauthenticated,
)
from restante.model import Actor, Role
from restante.queries import FiguresOf
from restante.rpc.link import LinkClosed
from restante.rpc.service import NAME, Service
from restante.wire.proto import restante_pb2 as pb


@pytest.fixture
def service(broker):
    return Service(broker)


@pytest.fixture
def link():
    return Link()


async def figures(broker, queue="acme"):
    return await broker.store.browse(FiguresOf(queue))


async def pull(service, link, actor=ACME, **asked):
    given: dict[str, Any] = {"queue": "acme", "wait_seconds": 0, **asked}
    await service.pull(actor, pb.PullRequest(**given), link)
    return link.written[-1]


def test_every_call_of_the_file_is_there(service):
    described = pb.DESCRIPTOR.services_by_name["Delivery"]
    assert NAME == "restante.v1.Delivery"
    assert set(service.calls) == set(described.methods_by_name)
    for method in described.methods:
        call = service.calls[method.name]
        assert call.request.DESCRIPTOR is method.input_type
        assert (call.converses is not None) == method.client_streaming
        assert call.streams == method.server_streaming


# -- publishing ---------------------------------------------------------------------------------


async def test_publish(broker, service):
    request = pb.PublishRequest(
        notifications=[
            pb.Publication(queue="acme", body=b"1", idempotency_key="k"),
            pb.Publication(queue="acme", body=b"1", idempotency_key="k"),
            pb.Publication(queue="acme", body=b"2", idempotency_key="k"),
        ]
    )
    first, again, other = (await service.publish(SHOP, request)).results
    assert (again.id, again.replayed, other.problem.code) == (
        first.id,
        True,
        "idempotency_key_reused",
    )
    with pytest.raises(OutOfBounds):
        await service.publish(SHOP, pb.PublishRequest())
    with pytest.raises(Forbidden):
        await service.publish(ACME, request)


# -- pulling ------------------------------------------------------------------------------------


async def test_pull_leases_and_settles(broker, service, link):
    for number in range(3):
        await broker.publish(letter(b"%d" % number), SHOP)
    first = await pull(service, link, max=2, lease_seconds=77)
    assert [one.body for one in first.notifications] == [b"0", b"1"]
    settle = [pb.Settlement(lease=one.lease, ack=pb.Ack()) for one in first.notifications]
    second = await pull(service, link, settle=settle)
    assert [result.outcome for result in second.settled] == ["acked", "acked"]
    assert [one.body for one in second.notifications] == [b"2"]


async def test_pull_waits_as_http_does_unless_it_says_otherwise(broker, service, link, clock):
    task = asyncio.create_task(service.pull(ACME, pb.PullRequest(queue="acme"), link))
    await turns()
    clock.advance(19.9)
    await turns()
    assert not task.done()
    clock.advance(0.1)
    await task
    assert link.written == [pb.PullResponse()]


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"max": 0}, OutOfBounds),
        ({"max": -1}, OutOfBounds),
        ({"max": 1_001}, OutOfBounds),
        ({"wait_seconds": -1}, OutOfBounds),
        ({"wait_seconds": 61}, OutOfBounds),
        ({"wait_seconds": float("inf")}, OutOfBounds),
        ({"lease_seconds": 0}, OutOfBounds),
        ({"queue": "bob"}, QueueNotFound),
        ({"queue": ""}, QueueNotFound),
        ({"settle": [pb.Settlement(lease="x")]}, Malformed),
    ],
)
async def test_a_pull_that_will_not_do_settles_nothing(broker, service, link, asked, error):
    await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    (held,) = await session.receive()
    settle = [pb.Settlement(lease=session.token(held), ack=pb.Ack())]
    with pytest.raises(error):
        await pull(service, link, **({"settle": settle} | asked))
    assert (await figures(broker)).acked == 0


async def test_a_pull_that_cannot_be_answered_leaves_no_lease(broker, service, link):
    await broker.publish(letter(), SHOP)
    link.vanish()
    with pytest.raises(LinkClosed):
        await pull(service, link)
    await turns()
    assert (await figures(broker)).ready == 1


async def test_a_cancelled_pull_leaves_no_lease(broker, service, link):
    link.hold()
    task = asyncio.create_task(pull(service, link, wait_seconds=60))
    await turns()
    await broker.publish(letter(), SHOP)
    await turns()
    assert (await figures(broker)).leased == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await turns()
    assert (await figures(broker)).ready == 1


async def test_what_does_not_fit_in_the_answer_comes_with_the_next(broker, service, link):
    for _ in range(100):
        await broker.publish(letter(b"", attributes={"a": "x" * 16_000}), SHOP)
    first = await pull(service, link, max=1_000)
    assert 0 < len(first.notifications) < 100
    assert first.ByteSize() < 4 * 1024 * 1024
    await turns()
    assert (await figures(broker)).leased == len(first.notifications)
    second = await pull(service, link, max=1_000)
    assert second.notifications[0].seq == first.notifications[-1].seq + 1
    assert {one.attempt for one in second.notifications} == {1}


async def test_one_too_large_for_others_comes_alone(broker, service, link):
    await settings(broker, max_body_bytes=16_000_000)
    for size in (10, 16_000_000):
        await broker.publish(letter(b"x" * size), SHOP)
    assert [len((await pull(service, link)).notifications) for _ in range(3)] == [1, 1, 0]


# -- settling -----------------------------------------------------------------------------------


async def test_settle_and_extend(broker, service, monkeypatch):
    for verb in ("settle", "extend"):
        slow(monkeypatch, broker.store, verb)
    for _ in range(2):
        await broker.publish(letter(), SHOP)
    session = await broker.session("acme", ACME)
    one, two = [session.token(each) for each in await session.receive()]
    extended = await service.extend(ACME, pb.ExtendRequest(leases=[one, "nonsense"]))
    assert [r.outcome or r.problem.code for r in extended.results] == [
        "extended",
        "lease_not_found",
    ]
    request = pb.SettleRequest(
        settle=[
            pb.Settlement(lease=one, ack=pb.Ack()),
            pb.Settlement(lease=two, release=pb.Release()),
            pb.Settlement(lease=two, ack=pb.Ack()),
        ]
    )
    theirs = await service.settle(BOB, request)
    assert {result.problem.code for result in theirs.results} == {"lease_not_found"}
    mine = await service.settle(ACME, request)
    assert [r.outcome or r.problem.code for r in mine.results] == [
        "acked",
        "released",
        "lease_lost",
    ]
    for call, asked in ((service.settle, request), (service.extend, pb.ExtendRequest(leases="x"))):
        with pytest.raises(Forbidden):
            await call(SHOP, asked)


# -- subscribing --------------------------------------------------------------------------------


def subscription(messages=10, queue="acme", **said):
    return pb.SubscribeRequest(queue=queue, credit=pb.Credit(messages=messages), **said)


@pytest.fixture
async def subscribed(service, link):
    """Begins a call of Subscribe."""
    tasks = []

    async def begin(request=None, actor=ACME, on=link):
        tasks.append(asyncio.create_task(service.subscribe(actor, request or subscription(), on)))
        await turns()
        return tasks[-1]

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_comes_is_sent_within_the_credit(broker, service, link, subscribed):
    await subscribed(subscription(2))
    for number in range(3):
        await broker.publish(letter(b"%d" % number), SHOP)
    await turns()
    assert link.written[0].attached.resume
    assert link.bodies == [b"0", b"1"]
    settle = [pb.Settlement(lease=link.notifications[0].lease, ack=pb.Ack())]
    await service.settle(ACME, pb.SettleRequest(settle=settle))
    await turns()
    assert link.bodies == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (pb.SubscribeRequest(), Malformed),
        (pb.SubscribeRequest(queue="acme"), Malformed),
        (subscription(0), OutOfBounds),
        (subscription(-5), OutOfBounds),
        (subscription(10_001), OutOfBounds),
        (subscription(queue="bob"), QueueNotFound),
        (subscription(resume="?"), Malformed),
    ],
)
async def test_a_subscription_that_will_not_do(broker, subscribed, request_, error):
    task = await subscribed(request_)
    with pytest.raises(error):
        await task
    assert len(broker.attachments) == 0


async def test_who_is_gone_has_nothing_leased(broker, link, subscribed):
    task = await subscribed()
    link.vanish()
    with pytest.raises(LinkClosed):
        await task
    await broker.publish(letter(), SHOP)
    await turns()
    assert (await figures(broker)).ready == 1
    assert link.watchers == []


async def test_what_is_leased_as_the_client_goes_is_given_back(broker, store, link, subscribed):
    store.gated = True
    task = await subscribed()
    await broker.publish(letter(), SHOP)
    store.answer()
    await turns()
    link.vanish()
    while store.looking:
        store.answer()
        await turns()
    with pytest.raises(LinkClosed):
        await task
    await turns()
    assert (await figures(broker)).ready == 1


async def test_a_drained_subscription_is_told_and_ended(broker, link, subscribed):
    task = await subscribed()
    broker.drain()
    with pytest.raises(ShuttingDown):
        await task
    assert link.written[-1].drain.reconnect_after_seconds >= 1


async def test_a_revoked_key_ends_it(broker, link, subscribed):
    key, _ = await Administration(broker, OPERATOR).add_key(Role.CLIENT, "acme", None, "")
    task = await subscribed(actor=Actor("acme", Role.CLIENT, key.id))
    await Administration(broker, OPERATOR).revoke_key(key.id)
    with pytest.raises(Unauthenticated):
        await task


async def test_one_that_ends_while_it_is_opened_is_not_opened(
    broker, link, monkeypatch, subscribed
):
    key, _ = await Administration(broker, OPERATOR).add_key(Role.CLIENT, "acme", None, "")
    opened = broker.stream

    async def slowly(*args, **said):
        await Administration(broker, OPERATOR).revoke_key(key.id)
        return await opened(*args, **said)

    monkeypatch.setattr(broker, "stream", slowly)
    await broker.publish(letter(), SHOP)
    task = await subscribed(actor=Actor("acme", Role.CLIENT, key.id))
    with pytest.raises(Unauthenticated):
        await task
    assert link.bodies == []
    assert (await figures(broker)).ready == 1


async def test_who_comes_back_is_sent_again_what_it_holds(broker, link, subscribed):
    await broker.publish(letter(), SHOP)
    old = await subscribed()
    resume = link.written[0].attached.resume
    back = Link()
    await subscribed(subscription(resume=resume), on=back)
    with pytest.raises(Displaced):
        await old
    assert [one.lease for one in back.notifications] == [one.lease for one in link.notifications]


async def test_silence_is_broken_now_and_then(broker, link, clock, subscribed):
    await subscribed()
    clock.advance(45)
    await turns()
    assert link.written[1:] == [pb.SubscribeResponse()]
