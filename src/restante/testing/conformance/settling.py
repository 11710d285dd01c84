"""How leases end, and what repeated, late and false settlements are answered."""

from __future__ import annotations

import msgspec

from restante.errors import LeaseLost, QueueNotFound
from restante.model import Actor, LeaseRef, Outcome, Role, Settled, Settlement, State, Verb
from restante.testing.conformance.stage import ACME, Stage, attempts, refused, seqs


async def an_ack_ends_a_delivery(stage: Stage) -> None:
    await stage.publish()
    settled = await stage.ack(await stage.one())
    assert (settled.outcome, settled.state, settled.number) == ("acked", State.ACKED, 2)
    assert not settled.repeated
    assert await stage.lease() == []
    assert await stage.pass_time(100_000) == {}
    assert await stage.lease() == []


async def a_receipt_says_who_signed_for_what(stage: Stage) -> None:
    appended = await stage.publish(b"<hello/>")
    stage.clock.advance(1)
    delivery = await stage.one()
    stage.clock.advance(0.25)
    signer = Actor("acme", Role.CLIENT, "k-2", "websocket", "2001:db8::1")
    reply = '{"ok":"größe"}'.encode()
    await stage.ack(delivery, actor=signer, reply=reply, reply_content_type="application/json")
    receipt = (await stage.ledger())[-1]
    assert receipt.notification == appended.id
    assert (receipt.outcome, receipt.state) == ("acked", "acked")
    assert (receipt.seq, receipt.attempt, receipt.fence) == (1, 1, delivery.ref.fence)
    assert receipt.published_at == "2026-01-01T00:00:00.000Z"
    assert receipt.leased_at == "2026-01-01T00:00:01.000Z"
    assert receipt.at == "2026-01-01T00:00:01.250Z"
    assert (receipt.principal, receipt.key_id) == ("acme", "k-2")
    assert (receipt.transport, receipt.remote_address) == ("websocket", "2001:db8::1")
    assert (receipt.reply, receipt.reply_base64) == ('{"ok":"größe"}', None)
    assert receipt.reply_content_type == "application/json"


async def a_reply_that_is_no_text_is_kept_as_base64(stage: Stage) -> None:
    await stage.publish()
    await stage.ack(await stage.one(), reply=b"\xff\x00")
    receipt = (await stage.ledger())[-1]
    assert (receipt.reply, receipt.reply_base64) == (None, "/wA=")


async def a_nack_may_carry_what_was_answered(stage: Stage) -> None:
    """What a webhook answered in place of signing stands in the history of its attempt."""
    await stage.publish()
    answer = b"HTTP/1.1 500 Oops\r\n\r\nsorry"
    await stage.nack(await stage.one(), reply=answer, reply_content_type="message/http")
    receipt = (await stage.ledger())[-1]
    assert (receipt.reply, receipt.reply_content_type) == (answer.decode(), "message/http")


async def an_empty_reply_is_a_reply(stage: Stage) -> None:
    await stage.publish()
    await stage.ack(await stage.one(), reply=b"")
    assert (await stage.ledger())[-1].reply == ""


async def any_text_survives_in_a_receipt(stage: Stage) -> None:
    """The chain is over canonical bytes: what JSON escapes must be escaped as everyone else does."""
    await stage.publish()
    reason = '"quoted" \\ / \x00\x01\x1f\b\f\n\r\t\x7f\u0085\u2028\ufffeä\U0001f600'
    await stage.reject(await stage.one(), reason=reason)
    assert (await stage.ledger())[-1].reason == reason


async def a_repeated_settle_is_answered_as_the_first(stage: Stage) -> None:
    for verb, outcome in (
        (Verb.ACK, Outcome.ACKED),
        (Verb.NACK, Outcome.NACKED),
        (Verb.REJECT, Outcome.REJECTED),
        (Verb.RELEASE, Outcome.RELEASED),
    ):
        await stage.publish()
        delivery = await stage.one()
        first = await stage.settle(delivery, verb)
        receipts = len(await stage.ledger())
        for _ in range(3):
            again = await stage.settle(delivery, verb)
            assert again.outcome == first.outcome == outcome
            assert (again.state, again.number) == (first.state, first.number)
            assert again.repeated
            assert again.ready == 0
        assert len(await stage.ledger()) == receipts, "nothing is recorded twice"
        await stage.pass_time(1)
        for left in await stage.lease():
            await stage.ack(left)


async def a_repeat_is_answered_alike_after_what_came_later(stage: Stage) -> None:
    await stage.publish()
    first = await stage.one()
    nacked = await stage.nack(first, retry_after_seconds=5)
    await stage.pass_time(5)
    second = await stage.one()
    await stage.ack(second)
    again = await stage.nack(first)
    assert (again.number, again.state, again.repeated) == (nacked.number, State.SCHEDULED, True)
    assert (await stage.ack(second)).repeated


async def another_verb_does_not_undo_the_first(stage: Stage) -> None:
    """I7: one outcome for each lease."""
    await stage.publish()
    delivery = await stage.one()
    await stage.ack(delivery)
    for verb in (Verb.NACK, Verb.REJECT, Verb.RELEASE):
        await refused(LeaseLost, stage.settle(delivery, verb))
    assert await stage.story(1) == ["published ready", "acked acked"]


async def only_the_current_lease_settles(stage: Stage) -> None:
    """I6: an older lease's holder cannot end a newer lease."""
    await stage.publish()
    old = await stage.one(seconds=5)
    await stage.pass_time(5)
    new = await stage.one()
    for verb in Verb:
        if verb is not Verb.EXTEND:
            await refused(LeaseLost, stage.settle(old, verb))
    assert await stage.state(1) is State.LEASED
    await stage.ack(new)


async def a_late_ack_is_welcome_until_a_newer_lease(stage: Stage) -> None:
    await stage.publish()
    delivery = await stage.one(seconds=5)
    await stage.pass_time(5)
    stage.clock.advance(1_000)
    assert await stage.state(1) is State.READY
    settled = await stage.ack(delivery)
    assert (settled.outcome, settled.state) == ("acked", State.ACKED)
    assert (await stage.ledger())[-1].leased_at == "2026-01-01T00:00:00.000Z"
    assert await stage.lease() == []


async def only_an_ack_may_be_late(stage: Stage) -> None:
    await stage.publish()
    delivery = await stage.one(seconds=5)
    await stage.pass_time(5)
    for verb in (Verb.NACK, Verb.REJECT, Verb.RELEASE):
        await refused(LeaseLost, stage.settle(delivery, verb))
    assert (await stage.ack(delivery)).state is State.ACKED


async def an_overdue_lease_that_nobody_ended_still_settles(stage: Stage) -> None:
    await stage.publish()
    delivery = await stage.one(seconds=5)
    stage.clock.advance(6)
    assert (await stage.ack(delivery)).outcome == "acked"
    assert await stage.overdue() == {}


async def an_ack_after_a_nack_is_evidence(stage: Stage) -> None:
    await stage.put_queue(backoff_base_seconds=0)
    await stage.publish()
    delivery = await stage.one()
    await stage.nack(delivery)
    await refused(LeaseLost, stage.ack(delivery))
    assert await stage.state(1) is State.READY
    assert await stage.story(1) == ["published ready", "nacked ready", "late_ack ready"]


async def a_late_ack_is_recorded_once_for_each_lease(stage: Stage) -> None:
    await stage.publish()
    old = await stage.one(seconds=5)
    await stage.pass_time(5)
    older = old
    old = await stage.one(seconds=5)
    await stage.pass_time(5)
    new = await stage.one()
    for _ in range(3):
        await refused(LeaseLost, stage.ack(older, reply=b"done"))
        await refused(LeaseLost, stage.ack(old))
    late = [one for one in await stage.ledger() if one.outcome == "late_ack"]
    assert [one.fence for one in late] == [older.ref.fence, old.ref.fence]
    assert [one.state for one in late] == ["leased", "leased"]
    assert [one.reply for one in late] == ["done", None]
    await stage.ack(new)
    await refused(LeaseLost, stage.ack(old))
    assert [one.outcome for one in await stage.ledger()].count("late_ack") == 2


async def evidence_says_how_the_delivery_ended(stage: Stage) -> None:
    await stage.put_queue(max_attempts=1)
    await stage.publish()
    late = await stage.one(seconds=5)
    await stage.pass_time(5)
    await refused(LeaseLost, stage.ack(late))
    assert (await stage.ledger())[-1].state == "dead"
    await stage.publish()
    settled = await stage.one()
    await stage.reject(settled)
    await stage.discard(2)
    await refused(LeaseLost, stage.ack(settled))
    assert (await stage.ledger())[-1].state == "discarded"


async def a_lease_that_never_was_is_lost(stage: Stage) -> None:
    await stage.publish()
    delivery = await stage.one()
    ref = delivery.ref
    for false in (
        LeaseRef(ref.queue, ref.seq, ref.fence + 1, ref.notification),
        LeaseRef(ref.queue, ref.seq, ref.fence, ref.notification + 1),
        LeaseRef(ref.queue, ref.seq + 1, ref.fence, ref.notification),
    ):
        forged = msgspec.structs.replace(delivery, ref=false)
        await refused(LeaseLost, stage.nack(forged))
        await refused(LeaseLost, stage.store.extend(false, 10))
    unknown = LeaseRef("nowhere", ref.seq, ref.fence, ref.notification)
    await refused(QueueNotFound, stage.ack(msgspec.structs.replace(delivery, ref=unknown)))
    await refused(QueueNotFound, stage.store.extend(unknown, 10))
    await stage.ack(delivery)


async def a_lease_of_another_queue_settles_nothing_here(stage: Stage) -> None:
    await stage.put_queue("b")
    await stage.publish(queues=("acme", "b"))
    mine, theirs = await stage.one(), await stage.one(queue="b")
    await stage.ack(theirs)
    assert await stage.state(1) is State.LEASED
    assert await stage.state(1, "b") is State.ACKED
    await stage.ack(mine)


async def a_batch_answers_each_for_itself(stage: Stage) -> None:
    """I17."""
    for _ in range(4):
        await stage.publish()
    one, two, three, four = await stage.lease()
    unknown = LeaseRef("nowhere", 1, 1, 1)
    asked = [
        Settlement(ref=one.ref, verb=Verb.ACK, actor=ACME),
        Settlement(ref=unknown, verb=Verb.ACK, actor=ACME),
        Settlement(ref=two.ref, verb=Verb.REJECT, actor=ACME, reason="not for us"),
        Settlement(ref=one.ref, verb=Verb.ACK, actor=ACME),
        Settlement(ref=one.ref, verb=Verb.REJECT, actor=ACME),
        Settlement(ref=three.ref, verb=Verb.RELEASE, actor=ACME),
        Settlement(ref=four.ref, verb=Verb.NACK, actor=ACME, retry_after_seconds=9),
    ]
    results = await stage.store.settle(asked)
    told = [r.outcome if isinstance(r, Settled) else type(r).__name__ for r in results]
    assert told == [
        "acked",
        "QueueNotFound",
        "rejected",
        "acked",
        "LeaseLost",
        "released",
        "nacked",
    ]
    assert [r.repeated for r in results if isinstance(r, Settled)].count(True) == 1
    assert results[6].due_in_seconds == 9 if isinstance(results[6], Settled) else False
    expected = [State.ACKED, State.DEAD, State.READY, State.SCHEDULED]
    assert await stage.states() == expected


async def a_nack_waits_for_the_backoff(stage: Stage) -> None:
    """An instant nack cannot burn all attempts in a second. Half of the jitter: half of the delay."""
    await stage.put_queue(backoff_base_seconds=4, backoff_factor=2, backoff_cap_seconds=10)
    await stage.publish()
    for attempt, delay in ((1, 2), (2, 4), (3, 5), (4, 5)):
        delivery = await stage.one()
        assert delivery.attempt == attempt
        settled = await stage.nack(delivery, reason="busy")
        assert (settled.state, settled.due_in_seconds) == (State.SCHEDULED, delay)
        assert await stage.pass_time(delay - 0.001) == {}
        assert await stage.lease() == []
        assert await stage.pass_time(0.001) == {"acme": 1}
    assert (await stage.ledger())[-1].reason == "busy"


async def a_nacks_own_delay_wins_up_to_the_cap(stage: Stage) -> None:
    await stage.put_queue(backoff_base_seconds=1, backoff_cap_seconds=20)
    await stage.publish()
    settled = await stage.nack(await stage.one(), retry_after_seconds=7)
    assert settled.due_in_seconds == 7
    await stage.pass_time(7)
    settled = await stage.nack(await stage.one(), retry_after_seconds=100)
    assert settled.due_in_seconds == 20
    await stage.pass_time(20)
    settled = await stage.nack(await stage.one(), retry_after_seconds=0)
    assert (settled.state, settled.ready) == (State.READY, 1)
    assert attempts(await stage.lease()) == [4]


async def attempts_that_are_used_up_end_in_the_dead_letters(stage: Stage) -> None:
    await stage.put_queue(max_attempts=3, backoff_base_seconds=0)
    await stage.publish()
    await stage.nack(await stage.one())
    await stage.release(await stage.one())
    await stage.nack(await stage.one())
    settled = await stage.nack(await stage.one(), reason="third time")
    assert (settled.outcome, settled.state) == ("nacked", State.DEAD)
    assert settled.due_in_seconds is None
    assert await stage.lease() == []
    assert seqs(await stage.lease()) == []


async def leases_that_run_out_use_up_attempts_too(stage: Stage) -> None:
    await stage.put_queue(max_attempts=2)
    await stage.publish()
    for _ in range(2):
        await stage.one(seconds=5)
        await stage.pass_time(5)
    assert await stage.story(1) == [
        "published ready",
        "lease_expired ready",
        "lease_expired dead",
    ]
    receipt = (await stage.ledger())[-1]
    assert (receipt.principal, receipt.transport) == (ACME.name, ACME.transport), "whose lease"
    assert (receipt.attempt, receipt.leased_at) == (2, "2026-01-01T00:00:05.000Z")
