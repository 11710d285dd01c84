"""A process that serves: its listeners side by side, its signals, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from restante import __version__
from restante.engine.broker import Broker
from restante.logs import get_logger

_log = get_logger(__name__)

EXIT_FAILED: Final = 1
EXIT_STORAGE_FAILED: Final = 7
LEAVE_SECONDS: Final = 5.0
"""How long a stop waits for those who are connected to settle what they hold and leave."""


class Listening(Protocol):
    """A listener that has been bound."""

    up: asyncio.Event

    async def run(self) -> None:
        """Serve until told to stop, and then until what is under way is answered."""

    def stop(self, *, at_once: bool) -> None: ...


async def run(
    listeners: Sequence[Listening],
    broker: Broker,
    shutdown_seconds: float,
    *,
    drain_seconds: float = 0.0,
    on_ready: Callable[[], None],
    on_hangup: Callable[[], None] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT (code 0), until a listener ends by itself (1), or until the storage fails (7).

    ``on_ready`` is told when every listener takes connections; ``on_hangup`` at each SIGHUP, which ends the
    process where there is none. For ``drain_seconds`` after a signal everything is served as before, but for readiness:
    a second signal cuts that short.
    """
    stopping = asyncio.Event()
    handlers: dict[int, Callable[[], None]] = {
        signal.SIGTERM: stopping.set,
        signal.SIGINT: stopping.set,
    }
    if on_hangup is not None:
        handlers[signal.SIGHUP] = on_hangup
    with _signals(handlers):
        running = [asyncio.create_task(listener.run()) for listener in listeners]
        stop = asyncio.create_task(stopping.wait())
        # A listener that ends by itself is a reason to stop too: a process that serves half of what it should is worse
        # than none, which is started again.
        ends: list[asyncio.Future[Any]] = [stop, broker.store.failed, *running]
        up = asyncio.create_task(_all_up(listeners))
        await asyncio.wait([up, *ends], return_when=asyncio.FIRST_COMPLETED)
        if up.done():
            _tune_garbage_collection()
            _log.info("serve.ready", version=__version__, pid=os.getpid())
            on_ready()
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        broker.retire()
        if stop.done():
            await _grace(broker, drain_seconds, stopping, ends[1:])
        failed = broker.store.failed.done()
        broken = [task for task in running if task.done()]
        _log.info("serve.stopping", reason=_reason(failed=failed, broken=bool(broken)))
        # Who waits is answered now, and who is connected is told to leave; what they hold they may still settle.
        # Then each listener lets its last answers out.
        broker.drain()
        if not failed:
            await broker.attachments.gone(min(shutdown_seconds, LEAVE_SECONDS))
        for listener in listeners:
            listener.stop(at_once=failed)
        outcomes = await asyncio.gather(*running, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                _log.error("serve.listener_failed", exc_info=outcome)
        stop.cancel()
    if failed:
        return EXIT_STORAGE_FAILED
    return EXIT_FAILED if broken else 0


async def _grace(
    broker: Broker,
    seconds: float,
    stopping: asyncio.Event,
    ends: Sequence[asyncio.Future[Any]],
) -> None:
    """Time for balancers to notice that this node is not ready, before anybody is sent away."""
    if seconds <= 0:
        return
    _log.info("serve.retiring", seconds=seconds)
    stopping.clear()
    waiting = [
        asyncio.create_task(broker.clock.wait(seconds)),
        asyncio.create_task(stopping.wait()),
    ]
    await asyncio.wait([*waiting, *ends], return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


async def _all_up(listeners: Sequence[Listening]) -> None:
    for listener in listeners:
        await listener.up.wait()


def _reason(*, failed: bool, broken: bool) -> str:
    if failed:
        return "storage failed"
    return "a listener failed" if broken else "signal"


def raise_file_limit() -> None:
    """One connection is one descriptor: take as many as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _signals(handlers: Mapping[int, Callable[[], None]]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def _tune_garbage_collection() -> None:
    """What is there now stays; what comes is freed by reference counts, and hardly ever forms a cycle."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
