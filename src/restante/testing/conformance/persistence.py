"""What a durable store still knows when it is opened again."""

from __future__ import annotations

from restante.changes import AddKey, AddSubscription, PutPaper, PutWebhook
from restante.errors import IdempotencyKeyReused, LeaseLost, ShuttingDown
from restante.model import Key, Role, State, Subscription
from restante.papers import Kind, Paper
from restante.queries import (
    ClientByName,
    DeadLetters,
    KeyById,
    Now,
    PaperOf,
    QueueByName,
    Subscriptions,
    WebhookOf,
)
from restante.testing.conformance.stage import Stage, refused, seqs
from restante.webhooks import Webhook


async def every_state_is_there_again(stage: Stage) -> None:
    """I1 and I16."""
    await stage.publish(b"<acked/>")
    await stage.ack(await stage.one())
    await stage.bury(b"<dead/>", reason="poison")
    await stage.publish(b"<leased/>")
    await stage.one(seconds=60)
    await stage.publish(b"<scheduled/>", deliver_after_seconds=30)
    await stage.publish(b"<ready/>", ordering_key="k")
    await stage.publish(b"<held/>", ordering_key="k")
    before = (await stage.states(), await stage.figures(), await stage.stored_receipts())
    await stage.reopen()
    assert (await stage.states(), await stage.figures(), await stage.stored_receipts()) == before
    assert [one.reason for one in await stage.store.browse(DeadLetters("acme"))] == ["poison"]
    assert [d.body for d in await stage.lease(seconds=300)] == [b"<ready/>"]
    await stage.pass_time(30)
    assert [d.body for d in await stage.lease()] == [b"<scheduled/>"]


async def numbers_go_on_where_they_were(stage: Stage) -> None:
    """I14."""
    await stage.publish()
    await stage.ack(await stage.one())
    await stage.reopen()
    assert (await stage.publish()).deliveries[0].seq == 2
    assert [receipt.number for receipt in await stage.ledger()] == [1, 2, 3]
    await stage.check()


async def what_was_administered_is_there_again(stage: Stage) -> None:
    await stage.put_queue("q", max_attempts=3, after_dead="park")
    key = Key(id="k", role=Role.ADMIN, name="op", secret_hash=bytes(32), created_at_ms=1)
    subscription = Subscription("s", "a.#", "q", {"x": ["1"]})
    webhook = Webhook(queue="q", url="https://hooks.example/", sealed_headers=b"\xff\x00")
    await stage.configure(AddKey(key), AddSubscription(subscription), PutWebhook(webhook))
    paper = Paper(kind=Kind.JOB, key="k", content=b"\xff", version=1, expires_at_ms=5)
    await stage.configure(PutPaper(paper))
    queue = await stage.store.browse(QueueByName("q"))
    await stage.reopen()
    assert await stage.store.browse(QueueByName("q")) == queue
    assert await stage.store.browse(ClientByName("acme")) is not None
    assert await stage.store.browse(KeyById("k")) == key
    assert await stage.store.browse(PaperOf(Kind.JOB, "k")) == paper
    assert await stage.store.browse(Subscriptions()) == [subscription]
    assert await stage.store.browse(WebhookOf("q")) == webhook


async def leases_and_their_tokens_live_on(stage: Stage) -> None:
    secret = stage.store.token_secret
    await stage.publish()
    delivery = await stage.one(seconds=60)
    await stage.reopen()
    assert stage.store.token_secret == secret
    assert len(secret) == 32
    assert await stage.lease() == []
    assert await stage.pass_time(59) == {}
    assert (await stage.ack(delivery)).state is State.ACKED
    await stage.reopen()
    assert (await stage.ack(delivery)).repeated


async def a_lease_runs_out_while_the_store_is_closed(stage: Stage) -> None:
    await stage.publish()
    await stage.one(seconds=60)
    await stage.reopen()
    assert await stage.store.next_due() == 60
    stage.clock.advance(61)
    await stage.reopen()
    assert await stage.store.next_due() == 0
    assert await stage.overdue() == {"acme": 1}


async def attempts_and_fences_are_counted_on(stage: Stage) -> None:
    """I9 and I6."""
    await stage.put_queue(max_attempts=3, backoff_base_seconds=0)
    await stage.publish()
    fences = []
    for attempt in (1, 2, 3):
        delivery = await stage.one()
        assert delivery.attempt == attempt
        fences.append(delivery.ref.fence)
        await stage.reopen()
        await stage.nack(delivery)
        await stage.reopen()
    assert fences == sorted(set(fences))
    assert await stage.state(1) is State.DEAD


async def a_late_ack_is_still_welcome(stage: Stage) -> None:
    await stage.publish()
    delivery = await stage.one(seconds=5)
    await stage.pass_time(5)
    await stage.reopen()
    assert (await stage.ack(delivery)).state is State.ACKED


async def evidence_is_not_recorded_twice(stage: Stage) -> None:
    await stage.publish()
    delivery = await stage.one()
    await stage.reject(delivery)
    await refused(LeaseLost, stage.ack(delivery))
    await stage.reopen()
    await refused(LeaseLost, stage.ack(delivery))
    assert [one.outcome for one in await stage.ledger()].count("late_ack") == 1


async def idempotency_keys_hold_on(stage: Stage) -> None:
    """I3."""
    first = await stage.publish(b"<a/>", idempotency_key="k")
    await stage.reopen()
    again = await stage.publish(b"<a/>", idempotency_key="k")
    assert (again.id, again.deliveries) == (first.id, first.deliveries)
    await refused(IdempotencyKeyReused, stage.publish(b"<b/>", idempotency_key="k"))


async def what_a_collapse_key_overtook_is_remembered(stage: Stage) -> None:
    await stage.publish(collapse_key="c")
    delivery = await stage.one()
    await stage.publish(collapse_key="c")
    await stage.reopen()
    await stage.release(delivery)
    assert await stage.states() == [State.SUPERSEDED, State.READY]


async def a_parked_key_stays_shut(stage: Stage) -> None:
    await stage.put_queue(after_dead="park")
    await stage.publish(ordering_key="k")
    await stage.publish(ordering_key="k")
    await stage.reject(await stage.one())
    await stage.reopen()
    assert await stage.lease() == []
    await stage.redrive(1)
    assert seqs(await stage.lease()) == [1]


async def a_wall_clock_that_went_back_prolongs_no_wait_for_long(stage: Stage) -> None:
    """Deadlines never jump, even over a restart with the wall clock set back."""
    await stage.publish(deliver_after_seconds=60)
    await stage.pass_time(30)
    await stage.publish()
    now_ms = await stage.store.browse(Now())
    stage.clock.jump_wall(-3_600)
    await stage.reopen()
    assert await stage.store.browse(Now()) >= now_ms
    due = await stage.store.next_due()
    assert due is not None
    assert due <= 60


async def a_closed_store_does_nothing_more(stage: Stage) -> None:
    store = stage.store
    await stage.publish()
    await stage.reopen()
    await refused(ShuttingDown, store.append([stage.draft()]))
    await refused(ShuttingDown, store.browse(QueueByName("acme")))
    await store.close()
    assert (await stage.figures()).published == 1
