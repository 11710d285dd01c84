"""The tests of this folder, tested: each knows a server that is wrong from one that is right."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.failure.house import House
from tests.failure.server import PROJECT, serving
from tests.failure.test_answer_order import answer_order

Run = Callable[[Coroutine[Any, Any, None]], None]

RIGHT = "restante"
PUBLISHES = 300


def mutant(name: str) -> str:
    return f"tests.failure.mutants.{name}"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("module", "caught"),
    [(RIGHT, False), (mutant("ack_before_commit"), True), (mutant("synchronous_normal"), True)],
)
def test_an_early_answer_is_caught(house: House, run: Run, module: str, caught: bool) -> None:
    async def judge() -> None:
        early, judged = await answer_order(house, publishes=PUBLISHES, module=module)
        assert judged == 2 * PUBLISHES
        assert bool(early) == caught, f"{len(early)} of {judged} answered too early"

    run(judge())


@pytest.mark.parametrize(
    ("module", "violated"), [(RIGHT, set()), (mutant("no_fence_check"), {"I6"})]
)
def test_a_settle_by_an_old_lease_is_caught(
    house: House, run: Run, module: str, violated: set[str]
) -> None:
    async def judge() -> None:
        async with serving(house.data, module=module) as server:
            await house.furnish(server, ["acme"], lease_seconds=1)
            await house.caller("shop").publish(house.body(), queue="acme")
            acme = house.caller("acme")
            (old,) = await acme.receive("acme", wait=5)
            (new,) = await acme.receive("acme", wait=5, lease=600)
            await acme.settle(old.lease, "nack", retry_after=0)
            await acme.settle(new.lease, "ack")
            await house.read_everything()

    run(judge())
    assert violated <= violations(house)
    assert bool(violated) == bool(violations(house))


@pytest.mark.parametrize(
    ("module", "violated"), [(RIGHT, set()), (mutant("no_owner_filter"), {"I10"})]
)
def test_reaching_into_anothers_queue_is_caught(
    house: House, run: Run, module: str, violated: set[str]
) -> None:
    async def judge() -> None:
        async with serving(house.data, module=module) as server:
            await house.furnish(server, ["acme", "globex"])
            for _ in range(2):
                await house.caller("shop").publish(house.body(), queue="acme")
            acme, globex = house.caller("acme"), house.caller("globex")
            (lease,) = await acme.receive("acme", max=1)
            await globex.settle(lease.lease, "ack")
            await globex.receive("acme", max=1)
            await globex.read_receipts("acme")
            await house.read_everything()

    run(judge())
    assert violated == violations(house)


def violations(house: House) -> set[str]:
    return {violation.invariant for violation in house.verdict().violations}


def test_every_mutant_is_used() -> None:
    names = {path.stem for path in (PROJECT / "tests/failure/mutants").glob("[a-z]*.py")}
    text = (PROJECT / "tests/failure/test_mutants.py").read_text()
    assert {name for name in names if f'mutant("{name}")' in text} == names
