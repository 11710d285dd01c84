"""Who asks for the time is told of a time that is not before the question, and many share one look at the clock."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from restante.errors import StoreUnavailable
from restante.stores.postgresql.now import SharedNow
from restante.stores.postgresql.transactor import Transactor


class Clock:
    """A unit whose clock goes on by one with each look, which takes until it is let."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.let = asyncio.Event()

    @property
    def reading(self) -> Clock:
        return self

    async def lock(self, _: Any) -> None:
        self.now_ms += 1
        await self.let.wait()


class Turns:
    """Runs one look after the other, as a transactor does; a failure is raised before anything has begun."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.failure: Exception | None = None
        self._turn = asyncio.Lock()

    async def run(self, work: Any) -> Any:
        async with self._turn:
            if self.failure is not None:
                raise self.failure
            return await work(self.clock)


async def begun() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def now(turns: Turns) -> SharedNow:
    return SharedNow(asyncio.ensure_future, cast("Transactor", turns))


async def test_all_who_ask_before_a_look_has_begun_share_it(now: SharedNow, turns: Turns) -> None:
    first = [now.ask() for _ in range(3)]
    await begun()
    late = [now.ask() for _ in range(1_000)]
    await begun()
    turns.clock.let.set()
    assert await asyncio.gather(*first) == [1] * 3
    assert await asyncio.gather(*late) == [2] * 1_000, "none of them shares a look that had begun"
    assert await now.ask() == 3


async def test_who_asks_no_longer_takes_the_answer_from_nobody(
    now: SharedNow, turns: Turns
) -> None:
    leaving, staying = now.ask(), now.ask()
    await begun()
    leaving.cancel()
    turns.clock.let.set()
    assert await staying == 1
    assert leaving.cancelled()


async def test_a_look_that_fails_before_it_begins_is_not_shared_any_more(
    now: SharedNow, turns: Turns
) -> None:
    turns.failure = StoreUnavailable("away")
    turns.clock.let.set()
    outcomes = await asyncio.gather(now.ask(), now.ask(), return_exceptions=True)
    assert list(outcomes) == [turns.failure] * 2
    turns.failure = None
    assert await now.ask() == 1
