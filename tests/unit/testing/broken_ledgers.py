"""Histories in which one thing is wrong: I12 to I17."""

from __future__ import annotations

import msgspec
from tests.unit.testing.broken import Register, edit
from tests.unit.testing.world import World

from restante.testing.history import History, ReceiptPage
from restante.testing.invariants import MISSING_RESULT

breaks = Register()


@breaks("I12")
def before_its_time() -> History:
    world = World()
    world.publish(b"1", deliver_after_seconds=60)
    world.pass_time(30)
    world.hand_out(world.lease(1))
    return world.history()


@breaks("I12")
def back_before_its_delay() -> History:
    world = World(backoff_cap_seconds=300)
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease, "nack", retry_after_seconds=10)
    world.pass_time(5)
    world.hand_out(world.lease(1))
    return world.history()


@breaks("I13")
def wanted_and_not_given() -> History:
    world = World(lease_seconds=1)
    world.publish(b"1")
    world.mark("healed")
    world.pass_time(60)
    world.receive(happens=False)
    return world.history()


@breaks("I13")
def stuck_in_a_lease_for_ever() -> History:
    world = World(lease_seconds=1)
    world.publish(b"1")
    world.mark("healed")
    world.receive()
    world.pass_time(60)
    world.receive(happens=False)
    return world.history()


@breaks("I13")
def ready_after_the_drain() -> History:
    world = World()
    world.publish(b"1")
    world.receive(happens=False)
    world.mark("drained")
    world.read_receipts()
    return world.history()


@breaks("I14")
def a_missing_number() -> History:
    world = World()
    world.publish(b"1")
    world.publish(b"2")
    edit(world, 2, number=3)
    world.read_receipts()
    return world.history()


@breaks("I14")
def a_broken_chain() -> History:
    world = World()
    world.publish(b"1")
    world.read_receipts()
    page = world.operations[-1]
    assert isinstance(page, ReceiptPage)
    page.receipts = [msgspec.Raw(bytes(page.receipts[0]).replace(b"ready", b"acked"))]
    return world.history()


@breaks("I14")
def an_accepted_ack_without_a_receipt() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease)
    del world.receipts[1]
    world.read_receipts()
    return world.history()


@breaks("I14")
def two_receipts_for_one_nack() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease, "nack")
    world.enter(1, "nacked")
    world.read_receipts()
    return world.history()


@breaks("I14")
def a_refused_ack_with_a_receipt() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease).outcome = "refused"
    world.read_receipts()
    return world.history()


@breaks("I14")
def an_ack_that_nobody_sent() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.operations.remove(world.settle(lease))
    world.read_receipts()
    return world.history()


@breaks("I14")
def an_answer_that_names_another_receipt() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease).receipt = "acme~1"
    world.read_receipts()
    return world.history()


@breaks("I15")
def figures_that_do_not_add_up() -> History:
    world = World()
    world.publish(b"1")
    world.read_figures(ready=0)
    return world.history()


@breaks("I15")
def figures_that_forget_a_publish() -> History:
    world = World()
    world.publish(b"1")
    world.publish(b"2")
    world.read_figures(ready=1, published=1)
    return world.history()


@breaks("I15")
def figures_that_the_ledger_does_not_bear_out() -> History:
    world = World()
    world.publish(b"1")
    world.read_figures(ready=0, acked=1)
    world.read_receipts()
    return world.history()


@breaks("I16")
def a_receipt_that_changed() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease, "nack")
    world.read_receipts()
    edit(world, 2, outcome="released")
    world.read_receipts()
    return world.history()


@breaks("I16")
def a_receipt_that_went_away() -> History:
    world = World()
    world.publish(b"1", outcome="unknown")
    world.read_receipts()
    world.receipts.clear()
    world.read_receipts()
    return world.history()


@breaks("I16")
def a_lease_that_never_was() -> History:
    world = World()
    world.publish(b"1", outcome="unknown")
    world.receive()
    world.receipts.clear()
    world.read_receipts()
    return world.history()


@breaks("I16")
def a_total_that_fell() -> History:
    world = World()
    world.publish(b"1", outcome="unknown")
    world.read_figures()
    world.deliveries.clear()
    world.read_figures()
    return world.history()


@breaks("I16")
def an_ack_that_was_undone() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease)
    world.read_notification(1, state="ready")
    return world.history()


@breaks("I16")
def an_end_that_was_undone() -> History:
    world = World()
    world.publish(b"1", expires_after_seconds=1)
    world.read_notification(1, state="expired")
    world.read_notification(1, state="ready")
    return world.history()


@breaks("I16", "I2")
def a_place_that_changed_hands() -> History:
    world = World()
    world.publish(b"1")
    world.receive()
    world.pass_time(31)
    world.deliveries[1].notification = "n2"
    world.receive()
    return world.history()


@breaks("I17", "I1")
def an_item_that_said_ok_and_is_not_there() -> History:
    world = World()
    world.publish(b"1", batch="b")
    world.receipts.clear()
    world.read_receipts()
    return world.history()


@breaks("I17", "I2")
def an_item_that_said_no_and_is_there() -> History:
    world = World()
    world.publish(b"1", batch="b", outcome="unknown").outcome = "refused"
    world.read_receipts()
    return world.history()


@breaks("I17")
def an_item_without_a_result() -> History:
    world = World()
    world.publish(b"1", batch="b", outcome="unknown").code = MISSING_RESULT
    return world.history()


@breaks("I17", "I14")
def a_settle_in_a_batch_that_said_ok_and_did_nothing() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease).batch = "b"
    del world.receipts[1]
    world.read_receipts()
    return world.history()
