"""Every invariant has a history that violates it, which the checker names; a correct one passes."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.testing import broken_deliveries, broken_ledgers
from tests.unit.testing.broken import Broken, edit
from tests.unit.testing.world import World

from restante.testing.checker import check, examine, main
from restante.testing.history import (
    Action,
    History,
    Mark,
    NotificationRead,
    Operation,
    Publish,
    Receive,
)

ACTIONS: tuple[Action, ...] = ("ack", "nack", "reject", "release", "extend")
BROKEN = [*broken_deliveries.breaks.histories, *broken_ledgers.breaks.histories]
INVARIANTS = [f"I{number}" for number in range(1, 18)]


def found(history: History) -> set[str]:
    return {violation.invariant for violation in check(history)}


def long_life() -> World:
    """Something of everything, all of it right."""
    world = World()
    world.publish(b"1", key="k1")
    world.publish(b"1", key="k1")
    world.publish(b"2", key="k2", outcome="unknown")
    world.publish(b"2", key="k2")
    world.publish(b"3", outcome="unknown", happens=False)
    world.publish(b"4", outcome="refused")
    world.publish(b"5", deliver_after_seconds=5)
    (one,) = world.receive()
    world.settle(one, "extend", lease_seconds=40)
    world.settle(one, "release")
    (one,) = world.receive()
    world.settle(one, "ack")
    (two,) = world.receive()
    world.settle(two, "nack", retry_after_seconds=0)
    world.read_receipts(page=2)
    world.read_figures()
    (two,) = world.receive()
    world.pass_time(31)
    (five,) = world.receive(outcome="unknown", max=1)[:1]
    world.pass_time(31)
    leases = world.receive(max=10)
    world.settle(leases[0], "reject")
    world.dead_letters("redrive")
    for lease in [*leases[1:], *world.receive(max=10)]:
        world.settle(lease, "ack", outcome="unknown")
    world.settle(five, "ack")
    world.publish(b"6", ordering_key="k", batch="b")
    world.publish(b"7", ordering_key="k", batch="b")
    world.mark("healed")
    while leases := world.receive(max=10):
        for lease in leases:
            world.settle(lease, "ack")
    world.mark("drained")
    return world


def test_a_correct_history_has_no_violation() -> None:
    verdict = examine(long_life().finish())
    assert not verdict.violations, str(verdict)
    # Its nacks had no delay; every other invariant was looked at.
    assert set(INVARIANTS) - set(verdict.judged) <= {"I12"}


@pytest.mark.parametrize(
    ("name", "broken"), BROKEN, ids=[f"{name}-{broken.__name__}" for name, broken in BROKEN]
)
def test_a_violation_is_named(name: str, broken: Broken) -> None:
    violations = check(broken())
    assert name in {violation.invariant for violation in violations}, [*map(str, violations)]
    assert all(violation.evidence or violation.message for violation in violations)


def test_every_invariant_has_a_history_that_violates_it() -> None:
    assert {name for name, _ in BROKEN} == set(INVARIANTS)


# ------------------------------------------------------------------------------------------------
# What looks wrong and is not.


def test_a_late_ack_is_no_violation() -> None:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    world.pass_time(31)
    assert world.receive(happens=False) == []
    assert world.settle(lease).outcome == "ok"
    assert found(world.finish()) == set()


def test_a_repeated_answer_is_no_violation() -> None:
    world = World()
    world.publish(b"1")
    (one,) = world.receive()
    first = world.settle(one, "nack")
    world.receive()
    again = world.settle(one, "nack")
    again.outcome, again.code, again.receipt = "ok", None, first.receipt
    assert found(world.finish()) == set()


def test_an_unknown_call_may_have_been_done_or_not() -> None:
    for happens in (True, False):
        world = World()
        world.publish(b"1", outcome="unknown", happens=happens)
        for lease in world.receive():
            world.settle(lease, outcome="unknown", happens=happens)
            world.settle(lease, "release", outcome="unknown", happens=not happens)
        assert found(world.finish()) == set()


def test_a_lease_given_back_by_a_disconnect_may_come_again_at_once() -> None:
    world = World()
    world.publish(b"1")
    world.receive()
    world.mark("disconnected")
    delivery = world.deliveries[1]
    delivery.state = "ready"
    world.enter(1, "released")
    delivery.attempt -= 1
    world.receive()
    assert found(world.finish()) == set()


@pytest.mark.parametrize("hung_up", [True, False])
def test_a_release_that_was_refused_may_be_a_disconnects(hung_up: bool) -> None:
    world = World()
    world.publish(b"1")
    (lease,) = world.receive()
    if hung_up:
        world.mark("disconnected")
    world.deliveries[1].state = "ready"
    world.enter(1, "released")
    world.deliveries[1].attempt -= 1
    world.settle(lease, "release", outcome="refused", happens=False)
    # Where nobody has hung up there is nothing else that the receipt could be of.
    # Then it was let go before its time, too.
    assert found(world.finish()) == (set() if hung_up else {"I6", "I14"})


def test_calls_that_were_under_way_when_the_ledger_was_read_are_not_missed() -> None:
    world = World()
    world.publish(b"1")
    world.read_receipts()
    world.publish(b"2")
    (lease,) = world.receive()
    world.settle(lease)
    assert found(world.history()) == set()


def test_a_stream_may_hand_out_many_at_once() -> None:
    world = World()
    for number in range(5):
        world.publish(b"%d" % number)
    call = world.hand_out(*(world.lease(seq) for seq in range(1, 6)))
    assert isinstance(call, Receive)
    assert found(world.finish()) == set()


def test_evidence_can_be_printed() -> None:
    for name, broken in BROKEN:
        for violation in check(broken()):
            assert str(violation).startswith(violation.invariant), name


def test_the_command_reads_a_file_and_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    write(good, long_life().finish().operations)
    write(bad, broken_deliveries.never_published().operations)
    assert main([str(good)]) == 0
    assert "0 violations" in capsys.readouterr().out
    assert main([str(bad)]) == 1
    assert "I2: Place(queue='acme', seq=1) was never published" in capsys.readouterr().out


def write(path: Path, operations: list[Operation]) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in operations))


# ------------------------------------------------------------------------------------------------
# A correct server under random use, with answers lost at random, never violates anything.


@settings(max_examples=150)
@given(st.integers(min_value=0, max_value=2**32))
def test_a_correct_server_is_never_accused(seed: int) -> None:
    chance = random.Random(seed)
    world = World(lease_seconds=chance.choice([1, 30]), max_attempts=chance.choice([1, 3]))
    held = []
    for number in range(chance.randrange(60)):
        outcome = chance.choice(["ok", "ok", "ok", "unknown"])
        happens = outcome == "ok" or chance.random() < 0.5
        match chance.randrange(12):
            case 0 | 1 | 2:
                key = f"k{chance.randrange(number + 1)}" if chance.random() < 0.5 else None
                body = f"{key or number}".encode()
                options = {"ordering_key": "o"} if key is None and chance.random() < 0.3 else {}
                world.publish(body, key=key, outcome=outcome, happens=happens, **options)
            case 3 | 4 | 5:
                leases = world.receive(max=chance.randrange(1, 4), outcome=outcome, happens=happens)
                held.extend(leases if outcome == "ok" else [])
            case 6 | 7 | 8 if held:
                action = chance.choice(ACTIONS)
                world.settle(chance.choice(held), action, outcome=outcome, happens=happens)
            case 9:
                world.pass_time(chance.choice([0.1, 2, 40]))
            case 10:
                world.read_figures()
                world.read_receipts(page=chance.choice([2, 100]))
            case 11:
                world.dead_letters(chance.choice(["redrive", "discard"]))
    verdict = examine(world.finish())
    assert not verdict.violations, str(verdict)


def test_marks_and_reads_alone_are_a_history() -> None:
    world = World()
    world.mark("healed")
    assert isinstance(world.operations[-1], Mark)
    world.read_receipts()
    assert found(world.history()) == set()
    assert not any(isinstance(one, Publish | NotificationRead) for one in world.operations)


@pytest.mark.parametrize("transport", ["webhook", "http"])
def test_what_a_webhook_did_not_answer_has_a_receipt_and_no_call(transport: str) -> None:
    world = World()
    world.publish(b"1")
    world.lease(1)
    world.enter(1, "nacked")
    edit(world, 2, transport=transport)
    world.read_receipts()
    expected = set() if transport == "webhook" else {"I14"}
    assert found(world.history()) & {"I14"} == expected
