"""Receive: credit and settlements one way, notifications and answers the other."""

import asyncio

import pytest
from tests.unit.engine.house import ACME, BOB, OPERATOR, SHOP, letter, settings, slow, turns
from tests.unit.rpc.house import Link, ack, first

from restante.engine.administration import Administration
from restante.engine.broker import Broker
from restante.errors import (
    Displaced,
    Forbidden,
    Malformed,
    OutOfBounds,
    QueueNotFound,
    ShuttingDown,
    TooManyConnections,
    TooSlow,
    Unauthenticated,
)
from restante.model import Actor, Role
from restante.queries import FiguresOf
from restante.rpc import dialogue
from restante.rpc.link import LinkClosed
from restante.rpc.service import Service
from restante.wire.proto import restante_pb2 as pb


class Call:
    """One call under way."""

    def __init__(self, broker, actor=ACME, service=None):
        self.link = Link()
        service = service or Service(broker)
        self.task = asyncio.create_task(service.receive(actor, self.link))

    async def open(self, *args, **said):
        self.link.say(first(*args, **said))
        await turns()
        return self.link

    async def say(self, request):
        self.link.say(request)
        await turns()

    async def close(self):
        self.link.close()
        await asyncio.wait_for(self.task, 5)


@pytest.fixture
async def call(broker):
    call = Call(broker)
    yield call
    call.task.cancel()
    await asyncio.gather(call.task, return_exceptions=True)


async def publish(broker, *bodies, **fields):
    for body in bodies:
        await broker.publish(letter(body, **fields), SHOP)
    await turns()


async def figures(broker, queue="acme"):
    return await broker.store.browse(FiguresOf(queue))


# -- opening ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (pb.ReceiveRequest(), Malformed),
        (pb.ReceiveRequest(queue="acme"), Malformed),
        (pb.ReceiveRequest(credit=pb.Credit(messages=1)), Malformed),
        (first(0), OutOfBounds),
        (first(-1), OutOfBounds),
        (first(10_001), OutOfBounds),
        (first(1, bytes=0), OutOfBounds),
        (first(1, bytes=2**40), OutOfBounds),
        (first(1, lease_seconds=0.5), OutOfBounds),
        (first(1, lease_seconds=float("nan")), OutOfBounds),
        (first(1, queue="nowhere"), QueueNotFound),
        (first(1, queue="bob"), QueueNotFound),
        (first(1, resume="../../etc"), Malformed),
        (first(1, ref="x" * 129), Malformed),
        (first(1, settle=[pb.Settlement(lease="x")]), Malformed),
        (first(1, settle=[pb.Settlement(ack=pb.Ack())] * 1_001), OutOfBounds),
    ],
)
async def test_a_first_request_that_will_not_do_ends_the_call(broker, call, request_, error):
    call.link.say(request_)
    with pytest.raises(error):
        await call.task
    assert call.link.written == []
    assert len(broker.attachments) == 0
    assert broker.wakeups.attended() == []


async def test_a_publisher_cannot_collect(broker):
    call = Call(broker, SHOP)
    call.link.say(first())
    with pytest.raises(Forbidden):
        await call.task


async def test_who_asks_for_nothing_is_let_go(broker, call, clock):
    await turns()
    clock.advance(14.9)
    await turns()
    assert not call.task.done()
    clock.advance(0.1)
    with pytest.raises(TooSlow):
        await call.task


async def test_who_closes_before_asking_has_had_it(broker, call):
    await call.close()
    assert call.link.written == []


async def test_the_attachment_comes_first_and_then_what_is_there(broker, call):
    await publish(broker, b"1", b"2")
    link = await call.open()
    assert link.written[0].attached.resume
    assert not link.written[0].notifications
    assert link.bodies == [b"1", b"2"]
    await publish(broker, b"3")
    assert link.bodies == [b"1", b"2", b"3"]


async def test_each_principal_has_so_many_streams(store, clock):
    async with Broker(store, clock, connections_per_principal=1) as broker:
        one, two = Call(broker), Call(broker)
        await one.open()
        with pytest.raises(TooManyConnections):
            await two.task
        await one.close()
        assert len(broker.attachments) == 0


# -- credit -------------------------------------------------------------------------------------


async def test_no_more_than_the_credit_is_unsettled(broker, call):
    await publish(broker, b"1", b"2", b"3")
    link = await call.open(2)
    assert link.bodies == [b"1", b"2"]
    await call.say(ack(link.notifications[0]))
    assert link.bodies == [b"1", b"2", b"3"]


async def test_credit_can_be_changed_and_be_a_pause(broker, call):
    await publish(broker, b"1", b"2", b"3")
    link = await call.open(1)
    await call.say(pb.ReceiveRequest(credit=pb.Credit(messages=2)))
    assert link.bodies == [b"1", b"2"]
    await call.say(pb.ReceiveRequest(credit=pb.Credit(messages=0)))
    await call.say(ack(*link.notifications))
    assert link.bodies == [b"1", b"2"]
    await call.say(pb.ReceiveRequest(queue="acme", credit=pb.Credit(messages=1)))
    assert link.bodies == [b"1", b"2", b"3"]
    assert [answer.ref for answer in link.answers] == ["r"], "credit needs no answer"


async def test_the_lease_is_as_long_as_asked(broker, call, clock):
    await publish(broker, b"1")
    link = await call.open(1, lease_seconds=99)
    seconds = link.notifications[0].lease_until.seconds - clock.wall_ms() // 1_000
    assert seconds == 99


async def test_what_is_large_comes_in_several_responses(broker, call):
    await settings(broker, max_body_bytes=16_000_000)
    await publish(broker, *[b"x" * 1_500_000] * 5)
    link = await call.open()
    assert [len(message.notifications) for message in link.written[1:]] == [1] * 5


# -- settling -----------------------------------------------------------------------------------


async def test_every_settlement_has_its_result(broker, call):
    await publish(broker, b"1", b"2")
    link = await call.open()
    one, two = link.notifications
    settle = [
        pb.Settlement(lease=one.lease, ack=pb.Ack(reply=b"<ok/>")),
        pb.Settlement(lease="nonsense", ack=pb.Ack()),
        pb.Settlement(lease=two.lease, nack=pb.Nack(retry_after_seconds=-1)),
        pb.Settlement(lease=two.lease, reject=pb.Reject(reason="poison")),
    ]
    await call.say(pb.ReceiveRequest(ref="mine", settle=settle))
    (answer,) = link.answers
    assert (answer.ref, answer.HasField("problem")) == ("mine", False)
    told = [result.outcome or result.problem.code for result in answer.results]
    assert told == ["acked", "lease_not_found", "out_of_bounds", "rejected"]


async def test_a_first_request_may_settle_what_is_held_from_before(broker, call):
    await publish(broker, b"1")
    session = await broker.session("acme", ACME)
    (held,) = await session.receive()
    settle = [pb.Settlement(lease=session.token(held), ack=pb.Ack())]
    link = await call.open(ref="0", settle=settle)
    assert [answer.results[0].outcome for answer in link.answers] == ["acked"]
    assert (await figures(broker)).acked == 1


async def test_leases_of_another_queue_of_the_client_can_be_settled_too(broker, call):
    from restante.changes import PutQueue
    from restante.model import Queue

    await broker.store.configure([PutQueue(Queue("acme-2", "acme"))])
    await publish(broker, b"1", queue="acme-2")
    await publish(broker, b"2", queue="bob")
    tokens = []
    for queue, actor in (("acme-2", ACME), ("bob", BOB)):
        session = await broker.session(queue, actor)
        tokens.append(session.token((await session.receive())[0]))
    link = await call.open()
    settle = [pb.Settlement(lease=token, ack=pb.Ack()) for token in tokens]
    await call.say(pb.ReceiveRequest(settle=settle))
    mine, theirs = link.answers[0].results
    assert (mine.outcome, theirs.problem.code) == ("acked", "lease_not_found")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (pb.ReceiveRequest(ref="bad"), "malformed"),
        (pb.ReceiveRequest(ref="bad", queue="bob", credit=pb.Credit(messages=1)), "malformed"),
        (pb.ReceiveRequest(ref="bad", resume="x" * 20, credit=pb.Credit(messages=1)), "malformed"),
        (pb.ReceiveRequest(ref="bad", credit=pb.Credit(messages=-1)), "out_of_bounds"),
        (pb.ReceiveRequest(ref="bad", credit=pb.Credit(messages=10_001)), "out_of_bounds"),
        (pb.ReceiveRequest(ref="bad", settle=[pb.Settlement(lease="x")]), "malformed"),
        (
            pb.ReceiveRequest(
                ref="bad",
                credit=pb.Credit(messages=-1),
                settle=[pb.Settlement(lease="x", ack=pb.Ack())],
            ),
            "out_of_bounds",
        ),
        (
            pb.ReceiveRequest(ref="bad", settle=[pb.Settlement(ack=pb.Ack())] * 1_001),
            "out_of_bounds",
        ),
    ],
)
async def test_a_later_request_that_will_not_do_is_answered_and_the_call_goes_on(
    broker, call, request_, code
):
    link = await call.open()
    await call.say(request_)
    (answer,) = link.answers
    assert (answer.ref, answer.problem.code, len(answer.results)) == ("bad", code, 0)
    await publish(broker, b"1")
    assert link.bodies == [b"1"]


async def test_a_ref_that_is_too_long_is_answered_by_its_beginning(broker, call):
    link = await call.open()
    await call.say(ack(ref="y" * 129))
    assert link.answers[0].ref == "y" * 128
    assert link.answers[0].problem.code == "malformed"


async def test_what_is_done_at_the_same_time_is_answered_at_the_same_time(broker, call):
    await publish(broker, *[b"%d" % number for number in range(50)])
    link = await call.open(100)
    before = len(link.written)
    link.hold()
    for number, one in enumerate(link.notifications):
        link.say(ack(one, ref=str(number)))
    await turns(200)
    link.let_go()
    await turns(200)
    assert [answer.ref for answer in link.answers] == [str(number) for number in range(50)]
    assert len(link.written) - before <= 2


async def test_answers_ride_along_with_notifications(broker, call):
    await publish(broker, b"1", b"2")
    link = await call.open(1)
    link.hold()
    await call.say(ack(link.notifications[0]))
    link.let_go()
    await turns()
    assert [bool(m.answers) for m in link.written if m.notifications or m.answers][-1]
    assert link.bodies == [b"1", b"2"]


async def test_settlements_take_effect_in_the_order_of_requests(broker, call, monkeypatch):
    for verb in ("settle", "extend"):
        slow(monkeypatch, broker.store, verb)
    await publish(broker, b"1")
    link = await call.open()
    (one,) = link.notifications
    for number, settlement in enumerate(
        (
            pb.Settlement(lease=one.lease, extend=pb.Extension(lease_seconds=60)),
            pb.Settlement(lease=one.lease, release=pb.Release()),
            pb.Settlement(lease=one.lease, ack=pb.Ack()),
        )
    ):
        link.say(pb.ReceiveRequest(ref=str(number), settle=[settlement]))
    await turns(100)
    told = {answer.ref: answer.results[0] for answer in link.answers}
    assert told["0"].outcome == "extended"
    assert told["1"].outcome == "released"
    assert told["2"].problem.code == "lease_lost"


# -- who does not read --------------------------------------------------------------------------


async def test_with_too_much_under_way_nothing_is_read(broker, call, monkeypatch):
    monkeypatch.setattr(dialogue, "ITEMS_UNDER_WAY", 10)
    link = await call.open()
    link.hold()
    for number in range(40):
        link.say(ack(*[pb.Notification(lease="nonsense")] * 2, ref=str(number)))
    await turns(200)
    assert link.said.qsize() > 30
    link.let_go()
    await turns(500)
    assert link.said.qsize() == 0
    assert [answer.ref for answer in link.answers] == [str(number) for number in range(40)]


async def test_replies_of_many_bytes_are_held_back_too(broker, call, monkeypatch):
    monkeypatch.setattr(dialogue, "BYTES_UNDER_WAY", 100)
    await publish(broker, *[b"%d" % number for number in range(6)])
    link = await call.open()
    answers = [asyncio.get_running_loop().create_future() for _ in range(6)]
    asked = iter(answers)
    settle = broker.store.settle
    kept = []

    def later(settlements):
        done = settle(settlements)
        gate = next(asked)
        kept.append((gate, done))
        return gate

    monkeypatch.setattr(broker.store, "settle", later)
    for one in link.notifications:
        link.say(ack(one, reply=b"x" * 60))
    await turns()
    assert len(kept) == 2
    for count in range(6):
        gate, done = kept[count]
        gate.set_result(done.result())
        await turns()
    assert len(link.answers) == 6


async def test_a_response_answers_only_so_many(broker, call):
    link = await call.open()
    before = len(link.written)
    link.hold()
    for number in range(9):
        link.say(ack(*[pb.Notification(lease="nonsense")] * 900, ref=str(number)))
    await turns(300)
    link.let_go()
    await turns(300)
    counts = [sum(len(a.results) for a in message.answers) for message in link.written[before:]]
    assert sum(counts) == 8_100
    assert max(counts) <= 2_000


async def test_who_never_reads_is_handed_no_more_than_its_credit(broker, call):
    link = await call.open(3)
    link.hold()
    await publish(broker, *[b"%d" % number for number in range(20)])
    assert (await figures(broker)).leased <= 3


# -- leaving ------------------------------------------------------------------------------------


async def test_who_closes_its_side_is_answered_and_let_go(broker, call, monkeypatch):
    slow(monkeypatch, broker.store, "settle")
    await publish(broker, b"1", b"2")
    link = await call.open(1)
    link.say(ack(link.notifications[0]))
    await call.close()
    assert [answer.results[0].outcome for answer in link.answers] == ["acked"]
    after = await figures(broker)
    # Perhaps it was handed the second; then that is its own until the lease runs out.
    assert after.acked == 1
    assert after.leased == len(link.bodies) - 1
    assert (len(broker.attachments), broker.wakeups.attended()) == (0, [])


async def test_what_could_not_be_written_is_given_back(broker, call):
    link = await call.open()
    link.hold()
    await publish(broker, b"1", b"2")
    assert (await figures(broker)).leased
    link.vanish()
    link.let_go()
    with pytest.raises(LinkClosed):
        await call.task
    await turns()
    after = await figures(broker)
    assert (after.leased, after.ready) == (0, 2)
    again = await (await broker.session("acme", ACME)).receive()
    assert [one.attempt for one in again] == [1, 1]


async def test_a_cancelled_call_gives_back_what_it_was_about_to_show(broker, call):
    link = await call.open()
    link.hold()
    await publish(broker, b"1")
    call.task.cancel()
    await asyncio.gather(call.task, return_exceptions=True)
    await turns()
    assert (await figures(broker)).ready == 1
    assert len(broker.attachments) == 0


async def test_what_was_shown_stays_leased(broker, call):
    await publish(broker, b"1")
    await call.open()
    call.task.cancel()
    await asyncio.gather(call.task, return_exceptions=True)
    await turns()
    assert (await figures(broker)).leased == 1


async def test_a_cancelled_call_leaves_no_look_behind(broker, store, call):
    await call.open()
    store.gated = True
    await publish(broker, b"1")
    assert store.looking == 1
    call.task.cancel()
    await turns()
    store.answer()
    await asyncio.gather(call.task, return_exceptions=True)
    await turns()
    assert (await figures(broker)).ready == 1


# -- told to leave ------------------------------------------------------------------------------


async def test_a_revoked_key_ends_the_call(broker):
    key, _ = await Administration(broker, OPERATOR).add_key(Role.CLIENT, "acme", None, "")
    call = Call(broker, Actor("acme", Role.CLIENT, key.id))
    await call.open()
    await Administration(broker, OPERATOR).revoke_key(key.id)
    with pytest.raises(Unauthenticated):
        await call.task


async def test_a_revoked_key_ends_a_call_on_which_nothing_was_asked_yet(broker):
    key, _ = await Administration(broker, OPERATOR).add_key(Role.CLIENT, "acme", None, "")
    call = Call(broker, Actor("acme", Role.CLIENT, key.id))
    await turns()
    await Administration(broker, OPERATOR).revoke_key(key.id)
    with pytest.raises(Unauthenticated):
        await call.task


async def test_a_revoked_key_ends_a_call_whose_client_does_not_read(broker):
    key, _ = await Administration(broker, OPERATOR).add_key(Role.CLIENT, "acme", None, "")
    call = Call(broker, Actor("acme", Role.CLIENT, key.id))
    link = await call.open()
    link.hold()
    await publish(broker, b"1")
    await Administration(broker, OPERATOR).revoke_key(key.id)
    with pytest.raises(Unauthenticated):
        await call.task
    await turns()
    assert (await figures(broker)).ready == 1


async def test_a_drained_call_may_still_settle_and_is_handed_no_more(broker, call):
    await publish(broker, b"1")
    link = await call.open()
    broker.drain()
    await turns()
    (drain,) = [m.drain for m in link.written if m.HasField("drain")]
    assert 1 <= drain.reconnect_after_seconds <= 10
    await publish(broker, b"2")
    await call.say(ack(*link.notifications))
    assert link.answers[0].results[0].outcome == "acked"
    assert link.bodies == [b"1"]
    await call.close()


async def test_a_drained_call_that_stays_is_ended(broker):
    service = Service(broker)
    call = Call(broker, service=service)
    await call.open()
    broker.drain()
    await turns()
    service.close()
    with pytest.raises(ShuttingDown):
        await call.task


async def test_a_drained_service_takes_no_more(broker, call):
    await turns()
    broker.drain()
    with pytest.raises(ShuttingDown):
        await call.task
    late = Call(broker)
    with pytest.raises(ShuttingDown):
        await late.task


async def test_who_comes_back_is_sent_again_what_it_holds(broker):
    await publish(broker, b"1", b"2")
    old, new = Call(broker), Call(broker)
    link = await old.open()
    await old.say(ack(link.notifications[0]))
    resume = link.written[0].attached.resume
    back = await new.open(resume=resume)
    with pytest.raises(Displaced):
        await old.task
    assert back.written[0].attached.resume == resume
    (again,) = back.notifications
    assert (again.body, again.lease, again.attempt) == (b"2", link.notifications[1].lease, 1)
    await publish(broker, b"3")
    assert back.bodies == [b"2", b"3"]
    await new.close()


async def test_silence_is_broken_now_and_then(broker, call, clock):
    link = await call.open()
    assert len(link.written) == 1
    clock.advance(45)
    await turns()
    assert link.written[1:] == [pb.ReceiveResponse()]
    clock.advance(45)
    await turns()
    assert link.written[2:] == [pb.ReceiveResponse()]


async def test_what_goes_wrong_inside_ends_the_call(broker, call, monkeypatch):
    await publish(broker, b"1")
    link = await call.open()
    broken = asyncio.get_running_loop().create_future()
    broken.set_exception(ZeroDivisionError())
    monkeypatch.setattr(broker.store, "settle", lambda _: broken)
    link.say(ack(*link.notifications))
    with pytest.raises(ZeroDivisionError):
        await call.task
