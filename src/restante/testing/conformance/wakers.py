"""The suite that every waker passes. Run it on your own:

    @pytest.mark.parametrize("scenario", waker_scenarios(), ids=str)
    async def test_my_waker(scenario):
        with backplane() as server:
            await scenario.run(server, lambda: MyWaker(server.url, SystemClock()))

``server`` is what the wakers meet at, with ``kill``, ``start``, ``pause`` and ``resume``. Wakers that come with
Restante are found by themselves (``shipped_wakers``): every module in ``restante.wakers``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import pkgutil
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from types import TracebackType
from typing import Any, Final, Protocol, Self

import msgspec

from restante import wakers
from restante.ports import Waker

WAIT_SECONDS: Final = 30.0
"""How long something that must come is waited for."""
LONGEST_NAME: Final = "n" * 128
ODD_NAMES: Final = ("a.b.c", "a..b", ".a", "a.", "a_b-c", "...", "UPPER.lower", LONGEST_NAME)


class Backplane(Protocol):
    """What wakers meet at, to be broken."""

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


Maker = Callable[[], Waker]


class WakerScenario(msgspec.Struct, frozen=True):
    """One thing that a waker must do. ``run`` raises ``AssertionError`` or ``TimeoutError`` where it does not."""

    name: str
    play: Callable[[Backplane, Maker], Coroutine[Any, Any, None]]

    def __str__(self) -> str:
        return self.name

    async def run(self, server: Backplane, make: Maker) -> None:
        await self.play(server, make)


def shipped_wakers() -> dict[str, type[Waker]]:
    """Every module in ``restante.wakers``, and the waker that it has. ``ValueError`` for one with none, or several."""
    found: dict[str, type[Waker]] = {}
    for module in pkgutil.iter_modules(wakers.__path__):
        name = f"{wakers.__name__}.{module.name}"
        waker: Any
        (waker,) = (
            member
            for _, member in inspect.getmembers(importlib.import_module(name), inspect.isclass)
            if member.__module__ == name and hasattr(member, "listening")
        )
        found[module.name] = waker
    return found


class Ear:
    """A node that listens: ``heard`` counts by queue, ``all_heard`` how often it was told of any."""

    def __init__(self, waker: Waker) -> None:
        self.waker = waker
        self.heard: dict[str, int] = {}
        self.all_heard = 0
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._context = self.waker.listening(self._on_wake)
        await self._context.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._context.__aexit__(kind, error, trace)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not holds():
                self._news.clear()
                await self._news.wait()

    async def connected(self, times: int = 1) -> None:
        await self.until(lambda: self.all_heard >= times)

    async def hears(self, queue: str, other: Waker) -> None:
        """Told of the queue by the other, who says it again until it is: a hint may get lost on the way."""
        before = self.heard.get(queue, 0)
        async with asyncio.timeout(WAIT_SECONDS):
            while self.heard.get(queue, 0) == before:
                self._news.clear()
                other.wake((queue,))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 0.1)

    def _on_wake(self, queues: Collection[str] | None) -> None:
        if queues is None:
            self.all_heard += 1
        else:
            for queue in queues:
                self.heard[queue] = self.heard.get(queue, 0) + 1
        self._news.set()


@contextlib.asynccontextmanager
async def _two(make: Maker) -> AsyncIterator[tuple[Ear, Ear]]:
    async with Ear(make()) as one, Ear(make()) as other:
        await one.connected()
        await other.connected()
        yield one, other


async def _told_while_attending(_: Backplane, make: Maker) -> None:
    async with _two(make) as (here, there):
        here.waker.attend("q")
        await here.hears("q", there.waker)
        assert "q" not in there.heard


async def _each_node_is_told(_: Backplane, make: Maker) -> None:
    async with _two(make) as (one, other):
        for node in (one, other):
            node.waker.attend("q")
        await one.hears("q", other.waker)
        await other.hears("q", one.waker)
        await other.until(lambda: other.heard["q"] > 0)


async def _silent_after_leaving(_: Backplane, make: Maker) -> None:
    async with _two(make) as (here, there):
        here.waker.attend("left")
        here.waker.attend("stays")
        await here.hears("left", there.waker)
        await here.hears("stays", there.waker)
        here.waker.leave("left")
        before = here.heard["left"]
        for _turn in range(3):
            there.waker.wake(("left",))
            await here.hears("stays", there.waker)
        assert here.heard["left"] == before


async def _back_after_leaving(_: Backplane, make: Maker) -> None:
    async with _two(make) as (here, there):
        for _turn in range(3):
            here.waker.attend("q")
            await here.hears("q", there.waker)
            here.waker.leave("q")


async def _many_hints_are_one(_: Backplane, make: Maker) -> None:
    async with _two(make) as (here, there):
        here.waker.attend("q")
        await here.hears("q", there.waker)
        await here.hears("q", there.waker)
        before = here.heard["q"]
        for _turn in range(5_000):
            there.waker.wake(("q",))
        here.waker.attend("last")
        await here.hears("last", there.waker)
        assert here.heard["q"] - before <= 10


async def _odd_names(_: Backplane, make: Maker) -> None:
    async with _two(make) as (here, there):
        for name in ODD_NAMES:
            here.waker.attend(name)
        for name in ODD_NAMES:
            await here.hears(name, there.waker)
        assert set(here.heard) <= set(ODD_NAMES)


async def _a_thousand_queues(_: Backplane, make: Maker) -> None:
    names = [f"queue.{number}" for number in range(1_000)]
    async with _two(make) as (here, there):
        for name in names:
            here.waker.attend(name)
        for name in (names[0], names[-1]):
            await here.hears(name, there.waker)
        there.waker.wake(names)
        await here.until(lambda: len(here.heard) == len(names))
        for name in names:
            here.waker.leave(name)


async def _unknown_queues_are_harmless(_: Backplane, make: Maker) -> None:
    async with _two(make) as (here, there):
        here.waker.attend("q")
        there.waker.wake(("nobody", "no.where"))
        await here.hears("q", there.waker)
        assert set(here.heard) == {"q"}


async def _killed_and_started(server: Backplane, make: Maker) -> None:
    async with _two(make) as (here, there):
        here.waker.attend("q")
        await here.hears("q", there.waker)
        before = here.all_heard
        server.kill()
        try:
            there.waker.wake(("q", "r"))
            here.waker.attend("r")
            here.waker.leave("q")
            here.waker.attend("q")
        finally:
            server.start()
        await here.until(lambda: here.all_heard > before)
        await here.hears("q", there.waker)
        await here.hears("r", there.waker)


async def _away_at_first(server: Backplane, make: Maker) -> None:
    server.kill()
    async with Ear(make()) as here, Ear(make()) as there:
        here.waker.attend("q")
        there.waker.wake(("q",))
        server.start()
        await here.connected()
        await here.hears("q", there.waker)


async def _stopped_for_a_while(server: Backplane, make: Maker) -> None:
    async with _two(make) as (here, there):
        here.waker.attend("q")
        await here.hears("q", there.waker)
        server.pause()
        try:
            for number in range(20_000):
                there.waker.wake((f"queue{number}",))
            here.waker.attend("r")
        finally:
            server.resume()
        await here.hears("q", there.waker)
        await here.hears("r", there.waker)


def waker_scenarios() -> list[WakerScenario]:
    """All of it. Each leaves the server running."""
    plays = (
        _told_while_attending,
        _each_node_is_told,
        _silent_after_leaving,
        _back_after_leaving,
        _many_hints_are_one,
        _odd_names,
        _a_thousand_queues,
        _unknown_queues_are_harmless,
        _killed_and_started,
        _away_at_first,
        _stopped_for_a_while,
    )
    return [WakerScenario(play.__name__.strip("_").replace("_", " "), play) for play in plays]
