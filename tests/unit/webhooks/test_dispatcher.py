"""Calling: what is leased and when, what each answer does, and what happens while things change."""

import asyncio

import pytest
from tests.unit.engine.house import OPERATOR, settings, slow, turns

from restante.engine.administration import Administration
from restante.errors import StoreUnavailable
from restante.model import State
from restante.transports.webhook.calls import Answered
from restante.transports.webhook.dispatcher import Dispatcher
from restante.transports.webhook.worker import LEASE_MARGIN_SECONDS
from restante.webhooks import Circuit

DEAD = Answered(500, "No", (), b"")
FINE = Answered(200, "", (), b"")


# -- delivering ---------------------------------------------------------------------------------


async def test_what_is_there_is_sent_and_what_comes_later_as_it_comes(post, endpoints):
    await post.publish(b"1")
    await post.webhook()
    await endpoints.answer(200, b"<booked/>", content_type="text/xml")
    await post.publish(b"2")
    await endpoints.answer(204)
    assert endpoints.bodies == [b"1", b"2"]
    first, second = [one for one in await post.ledger() if one.outcome == "acked"]
    assert (first.reply, first.reply_content_type) == ("<booked/>", "text/xml")
    assert (first.principal, first.transport) == ("acme", "webhook")
    assert first.remote_address == "a.example"
    assert second.reply is None


async def test_no_more_calls_at_once_than_its_concurrency(post, endpoints):
    await post.webhook(concurrency=3)
    await post.publish(*[b"%d" % n for n in range(10)])
    assert endpoints.waiting == 3
    assert (await post.figures()).leased == 3
    await endpoints.answer()
    assert (len(endpoints.calls), endpoints.waiting) == (4, 3)
    while endpoints.waiting:
        await endpoints.answer()
    assert (await post.figures()).acked == 10


async def test_a_lease_is_as_long_as_the_call_may_take_and_some(post, endpoints):
    await post.webhook(timeout_seconds=3)
    await post.publish(b"1")
    assert endpoints.calls[0].timeout_seconds == 3
    await post.pass_time(3 + LEASE_MARGIN_SECONDS - 0.01)
    assert await post.outcomes() == []
    await post.pass_time(0.01)
    assert await post.outcomes() == ["lease_expired"]


async def test_a_failure_comes_again_after_the_queue_s_backoff(post, endpoints):
    await settings(post.broker, backoff_base_seconds=8)
    await post.webhook()
    await post.publish(b"1")
    await endpoints.answer(500, b"sorry")
    (nacked,) = [one for one in await post.ledger() if one.outcome == "nacked"]
    assert (nacked.reason, nacked.reply_content_type) == ("HTTP 500", "message/http")
    assert nacked.reply == "HTTP/1.1 500 \r\n\r\nsorry"
    await post.pass_time(7.9)
    assert endpoints.waiting == 0
    await post.pass_time(0.2)
    assert endpoints.calls[1].headers["restante-attempt"] == "2"


async def test_poison_is_a_dead_letter_with_its_reason(post, endpoints):
    await post.webhook()
    await post.publish(b"1")
    await endpoints.answer(422, b"no such sku", restante_outcome="reject")
    (dead,) = [one for one in await post.ledger() if one.outcome == "rejected"]
    assert (dead.reason, dead.state) == ("no such sku", "dead")


async def test_attempts_end_in_a_dead_letter_with_their_history(post, endpoints):
    await settings(post.broker, max_attempts=3, backoff_base_seconds=0)
    endpoints.always["a.example"] = DEAD
    await post.webhook()
    await post.publish(b"1")
    await turns(60)
    assert await post.outcomes() == ["nacked"] * 3
    assert (await post.figures()).dead == 1


async def test_whoever_settles_by_the_token_meanwhile_is_heard(post, endpoints):
    from restante.engine.settling import Settle
    from restante.model import Actor, Role, Verb

    await post.webhook()
    await post.publish(b"1")
    settle = Settle(lease=endpoints.calls[0].headers["restante-lease"], verb=Verb.REJECT)
    await (await post.broker.settle([settle], Actor("acme", Role.CLIENT))).results()
    await endpoints.answer(500)
    assert await post.outcomes() == ["rejected"]


# -- the circuit --------------------------------------------------------------------------------


async def test_a_dead_endpoint_burns_few_attempts_and_loses_nothing(post, endpoints):
    await settings(post.broker, backoff_base_seconds=0, max_attempts=1_000)
    endpoints.always["a.example"] = DEAD
    await post.webhook(concurrency=1)
    await post.publish(b"1")
    await turns(100)
    assert len(endpoints.calls) == 5, "the limit in a row"
    assert (await post.figures()).leased == 0
    # One probe each after 1, 2, 4, ... up to 60 seconds.
    await post.pass_time(1)
    assert len(endpoints.calls) == 6
    await post.pass_time(1.9)
    assert len(endpoints.calls) == 6
    await post.pass_time(0.1)
    assert len(endpoints.calls) == 7
    for _ in range(60):
        await post.pass_time(60)
    assert len(endpoints.calls) < 75
    endpoints.always["a.example"] = FINE
    await post.pass_time(60)
    assert (await post.figures()).acked == 1


async def test_while_it_is_open_nothing_is_leased_and_then_one(post, endpoints):
    await post.webhook(concurrency=8)
    await post.publish(*[b"%d" % n for n in range(20)])
    assert endpoints.waiting == 8
    for _ in range(5):
        await endpoints.fail()
    # Three are under way still, and those that failed left room, which nobody fills.
    assert endpoints.waiting <= 3 + 4
    while endpoints.waiting:
        await endpoints.fail()
    assert (await post.figures()).leased == 0
    assert post.broker.webhooks.courier.circuit("acme") is Circuit.OPEN
    await post.pass_time(1)
    assert post.broker.webhooks.courier.circuit("acme") is Circuit.HALF_OPEN
    assert endpoints.waiting == 1, "a single probe"
    await endpoints.answer(200)
    assert post.broker.webhooks.courier.circuit("acme") is Circuit.CLOSED
    assert endpoints.waiting == 8


async def test_the_probe_waits_for_what_is_under_way(post, endpoints):
    await post.webhook(concurrency=6)
    await post.publish(*[b"%d" % n for n in range(6)])
    for _ in range(5):
        await endpoints.fail()
    assert endpoints.waiting == 1
    await post.pass_time(1)
    assert endpoints.waiting == 1
    await endpoints.answer(200)
    await post.pass_time(1)
    assert endpoints.waiting == 5


async def test_what_was_leased_just_as_it_opened_is_given_back_uncounted(post, endpoints, store):
    await post.webhook(concurrency=6)
    await post.publish(*[b"%d" % n for n in range(5)])
    store.gated = True
    await post.publish(b"late")
    assert store.looking == 1
    for _ in range(5):
        await endpoints.fail()
    store.answer()
    store.gated = False
    await turns()
    assert endpoints.bodies.count(b"late") == 0
    assert (await post.outcomes())[-1] == "released"
    await post.pass_time(1)
    assert endpoints.waiting == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_an_endpoint_that_throttles_is_left_alone_as_a_whole(post, endpoints, status):
    await post.webhook(concurrency=2)
    await post.publish(b"1", b"2", b"3")
    await endpoints.answer(status, retry_after="30")
    await endpoints.answer(200)
    # What was under way went well: that is newer than the pause.
    assert endpoints.waiting == 1
    await endpoints.answer(status, retry_after="30")
    await post.pass_time(29)
    assert endpoints.waiting == 0
    await post.pass_time(1.1)
    assert endpoints.waiting == 1
    nacked = [one for one in await post.ledger() if one.outcome == "nacked"]
    assert {one.reason for one in nacked} == {f"HTTP {status}"}


async def test_a_throttled_delivery_waits_as_long_as_its_endpoint(post, endpoints):
    await settings(post.broker, backoff_base_seconds=0)
    await post.webhook()
    await post.publish(b"1")
    await endpoints.answer(503)
    assert (await post.figures()).scheduled == 1, "the pause, not the queue's backoff of nothing"
    await post.pass_time(1)
    await endpoints.answer(200)
    assert (await post.figures()).acked == 1


async def test_a_dead_endpoint_does_not_slow_another(post, endpoints):
    endpoints.always["dead.example"] = DEAD
    endpoints.always["live.example"] = FINE
    await post.webhook("acme", "https://dead.example/")
    await post.webhook("bob", "https://live.example/")
    await post.publish(*[b"%d" % n for n in range(30)])
    await post.publish(*[b"%d" % n for n in range(30)], queue="bob")
    await turns(100)
    assert (await post.figures("bob")).acked == 30
    figures = await post.figures("acme")
    assert (figures.acked, figures.dead, figures.published) == (0, 0, 30)


# -- rate ---------------------------------------------------------------------------------------


async def test_no_more_calls_a_second_than_its_rate(post, endpoints):
    endpoints.always["a.example"] = FINE
    await post.webhook(rate_per_second=2, concurrency=100)
    await post.publish(*[b"%d" % n for n in range(20)])
    assert len(endpoints.calls) == 2
    assert (await post.figures()).leased == 0, "what cannot be sent is not leased"
    for second in range(1, 9):
        await post.pass_time(0.5)
        await post.pass_time(0.5)
        assert len(endpoints.calls) <= 2 + 2 * second
    await post.pass_time(1)
    assert len(endpoints.calls) >= 19
    assert (await post.figures()).acked == len(endpoints.calls)


async def test_a_new_rate_holds_at_once(post, endpoints):
    endpoints.always["a.example"] = FINE
    await post.webhook(rate_per_second=0.01)
    await post.publish(*[b"%d" % n for n in range(9)])
    assert len(endpoints.calls) == 1
    await post.webhook(rate_per_second=None)
    assert len(endpoints.calls) == 9


# -- gone, disabled, changed --------------------------------------------------------------------


async def test_410_disables_it_and_what_is_there_waits(post, endpoints):
    await post.webhook(concurrency=2)
    await post.publish(b"1", b"2", b"3")
    await endpoints.answer(410)
    await endpoints.answer(200)
    webhook = await post.broker.webhooks.get("acme")
    assert (webhook.enabled, webhook.reason) == (False, "HTTP 410")
    assert webhook.since_ms == post.clock.wall_ms()
    released = [one for one in await post.ledger() if one.outcome == "released"]
    assert [one.reason for one in released] == ["HTTP 410"]
    assert (await post.figures()).ready == 2
    assert endpoints.waiting == 0
    assert post.broker.webhooks.courier.circuit("acme") is None
    await post.broker.webhooks.enable("acme")
    await turns()
    assert endpoints.waiting == 2
    attempts = {call.body: call.headers["restante-attempt"] for call in endpoints.calls[2:]}
    assert attempts == {b"1": "1", b"3": "1"}, "it was not counted"


async def test_410_that_cannot_be_written_down_is_heard_again(post, endpoints, monkeypatch):
    await post.webhook()
    await post.publish(b"1")

    async def refuse(*args, **kwargs):
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(post.broker.webhooks, "disable", refuse)
        await endpoints.answer(410)
    assert endpoints.waiting == 1
    await endpoints.answer(410)
    assert not (await post.broker.webhooks.get("acme")).enabled


async def test_disabled_nothing_is_sent_nothing_is_lost_and_then_all(post, endpoints):
    endpoints.always["a.example"] = FINE
    await post.webhook()
    await post.broker.webhooks.disable("acme", "we move house")
    await turns()
    await post.publish(*[b"%d" % n for n in range(50)])
    assert endpoints.calls == []
    await post.broker.webhooks.enable("acme")
    await turns(200)
    assert endpoints.bodies == [b"%d" % n for n in range(50)]
    assert (await post.figures()).acked == 50


async def test_a_new_url_is_called_at_once_whatever_the_old_one_did(post, endpoints):
    endpoints.always["a.example"] = DEAD
    await post.webhook()
    await post.publish(*[b"%d" % n for n in range(5)])
    assert post.broker.webhooks.courier.circuit("acme") is Circuit.OPEN
    await post.webhook(url="https://b.example/")
    assert post.broker.webhooks.courier.circuit("acme") is Circuit.CLOSED
    await post.publish(b"new")
    assert endpoints.calls[-1].url == "https://b.example/"


async def test_what_is_under_way_ends_as_it_began(post, endpoints):
    await post.webhook(concurrency=1)
    await post.publish(b"1", b"2")
    await post.webhook(url="https://b.example/")
    assert [call.url for call in endpoints.calls] == ["https://a.example/", "https://b.example/"]
    await endpoints.answer(200)
    await endpoints.answer(200)
    assert (await post.figures()).acked == 2


async def test_new_settings_take_effect_without_a_break(post, endpoints):
    await post.webhook(concurrency=1)
    await post.publish(*[b"%d" % n for n in range(9)])
    await post.webhook(concurrency=4, timeout_seconds=2, headers={"x-tenant": "a"})
    assert endpoints.waiting == 4
    call = endpoints.calls[-1]
    assert (call.timeout_seconds, call.headers["x-tenant"]) == (2, "a")


async def test_a_webhook_that_is_dropped_is_called_no_more(post, endpoints):
    await post.webhook()
    await post.broker.webhooks.drop("acme")
    await turns()
    await post.publish(b"1")
    assert endpoints.calls == []
    assert (await post.figures()).ready == 1


async def test_a_new_owner_s_notifications_do_not_go_to_the_old_one(post, endpoints):
    await post.webhook()
    await Administration(post.broker, OPERATOR).put_queue("acme", "bob", None)
    await turns()
    await post.publish(b"1")
    assert endpoints.calls == []
    webhook = await post.broker.webhooks.get("acme")
    assert (webhook.enabled, webhook.reason) == (False, "the queue has a new owner")
    await post.broker.webhooks.enable("acme")
    await turns()
    await endpoints.answer()
    assert (await post.ledger())[-1].principal == "bob"


async def test_secrets_rotate_without_a_break(post, endpoints):
    await post.webhook()
    await post.publish(b"1")
    await post.broker.webhooks.rotate("acme")
    await turns()
    await post.publish(b"2")
    counts = [call.headers["webhook-signature"].count("v1,") for call in endpoints.calls]
    assert counts == [1, 2]
    await post.pass_time(0)
    post.clock.jump_wall(86_400)
    await post.publish(b"3")
    assert endpoints.calls[-1].headers["webhook-signature"].count("v1,") == 1


async def test_a_webhook_whose_secrets_do_not_open_waits(post, endpoints, broker, clock, store):
    from restante.engine.broker import Broker

    await post.webhook()
    async with Broker(store, clock) as other, Dispatcher(other, caller=endpoints):
        await turns()
        assert other.webhooks.courier is not None
        assert other.webhooks.courier.circuit("acme") is None
        standing = await other.webhooks.standing(await other.webhooks.get("acme"))
        assert "cannot be opened" in standing.problem
        assert not (await other.webhooks.ping("acme", OPERATOR)).ok


async def test_only_what_this_node_holds_a_claim_for_is_called(broker, endpoints, monkeypatch):
    for queue in ("acme", "bob"):
        # Made by another node.
        broker.webhooks.courier = Dispatcher(broker, caller=endpoints)
        await broker.webhooks.put(queue, f"https://{queue}.example/", None, {})
    held = {"acme"}
    monkeypatch.setattr(broker.membership, "holds", lambda queue: queue in held)
    async with Dispatcher(broker, caller=endpoints) as dispatcher:
        await turns()
        assert dispatcher.circuit("acme") is Circuit.CLOSED
        assert dispatcher.circuit("bob") is None
        held.add("bob")
        held.remove("acme")
        dispatcher.refresh_all()
        await turns()
        assert dispatcher.circuit("acme") is None
        assert dispatcher.circuit("bob") is Circuit.CLOSED


# -- pinging ------------------------------------------------------------------------------------


async def test_a_ping_tells_what_came_of_it(post, endpoints, clock):
    await post.webhook()
    for answer, expected in (
        (lambda: endpoints.answer(204), (True, 204, "")),
        (lambda: endpoints.answer(410), (False, 410, "HTTP 410")),
        (lambda: endpoints.answer(302), (False, 302, "HTTP 302")),
        (lambda: endpoints.fail("connection refused"), (False, None, "connection refused")),
    ):
        ping = asyncio.create_task(post.broker.webhooks.ping("acme", OPERATOR))
        await turns()
        clock.advance(0.25)
        await answer()
        pinged = await ping
        assert (pinged.ok, pinged.status, pinged.reason) == expected
        assert pinged.seconds == 0.25
    assert (await post.broker.webhooks.get("acme")).enabled
    assert await post.ledger() == []


async def test_who_pings_meanwhile_is_told_of_the_same(post, endpoints):
    await post.webhook()
    pings = [asyncio.create_task(post.broker.webhooks.ping("acme", OPERATOR)) for _ in range(100)]
    await turns()
    assert len(endpoints.calls) == 1
    # Whoever gives up does not take it from the others.
    pings.pop().cancel()
    await endpoints.answer(204)
    assert {(await ping).status for ping in pings} == {204}
    another = asyncio.create_task(post.broker.webhooks.ping("acme", OPERATOR))
    await turns()
    await endpoints.answer(410)
    assert (await another).status == 410


async def test_what_could_not_be_sent_is_no_attempt(post, endpoints):
    await post.webhook()
    await post.publish(b"1", b"2")
    await endpoints.fail("no room", sent=False)
    await endpoints.answer(200)
    assert await post.outcomes() == ["released", "acked"]
    # The success of the other has closed the circuit: it comes again, as the first attempt.
    assert endpoints.calls[-1].headers["restante-attempt"] == "1"
    await endpoints.answer(200)
    assert (await post.figures()).acked == 2


async def test_a_ping_that_goes_well_ends_a_pause(post, endpoints):
    await post.webhook()
    await post.publish(b"1", b"2")
    await endpoints.answer(503, retry_after="3000")
    await endpoints.fail()
    ping = asyncio.create_task(post.broker.webhooks.ping("acme", OPERATOR))
    await turns()
    await endpoints.answer(200)
    assert (await ping).ok
    await post.publish(b"3")
    assert endpoints.calls[-1].body == b"3"


async def test_a_disabled_webhook_can_be_pinged(post, endpoints):
    await post.webhook()
    await post.broker.webhooks.disable("acme", "x")
    ping = asyncio.create_task(post.broker.webhooks.ping("acme", OPERATOR))
    await turns()
    await endpoints.answer(200)
    assert (await ping).ok


# -- the store, and the end ---------------------------------------------------------------------


async def test_a_store_that_refuses_for_a_while_is_asked_again(post, endpoints, monkeypatch):
    await post.webhook()
    await post.publish(b"1")

    def refuse(*_):
        answer = asyncio.get_running_loop().create_future()
        answer.set_exception(StoreUnavailable("not now"))
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(post.broker.store, "lease", refuse)
        await endpoints.answer(200)
        await post.publish(b"2")
    assert len(endpoints.calls) == 1
    await post.pass_time(1)
    assert len(endpoints.calls) == 2


async def test_a_defect_in_one_leaves_the_others_to_be_followed(post, endpoints, monkeypatch):
    real = post.broker.webhooks.open

    def broken(webhook):
        if webhook.queue == "acme":
            raise ZeroDivisionError
        return real(webhook)

    monkeypatch.setattr(post.broker.webhooks, "open", broken)
    await post.webhook("acme", "https://a.example/")
    await post.webhook("bob", "https://b.example/")
    await post.publish(b"1", queue="bob")
    assert [call.url for call in endpoints.calls] == ["https://b.example/"]


async def test_webhooks_are_called_from_the_start_on(broker, clock, endpoints):
    from tests.unit.engine.house import SHOP, letter

    async with Dispatcher(broker, caller=endpoints):
        await broker.webhooks.put("acme", "https://a.example/", None, {})
    await broker.publish(letter(b"1"), SHOP)
    async with Dispatcher(broker, caller=endpoints):
        await turns()
        assert endpoints.bodies == [b"1"]


@pytest.fixture
async def leaving(broker, clock, endpoints):
    """A dispatcher with two calls under way and one notification waiting, to be left by the test."""
    from tests.unit.engine.house import SHOP, letter

    dispatcher = Dispatcher(broker, caller=endpoints, shutdown_seconds=8)
    await dispatcher.__aenter__()
    await broker.webhooks.put("acme", "https://a.example/", None, {"concurrency": 2})
    for body in (b"1", b"2", b"3"):
        await broker.publish(letter(body), SHOP)
    await turns()
    assert endpoints.waiting == 2
    return dispatcher


async def test_a_drain_lets_calls_end_and_leases_nothing_more(leaving, broker, endpoints, clock):
    broker.drain()
    gone = asyncio.create_task(broker.attachments.gone(60))
    await endpoints.answer(200)
    assert not gone.done()
    await endpoints.answer(200)
    assert await gone
    await leaving.__aexit__(None, None, None)
    assert len(endpoints.calls) == 2
    from restante.queries import FiguresOf

    figures = await broker.store.browse(FiguresOf("acme"))
    assert (figures.acked, figures.ready, figures.leased) == (2, 1, 0)


async def test_a_call_that_takes_too_long_is_left_to_its_lease(leaving, broker, endpoints, clock):
    broker.drain()
    end = asyncio.create_task(leaving.__aexit__(None, None, None))
    await turns()
    clock.advance(7.9)
    await turns()
    assert not end.done()
    clock.advance(0.1)
    await end
    from restante.queries import FiguresOf

    figures = await broker.store.browse(FiguresOf("acme"))
    assert (figures.leased, figures.ready) == (2, 1), "it may have been processed"


async def test_nobody_waits_where_nothing_can_be_settled(leaving, broker, endpoints):
    broker.store.failed.set_result(None)
    await leaving.__aexit__(None, None, None)
    assert endpoints.waiting == 0


async def test_a_drain_with_nothing_under_way_is_over_at_once(post, broker):
    await post.webhook()
    broker.drain()
    assert await broker.attachments.gone(60)


async def test_a_slow_store_changes_nothing(post, endpoints, store, monkeypatch):
    for verb in ("lease", "settle", "configure"):
        slow(monkeypatch, store, verb)
    endpoints.always["a.example"] = FINE
    await post.webhook(concurrency=3)
    await post.publish(*[b"%d" % n for n in range(20)])
    await turns(400)
    assert (await post.figures()).acked == 20
    assert {one.state for one in await post.ledger()} == {State.READY.label, State.ACKED.label}
