"""Histories in which one thing is wrong: I1 to I11."""

from __future__ import annotations

from tests.unit.testing.broken import Register, edit
from tests.unit.testing.world import World

from restante.testing.history import History, Place, digest

breaks = Register()


@breaks("I1")
def acknowledged_and_not_in_the_ledger() -> History:
    world = World()
    world.publish(b"1")
    world.publish(b"2")
    del world.receipts[1]
    world.read_receipts()
    return world.history()


@breaks("I1")
def acknowledged_and_another_body_in_the_ledger() -> History:
    world = World()
    world.publish(b"1")
    edit(world, 1, body_sha256=digest(b"2"))
    world.read_receipts()
    return world.history()


@breaks("I1")
def acknowledged_and_never_delivered_without_a_ledger() -> History:
    world = World()
    world.publish(b"1")
    world.deliveries.clear()
    world.receive()
    world.mark("drained")
    return world.history()


@breaks("I1")
def acknowledged_and_without_a_record() -> History:
    world = World()
    world.publish(b"1")
    read = world.read_notification(1)
    read.outcome, read.code, read.states = "refused", "notification_not_found", []
    return world.history()


@breaks("I1")
def in_two_states() -> History:
    world = World()
    world.publish(b"1")
    read = world.read_notification(1)
    read.states = [*read.states, ("acme", 1, "dead")]
    return world.history()


@breaks("I1")
def one_place_for_two_notifications() -> History:
    world = World()
    world.publish(b"1")
    other = world.publish(b"2")
    other.deliveries = [Place("acme", 1)]
    return world.history()


@breaks("I2")
def never_published() -> History:
    world = World()
    world.publish(b"1")
    lease = world.lease(1)
    lease.notification, lease.body_sha256 = "n99", digest(b"99")
    world.hand_out(lease)
    return world.history()


@breaks("I2")
def another_body() -> History:
    world = World()
    world.publish(b"1")
    world.publish(b"2")
    lease = world.lease(1)
    lease.body_sha256 = digest(b"2")
    world.hand_out(lease)
    return world.history()


@breaks("I2")
def another_content_type() -> History:
    world = World()
    world.publish(b"1")
    lease = world.lease(1)
    lease.content_type = "text/plain"
    world.hand_out(lease)
    return world.history()


@breaks("I2")
def refused_and_delivered() -> History:
    world = World()
    call = world.publish(b"1", outcome="unknown")
    call.outcome = "refused"
    world.receive()
    return world.history()


@breaks("I2")
def in_the_ledger_and_not_published() -> History:
    world = World()
    call = world.publish(b"1", outcome="unknown")
    world.operations.remove(call)
    world.read_receipts()
    return world.history()


@breaks("I2")
def one_publish_without_a_key_delivered_twice() -> History:
    world = World()
    world.publish(b"1", outcome="unknown")
    call = world.publish(b"1", outcome="unknown")
    world.operations.remove(call)
    world.receive(max=2)
    return world.history()


@breaks("I3")
def one_key_two_notifications() -> History:
    world = World()
    world.publish(b"1", key="k")
    world.keys.clear()
    world.publish(b"1", key="k")
    return world.history()


@breaks("I3")
def one_key_two_notifications_one_unanswered() -> History:
    world = World()
    world.publish(b"1", key="k", outcome="unknown")
    world.keys.clear()
    world.publish(b"1", key="k")
    world.receive(max=2)
    return world.history()


@breaks("I3")
def one_key_two_bodies() -> History:
    world = World()
    world.publish(b"1", key="k")
    call = world.publish(b"2", key="k")
    assert call.outcome == "ok"
    return world.history()


@breaks("I3")
def refused_as_reused_and_was_not() -> History:
    world = World()
    world.publish(b"1", key="k")
    call = world.publish(b"1", key="k", outcome="refused")
    call.code = "idempotency_key_reused"
    return world.history()


@breaks("I4")
def leased_after_its_ack() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease)
    world.deliveries[1].state = "ready"
    world.receive()
    return world.history()


@breaks("I5")
def two_leases_at_once() -> History:
    world = World()
    world.publish(b"1")
    world.receive()
    world.deliveries[1].state = "ready"
    world.receive()
    return world.history()


@breaks("I5")
def an_extension_that_did_not_count() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.pass_time(20)
    world.settle(lease, "extend", lease_seconds=30)
    world.deliveries[1].until = world.now
    world.pass_time(20)
    world.receive()
    return world.history()


@breaks("I5")
def one_lease_token_for_two() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease, "release")
    world.hand_out(lease)
    return world.history()


@breaks("I6")
def an_old_lease_settles() -> History:
    world = World()
    world.publish(b"1")
    (old,) = world.receive()
    world.pass_time(31)
    world.receive()
    call = world.settle(old, "nack")
    assert call.outcome == "refused"
    call.outcome = "ok"
    return world.history()


@breaks("I6")
def the_current_lease_is_refused() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease, outcome="refused")
    return world.history()


@breaks("I6")
def a_fence_given_twice() -> History:
    world = World()
    world.publish(b"1")
    for _ in range(2):
        (lease,) = world.receive()
        world.settle(lease, "nack")
    edit(world, 3, fence=1)
    world.read_receipts()
    return world.history()


@breaks("I7")
def acked_under_two_leases() -> History:
    world = World()
    world.publish(b"1")
    (one,) = world.receive()
    world.pass_time(31)
    (two,) = world.receive()
    world.settle(one).outcome = "ok"
    world.settle(two)
    return world.history()


@breaks("I7")
def one_lease_ends_in_two_ways() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease, "ack")
    world.settle(lease, "nack").outcome = "ok"
    return world.history()


@breaks("I7")
def dead_and_then_acked() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease, "reject")
    world.deliveries[1].state = "acked"
    world.enter(1, "acked")
    world.read_receipts()
    return world.history()


@breaks("I7")
def alive_after_its_end() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease)
    world.deliveries[1].state = "ready"
    world.enter(1, "released")
    world.read_receipts()
    return world.history()


@breaks("I8")
def a_duplicate_without_a_reason() -> History:
    world = World()
    world.publish(b"1")
    world.receive()
    world.pass_time(31)
    world.receive()
    del world.receipts[1]
    world.read_receipts()
    return world.history()


@breaks("I9")
def an_attempt_that_was_not_counted() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease, "nack")
    world.deliveries[1].attempt = 0
    world.receive()
    return world.history()


@breaks("I9")
def an_attempt_counted_twice() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease, "nack")
    world.deliveries[1].attempt = 2
    world.receive()
    return world.history()


@breaks("I9")
def alive_past_the_limit() -> History:
    world = World(max_attempts=2)
    world.publish(b"1")
    for _ in range(2):
        (lease,) = world.receive()
        world.settle(lease, "nack")
    edit(world, 3, state="ready")
    world.read_receipts()
    return world.history()


@breaks("I9")
def dead_before_the_limit() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease, "nack")
    edit(world, 2, state="dead")
    world.read_receipts()
    return world.history()


@breaks("I10")
def handed_to_another_client() -> History:
    world = World()
    world.publish(b"1")
    world.hand_out(world.lease(1), who="globex")
    return world.history()


@breaks("I10")
def another_queue_than_asked_for() -> History:
    world = World()
    world.publish(b"1")
    world.hand_out(world.lease(1), who="acme", queue="globex")
    return world.history()


@breaks("I10")
def settled_by_another_client() -> History:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.settle(lease, who="globex")
    return world.history()


@breaks("I10")
def a_ledger_read_by_another_client() -> History:
    world = World()
    world.publish(b"1")
    world.read_receipts(who="globex")
    return world.history()


@breaks("I11")
def overtaken_within_its_key() -> History:
    world = World()
    world.publish(b"1", ordering_key="k")
    world.publish(b"2", ordering_key="k")
    world.receive()
    world.hand_out(world.lease(2))
    return world.history()


@breaks("I11")
def overtaken_in_the_ledger() -> History:
    world = World()
    world.publish(b"1", ordering_key="k")
    world.publish(b"2", ordering_key="k")
    for _ in range(2):
        (lease,) = world.receive()
        world.settle(lease, outcome="unknown")
    world.receipts[2:] = reversed(world.receipts[2:])
    edit(world, 3, number=3)
    edit(world, 4, number=4)
    world.read_receipts()
    return world.history()
