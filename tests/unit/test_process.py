"""A process that serves: when it is ready, and how it ends."""

import asyncio
import os
import signal

import pytest
from tests.unit.engine.conftest import broker, clock, store
from tests.unit.engine.house import turns

from restante import process

__all__ = ["broker", "clock", "store"]


class Listener:
    """``fail`` ends it with an error; ``up`` is set by the test."""

    def __init__(self):
        self.up = asyncio.Event()
        self.stopped = None
        self._end = asyncio.get_running_loop().create_future()

    async def run(self):
        await self._end

    def fail(self):
        self._end.set_exception(OSError("no more"))

    def stop(self, *, at_once):
        self.stopped = at_once
        if not self._end.done():
            self._end.set_result(None)


@pytest.fixture
async def listeners():
    return [Listener(), Listener()]


@pytest.fixture
async def serving(broker, listeners):
    """The process, and what it has told."""
    told = []
    task = asyncio.create_task(
        process.run(listeners, broker, 0, on_ready=lambda: told.append("ready"))
    )
    await turns()
    yield task, told
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_ready_when_every_listener_is_up_and_over_at_a_signal(serving, listeners):
    task, told = serving
    listeners[0].up.set()
    await turns()
    assert told == []
    listeners[1].up.set()
    await turns()
    assert told == ["ready"]
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task == 0
    assert [listener.stopped for listener in listeners] == [False, False]


async def test_a_listener_that_fails_ends_the_others_with_a_code(serving, listeners):
    task, _ = serving
    for listener in listeners:
        listener.up.set()
    await turns()
    listeners[1].fail()
    assert await task == process.EXIT_FAILED
    assert listeners[0].stopped is False


async def test_a_listener_that_never_comes_up_is_not_waited_for(serving, listeners):
    task, told = serving
    listeners[0].up.set()
    listeners[1].fail()
    assert await task == process.EXIT_FAILED
    assert told == []


async def test_a_signal_is_heard_before_it_is_ready(serving, listeners):
    task, told = serving
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task == 0
    assert told == []


async def test_balancers_have_their_time_before_anybody_is_sent_away(broker, listeners, clock):
    task = asyncio.create_task(
        process.run(listeners, broker, 0, drain_seconds=5, on_ready=lambda: None)
    )
    for listener in listeners:
        listener.up.set()
    await turns()
    assert broker.ready
    os.kill(os.getpid(), signal.SIGTERM)
    await turns()
    assert not broker.ready
    assert not broker.draining
    clock.advance(4.9)
    await turns()
    assert not broker.draining
    clock.advance(0.1)
    assert await task == 0
    assert broker.draining


async def test_a_second_signal_cuts_that_short(broker, listeners):
    task = asyncio.create_task(
        process.run(listeners, broker, 0, drain_seconds=3_600, on_ready=lambda: None)
    )
    await turns()
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        await turns()
    assert await task == 0


async def test_a_listener_that_fails_meanwhile_cuts_it_short_too(broker, listeners):
    task = asyncio.create_task(
        process.run(listeners, broker, 0, drain_seconds=3_600, on_ready=lambda: None)
    )
    await turns()
    os.kill(os.getpid(), signal.SIGTERM)
    await turns()
    listeners[0].fail()
    assert await task == process.EXIT_FAILED
