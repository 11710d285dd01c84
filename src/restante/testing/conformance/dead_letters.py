"""What operators do with dead letters."""

from __future__ import annotations

from restante.changes import OpenOrderingKey
from restante.errors import DeadLetterNotFound, QueueNotFound
from restante.model import Selection, State
from restante.queries import CountDead, DeadLetters, DeadSeqs, SeqPage
from restante.testing.conformance.stage import OPERATOR, Stage, refused, seqs


async def a_dead_letter_is_kept_with_its_history(stage: Stage) -> None:
    await stage.put_queue(max_attempts=2, backoff_base_seconds=0)
    appended = await stage.publish(topic="orders.new", ordering_key="k", content_type="text/plain")
    await stage.nack(await stage.one(), reason="busy")
    stage.clock.advance(3)
    await stage.nack(await stage.one(), reason="still busy")
    (dead,) = await stage.store.browse(DeadLetters("acme"))
    assert (dead.id, dead.seq, dead.attempt) == (appended.id, 1, 2)
    assert (dead.topic, dead.ordering_key) == ("orders.new", "k")
    assert dead.content_type == "text/plain"
    assert dead.published_at_ms == stage.clock.wall_ms() - 3_000
    assert dead.dead_at_ms == stage.clock.wall_ms()
    assert dead.reason == "still busy"
    assert not dead.parked
    assert [receipt.number for receipt in dead.history] == [1, 2, 3]
    assert await stage.pass_time(10_000_000) == {}
    assert await stage.store.browse(CountDead("acme", Selection())) == 1


async def without_a_reason_the_outcome_is_the_reason(stage: Stage) -> None:
    await stage.put_queue(max_attempts=1)
    await stage.bury()
    await stage.publish()
    await stage.nack(await stage.one())
    await stage.publish()
    await stage.one(seconds=5)
    await stage.pass_time(5)
    dead = await stage.store.browse(DeadLetters("acme"))
    assert [one.reason for one in dead] == ["rejected", "nacked", "the lease ran out"]


async def parked_says_whether_a_key_is_kept_shut(stage: Stage) -> None:
    await stage.put_queue(after_dead="park")
    await stage.bury(ordering_key="k")
    await stage.bury()
    dead = await stage.store.browse(DeadLetters("acme"))
    assert [one.parked for one in dead] == [True, False]
    await stage.put_queue(after_dead="continue")
    dead = await stage.store.browse(DeadLetters("acme"))
    assert [one.parked for one in dead] == [False, False]


async def redriven_it_has_all_its_attempts_again(stage: Stage) -> None:
    await stage.put_queue(max_attempts=1)
    await stage.publish()
    first = await stage.one()
    await stage.nack(first)
    assert await stage.redrive(1) == (1, {"acme": 1})
    receipt = (await stage.ledger())[-1]
    assert (receipt.outcome, receipt.principal) == ("redriven", OPERATOR.name)
    second = await stage.one()
    assert second.attempt == 1
    assert second.ref.fence > first.ref.fence, "I6: the fence counts on"
    assert second.body == b"<hello/>"
    await stage.ack(second)


async def discarded_it_is_gone(stage: Stage) -> None:
    await stage.bury()
    assert await stage.discard(1) == (1, {"acme": 0})
    assert await stage.store.browse(DeadLetters("acme")) == []
    receipt = (await stage.ledger())[-1]
    assert (receipt.outcome, receipt.principal) == ("discarded", OPERATOR.name)
    assert receipt.reason == "stale"
    assert await stage.redrive(1) == (0, {})


async def only_dead_letters_are_selected(stage: Stage) -> None:
    await stage.publish()
    await stage.one()
    await stage.publish()
    await stage.publish(deliver_after_seconds=9)
    assert await stage.redrive(1, 2, 3, 4) == (0, {})
    assert await stage.discard(1, 2, 3, 4) == (0, {})
    assert await stage.states() == [State.LEASED, State.READY, State.SCHEDULED]


async def some_are_selected_by_seq(stage: Stage) -> None:
    for _ in range(4):
        await stage.bury()
    assert await stage.redrive(2, 4, 99) == (2, {"acme": 2})
    assert seqs(await stage.lease()) == [2, 4]
    assert await stage.discard(3) == (1, {"acme": 0})
    assert await stage.redrive() == (0, {}), "no seqs select none"
    assert await stage.state(1) is State.DEAD


async def some_are_selected_by_what_they_are(stage: Stage) -> None:
    for reason, topic in (("a", "x"), ("b", "x"), ("a", "y"), ("b", "y")):
        stage.clock.advance(10)
        await stage.bury(reason=reason, topic=topic)
    start = stage.clock.wall_ms() - 30_000
    for selection, expected in (
        (Selection(), [1, 2, 3, 4]),
        (Selection(reason="a"), [1, 3]),
        (Selection(topic="x"), [1, 2]),
        (Selection(reason="b", topic="y"), [4]),
        (Selection(reason="no such"), []),
        (Selection(since_ms=start + 10_000), [2, 3, 4]),
        (Selection(until_ms=start + 10_000), [1]),
        (Selection(since_ms=start + 1, until_ms=start + 20_001, topic="x"), [2]),
        (Selection(seqs=(1, 2, 3), reason="a"), [1, 3]),
        (Selection(seqs=()), []),
    ):
        dead = await stage.store.browse(DeadLetters("acme", selection))
        assert [one.seq for one in dead] == expected, selection
        assert await stage.store.browse(CountDead("acme", selection)) == len(expected)
    selection = Selection(reason="a")
    assert (await stage.store.redrive("acme", selection, OPERATOR, 10))[0] == 2
    assert (await stage.store.discard("acme", Selection(topic="y"), OPERATOR, 10, ""))[0] == 1
    assert await stage.states() == [State.READY, State.DEAD, State.READY, State.DISCARDED]


async def bulk_operations_go_in_steps(stage: Stage) -> None:
    for _ in range(5):
        await stage.bury()
    everything = Selection()
    done = [await stage.store.redrive("acme", everything, OPERATOR, 2) for _ in range(4)]
    assert done == [(2, {"acme": 2}), (2, {"acme": 2}), (1, {"acme": 1}), (0, {})]
    for delivery in await stage.lease():
        await stage.reject(delivery)
    done = [await stage.store.discard("acme", everything, OPERATOR, 3, "") for _ in range(3)]
    assert [count for count, _ in done] == [3, 2, 0]


async def named_ones_are_counted_wherever_they_are(stage: Stage) -> None:
    for _ in range(4):
        await stage.bury()
    browse = stage.store.browse
    assert await browse(CountDead("acme", Selection(), scanned=3)) == 3
    assert await browse(CountDead("acme", Selection(seqs=(2, 4)), scanned=1)) == 2


async def selected_ones_are_found_by_their_numbers(stage: Stage) -> None:
    for reason in "abbab":
        await stage.bury(reason=reason)
    await stage.redrive(1)
    browse = stage.store.browse
    assert await browse(DeadSeqs("acme")) == SeqPage([2, 3, 4, 5], None)
    chosen = Selection(reason="b")
    assert await browse(DeadSeqs("acme", chosen)) == SeqPage([2, 3, 5], None)
    assert await browse(DeadSeqs("acme", chosen, limit=2)) == SeqPage([2, 3], 3)
    assert await browse(DeadSeqs("acme", chosen, after=3, limit=2)) == SeqPage([5], None)
    # A page that has looked at as many as it may ends there, whatever it has found.
    assert await browse(DeadSeqs("acme", Selection(reason="a"), scanned=2)) == SeqPage([], 3)
    assert await browse(DeadSeqs("nowhere")) == SeqPage([], None)


async def a_replacement_takes_the_place_of_a_dead_letter(stage: Stage) -> None:
    await stage.put_queue(after_dead="park")
    seq = await stage.bury(ordering_key="k")
    await stage.publish(b"behind", ordering_key="k")
    await stage.publish(b"last", ordering_key="k")
    made = await stage.publish(b"better", ordering_key="k", replaces=seq, idempotency_key="once")
    assert made.ready == {"acme": 1}
    again = await stage.publish(b"better", ordering_key="k", replaces=seq, idempotency_key="once")
    assert (again.id, again.replayed) == (made.id, True)
    assert await stage.states() == [State.DISCARDED, State.HELD, State.HELD, State.READY]
    receipt = (await stage.ledger())[-1]
    assert (receipt.outcome, receipt.seq) == ("discarded", seq)
    assert receipt.reason == f"replaced by {made.id}"
    bodies = []
    while deliveries := await stage.lease():
        (delivery,) = deliveries
        bodies.append(delivery.body)
        await stage.ack(delivery)
    assert bodies == [b"better", b"behind", b"last"]


async def a_replacement_waits_while_another_keeps_its_key_shut(stage: Stage) -> None:
    await stage.put_queue(after_dead="continue")
    first = await stage.bury(ordering_key="k")
    await stage.publish(b"leased", ordering_key="k")
    out = await stage.one()
    await stage.publish(b"better", ordering_key="k", replaces=first)
    assert await stage.states() == [State.DISCARDED, State.LEASED, State.HELD]
    await stage.ack(out)
    assert (await stage.one()).body == b"better"


async def only_a_dead_letter_can_be_replaced(stage: Stage) -> None:
    await stage.publish()
    for seq in (1, 2):
        (refused_,) = await stage.append(stage.draft(replaces=seq))
        assert isinstance(refused_, DeadLetterNotFound)
    assert await stage.states() == [State.READY]


async def an_ordering_key_is_opened_and_the_dead_letter_stays(stage: Stage) -> None:
    await stage.put_queue(after_dead="park")
    await stage.bury(ordering_key="k")
    await stage.bury(ordering_key="other")
    for body in (b"1", b"2"):
        await stage.publish(body, ordering_key="k")
    await stage.publish(b"3", ordering_key="other")
    await stage.configure(OpenOrderingKey("acme", "k"))
    dead = await stage.store.browse(DeadLetters("acme"))
    assert [one.parked for one in dead] == [False, True]
    first = await stage.one()
    assert first.body == b"1"
    assert await stage.lease() == []
    await stage.ack(first)
    assert (await stage.one()).body == b"2"
    await stage.configure(OpenOrderingKey("acme", "k"), OpenOrderingKey("acme", "no such"))
    await refused(QueueNotFound, stage.store.configure([OpenOrderingKey("nowhere", "k")]))


async def an_unknown_queue_is_refused(stage: Stage) -> None:
    everything = Selection()
    await refused(QueueNotFound, stage.store.redrive("nowhere", everything, OPERATOR, 1))
    await refused(QueueNotFound, stage.store.discard("nowhere", everything, OPERATOR, 1, ""))


async def pages_go_by_seq(stage: Stage) -> None:
    for _ in range(5):
        await stage.bury()
    pages = []
    after = 0
    while page := await stage.store.browse(DeadLetters("acme", after=after, limit=2)):
        pages.append([one.seq for one in page])
        after = page[-1].seq
    assert pages == [[1, 2], [3, 4], [5]]
