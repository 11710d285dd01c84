"""Histories in which one thing is wrong with the log of receipts: I18."""

from __future__ import annotations

from collections.abc import Callable

from tests.unit.testing.broken import Broken, Register, edit
from tests.unit.testing.world import World

from restante.testing.history import History, Run

breaks = Register()
SAID: dict[str, Broken] = {}
"""By what the checker says of it, and nothing besides."""


def says(message: str) -> Callable[[Broken], Broken]:
    def register(broken: Broken) -> Broken:
        SAID[message] = broken
        return breaks("I18")(broken)

    return register


def lived() -> World:
    """Three receipts, the last of an ack."""
    world = World()
    world.publish(b"1")
    world.publish(b"2")
    (lease,) = world.receive()
    world.settle(lease)
    return world


@says("the log was set back from 3 receipts to 2")
def set_back() -> History:
    world = lived()
    world.seal()
    world.read_head()
    world.runs = [Run("acme", 1, 2, 0)]
    world.read_head()
    return world.history()


@says("the head of 2 is of other receipts than the log begins with")
def set_back_and_grown_past_it() -> History:
    world = World()
    for body in (b"1", b"2"):
        world.publish(body, outcome="unknown")
    world.seal()
    world.read_head()
    # The second is taken back, of which nobody was told, and the next two get its place and that behind it.
    del world.receipts[1], world.deliveries[2]
    world.runs = [Run("acme", 1, 1, 0)]
    for body in (b"3", b"4"):
        world.publish(body)
    world.read_receipts()
    world.read_log()
    return world.history()


@says("there are two logs of 2 receipts")
def forked() -> History:
    world = World()
    world.publish(b"1")
    world.publish(b"2")
    world.seal()
    world.read_head()
    edit(world, 2, state="held")
    world.read_head()
    return world.history()


@says("the head of 3 is of other receipts than the log begins with")
def another_order() -> History:
    world = lived()
    world.read_receipts()
    world.read_log().runs = [Run("acme", 2, 2, 0), Run("acme", 1, 1, 2)]
    return world.history()


@says("acme~2 is in the log twice, at 1 and 3")
def a_receipt_twice() -> History:
    world = lived()
    world.read_receipts()
    world.read_log(Run("acme", 1, 3, 0), Run("acme", 2, 1, 3))
    return world.history()


@says("both acme~3 and globex~1 are at place 2 of the log")
def two_receipts_at_one_place() -> History:
    world = lived()
    world.read_receipts()
    world.read_log(Run("acme", 1, 3, 0), Run("globex", 1, 1, 2))
    return world.history()


@says("a log of 3 has nothing at place 1")
def a_place_without_a_receipt() -> History:
    world = lived()
    world.read_log(Run("acme", 1, 1, 0), Run("acme", 3, 1, 2))
    return world.history()


@says("a log of 2 has acme~3 at place 2")
def a_receipt_behind_the_end() -> History:
    world = lived()
    world.read_log().size = 2
    return world.history()


@says("acme~2 is in its ledger, and not in the log")
def a_receipt_left_out() -> History:
    world = lived()
    world.read_receipts()
    world.read_log(Run("acme", 1, 1, 0), Run("acme", 3, 1, 1))
    return world.history()


@says("acme~4 is in the log, and not in its ledger")
def a_receipt_that_the_ledger_lost() -> History:
    world = lived()
    world.read_receipts()
    world.enter(2, "published")
    world.read_log()
    return world.history()


@says("acme~3 was answered, and is not in the log")
def an_answered_receipt_left_out() -> History:
    world = lived()
    world.read_log(Run("acme", 1, 2, 0))
    return world.history()
