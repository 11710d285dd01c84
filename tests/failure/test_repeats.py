"""Ten thousand repeats, ten thousand that come too late, ten thousand that cannot be processed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import pytest
from tests.failure.clients import Caller
from tests.failure.house import House
from tests.failure.server import serving

from restante.testing.history import Lease

Run = Callable[[Coroutine[Any, Any, None]], None]
T = TypeVar("T")

MANY = 10_000
REPEATS = 10
WORKERS = 32
BATCH = 500
MAX_ATTEMPTS = 3


async def each(
    house: House, items: Iterable[T], do: Callable[[Caller, T], Awaitable[None]]
) -> None:
    """Do it for each, by as many clients at once as there are workers."""
    remaining = iter(items)

    async def work() -> None:
        caller = house.caller("acme")
        for item in remaining:
            await do(caller, item)

    await asyncio.gather(*(work() for _ in range(WORKERS)))


async def publish(house: House, many: int) -> None:
    shop = house.caller("shop")
    for _ in range(many // BATCH):
        calls = await shop.publish_batch("acme", [house.body() for _ in range(BATCH)])
        assert all(call.outcome == "ok" for call in calls)


async def lease(house: House, many: int) -> list[Lease]:
    """So many leases, waiting for each batch as long as need be."""
    acme = house.caller("acme")
    leases: list[Lease] = []
    while len(leases) < many:
        batch = await acme.receive("acme", max=min(BATCH, many - len(leases)), wait=15)
        assert batch, f"{len(leases)} of {many} came, and then no more"
        leases.extend(batch)
    return leases


@pytest.mark.timeout(120)
def test_a_repeated_ack_answers_as_the_first(house: House, run: Run) -> None:
    run(repeated_acks(house))


async def repeated_acks(house: House) -> None:
    async with serving(house.data) as server:
        await house.furnish(server, ["acme"], lease_seconds=600, max_in_flight=100_000)
        await publish(house, MANY // REPEATS)
        answers: dict[str, set[tuple[str, str | None, str | None]]] = {}

        async def ack(caller: Caller, one: Lease) -> None:
            for _ in range(REPEATS):
                call = await caller.settle(one.lease, "ack")
                answer = (call.outcome, call.state, call.receipt)
                answers.setdefault(one.lease, set()).add(answer)

        await each(house, await lease(house, MANY // REPEATS), ack)
        await house.read_everything()
    assert len(answers) == MANY // REPEATS
    receipts = set()
    for answer in answers.values():
        ((outcome, state, receipt),) = answer
        assert (outcome, state) == ("ok", "acked")
        receipts.add(receipt)
    assert len(receipts) == MANY // REPEATS
    house.assert_sound("I6", "I7", "I14", "I15")


@pytest.mark.timeout(180)
def test_a_stale_ack_is_refused(house: House, run: Run) -> None:
    run(stale_acks(house))


async def stale_acks(house: House) -> None:
    async with serving(house.data) as server:
        await house.furnish(server, ["acme"], lease_seconds=1, max_in_flight=100_000)
        await publish(house, MANY)
        # These run out while the rest is still being leased; leased again, they are stale.
        acme = house.caller("acme")
        stale, current = await lease(house, MANY), dict[int, Lease]()
        while len(current) < MANY:
            leases = await acme.receive("acme", max=BATCH, wait=15, lease=600)
            assert leases, f"only {len(current)} came again"
            current.update((one.seq, one) for one in leases)
        codes: list[str | None] = []

        async def ack(caller: Caller, one: Lease) -> None:
            codes.append((await caller.settle(one.lease, "ack")).code)

        await each(house, [one for one in stale if current[one.seq].lease != one.lease], ack)
        assert codes == ["lease_lost"] * MANY

        async def ack_current(caller: Caller, one: Lease) -> None:
            assert (await caller.settle(one.lease, "ack")).outcome == "ok"

        await each(house, list(current.values()), ack_current)
        figures = await house.admin.read_figures("acme")
        assert (figures["acked"], figures["leased"]) == (MANY, 0)
        await house.read_everything()
    house.assert_sound("I4", "I5", "I6", "I7", "I8", "I9", "I14", "I15")


@pytest.mark.timeout(180)
def test_poison_is_dead_at_the_limit_exactly(house: House, run: Run) -> None:
    run(poison(house))


async def poison(house: House) -> None:
    async with serving(house.data) as server:
        await house.furnish(
            server,
            ["acme"],
            lease_seconds=600,
            max_attempts=MAX_ATTEMPTS,
            backoff_base_seconds=0,
            max_in_flight=100_000,
        )
        await publish(house, MANY)
        acme = house.caller("acme")
        left = MANY * MAX_ATTEMPTS
        while left:
            leases = await acme.receive("acme", max=BATCH, wait=15)
            assert leases, f"{left} deliveries are missing"
            calls = await acme.settle_batch("acme", [(one.lease, "nack") for one in leases])
            for one, call in zip(leases, calls, strict=True):
                assert call.outcome == "ok", call
                assert (call.state == "dead") == (one.attempt == MAX_ATTEMPTS), (one, call)
            left -= len(leases)
        assert await acme.receive("acme", wait=0) == []
        figures = await house.admin.read_figures("acme")
        assert (figures["dead"], figures["ready"], figures["scheduled"]) == (MANY, 0, 0)
        await house.read_everything()
    house.assert_sound("I7", "I8", "I9", "I14", "I15", "I17")
